"""The vocabulary of a model call: request, response, stream events, failure as data.

These are dataclasses and not stored models: a request is built and thrown away once for every
model call and holds one object for each message of the history, so it has to be cheap. The
journal form of a call is derived from them, it is not them.
"""

from collections.abc import Callable
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal, Self

from ._value import Value, omitted_when_none
from .attachments import AttachmentRef
from .failure_kinds import ProviderFailureKind as ProviderFailureKind
from .llm_attempts import AttemptRecord, ExecutionEvidence
from .messages import ProviderReasoningReplay, ProviderReplayMeta, ResponseTextMeta
from .records import dataclass
from .schema import NULL_SCHEMA, SchemaContract
from .usage import LlmUsage


class LlmTerminalReason(StrEnum):
    """Why a model call ended."""

    STOP = "stop"
    TOOL_USE = "tool_use"
    OUTPUT_LIMIT = "output_limit"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_FILTER = "content_filter"
    PROVIDER_ERROR = "provider_error"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class LlmRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class LlmToolChoice(StrEnum):
    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TextBlock:
    text: str
    response_meta: ResponseTextMeta | None = None
    cache_breakpoint: bool = False
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ImageBlock:
    """`attachment_idx` is an index into the request's attachments."""

    attachment_idx: int
    type: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class ToolCallBlock:
    """`input_json` is the model's own text and is never re-encoded."""

    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    call_id: str
    content: str
    tool_name: str | None = None
    type: Literal["tool_result"] = "tool_result"


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    text: str
    replay: ProviderReasoningReplay
    type: Literal["reasoning"] = "reasoning"


ContentBlock = TextBlock | ImageBlock | ToolCallBlock | ToolResultBlock | ReasoningBlock


@dataclass(frozen=True, slots=True)
class LlmMessage:
    role: LlmRole
    blocks: tuple[ContentBlock, ...]

    @classmethod
    def text(cls, role: LlmRole, text: str) -> Self:
        return cls(role, (TextBlock(text),))

    def is_blank(self) -> bool:
        """Only whitespace text; an image or a tool block is never blank."""
        return all(isinstance(block, TextBlock) and not block.text.strip() for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmAttachment:
    """An image of a request: by reference until the bytes are needed, then with its data."""

    mime: str
    data: bytes = b""
    reference: AttachmentRef | None = None

    def is_resolved(self) -> bool:
        return bool(self.data) or self.reference is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolSpec:
    """A tool as the model is told about it. The output schema never leaves the process."""

    name: str
    description: str
    input_schema: SchemaContract
    output_schema: SchemaContract = NULL_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObjectOutput:
    type: Literal["json_object"] = "json_object"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaOutput:
    name: str
    schema: SchemaContract
    strict: bool = True
    type: Literal["json_schema"] = "json_schema"


LlmOutputSpec = JsonObjectOutput | JsonSchemaOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    output_token_cap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequestScope:
    """Whose call this is; hosts may class traffic by `session_id`, which is always present."""

    session_id: str
    agent_frame_id: str
    request_id: str

    @property
    def continuation_key(self) -> str:
        return f"{self.session_id}::{self.agent_frame_id}"


@dataclass(frozen=True, slots=True)
class TextOutput:
    text: str
    response_meta: ResponseTextMeta | None = None
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ReasoningOutput:
    text: str
    replay: ProviderReasoningReplay | None = None
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class ToolCallOutputPart:
    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None
    type: Literal["tool_call"] = "tool_call"


LlmOutputPart = TextOutput | ReasoningOutput | ToolCallOutputPart


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New visible assistant text; append-only, never deduplicated."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class PartDelta:
    """Structured state that reconciles the final response and is not shown as a delta."""

    part: LlmOutputPart


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """Latest known totals; replaces what was reported before."""

    usage: LlmUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStatus:
    """The call failed and is tried again after `wait_seconds`."""

    wait_seconds: int
    attempt: int
    max_attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptReset:
    """What the failed attempt has streamed no longer counts; a new attempt begins."""


LlmStreamEvent = TextDelta | ReasoningDelta | PartDelta | UsageDelta | RetryStatus | AttemptReset


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmProviderTraceEvent:
    provider: str
    event_name: str
    raw: str


StreamCallback = Callable[[LlmStreamEvent], None]
"""Synchronous, called on the event loop's thread; it must neither block nor raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequest:
    """One model call. Shared and immutable: adapters build their body from it.

    The callbacks are live: they never take part in comparison, hashing or storage.
    `stream_events` being present is what "stream" means. `attempt_ended` is told of each attempt
    that a handle makes at the call, on the loop's thread; it must neither block nor raise.
    """

    model: str
    messages: tuple[LlmMessage, ...]
    scope: LlmRequestScope
    attachments: tuple[LlmAttachment, ...] = ()
    tools: tuple[LlmToolSpec, ...] = ()
    tool_choice: LlmToolChoice = LlmToolChoice.NONE
    model_variant: str | None = None
    generation: GenerationOptions = GenerationOptions()
    output_spec: LlmOutputSpec | None = None
    stream_events: StreamCallback | None = field(default=None, compare=False, repr=False)
    provider_trace: Callable[[LlmProviderTraceEvent], None] | None = field(
        default=None, compare=False, repr=False
    )
    attempt_ended: Callable[[AttemptRecord], None] | None = field(
        default=None, compare=False, repr=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmResponse:
    """What a model call produced. `provider_usage` is the endpoint's own usage object."""

    full_text: str = ""
    parts: tuple[LlmOutputPart, ...] = ()
    usage: LlmUsage = LlmUsage.defaults()
    terminal_reason: LlmTerminalReason = LlmTerminalReason.UNKNOWN
    terminal_diagnostic: str | None = None
    provider_usage: Any = None
    request_body: str | None = field(default=None, repr=False)
    http_summary: str | None = None
    evidence: ExecutionEvidence | None = None


class LlmCallError(Value):
    """A failed model call as data: recorded, replayed, and shown as an issue of the turn."""

    message: str
    retryable: bool = False
    kind: ProviderFailureKind = ProviderFailureKind.UNKNOWN
    raw: str | None = omitted_when_none()
    code: str | None = omitted_when_none()
    terminal_reason: LlmTerminalReason = LlmTerminalReason.PROVIDER_ERROR
    request_body: str | None = omitted_when_none()
