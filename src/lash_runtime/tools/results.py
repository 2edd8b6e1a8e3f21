"""What a tool may return, and how anything it returns becomes a canonical output."""

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Self

from anyio import to_thread

from ..model.images import Image
from ..model.records import dataclass, replace
from ..model.tool_results import (
    NoRetry,
    RetrySafe,
    ToolCallOutput,
    ToolCancellation,
    ToolCancelled,
    ToolControl,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolSuccess,
)
from ..model.tool_values import ToolValueError, compact_json, encode_tool_value
from ..model.unicode_text import storable_text
from ..ports.attachments import OFF_LOOP_BYTES, Attachments
from .errors import ToolError


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A result that says more than a plain value: a failure, a cancellation, a control.

    Make one with a constructor below; `output` is its canonical form. It refers to `images`,
    which are stored when the tool has returned.
    """

    output: ToolCallOutput
    images: tuple[Image, ...] = field(default=(), repr=False)

    @classmethod
    def ok(cls, value: object) -> Self:
        """A success. A value that cannot be encoded becomes a failure that says so."""
        images: list[Image] = []
        try:
            output = ToolCallOutput.success(encode_tool_value(value, images.append))
            return cls(output, tuple(images))
        except ToolValueError as error:
            return cls(unserialisable(error))

    @classmethod
    def err(cls, value: object) -> Self:
        """A failure that carries `value`: as its message if it is text, else as JSON."""
        try:
            raw = encode_tool_value(value)
        except ToolValueError as error:
            return cls(unserialisable(error))
        message = raw if isinstance(raw, str) else compact_json(raw)
        return cls.failure(_execution_failure(message, raw))

    @classmethod
    def err_fmt(cls, text: str) -> Self:
        """A failure with this message."""
        text = storable_text(text)
        return cls.failure(_execution_failure(text, text))

    @classmethod
    def failure(cls, failure: ToolFailure) -> Self:
        return cls(ToolCallOutput.failure(failure))

    @classmethod
    def retryable_failure(
        cls,
        failure_class: ToolFailureClass,
        code: str,
        message: str,
        after_ms: int | None = None,
    ) -> Self:
        """A call that had no effect and may be made again, `after_ms` milliseconds from now."""
        return cls.failure(
            ToolFailure(
                class_=failure_class,
                code=code,
                message=storable_text(message),
                retry=RetrySafe(after_ms=after_ms),
            )
        )

    @classmethod
    def cancelled(cls, message: str) -> Self:
        return cls(ToolCallOutput.cancelled(storable_text(message)))

    @classmethod
    def cancelled_with_raw(cls, message: str, value: object) -> Self:
        """A cancellation that keeps what was found before it."""
        try:
            raw = encode_tool_value(value)
        except ToolValueError as error:
            return cls(unserialisable(error))
        cancellation = ToolCancellation(message=storable_text(message), raw=raw)
        return cls(ToolCallOutput(outcome=ToolCancelled(payload=cancellation)))

    def with_control(self, control: ToolControl) -> Self:
        """The same result, which also steers the turn once its batch is done."""
        return replace(self, output=self.output.model_copy(update={"control": control}))

    @property
    def is_success(self) -> bool:
        return self.output.is_success

    def value_for_projection(self) -> Any:
        """The value; of a failure or cancellation its `raw`, else the whole object."""
        match self.output.outcome:
            case ToolSuccess(payload=payload):
                return payload
            case ToolFailed(payload=stopped) if stopped.raw is not None:
                return stopped.raw
            case ToolCancelled(payload=cancelled) if cancelled.raw is not None:
                return cancelled.raw
        return self.output.value_for_projection()


async def adapt_result(value: object, attachments: Attachments | None) -> ToolCallOutput:
    """The output for whatever a tool returned, with the images in it stored.

    Raises `AttachmentStoreError` for an image that cannot be.
    """
    if isinstance(value, ToolCallOutput):
        return value
    for image in _images_at_hand(value):
        if len(image.data) > OFF_LOOP_BYTES:
            await to_thread.run_sync(image.attachment_id)
    result = value if isinstance(value, ToolResult) else ToolResult.ok(value)
    if attachments is not None:
        for image in result.images:
            await attachments.put(image.data, image.media_type.mime, label=image.label)
    elif result.images:
        return ToolCallOutput.failure(_execution_failure("images cannot be kept here", None))
    return result.output


def _images_at_hand(value: object) -> Iterator[Image]:
    """The images that are found without a long search; most tools return no deeper ones."""
    match value:
        case Image():
            yield value
        case list() | tuple():
            yield from (item for item in value if isinstance(item, Image))
        case dict():
            yield from (item for item in value.values() if isinstance(item, Image))


def failure_of_exception(error: Exception, *, repeatable: bool) -> ToolFailure:
    """What the model is told of an exception: its type and its text, and nothing else of it.

    `repeatable` says that the tool may be called again whatever went wrong.
    """
    if isinstance(error, ToolError):
        return error.failure()
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        # A task group in a tool wraps the one error that matters.
        return failure_of_exception(error.exceptions[0], repeatable=repeatable)
    return ToolFailure(
        class_=ToolFailureClass.EXECUTION,
        code="tool_error",
        message=exception_text(error),
        retry=RetrySafe() if repeatable else NoRetry(),
    )


def exception_text(error: BaseException) -> str:
    """`TypeName: text`, bounded and fit to be stored."""
    try:
        text = str(error)
    except Exception:  # an exception's own __str__ may be broken; its type still says something
        text = ""
    name = type(error).__name__
    return storable_text(f"{name}: {text}" if text else name)


def unserialisable(error: ToolValueError) -> ToolCallOutput:
    """The output of a tool whose value cannot be encoded."""
    text = storable_text(f"Failed to serialize tool result: {error}")
    return ToolCallOutput.failure(_execution_failure(text, None))


def _execution_failure(message: str, raw: Any) -> ToolFailure:
    return ToolFailure(
        class_=ToolFailureClass.EXECUTION, code="tool_error", message=message, raw=raw
    )
