"""The local executors of one turn: who does what when a controller says "run it here"."""

from collections.abc import Callable, Sequence

from ...model.llm import LlmToolSpec
from ...model.records import dataclass
from ...model.tool_results import CompletedToolCall, PendingToolCall
from ...ports.cancel import CancelToken
from ...ports.clock import Clock
from ...ports.effects import (
    CheckpointCommand,
    CheckpointOutcome,
    EffectControllerError,
    RuntimeEffectCommand,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    RuntimeScope,
    SyncExecutionEnvironmentCommand,
    SyncExecutionEnvironmentOutcome,
    turn_effect_key,
)
from ...ports.provider import ResolvedProvider
from ...tools.catalog import ToolCatalog
from ..session_attachments import SessionAttachments
from ..tool_dispatch import ToolBatchRunner
from .llm_call import LlmCallExecutor
from .reporter import TurnReporter


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnExecutors:
    """Makes an executor for each effect of one turn."""

    provider: ResolvedProvider
    attachments: SessionAttachments
    output_token_capacity: int | None
    catalog: ToolCatalog
    controller: RuntimeEffectController
    reporter: TurnReporter
    cancel: CancelToken
    clock: Clock
    turn_id: str
    agent_frame_id: str
    environment: Callable[[], tuple[str, tuple[LlmToolSpec, ...]]]

    def llm_call(self) -> LlmCallExecutor:
        return LlmCallExecutor(
            provider=self.provider,
            attachments=self.attachments,
            reporter=self.reporter,
            cancel=self.cancel,
            output_token_capacity=self.output_token_capacity,
        )

    def checkpoint(self) -> "CheckpointExecutor":
        return CheckpointExecutor()

    def sync_environment(self) -> "SyncEnvironmentExecutor":
        return SyncEnvironmentExecutor(self.environment)

    async def run_tools(
        self, calls: Sequence[PendingToolCall], *, scope: RuntimeScope, effect_id: str
    ) -> tuple[CompletedToolCall, ...]:
        """Run a round of calls as one effect; results come in their order, one for each."""
        runner = ToolBatchRunner(
            catalog=self.catalog,
            controller=self.controller,
            scope=scope,
            batch_id=effect_id,
            batch_key=turn_effect_key(scope, RuntimeEffectKind.TOOL_BATCH, effect_id),
            reporter=self.reporter,
            cancel=self.cancel,
            clock=self.clock,
            session_id=scope.session_id,
            turn_id=self.turn_id,
            agent_frame_id=self.agent_frame_id,
            attachments=self.attachments,
        )
        return await runner.run(calls)


class CheckpointExecutor:
    """Collects what may join the turn. Nothing can wait for a running turn yet."""

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        if not isinstance(envelope.command, CheckpointCommand):
            raise _mismatch(envelope.command, CheckpointCommand)
        return CheckpointOutcome()


class SyncEnvironmentExecutor:
    """Renders prompt and tools anew for the next model call."""

    def __init__(self, environment: Callable[[], tuple[str, tuple[LlmToolSpec, ...]]]) -> None:
        self._environment = environment

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        command = envelope.command
        if not isinstance(command, SyncExecutionEnvironmentCommand):
            raise _mismatch(command, SyncExecutionEnvironmentCommand)
        if not command.update_machine_config:
            # The machine was made with this very environment a moment ago.
            return SyncExecutionEnvironmentOutcome()
        system_prompt, tool_specs = self._environment()
        return SyncExecutionEnvironmentOutcome(system_prompt, tool_specs)


def _mismatch(command: RuntimeEffectCommand, expected: type[object]) -> EffectControllerError:
    return EffectControllerError(
        "runtime_effect_local_executor_mismatch",
        f"{command.type.value} cannot be run as {expected.__name__}",
    )
