"""What a turn came to, put together from its raw events and the transcript it left.

The machine says how a turn ended; here that becomes the result a host reads: text fit to show,
the calls, the problems met on the way. Streamed text never counts, because an attempt that was
retried streams text that nobody meant.
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, assert_never

from ..model.cancelling import CancelRequest
from ..model.messages import Message, MessageRole
from ..model.outcome import (
    AgentFrameSwitch,
    AssistantMessageEnd,
    AssistantOutput,
    FinalValueEnd,
    Finished,
    OutputState,
    Stopped,
    StopReason,
    ToolValueEnd,
    TurnIssue,
    TurnOutcome,
    answered,
    stopped,
)
from ..model.records import dataclass
from ..model.session_events import (
    DoneEvent,
    ErrorEvent,
    InjectedMessagesEvent,
    LlmRequestEvent,
    LlmResponseEvent,
    SessionEvent,
    TextDeltaEvent,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from ..model.tool_results import ToolCallRecord, ToolFailed
from ..model.usage import NO_USAGE, PromptUsage, TokenUsage
from .visible_text import prose_of

RUNTIME: Final = "runtime"
TURN_LIMIT_NOTE: Final = "Turn limit reached ("
"""How the note begins that a protocol leaves in the history when it runs out of rounds."""

_RECENT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledTurn:
    """A finished turn. `usage` is the turn's own, `prompt_usage` its last model call's.

    `cancellation` is the request that it was cancelled for, if there was one.
    """

    outcome: TurnOutcome
    assistant_output: AssistantOutput
    usage: TokenUsage
    prompt_usage: PromptUsage | None
    tool_calls: tuple[ToolCallRecord, ...]
    errors: tuple[TurnIssue, ...]
    cancellation: CancelRequest | None = None

    @property
    def has_tool_calls(self) -> bool:
        return bool(self.tool_calls)


class TurnAssembler:
    """Takes the raw events of one turn and, at its end, says what they came to."""

    def __init__(self, *, treat_missing_done_as_failure: bool = True) -> None:
        self._missing_done_fails = treat_missing_done_as_failure
        self._outcome: TurnOutcome | None = None
        self._done = False
        self._usage = NO_USAGE
        self._prompt_usage: PromptUsage | None = None
        self._calls: list[ToolCallRecord] = []
        self._issues: list[TurnIssue] = []

    def push(self, event: SessionEvent) -> None:
        match event:
            case TurnOutcomeEvent(outcome=outcome):
                self._outcome = outcome
            case DoneEvent():
                self._done = True
            case TokenUsageEvent(usage=usage, cumulative=cumulative):
                self._usage = cumulative
                self._prompt_usage = PromptUsage.from_usage(usage) or self._prompt_usage
            case ToolCallEvent():
                self._calls.append(
                    ToolCallRecord(
                        call_id=event.call_id,
                        tool=event.name,
                        args=event.args,
                        output=event.output,
                        duration_ms=event.duration_ms,
                    )
                )
            case ErrorEvent():
                self._issues.append(_issue_of(event))
            case (
                TextDeltaEvent() | LlmRequestEvent() | LlmResponseEvent() | InjectedMessagesEvent()
            ):
                pass
            case _:
                assert_never(event)

    def assemble(
        self, messages: Sequence[Message], *, cancellation: CancelRequest | None = None
    ) -> AssembledTurn:
        """What the turn came to, given the transcript it left.

        `cancellation` makes it a cancelled turn whatever it ended in, and keeps its text and its
        calls. Nothing is consumed: a turn can be assembled again.
        """
        cancelled = cancellation is not None
        issues = list(self._issues)
        blocking = bool(issues)
        raw_text = explicit_text(self._outcome)
        if raw_text is None:
            raw_text = _recovered_text(messages)
            if raw_text:
                issues.append(
                    TurnIssue(
                        kind=RUNTIME,
                        code="assistant_output_recovered_from_state",
                        message="The turn ended without saying its text; the transcript had it.",
                    )
                )
        if self._outcome is None and not self._done and self._missing_done_fails and not cancelled:
            issues.append(
                TurnIssue(
                    kind=RUNTIME,
                    code="missing_done",
                    message="The turn's events stopped before its end.",
                )
            )
            blocking = True
        output = assistant_output(raw_text, recovered_from_error=blocking)
        return AssembledTurn(
            outcome=self._settled_outcome(messages, output.safe_text, blocking, cancelled),
            assistant_output=output,
            usage=self._usage,
            prompt_usage=self._prompt_usage,
            tool_calls=tuple(self._calls),
            errors=tuple(issues),
            cancellation=cancellation,
        )

    def _settled_outcome(
        self, messages: Sequence[Message], safe_text: str, blocking: bool, cancelled: bool
    ) -> TurnOutcome:
        if cancelled:
            return stopped(StopReason.CANCELLED)
        match self._outcome:
            case Finished(end=AssistantMessageEnd(text=text)) as outcome:
                return outcome if text == safe_text else answered(safe_text)
            case Finished() | Stopped() | AgentFrameSwitch() as outcome:
                return outcome
            case None:
                pass
            case _:
                assert_never(self._outcome)
        if not self._done and self._missing_done_fails:
            return stopped(StopReason.RUNTIME_ERROR)
        if blocking:
            failed = any(isinstance(call.output.outcome, ToolFailed) for call in self._calls)
            return stopped(StopReason.TOOL_FAILURE if failed else StopReason.RUNTIME_ERROR)
        if _ran_out_of_rounds(messages):
            return stopped(StopReason.MAX_TURNS)
        return answered(safe_text)


def explicit_text(outcome: TurnOutcome | None) -> str | None:
    """The text that `outcome` itself carries; `None` when it carries none."""
    match outcome:
        case Finished(end=AssistantMessageEnd(text=text)):
            return text
        case Finished(end=FinalValueEnd(value=value) | ToolValueEnd(value=value)):
            return _value_text(value)
        case _:
            return None


def assistant_output(raw_text: str, *, recovered_from_error: bool = False) -> AssistantOutput:
    """A turn's text as it is shown: lines without trailing blanks, the whole trimmed."""
    safe_text = "\n".join(line.rstrip() for line in raw_text.split("\n")).strip()
    if not safe_text:
        state = OutputState.EMPTY_OUTPUT
    elif recovered_from_error:
        state = OutputState.RECOVERED_FROM_ERROR
    else:
        state = OutputState.USABLE
    return AssistantOutput(safe_text=safe_text, raw_text=raw_text, state=state)


def _issue_of(event: ErrorEvent) -> TurnIssue:
    envelope = event.envelope
    if envelope is None:
        return TurnIssue(kind=RUNTIME, message=event.message)
    return TurnIssue(
        kind=envelope.kind,
        code=envelope.code,
        terminal_reason=envelope.terminal_reason,
        message=envelope.user_message or event.message,
        raw=envelope.raw,
        retryable=envelope.retryable,
        provider_failure_kind=envelope.provider_failure_kind,
    )


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)


def _recovered_text(messages: Sequence[Message]) -> str:
    """The last thing the model said after it was last spoken to."""
    for message in reversed(messages):
        if message.role is MessageRole.USER:
            return ""
        if message.role is MessageRole.ASSISTANT:
            return prose_of(message)
    return ""


def _ran_out_of_rounds(messages: Sequence[Message]) -> bool:
    return any(
        message.role is MessageRole.SYSTEM
        and any(part.content.startswith(TURN_LIMIT_NOTE) for part in message.parts)
        for message in islice(reversed(messages), _RECENT)
    )
