"""How a turn ended, and what its result says about it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from ._value import Value, omitted_when_empty, omitted_when_none
from .llm import LlmTerminalReason, ProviderFailureKind


class AssistantMessageEnd(Value):
    """The model answered in prose."""

    type: Literal["assistant_message"] = "assistant_message"
    text: str


class FinalValueEnd(Value):
    type: Literal["final_value"] = "final_value"
    value: Any


class ToolValueEnd(Value):
    """A tool ended the turn with a value."""

    type: Literal["tool_value"] = "tool_value"
    tool_name: str
    value: Any


FinishedEnd = Annotated[
    AssistantMessageEnd | FinalValueEnd | ToolValueEnd, Field(discriminator="type")
]


class StopReason(StrEnum):
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    INCOMPLETE = "incomplete"
    INVALID_INPUT = "invalid_input"
    MAX_TURNS = "max_turns"
    TOOL_FAILURE = "tool_failure"
    PROVIDER_ERROR = "provider_error"
    PLUGIN_ABORT = "plugin_abort"
    RUNTIME_ERROR = "runtime_error"
    SUBMITTED_ERROR = "submitted_error"
    TOOL_ERROR = "tool_error"


class Finished(Value):
    kind: Literal["finished"] = "finished"
    end: FinishedEnd


class Stopped(Value):
    """The turn ended without the answer it was meant to give.

    `tool_name` and `value` are set for `tool_error`, `value` for `submitted_error`.
    """

    kind: Literal["stopped"] = "stopped"
    reason: StopReason
    tool_name: str | None = omitted_when_none()
    value: Any = omitted_when_none()


class AgentFrameSwitch(Value):
    """The turn goes on in another agent frame with `task` as its input."""

    kind: Literal["agent_frame_switch"] = "agent_frame_switch"
    frame_id: str
    task: str
    initial_nodes: tuple[Any, ...] = omitted_when_empty(())


TurnOutcome = Annotated[Finished | Stopped | AgentFrameSwitch, Field(discriminator="kind")]


def stopped(reason: StopReason) -> Stopped:
    return Stopped(reason=reason)


def answered(text: str) -> Finished:
    return Finished(end=AssistantMessageEnd(text=text))


class OutputState(StrEnum):
    USABLE = "usable"
    EMPTY_OUTPUT = "empty_output"
    TRACEBACK_ONLY = "traceback_only"
    RECOVERED_FROM_ERROR = "recovered_from_error"


class AssistantOutput(Value):
    """The turn's text: as produced, and with blanks trimmed."""

    safe_text: str = ""
    raw_text: str = ""
    state: OutputState = OutputState.EMPTY_OUTPUT


class ExecutionSummary(Value):
    had_tool_calls: bool = False
    had_code_execution: bool = False
    started_at_ms: int = 0
    duration_ms: int = 0


class TurnIssue(Value):
    """A problem that a turn met. Issues are listed; they do not raise."""

    kind: str
    code: str | None = omitted_when_none()
    terminal_reason: LlmTerminalReason | None = omitted_when_none()
    message: str
    raw: str | None = omitted_when_none()
    retryable: bool | None = omitted_when_none()
    provider_failure_kind: ProviderFailureKind | None = omitted_when_none()


class ErrorEnvelope(Value):
    """The structured side of an error event."""

    kind: str
    code: str | None = omitted_when_none()
    terminal_reason: LlmTerminalReason | None = omitted_when_none()
    user_message: str = ""
    raw: str | None = omitted_when_none()
    retryable: bool | None = omitted_when_none()
    provider_failure_kind: ProviderFailureKind | None = omitted_when_none()
