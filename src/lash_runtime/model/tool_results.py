"""What a tool call produced, for the record, for the host and for the model."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from ._value import STRICT_RECORD, Value, absent_when_none, omitted_when_none
from .attachments import AttachmentRef
from .messages import ProviderReplayMeta
from .records import dataclass


class ToolFailureClass(StrEnum):
    INVALID_REQUEST = "invalid_request"
    UNAVAILABLE = "unavailable"
    PERMISSION_DENIED = "permission_denied"
    TIMEOUT = "timeout"
    EXECUTION = "execution"
    EXTERNAL = "external"
    RESOURCE_LIMIT = "resource_limit"
    INTERNAL = "internal"


class ToolFailureSource(StrEnum):
    RUNTIME = "runtime"
    TOOL = "tool"
    PLUGIN = "plugin"
    POLICY = "policy"
    CANCELLATION = "cancellation"


class NoRetry(Value):
    type: Literal["never"] = "never"


class RetrySafe(Value):
    """The call had no effect and may be made again, `after_ms` from now if given."""

    type: Literal["safe"] = "safe"
    after_ms: int | None = omitted_when_none()


class RetryExhausted(Value):
    type: Literal["exhausted"] = "exhausted"
    attempts: int


RetryDisposition = Annotated[NoRetry | RetrySafe | RetryExhausted, Field(discriminator="type")]


class ToolFailure(Value):
    """A tool that did not do its job. `raw` is an encoded tool value (`model.tool_values`)."""

    class_: ToolFailureClass = Field(alias="class")
    code: str
    message: str
    source: ToolFailureSource = ToolFailureSource.TOOL
    retry: RetryDisposition = NoRetry.defaults()
    raw: Any = omitted_when_none()

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class ToolCancellation(Value):
    """A call that was stopped before it finished."""

    message: str
    source: ToolFailureSource = ToolFailureSource.CANCELLATION
    raw: Any = omitted_when_none()


class ToolSuccess(Value):
    """`payload` is an encoded tool value: JSON in which attachments are tagged objects."""

    status: Literal["success"] = "success"
    payload: Any = None


class ToolFailed(Value):
    status: Literal["failure"] = "failure"
    payload: ToolFailure


class ToolCancelled(Value):
    status: Literal["cancelled"] = "cancelled"
    payload: ToolCancellation


ToolOutcome = Annotated[ToolSuccess | ToolFailed | ToolCancelled, Field(discriminator="status")]


class SwitchAgentFrame(Value):
    """Go on in a new agent frame; `initial_nodes` are session append nodes as JSON."""

    type: Literal["switch_agent_frame"] = "switch_agent_frame"
    frame_id: str
    initial_nodes: tuple[Any, ...] = ()
    task: str | None = omitted_when_none()


class FinishTurn(Value):
    """End the turn with this value."""

    type: Literal["finish"] = "finish"
    value: Any = None


class FailTurn(Value):
    """End the turn with this failure."""

    type: Literal["fail"] = "fail"
    failure: ToolFailure


ToolControl = Annotated[SwitchAgentFrame | FinishTurn | FailTurn, Field(discriminator="type")]


class ToolCallOutput(Value):
    """The canonical result of a call: what hooks, records and activities see."""

    outcome: ToolOutcome
    control: ToolControl | None = omitted_when_none()

    @classmethod
    def success(cls, payload: Any, control: ToolControl | None = None) -> Self:
        return cls(outcome=ToolSuccess(payload=payload), control=control)

    @classmethod
    def failure(cls, failure: ToolFailure) -> Self:
        return cls(outcome=ToolFailed(payload=failure))

    @classmethod
    def cancelled(cls, message: str) -> Self:
        return cls(outcome=ToolCancelled(payload=ToolCancellation(message=message)))

    @property
    def is_success(self) -> bool:
        return isinstance(self.outcome, ToolSuccess)

    def value_for_projection(self) -> Any:
        """A success's value as JSON; a failure's or cancellation's whole object."""
        match self.outcome:
            case ToolSuccess(payload=payload):
                return payload
            case ToolFailed(payload=failure):
                return failure.model_dump(mode="json")
            case ToolCancelled(payload=cancellation):
                return cancellation.model_dump(mode="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnText:
    __pydantic_config__ = STRICT_RECORD

    type: Literal["text"] = "text"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAttachment:
    __pydantic_config__ = STRICT_RECORD

    type: Literal["attachment"] = "attachment"
    ref: AttachmentRef


ModelReturnPart = Annotated[ReturnText | ReturnAttachment, Field(discriminator="type")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToolReturn:
    """What the model is shown of a result; may be shorter than the record."""

    __pydantic_config__ = STRICT_RECORD

    call_id: str
    tool_name: str
    parts: tuple[ModelReturnPart, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, ReturnText))


class ToolCallRecord(Value):
    """One finished call, as a turn's result lists it. `duration_ms` is wall time."""

    call_id: str | None = omitted_when_none()
    tool: str
    args: Any
    output: ToolCallOutput
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingToolCall:
    """A call the model asked for. `args_error` says why its arguments could not be parsed."""

    __pydantic_config__ = STRICT_RECORD

    call_id: str
    tool_name: str
    args: Any
    args_error: Annotated[str | None, absent_when_none()] = None
    replay: Annotated[ProviderReplayMeta | None, absent_when_none()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedToolCall:
    """A call with its result, on its way back to the protocol."""

    __pydantic_config__ = STRICT_RECORD

    call_id: str
    tool_name: str
    args: Any
    output: ToolCallOutput
    model_return: ModelToolReturn
    duration_ms: int = 0
    replay: Annotated[ProviderReplayMeta | None, absent_when_none()] = None
