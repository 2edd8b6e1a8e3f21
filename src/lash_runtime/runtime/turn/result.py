"""What a turn gives back."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ...kernel.read_view import SessionReadView
from ...model.activity import TurnActivity
from ...model.cancelling import CancelRequest
from ...model.outcome import (
    AgentFrameSwitch,
    AssistantMessageEnd,
    AssistantOutput,
    ExecutionSummary,
    FinalValueEnd,
    Finished,
    Stopped,
    StopReason,
    ToolValueEnd,
    TurnIssue,
    TurnOutcome,
)
from ...model.records import dataclass
from ...model.tool_results import ToolCallRecord
from ...model.usage import TokenLedgerEntry, TokenUsage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnResult:
    """A finished turn, as it was committed.

    `state` is the session as the turn left it. `usage` is the turn's own; `children_usage` that
    of child sessions. `errors` lists problems that the turn met, also those it got over.
    `cancellation` is the request of `core.cancel_turn` that made it a cancelled turn; what the turn
    had finished by then is here all the same.
    """

    turn_id: str
    state: SessionReadView
    outcome: TurnOutcome
    assistant_output: AssistantOutput
    usage: TokenUsage
    execution: ExecutionSummary
    children_usage: tuple[TokenLedgerEntry, ...] = ()
    tool_calls: tuple[ToolCallRecord, ...] = ()
    errors: tuple[TurnIssue, ...] = ()
    cancellation: CancelRequest | None = None

    @property
    def is_success(self) -> bool:
        """The turn did what it was meant to: an answer, a value, or a hand-over."""
        return isinstance(self.outcome, Finished | AgentFrameSwitch)

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the turn stopped short; `None` if it did not."""
        return self.outcome.reason if isinstance(self.outcome, Stopped) else None

    @property
    def assistant_message(self) -> str | None:
        """The model's answer in prose; `None` if the turn ended in another way."""
        match self.outcome:
            case Finished(end=AssistantMessageEnd(text=text)):
                return text
            case _:
                return None

    @property
    def final_value(self) -> Any:
        """The value that ended the turn; `None` if it ended in another way."""
        match self.outcome:
            case Finished(end=FinalValueEnd(value=value) | ToolValueEnd(value=value)):
                return value
            case _:
                return None

    @property
    def tool_value(self) -> tuple[str, Any] | None:
        """The tool that ended the turn and its value; `None` if none did."""
        match self.outcome:
            case Finished(end=ToolValueEnd(tool_name=name, value=value)):
                return name, value
            case _:
                return None

    def started_at(self) -> datetime:
        """When the turn began to run, in UTC: after it had stood in line."""
        return datetime.fromtimestamp(self.execution.started_at_ms / 1000, UTC)

    def duration(self) -> timedelta:
        """From then until its end was about to be stored."""
        return timedelta(milliseconds=self.execution.duration_ms)

    def total_usage(self) -> TokenUsage:
        """The turn's usage together with that of its children."""
        total = self.usage
        for entry in self.children_usage:
            total = total.add(entry.usage)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class TurnOutput:
    """A turn's result with everything that happened on the way."""

    result: TurnResult
    activities: tuple[TurnActivity, ...]

    @property
    def turn_id(self) -> str:
        return self.result.turn_id

    @property
    def state(self) -> SessionReadView:
        return self.result.state

    @property
    def outcome(self) -> TurnOutcome:
        return self.result.outcome

    @property
    def assistant_output(self) -> AssistantOutput:
        return self.result.assistant_output

    @property
    def is_success(self) -> bool:
        return self.result.is_success

    @property
    def stop_reason(self) -> StopReason | None:
        return self.result.stop_reason

    @property
    def assistant_message(self) -> str | None:
        return self.result.assistant_message

    @property
    def final_value(self) -> Any:
        return self.result.final_value

    @property
    def tool_value(self) -> tuple[str, Any] | None:
        return self.result.tool_value

    @property
    def usage(self) -> TokenUsage:
        return self.result.usage

    @property
    def children_usage(self) -> tuple[TokenLedgerEntry, ...]:
        return self.result.children_usage

    @property
    def execution(self) -> ExecutionSummary:
        return self.result.execution

    @property
    def tool_calls(self) -> tuple[ToolCallRecord, ...]:
        return self.result.tool_calls

    @property
    def errors(self) -> tuple[TurnIssue, ...]:
        return self.result.errors

    @property
    def cancellation(self) -> CancelRequest | None:
        return self.result.cancellation

    def started_at(self) -> datetime:
        return self.result.started_at()

    def duration(self) -> timedelta:
        return self.result.duration()

    def total_usage(self) -> TokenUsage:
        return self.result.total_usage()
