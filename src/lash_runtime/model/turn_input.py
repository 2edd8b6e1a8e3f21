"""What a caller says in a turn."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field

from ._value import Value, omitted_when_empty, omitted_when_none
from .attachments import AttachmentRef, MediaType
from .images import Image, looks_like_an_image
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
    """The bytes of an image, base64 in JSON. Without a type, the bytes say which it is."""

    data: bytes
    media_type: MediaType | None = omitted_when_none()

    def declared_type(self) -> str | None:
        """The MIME type that was given, or `None` where the bytes have to say it.

        Bytes that say nothing are a PNG by convention.
        """
        if self.media_type is not None:
            return self.media_type.mime
        return None if looks_like_an_image(self.data) else "image/png"

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


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
    def of(cls, *items: "str | Image | AttachmentRef | InputItem") -> Self:
        """Mix text and images. A plain `str` is a text item; an image may also be given by
        the reference under which it is stored already."""
        said: list[InputItem] = []
        blobs: dict[str, ImageBlob] = {}
        for item in items:
            match item:
                case str():
                    said.append(TextItem(text=item))
                case Image(data=data, media_type=media_type, label=label):
                    name = label or f"image-{len(blobs) + 1}"
                    while name in blobs:
                        name = f"{name}-{len(blobs) + 1}"
                    blobs[name] = ImageBlob(data=data, media_type=media_type)
                    said.append(ImageRefItem(id=name))
                case AttachmentRef():
                    said.append(AttachmentItem(ref=item))
                case TextItem() | ImageRefItem() | AttachmentItem():
                    said.append(item)
        return cls(items=tuple(said), image_blobs=blobs)

    @classmethod
    def empty(cls) -> Self:
        return cls()

    def with_turn_id(self, turn_id: str) -> Self:
        return self.model_copy(update={"trace_turn_id": turn_id})

    def attachments(self) -> tuple[AttachmentRef, ...]:
        """The stored images that the input refers to."""
        return tuple(item.ref for item in self.items if isinstance(item, AttachmentItem))
