"""The encoded form of a tool's value: JSON in which attachments keep their place.

An attachment is `{"$lash_tool_value": "attachment", "ref": {…}}`. An object of the tool's own
that has this key is escaped as `{"$lash_tool_value": "object", "entries": {…}}`. Any other
object with the key is malformed, so an encoded value reads back in exactly one way. Whatever
cannot be stored as JSON text is refused here: numbers that are not finite, text that is not
Unicode, objects that pydantic cannot serialise.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, assert_never

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .attachments import TOOL_VALUE_CONTEXT, AttachmentRef
from .images import Image
from .tool_results import (
    ModelReturnPart,
    ModelToolReturn,
    ReturnAttachment,
    ReturnText,
    ToolCallOutput,
    ToolCancelled,
    ToolFailed,
    ToolSuccess,
)

TAG: Final = "$lash_tool_value"

# What an attachment looks like between the two steps of encoding. The control character keeps
# it apart from any key that a tool would choose; a tool that chooses it all the same only gets
# its object read as an attachment, and refused if it is none.
_PLACE: Final = "\x00lash_attachment"

_PLAIN: Final = frozenset({bool, int})
"""Exactly these are JSON as they are."""


class ToolValueError(ValueError):
    """The value has no encoded form, or the encoded form is malformed."""


def encode_tool_value(value: object, on_image: Callable[[Image], None] | None = None) -> Any:
    """Encode what a tool returned: JSON data, pydantic models, dataclasses, enums, dates, sets
    and whatever else pydantic serialises, with `AttachmentRef`s anywhere inside.

    With `on_image` there may be `Image`s as well. Each is encoded as the reference that it will
    have once it is stored, and handed to `on_image`, whose caller has to store it.

    Raises `ToolValueError`, naming what cannot be encoded.
    """

    if value is None or value.__class__ in _PLAIN:
        return value

    def of_unknown_type(item: object) -> Any:
        if isinstance(item, Image) and on_image is not None:
            on_image(item)
            return {_PLACE: item.reference().model_dump(mode="json")}
        raise PydanticSerializationError(f"Unable to serialize unknown type: {type(item)}")

    try:
        jsonable = to_jsonable_python(
            value,
            by_alias=True,
            context={TOOL_VALUE_CONTEXT: _PLACE},
            fallback=of_unknown_type,
        )
        text = compact_json(jsonable)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise ToolValueError(str(error)) from error
    if TAG in text or _ESCAPED_PLACE in text:
        return _tagged(jsonable)
    return jsonable


def decode_tool_value(encoded: object) -> Any:
    """The value as plain JSON data with `AttachmentRef`s; inverse of `encode_tool_value`.

    Raises `ToolValueError` for a malformed tag.
    """
    match encoded:
        case Mapping() if TAG in encoded:
            return _decoded_tag(encoded[TAG], encoded)
        case Mapping():
            return {key: decode_tool_value(item) for key, item in encoded.items()}
        case list() | tuple():
            return [decode_tool_value(item) for item in encoded]
        case _:
            return encoded


def check_tool_value(encoded: object) -> tuple[AttachmentRef, ...]:
    """The attachments in `encoded`, in reading order.

    Raises `ToolValueError` unless it is well-formed and can be stored.
    """
    try:
        return _attachments(encoded)
    except (ValueError, TypeError, RecursionError) as error:
        raise ToolValueError(str(error)) from error


def attachments_of(output: ToolCallOutput) -> tuple[AttachmentRef, ...]:
    """The attachments of an output: of its value, or of a failure's `raw`.

    Raises `ToolValueError` unless that is well-formed and can be stored.
    """
    match output.outcome:
        case ToolSuccess(payload=payload):
            return check_tool_value(payload)
        case ToolFailed(payload=stopped):
            return check_tool_value(stopped.raw)
        case ToolCancelled(payload=cancelled):
            return check_tool_value(cancelled.raw)


def model_return(call_id: str, name: str, output: ToolCallOutput) -> ModelToolReturn:
    """What the model is shown of `output`: text as it is, other values as compact JSON with the
    attachments cut out in place, failures and cancellations as their message."""
    match output.outcome:
        case ToolSuccess(payload=str() as text):
            parts = _in_one_piece(text)
        case ToolSuccess(payload=payload):
            text = compact_json(payload)
            parts = _in_one_piece(text) if TAG not in text else _merged(_pieces(payload))
        case ToolFailed(payload=failure):
            parts = _stopped("[Tool execution failed]", failure.message, failure.raw)
        case ToolCancelled(payload=cancelled):
            parts = _stopped("[Tool execution cancelled]", cancelled.message, cancelled.raw)
        case _:
            assert_never(output.outcome)
    return ModelToolReturn(call_id=call_id, tool_name=name, parts=parts)


_COMPACT: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def compact_json(value: object) -> str:
    text = _COMPACT.encode(value)
    text.encode()  # a lone surrogate passes json, and would fail in the store
    return text


_ESCAPED_PLACE: Final = json.dumps(_PLACE)[1:-1]


def _tagged(value: Any) -> Any:
    match value:
        case dict() if _PLACE in value and len(value) == 1:
            return {TAG: "attachment", "ref": _attachment(value[_PLACE]).model_dump(mode="json")}
        case dict():
            entries = {key: _tagged(item) for key, item in value.items()}
            return {TAG: "object", "entries": entries} if TAG in value else entries
        case list():
            return [_tagged(item) for item in value]
        case _:
            return value


def _decoded_tag(tag: object, encoded: Mapping[str, Any]) -> Any:
    match tag:
        case "attachment" if encoded.keys() == {TAG, "ref"}:
            return _attachment(encoded["ref"])
        case "object" if encoded.keys() == {TAG, "entries"}:
            entries = encoded["entries"]
            if isinstance(entries, Mapping):
                return {key: decode_tool_value(item) for key, item in entries.items()}
    keys = ", ".join(str(key) for key in encoded)
    raise ToolValueError(f"malformed tool value: {TAG} is {tag!r} in an object of {keys}")


def _attachment(ref: object) -> AttachmentRef:
    try:
        return AttachmentRef.model_validate(ref)
    except ValidationError as error:
        raise ToolValueError("malformed tool value: the attachment is no reference") from error


def _attachments(encoded: object) -> tuple[AttachmentRef, ...]:
    if encoded is None or isinstance(encoded, int) or TAG not in compact_json(encoded):
        return ()
    return tuple(piece for piece in _pieces(encoded) if isinstance(piece, AttachmentRef))


def _pieces(encoded: object) -> Iterator[str | AttachmentRef]:
    """JSON text in pieces, with the attachments between them."""
    return _split(decode_tool_value(encoded))


def _split(value: object) -> Iterator[str | AttachmentRef]:
    match value:
        case AttachmentRef():
            yield value
        case dict():
            opening = "{"
            for key, item in value.items():
                yield f"{opening}{compact_json(key)}:"
                yield from _split(item)
                opening = ","
            yield "}" if value else "{}"
        case list():
            opening = "["
            for item in value:
                yield opening
                yield from _split(item)
                opening = ","
            yield "]" if value else "[]"
        case _:
            yield compact_json(value)


def _in_one_piece(text: str) -> tuple[ModelReturnPart, ...]:
    return (ReturnText(text=text),) if text else ()


def _merged(pieces: Iterator[str | AttachmentRef]) -> tuple[ModelReturnPart, ...]:
    parts: list[ModelReturnPart] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if any(texts):
            parts.append(ReturnText(text="".join(texts)))
        texts.clear()
        parts.append(ReturnAttachment(ref=piece))
    if any(texts):
        parts.append(ReturnText(text="".join(texts)))
    return tuple(parts)


def _stopped(title: str, message: str, raw: object) -> tuple[ModelReturnPart, ...]:
    text = f"{title}\n{message}" if message else title
    refs = () if raw is None else _attachments(raw)
    return (ReturnText(text=text), *(ReturnAttachment(ref=ref) for ref in refs))
