"""Raw session events: what the turn machine reports, before it becomes activities.

Internal and without any promise of stability; hosts watch activities.
"""

from dataclasses import dataclass
from typing import Any

from .checkpoints import CheckpointKind
from .messages import Message
from .outcome import ErrorEnvelope, TurnOutcome
from .tool_results import ToolCallOutput
from .usage import TokenUsage


@dataclass(frozen=True, slots=True)
class TextDeltaEvent:
    content: str


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A finished call, reported in source order when results return to the machine."""

    call_id: str | None
    name: str
    args: Any
    output: ToolCallOutput
    duration_ms: int


@dataclass(frozen=True, slots=True)
class LlmRequestEvent:
    protocol_iteration: int
    message_count: int
    tool_list: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LlmResponseEvent:
    protocol_iteration: int
    content: str


@dataclass(frozen=True, slots=True)
class TokenUsageEvent:
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@dataclass(frozen=True, slots=True)
class InjectedMessagesEvent:
    messages: tuple[Message, ...]
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True)
class TurnOutcomeEvent:
    outcome: TurnOutcome


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    message: str
    envelope: ErrorEnvelope | None = None


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The machine is finished; nothing follows."""


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
