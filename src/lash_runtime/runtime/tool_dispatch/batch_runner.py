"""Runs the tool calls of one model response and brings back one result for each.

Rule 1: calls are prepared one by one in the model's order; then the parallel ones run side by
side, and after them the serial ones, each on its own.
Rule 2: every call is reported as started and as completed, whatever becomes of it.
Rule 3: no task group stands around a controller that cannot run effects side by side. It may be
an engine, whose way to suspend a turn is not to be wrapped or held up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import anyio

from ...model.causes import CausalRef, ToolCallRef, TurnRef
from ...model.tool_results import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolFailure,
)
from ...model.tool_values import model_return
from ...model.tools import ToolScheduling
from ...ports.cancel import CancelToken
from ...ports.clock import Clock
from ...ports.durability import DurabilityTier
from ...ports.effects import (
    EffectControllerError,
    RuntimeEffectController,
    RuntimeScope,
    ToolCallDone,
)
from ...ports.tools import ToolContext
from ...tools.catalog import ToolCatalog
from ..verdict import Err, Ok, capture
from .attempts import CallAttempts
from .executors import ToolAttemptExecutor
from .nested import NestedToolCalls, ParentCall
from .preparation import ReadyCall, prepare


class ToolCallReporter(Protocol):
    """Shows calls to whoever watches the turn. Called from several tasks, in any order."""

    async def tool_started(
        self, call: PendingToolCall, parent_call_id: str | None = None
    ) -> None: ...

    async def tool_completed(
        self,
        call: PendingToolCall,
        output: ToolCallOutput,
        duration_ms: int,
        parent_call_id: str | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBatchRunner:
    """One batch. `batch_key` is the replay key that the keys of all its calls extend.

    `parent` is the call that asked for the batch, where that was a tool and not the model.
    """

    catalog: ToolCatalog
    controller: RuntimeEffectController
    scope: RuntimeScope
    batch_key: str
    reporter: ToolCallReporter
    cancel: CancelToken
    clock: Clock
    session_id: str
    turn_id: str
    agent_frame_id: str
    parent: ParentCall | None = None

    async def run(self, calls: Sequence[PendingToolCall]) -> tuple[CompletedToolCall, ...]:
        """Run `calls`; results come in their order, one for each.

        What goes wrong in a call is in its result. When the turn's token fires, running calls
        get a short grace and the rest end as cancelled. Cancelling the task passes through once
        every call's own task has ended.
        """
        token = self.cancel.child()
        results: dict[int, CompletedToolCall] = {}
        together: list[ReadyCall] = []
        in_turn: list[ReadyCall] = []
        for index, call in enumerate(calls):
            prepared = prepare(self.catalog, index, call)
            if isinstance(prepared, ToolFailure):
                await self._start(call)
                done = ToolCallDone(ToolCallOutput.failure(prepared), 0)
                results[index] = await self._complete(call, done)
            elif self._is_parallel(prepared):
                together.append(prepared)
            else:
                in_turn.append(prepared)
        results |= await self._run_together(together, token)
        for ready in in_turn:
            results[ready.index] = await self._run_call(ready, token)
        return tuple(results[index] for index in range(len(calls)))

    def _is_parallel(self, call: ReadyCall) -> bool:
        return (
            self.controller.supports_concurrent_effects
            and call.tool.manifest.scheduling is ToolScheduling.PARALLEL
        )

    async def _run_together(
        self, calls: Sequence[ReadyCall], token: CancelToken
    ) -> dict[int, CompletedToolCall]:
        verdicts: dict[int, Ok[CompletedToolCall] | Err] = {}

        async def run_one(call: ReadyCall) -> None:
            verdicts[call.index] = await capture(partial(self._run_call, call, token))

        if calls:
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(run_one, call)
        return {call.index: _result(verdicts.get(call.index), call) for call in calls}

    async def _run_call(self, call: ReadyCall, token: CancelToken) -> CompletedToolCall:
        await self._start(call.pending)
        attempts = CallAttempts(
            call=call,
            call_key=f"{self.batch_key}:child:{call.index}:{call.pending.call_id}",
            scope=self.scope,
            caused_by=self._cause(),
            controller=self.controller,
            make_attempt=partial(self._make_attempt, call, token),
            token=token,
            clock=self.clock,
        )
        return await self._complete(call.pending, await attempts.run())

    def _make_attempt(
        self, call: ReadyCall, token: CancelToken, attempt: int, allowed: int, key: str
    ) -> ToolAttemptExecutor:
        if call.tool.manifest.timeout_ms is not None:
            token = token.child()
        nested = self._nested(call, token, key)
        context = ToolContext(
            session_id=self.session_id,
            turn_id=self.turn_id,
            agent_frame_id=self.agent_frame_id,
            tool_name=call.pending.tool_name,
            tool_call_id=call.pending.call_id,
            protocol_iteration=self.scope.protocol_iteration,
            call_index=self._top_index(call),
            attempt_number=attempt,
            max_attempts=allowed,
            cancellation_token=token,
            dispatch=nested,
        )
        return ToolAttemptExecutor(call.tool, context, nested=nested, clock=self.clock)

    def _nested(self, call: ReadyCall, token: CancelToken, key: str) -> NestedToolCalls | None:
        controller = self.controller
        if (
            controller.durability_tier is not DurabilityTier.INLINE
            or not controller.supports_concurrent_effects
        ):
            return None  # effects inside an attempt that is recorded whole have no place to go
        parent = ParentCall(call_id=call.pending.call_id, call_index=self._top_index(call))

        async def run(
            number: int, calls: Sequence[PendingToolCall]
        ) -> tuple[CompletedToolCall, ...]:
            runner = replace(self, batch_key=f"{key}:batch:{number}", cancel=token, parent=parent)
            return await runner.run(calls)

        return NestedToolCalls(run)

    def _top_index(self, call: ReadyCall) -> int:
        """The place among the model's calls, which tells equal call ids of two batches apart."""
        return call.index if self.parent is None else self.parent.call_index

    def _cause(self) -> CausalRef:
        if self.parent is None:
            return TurnRef(session_id=self.session_id, turn_id=self.turn_id)
        return ToolCallRef(session_id=self.session_id, call_id=self.parent.call_id)

    def _parent_call_id(self) -> str | None:
        return None if self.parent is None else self.parent.call_id

    async def _start(self, call: PendingToolCall) -> None:
        await self.reporter.tool_started(call, self._parent_call_id())

    async def _complete(self, call: PendingToolCall, done: ToolCallDone) -> CompletedToolCall:
        completed = CompletedToolCall(
            call_id=call.call_id,
            tool_name=call.tool_name,
            args=call.args,
            output=done.output,
            model_return=model_return(call.call_id, call.tool_name, done.output),
            duration_ms=done.duration_ms,
            replay=call.replay,
        )
        await self.reporter.tool_completed(
            call, done.output, done.duration_ms, self._parent_call_id()
        )
        return completed


def _result(verdict: Ok[CompletedToolCall] | Err | None, call: ReadyCall) -> CompletedToolCall:
    match verdict:
        case Ok(value=completed):
            return completed
        case Err(error=error):
            raise error
        case None:
            raise EffectControllerError(
                "tool_batch_missing_result",
                f"call {call.pending.call_id!r} of {call.pending.tool_name!r} was cut off "
                "without a result",
            )
