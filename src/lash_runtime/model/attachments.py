"""Attachments by reference: what a message keeps of an image whose bytes live elsewhere."""

import hashlib
from enum import StrEnum
from typing import Any, Final, Literal, Self

from pydantic import SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from ._value import Value, omitted_when_none

TOOL_VALUE_CONTEXT: Final = "lash_tool_value"
"""Serialisation context under which a reference marks its place: `model.tool_values`."""


class ImageFormat(StrEnum):
    """The image formats that the library stores and sends."""

    PNG = "png"
    JPEG = "jpeg"
    GIF = "gif"
    WEBP = "webp"
    BMP = "bmp"


_FORMATS = frozenset(image_format.value for image_format in ImageFormat)


def attachment_id(data: bytes) -> str:
    """The id of these bytes, wherever they are stored: the hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


class MediaType(Value):
    """A media type the library can carry; today that is an image."""

    kind: Literal["image"] = "image"
    type: ImageFormat

    @property
    def mime(self) -> str:
        return f"image/{self.type.value}"

    @classmethod
    def from_mime(cls, mime: str) -> Self | None:
        """Parse a MIME type, ignoring case and blanks; `None` for anything but a known image."""
        family, _, name = mime.strip().lower().partition("/")
        name = "jpeg" if name == "jpg" else name
        if family != "image" or name not in _FORMATS:
            return None
        return cls(type=ImageFormat(name))


class AttachmentCreateMeta(Value):
    """What a caller knows about bytes before they are stored."""

    media_type: MediaType
    width: int | None = omitted_when_none()
    height: int | None = omitted_when_none()
    label: str | None = omitted_when_none()


class AttachmentRef(AttachmentCreateMeta):
    """A stored attachment: `id` is the hex SHA-256 of its bytes."""

    id: str
    byte_len: int

    @classmethod
    def of(cls, attachment_id: str, byte_len: int, meta: AttachmentCreateMeta) -> Self:
        """The reference to bytes of that id and length, described by `meta`."""
        return cls(
            id=attachment_id,
            byte_len=byte_len,
            media_type=meta.media_type,
            width=meta.width,
            height=meta.height,
            label=meta.label,
        )

    @model_serializer(mode="wrap")
    def _mark_place(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo[Any]
    ) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        mark = info.context.get(TOOL_VALUE_CONTEXT) if info.context else None
        return {mark: fields} if mark else fields
