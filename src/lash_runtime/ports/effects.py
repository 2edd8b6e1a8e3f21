"""The seam through which a turn does anything that is not pure computation.

A turn describes each such step as an envelope (who asks, what, under which replay key) and
hands it to a controller with a local executor that can do the work here and now. The
controller decides: run it, answer from a record, or leave it to an engine. A failed model call
or tool is data inside a successful outcome; `EffectControllerError` means the seam itself
failed.

The values that cross the seam have modules of their own, and are all to be had from here.
"""

from typing import Protocol

from ..model.records import dataclass
from .await_event_executor import AwaitEventExecutor
from .await_event_stand_ins import keeps_waits, waits_of
from .await_events import AwaitEventResolver
from .durability import DurabilityTier
from .effect_commands import (
    AwaitEventCommand,
    CheckpointCommand,
    DirectCommand,
    DurableStepCommand,
    ExecCodeCommand,
    LlmCallCommand,
    RuntimeEffectCommand,
    RuntimeEffectEnvelope,
    SleepCommand,
    SyncExecutionEnvironmentCommand,
    ToolAttemptCommand,
    ToolBatchChild,
    ToolBatchCommand,
)
from .effect_errors import EffectControllerError
from .effect_outcomes import (
    AwaitEventOutcome,
    CheckpointOutcome,
    DirectOutcome,
    DurableStepOutcome,
    ExecCodeOutcome,
    LlmCallOutcome,
    RuntimeEffectOutcome,
    SleepOutcome,
    SyncExecutionEnvironmentOutcome,
    ToolAttemptOutcome,
    ToolBatchOutcome,
    ToolCallDone,
    expect_count,
    expect_outcome,
)
from .execution_scope import (
    ExecutionScope,
    ProcessScope,
    QueueDrainScope,
    RuntimeOperationScope,
    SessionDeleteScope,
    TurnScope,
    session_of,
    turn_of,
)
from .invocations import (
    EffectSubject,
    ProcessEventSubject,
    ProcessSubject,
    RuntimeEffectKind,
    RuntimeInvocation,
    RuntimeScope,
    RuntimeSubject,
    SessionNodeSubject,
    TriggerOccurrenceSubject,
    turn_effect_key,
)

__all__ = [
    "AwaitEventCommand",
    "AwaitEventExecutor",
    "AwaitEventOutcome",
    "CheckpointCommand",
    "CheckpointOutcome",
    "DirectCommand",
    "DirectOutcome",
    "DurableStepCommand",
    "DurableStepOutcome",
    "EffectControllerError",
    "EffectHost",
    "EffectSubject",
    "ExecCodeCommand",
    "ExecCodeOutcome",
    "ExecutionScope",
    "LlmCallCommand",
    "LlmCallOutcome",
    "LocalEffectExecutor",
    "ProcessEventSubject",
    "ProcessScope",
    "ProcessSubject",
    "QueueDrainScope",
    "RuntimeEffectCommand",
    "RuntimeEffectController",
    "RuntimeEffectEnvelope",
    "RuntimeEffectKind",
    "RuntimeEffectOutcome",
    "RuntimeInvocation",
    "RuntimeOperationScope",
    "RuntimeScope",
    "RuntimeSubject",
    "ScopedEffectController",
    "SessionDeleteScope",
    "SessionNodeSubject",
    "SleepCommand",
    "SleepOutcome",
    "SyncExecutionEnvironmentCommand",
    "SyncExecutionEnvironmentOutcome",
    "ToolAttemptCommand",
    "ToolAttemptOutcome",
    "ToolBatchChild",
    "ToolBatchCommand",
    "ToolBatchOutcome",
    "ToolCallDone",
    "TriggerOccurrenceSubject",
    "TurnScope",
    "await_events_of",
    "expect_count",
    "expect_outcome",
    "is_engine",
    "keeps_record",
    "session_of",
    "turn_effect_key",
    "turn_of",
]


class LocalEffectExecutor(Protocol):
    """Does the work of one envelope in this process. Single use.

    Raises `EffectControllerError("runtime_effect_local_executor_mismatch")` for a command that
    it cannot run. Cancellation of the task passes through.
    """

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome: ...


class RuntimeEffectController(Protocol):
    """Runs the effects of one scope.

    An `EffectControllerError` of an inline controller is the end of its turn, with that error as
    the reason. That of a durable one leaves the turn as it is, and nothing of it is stored: what
    happens next is decided by whatever is behind the controller, from what it has on record.

    Effects nest in one place: a batch of tools asks for its attempts while it is in flight. A
    controller that cannot record one effect inside another runs the batch's executor as it is
    and records the attempts.

    `asyncio.CancelledError` is never an outcome: it is neither recorded nor translated. Only
    single `EffectControllerError`s leave a controller, never a group.
    """

    @property
    def durability_tier(self) -> DurabilityTier: ...

    @property
    def supports_concurrent_effects(self) -> bool:
        """With `False` the runtime never has two calls in flight on this controller, save a
        batch of tools and the one step of it that is running."""
        ...

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome: ...


@dataclass(frozen=True, slots=True)
class ScopedEffectController:
    """A controller bound to what it executes for.

    Raises `missing_execution_scope_id` for a scope whose id is blank.
    """

    controller: RuntimeEffectController
    execution_scope: ExecutionScope

    def __post_init__(self) -> None:
        if not self.execution_scope.id.strip():
            raise EffectControllerError(
                "missing_execution_scope_id", "an execution scope needs an id that is not blank"
            )

    @property
    def scope_id(self) -> str:
        return self.execution_scope.id

    @property
    def turn_id(self) -> str | None:
        return turn_of(self.execution_scope)


class EffectHost(Protocol):
    """Makes controllers. `scoped_static` gives one that may outlive the caller's context, or
    `None` where the engine behind the host cannot.

    A controller keeps records under the scope that its host gave it, whatever scope it is bound to
    later. One that is good for a handler's context alone raises when it is used after that.
    """

    @property
    def durability_tier(self) -> DurabilityTier: ...

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController: ...

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController | None: ...


def await_events_of(part: EffectHost | RuntimeEffectController) -> AwaitEventResolver:
    """The durable waits of a host or a controller, for those that also are a resolver.

    Raises `await_event_unsupported` for the others, and for one that wraps one of the others.
    """
    if keeps_waits(part):
        return waits_of(part)
    raise EffectControllerError(
        "await_event_unsupported", f"{type(part).__name__} cannot wait for an event"
    )


def is_engine(controller: RuntimeEffectController) -> bool:
    """Whether a turn that breaks off at an error of `controller` is its engine's to decide about,
    from its record: no end is made up in its place. A controller that keeps its record in the
    session's own store, and says so by `embedded`, has no engine behind it."""
    return keeps_record(controller) and not getattr(controller, "embedded", False)


def keeps_record(controller: RuntimeEffectController) -> bool:
    """Whether the outcomes of effects outlive the process, so that progress need not be stored."""
    return controller.durability_tier is not DurabilityTier.INLINE
