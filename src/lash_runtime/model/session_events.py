"""Raw session events: what the turn machine reports, before it becomes activities.

Internal and without any promise of stability; hosts watch activities.
"""

from typing import Any, Literal

from .checkpoints import CheckpointKind
from .messages import Message
from .outcome import ErrorEnvelope, TurnOutcome
from .records import dataclass
from .tool_results import ToolCallOutput
from .usage import TokenUsage


@dataclass(frozen=True, slots=True)
class TextDeltaEvent:
    content: str
    type: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A finished call, reported in source order when results return to the machine."""

    call_id: str | None
    name: str
    args: Any
    output: ToolCallOutput
    duration_ms: int
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class LlmRequestEvent:
    protocol_iteration: int
    message_count: int
    tool_list: tuple[str, ...]
    type: Literal["llm_request"] = "llm_request"


@dataclass(frozen=True, slots=True)
class LlmResponseEvent:
    protocol_iteration: int
    content: str
    type: Literal["llm_response"] = "llm_response"


@dataclass(frozen=True, slots=True)
class TokenUsageEvent:
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage
    type: Literal["token_usage"] = "token_usage"


@dataclass(frozen=True, slots=True)
class InjectedMessagesEvent:
    messages: tuple[Message, ...]
    checkpoint: CheckpointKind
    type: Literal["injected_messages_committed"] = "injected_messages_committed"


@dataclass(frozen=True, slots=True)
class TurnOutcomeEvent:
    outcome: TurnOutcome
    type: Literal["turn_outcome"] = "turn_outcome"


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    message: str
    envelope: ErrorEnvelope | None = None
    type: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The machine is finished; nothing follows."""

    type: Literal["done"] = "done"


SessionEvent = (
    TextDeltaEvent
    | ToolCallEvent
    | LlmRequestEvent
    | LlmResponseEvent
    | TokenUsageEvent
    | InjectedMessagesEvent
    | TurnOutcomeEvent
    | ErrorEvent
    | DoneEvent
)
