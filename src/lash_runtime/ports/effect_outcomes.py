"""What can be answered: one outcome for each command.

A failed model call or tool is data inside a successful outcome. Whoever asked checks that the
answer is of the kind that was asked for.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from ..kernel.machine.effects import ExecResponse
from ..model.causes import TurnCause
from ..model.llm import LlmCallError, LlmResponse, LlmToolSpec
from ..model.llm_attempts import LlmCallRecord
from ..model.messages import Message
from ..model.records import dataclass
from ..model.tool_results import ToolCallOutput
from .await_events import Resolution
from .effect_commands import RuntimeEffectCommand
from .effect_errors import EffectControllerError


@dataclass(frozen=True, slots=True)
class LlmCallOutcome:
    """What the model answered. `text_streamed` says that its text was shown as deltas; `record`
    holds the attempts, where whoever made the call has kept them."""

    result: LlmResponse | LlmCallError
    text_streamed: bool
    record: LlmCallRecord | None = None


@dataclass(frozen=True, slots=True)
class DirectOutcome:
    """What the model answered, and the attempts as for `LlmCallOutcome`."""

    result: LlmResponse | LlmCallError
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
class ExecCodeOutcome:
    """What the code did; a string says why it could not be run at all."""

    result: ExecResponse | str


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


@dataclass(frozen=True, slots=True)
class AwaitEventOutcome:
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class DurableStepOutcome:
    """What the step gave, as JSON."""

    value: Any


RuntimeEffectOutcome = (
    LlmCallOutcome
    | DirectOutcome
    | ToolBatchOutcome
    | ToolAttemptOutcome
    | ExecCodeOutcome
    | CheckpointOutcome
    | SyncExecutionEnvironmentOutcome
    | SleepOutcome
    | AwaitEventOutcome
    | DurableStepOutcome
)

O = TypeVar("O", bound=RuntimeEffectOutcome)  # noqa: E741


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
