"""What a caller says in a turn."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Base64Bytes, Field

from ._value import Value, omitted_when_empty, omitted_when_none
from .attachments import AttachmentRef, ImageFormat, MediaType
from .policy import ProtocolTurnOptions


class TextItem(Value):
    type: Literal["text"] = "text"
    text: str


class ImageRefItem(Value):
    """An image of the input's `image_blobs`, by its name there."""

    type: Literal["image_ref"] = "image_ref"
    id: str


class AttachmentItem(Value):
    """An image whose bytes are already in the attachment store."""

    type: Literal["attachment"] = "attachment"
    ref: AttachmentRef


InputItem = Annotated[TextItem | ImageRefItem | AttachmentItem, Field(discriminator="type")]


class ImageBlob(Value):
    """The bytes of an image, base64 in JSON."""

    data: Base64Bytes
    media_type: MediaType = MediaType(type=ImageFormat.PNG)


class TurnInput(Value):
    """Text and images in the order in which the model shall see them."""

    items: tuple[InputItem, ...] = ()
    image_blobs: Mapping[str, ImageBlob] = omitted_when_empty({})
    protocol_turn_options: ProtocolTurnOptions | None = omitted_when_none()
    trace_turn_id: str | None = omitted_when_none()

    @classmethod
    def text(cls, text: str) -> Self:
        return cls(items=(TextItem(text=text),))

    @classmethod
    def of(cls, *items: str | TextItem | ImageRefItem | AttachmentItem) -> Self:
        """Mix text and image references; a plain `str` is a text item."""
        return cls(items=tuple(_as_items(items)))

    @classmethod
    def empty(cls) -> Self:
        return cls()

    def with_turn_id(self, turn_id: str) -> Self:
        return self.model_copy(update={"trace_turn_id": turn_id})


def _as_items(
    items: Iterable[str | TextItem | ImageRefItem | AttachmentItem],
) -> Iterable[InputItem]:
    for item in items:
        yield TextItem(text=item) if isinstance(item, str) else item
