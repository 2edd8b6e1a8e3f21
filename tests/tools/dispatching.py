"""Runs batches of tool calls as a turn does, and keeps what was shown of them."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from lash_runtime.effects.inline import InlineRuntimeEffectController
from lash_runtime.kernel.assembly import TurnAssembler
from lash_runtime.model.activity import ToolCallCompleted, ToolCallStarted
from lash_runtime.model.tool_results import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.clock import Clock, SystemClock
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    LocalEffectExecutor,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    ToolBatchCommand,
)
from lash_runtime.ports.tools import ToolContext
from lash_runtime.replay.memory import InMemoryLiveReplayStore
from lash_runtime.runtime.observation import ObservationCells
from lash_runtime.runtime.tool_dispatch import ToolBatchRunner
from lash_runtime.runtime.turn.reporter import TurnReporter
from lash_runtime.runtime.turn.sinks import CollectingSink
from lash_runtime.testing import FixedIdSource
from lash_runtime.tools import FunctionTool, ToolCatalog

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=1, protocol_iteration=2)
BATCH_KEY = "s:t:1:2:tool_batch:7"


class RecordingController(InlineRuntimeEffectController):
    """Runs effects here and keeps their envelopes. `instead` may answer one itself. The batch
    that they are part of is run as it is.

    `overlaps` says whether two effects were ever in flight at once.
    """

    def __init__(
        self,
        *,
        concurrent: bool = True,
        tier: DurabilityTier = DurabilityTier.INLINE,
        instead: Callable[[RuntimeEffectEnvelope], Awaitable[RuntimeEffectOutcome | None]]
        | None = None,
    ) -> None:
        self.supports_concurrent_effects = concurrent
        self.durability_tier = tier
        self.envelopes: list[RuntimeEffectEnvelope] = []
        self.overlaps = False
        self._instead = instead
        self._in_flight = 0

    @property
    def keys(self) -> list[str]:
        return [envelope.invocation.replay_key for envelope in self.envelopes]

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolBatchCommand):
            return await executor.execute(envelope)
        self.envelopes.append(envelope)
        self._in_flight += 1
        self.overlaps |= self._in_flight > 1
        try:
            answer = None if self._instead is None else await self._instead(envelope)
            return await executor.execute(envelope) if answer is None else answer
        finally:
            self._in_flight -= 1


class Batches:
    """A turn's tool calls over real parts: `run` one batch after another."""

    def __init__(
        self,
        *tools: Any,
        controller: RuntimeEffectController | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.cancel = CancelToken()
        self._sink = CollectingSink()
        self._cells = ObservationCells(replay=InMemoryLiveReplayStore())
        self._runner = ToolBatchRunner(
            catalog=ToolCatalog.of(*tools),
            controller=controller or InlineRuntimeEffectController(),
            scope=SCOPE,
            batch_id="7",
            batch_key=BATCH_KEY,
            reporter=TurnReporter(
                turn_id="t",
                cell=self._cells.cell("s"),
                sink=self._sink,
                assembler=TurnAssembler(),
                ids=FixedIdSource(),
            ),
            cancel=self.cancel,
            clock=clock or SystemClock(),
            session_id="s",
            turn_id="t",
            agent_frame_id="frame",
        )

    async def run(self, *calls: PendingToolCall) -> tuple[CompletedToolCall, ...]:
        return await self._runner.run(calls)

    async def output(self, name: str, **args: Any) -> ToolCallOutput:
        """The output of a single call."""
        (completed,) = await self.run(*calls((name, args)))
        return completed.output

    @property
    def shown(self) -> list[str]:
        """The activities so far: `started c0`, `completed c0`, children as `c0 > c0:00`."""
        lines = []
        for activity in self._sink.activities:
            event = activity.event
            assert isinstance(event, ToolCallStarted | ToolCallCompleted)
            parent = f"{event.parent_call_id} > " if event.parent_call_id else ""
            what = "started" if isinstance(event, ToolCallStarted) else "completed"
            lines.append(f"{what} {parent}{event.call_id}")
        return lines

    @property
    def completions(self) -> list[ToolCallCompleted]:
        events = (activity.event for activity in self._sink.activities)
        return [event for event in events if isinstance(event, ToolCallCompleted)]


def calls(*wanted: tuple[str, dict[str, Any]]) -> tuple[PendingToolCall, ...]:
    """Calls with the ids `c0`, `c1`, …"""
    return tuple(
        PendingToolCall(call_id=f"c{index}", tool_name=name, args=args)
        for index, (name, args) in zip(itertools.count(), wanted, strict=False)
    )


def context() -> ToolContext:
    return ToolContext(
        session_id="s",
        turn_id="t",
        agent_frame_id="frame",
        tool_name="tool",
        tool_call_id="call-1",
    )


def failure_of(output: ToolCallOutput) -> ToolFailure:
    assert isinstance(output.outcome, ToolFailed), output
    return output.outcome.payload


def schema_of(made: FunctionTool[..., Any]) -> Any:
    return made.contract.input_schema.canonical
