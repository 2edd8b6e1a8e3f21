"""The seam through which a turn does anything that is not pure computation.

A turn describes each such step as an envelope (who asks, what, under which replay key) and
hands it to a controller with a local executor that can do the work here and now. The
controller decides: run it, answer from a record, or leave it to an engine. A failed model call
or tool is data inside a successful outcome; `EffectControllerError` means the seam itself
failed.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from ..model.causes import CausalRef, TurnCause
from ..model.checkpoints import CheckpointKind
from ..model.llm import LlmCallError, LlmRequest, LlmResponse, LlmToolSpec
from ..model.llm_attempts import LlmCallRecord
from ..model.messages import Message
from ..model.records import dataclass
from ..model.tool_results import ToolCallOutput
from .durability import DurabilityTier
from .tools import PreparedToolCall


class RuntimeEffectKind(StrEnum):
    LLM_CALL = "llm_call"
    DIRECT = "direct"
    TOOL_ATTEMPT = "tool_attempt"
    TOOL_BATCH = "tool_batch"
    PROCESS = "process"
    EXEC_CODE = "exec_code"
    CHECKPOINT = "checkpoint"
    SYNC_EXECUTION_ENVIRONMENT = "sync_execution_environment"
    SLEEP = "sleep"
    AWAIT_EVENT = "await_event"
    DURABLE_STEP = "durable_step"


class EffectControllerError(Exception):
    """The effect seam failed. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeScope:
    """Where an effect belongs."""

    session_id: str
    turn_id: str
    turn_index: int
    protocol_iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInvocation:
    """Who asks for an effect. `replay_key` is a pure function of durable identity: it holds
    neither time nor process id nor randomness, so a second run asks under the same key."""

    scope: RuntimeScope
    effect_id: str
    kind: RuntimeEffectKind
    replay_key: str
    caused_by: CausalRef | None = None


def turn_effect_key(scope: RuntimeScope, kind: RuntimeEffectKind, effect_id: str) -> str:
    """The replay key of an effect that a turn asks for directly."""
    return (
        f"{scope.session_id}:{scope.turn_id}:{scope.turn_index}:"
        f"{scope.protocol_iteration}:{kind.value}:{effect_id}"
    )


@dataclass(frozen=True, slots=True)
class LlmCallCommand:
    """Call the model. The request's live callbacks are not part of the command's identity."""

    request: LlmRequest
    type: Literal[RuntimeEffectKind.LLM_CALL] = RuntimeEffectKind.LLM_CALL


@dataclass(frozen=True, slots=True)
class ToolBatchChild:
    """One call of a batch, with the suffix that tells its replay key from its siblings'."""

    call: PreparedToolCall
    replay_suffix: str


@dataclass(frozen=True, slots=True)
class ToolBatchCommand:
    """Run a round of calls that have been prepared; `batch_id` is the effect's id.

    The batch is in flight while its attempts and their waits are: its executor asks the same
    controller for each, under a key that extends the batch's own.
    """

    batch_id: str
    calls: tuple[ToolBatchChild, ...]
    type: Literal[RuntimeEffectKind.TOOL_BATCH] = RuntimeEffectKind.TOOL_BATCH


@dataclass(frozen=True, slots=True)
class ToolAttemptCommand:
    """Run one attempt of one call; `attempt` counts from 1."""

    call: PreparedToolCall
    attempt: int
    max_attempts: int
    type: Literal[RuntimeEffectKind.TOOL_ATTEMPT] = RuntimeEffectKind.TOOL_ATTEMPT


@dataclass(frozen=True, slots=True)
class CheckpointCommand:
    """Collect what may join the turn now."""

    checkpoint: CheckpointKind
    type: Literal[RuntimeEffectKind.CHECKPOINT] = RuntimeEffectKind.CHECKPOINT


@dataclass(frozen=True, slots=True)
class SyncExecutionEnvironmentCommand:
    """Bring tools and prompt up to date before an iteration."""

    update_machine_config: bool
    type: Literal[RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT] = (
        RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT
    )


@dataclass(frozen=True, slots=True)
class SleepCommand:
    """Wait between two attempts."""

    duration_ms: int
    type: Literal[RuntimeEffectKind.SLEEP] = RuntimeEffectKind.SLEEP


RuntimeEffectCommand = (
    LlmCallCommand
    | ToolBatchCommand
    | ToolAttemptCommand
    | CheckpointCommand
    | SyncExecutionEnvironmentCommand
    | SleepCommand
)


@dataclass(frozen=True, slots=True)
class RuntimeEffectEnvelope:
    """One step that a turn asks for."""

    invocation: RuntimeInvocation
    command: RuntimeEffectCommand


@dataclass(frozen=True, slots=True)
class LlmCallOutcome:
    """What the model answered. `text_streamed` says that its text was shown as deltas; `record`
    holds the attempts, where whoever made the call has kept them."""

    result: LlmResponse | LlmCallError
    text_streamed: bool
    record: LlmCallRecord | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDone:
    """A finished call: its canonical output and how long it took."""

    output: ToolCallOutput
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ToolAttemptOutcome:
    done: ToolCallDone


@dataclass(frozen=True, slots=True)
class ToolBatchOutcome:
    """One entry for each call of the batch, in batch order, whichever ended first."""

    launches: tuple[ToolCallDone, ...]


@dataclass(frozen=True, slots=True)
class CheckpointOutcome:
    """What joins the turn; empty when nothing waited."""

    messages: tuple[Message, ...] = ()
    transient_messages: tuple[Message, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncExecutionEnvironmentOutcome:
    """The environment of the next iteration, when it changed."""

    system_prompt: str | None = None
    tool_specs: tuple[LlmToolSpec, ...] | None = None


@dataclass(frozen=True, slots=True)
class SleepOutcome:
    """The time has passed."""


RuntimeEffectOutcome = (
    LlmCallOutcome
    | ToolBatchOutcome
    | ToolAttemptOutcome
    | CheckpointOutcome
    | SyncExecutionEnvironmentOutcome
    | SleepOutcome
)

O = TypeVar("O", bound=RuntimeEffectOutcome)  # noqa: E741


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
class TurnScope:
    """The execution of one turn."""

    session_id: str
    turn_id: str

    @property
    def id(self) -> str:
        return self.turn_id


@dataclass(frozen=True, slots=True)
class QueueDrainScope:
    """One pass over the work that waits for a session."""

    session_id: str
    drain_id: str

    @property
    def id(self) -> str:
        return self.drain_id


@dataclass(frozen=True, slots=True)
class SessionDeleteScope:
    session_id: str

    @property
    def id(self) -> str:
        return self.session_id


@dataclass(frozen=True, slots=True)
class RuntimeOperationScope:
    """An operation of the host that belongs to no turn."""

    operation_id: str

    @property
    def id(self) -> str:
        return self.operation_id


ExecutionScope = TurnScope | QueueDrainScope | SessionDeleteScope | RuntimeOperationScope


@dataclass(frozen=True, slots=True)
class ScopedEffectController:
    """A controller bound to what it executes for."""

    controller: RuntimeEffectController
    scope: ExecutionScope

    def __post_init__(self) -> None:
        if not self.scope.id.strip():
            raise EffectControllerError(
                "missing_execution_scope_id", "an execution scope needs an id that is not blank"
            )


class EffectHost(Protocol):
    """Makes controllers. `scoped_static` gives one that may outlive the caller's context, or
    `None` where the engine behind the host cannot."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController: ...

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController | None: ...


def keeps_record(controller: RuntimeEffectController) -> bool:
    """Whether outcomes outlive the process, so that a turn that breaks off at an error of
    `controller` is its engine's to decide about: no end is made up in its place."""
    return controller.durability_tier is not DurabilityTier.INLINE


def expect_outcome(
    command: RuntimeEffectCommand, outcome: RuntimeEffectOutcome, expected: type[O]
) -> O:
    """Raise unless the answer to `command` is of the kind that belongs to it."""
    if not isinstance(outcome, expected):
        raise EffectControllerError(
            "runtime_effect_wrong_outcome",
            f"expected {expected.__name__} for {command.type.value}, got {type(outcome).__name__}",
        )
    return outcome


def expect_count(outcome: ToolBatchOutcome, calls: Sequence[object]) -> None:
    """Raise unless the batch outcome has one entry for each call."""
    if len(outcome.launches) != len(calls):
        raise EffectControllerError(
            "tool_batch_result_count_mismatch",
            f"a batch of {len(calls)} calls came back with {len(outcome.launches)} results",
        )
