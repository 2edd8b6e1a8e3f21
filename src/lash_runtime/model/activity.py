"""Turn activities: what a turn does, as it happens, for whoever watches.

Activities with the same `correlation_id` belong to one visible row: the deltas of one block of
text, the start and the end of one tool call. They are made by the thousand in a streaming
turn, hence plain dataclasses.
"""

from typing import Any, Literal

from .causes import TurnCause
from .checkpoints import CheckpointKind
from .messages import Message
from .records import dataclass
from .tool_results import ToolCallOutput
from .usage import TokenUsage


@dataclass(frozen=True, slots=True)
class ModelRequestStarted:
    protocol_iteration: int
    type: Literal["model_request_started"] = "model_request_started"


@dataclass(frozen=True, slots=True)
class AssistantProseDelta:
    text: str
    type: Literal["assistant_prose_delta"] = "assistant_prose_delta"


@dataclass(frozen=True, slots=True)
class ReasoningTextDelta:
    text: str
    type: Literal["reasoning_delta"] = "reasoning_delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStarted:
    name: str
    args: Any
    call_id: str | None = None
    graph_key: str | None = None
    parent_call_id: str | None = None
    type: Literal["tool_call_started"] = "tool_call_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallCompleted:
    """`duration_ms` is wall time from the start of the call to its result."""

    name: str
    args: Any
    output: ToolCallOutput
    duration_ms: int
    call_id: str | None = None
    graph_key: str | None = None
    parent_call_id: str | None = None
    type: Literal["tool_call_completed"] = "tool_call_completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalValue:
    value: Any
    type: Literal["final_value"] = "final_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolValueProduced:
    tool_name: str
    value: Any
    type: Literal["tool_value"] = "tool_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported:
    """Tokens of one model call, and of the turn so far."""

    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage
    type: Literal["usage"] = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    wait_seconds: int
    attempt: int
    max_attempts: int
    reason: str
    type: Literal["retry_status"] = "retry_status"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeDiagnostic:
    """A fact about the run itself.

    `model_attempt_reset` names the correlation ids whose text was superseded by a retry;
    `turn_restarted` says that the turn `turn_id` is gone on with from its record, for the
    `attempt`-th time: what was shown of it before does not count any more; `activities_gap` tells
    one reader of a turn that the log has lost what stood in its place.
    """

    kind: str
    data: Any
    type: Literal["runtime_diagnostic"] = "runtime_diagnostic"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkStarted:
    boundary: str
    batch_ids: tuple[str, ...]
    causes: tuple[TurnCause, ...]
    type: Literal["queued_work_started"] = "queued_work_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedInput:
    message: Message
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedInputAccepted:
    checkpoint: CheckpointKind
    inputs: tuple[AcceptedInput, ...]
    type: Literal["queued_input_accepted"] = "queued_input_accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessagesCommitted:
    messages: tuple[Message, ...]
    checkpoint: CheckpointKind
    type: Literal["queued_messages_committed"] = "queued_messages_committed"


@dataclass(frozen=True, slots=True)
class ErrorReported:
    message: str
    type: Literal["error"] = "error"


TurnEvent = (
    ModelRequestStarted
    | AssistantProseDelta
    | ReasoningTextDelta
    | ToolCallStarted
    | ToolCallCompleted
    | FinalValue
    | ToolValueProduced
    | UsageReported
    | RetryScheduled
    | RuntimeDiagnostic
    | QueuedWorkStarted
    | QueuedInputAccepted
    | QueuedMessagesCommitted
    | ErrorReported
)


@dataclass(frozen=True, slots=True)
class TurnActivity:
    """One thing that happened in a turn, in the order in which everyone sees it."""

    id: str
    correlation_id: str
    event: TurnEvent
