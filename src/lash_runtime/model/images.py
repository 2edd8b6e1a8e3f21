"""Images as a host or a tool has them: bytes in hand, not stored yet.

Rule: what the bytes say of themselves counts. A declared type that contradicts them is an error
here, and not a refusal by some provider in the middle of a turn.
"""

from typing import Final

from .attachments import (
    AttachmentCreateMeta,
    AttachmentRef,
    ImageFormat,
    MediaType,
    attachment_id,
)

_MARKS: Final = (
    (0, b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
    (0, b"\xff\xd8\xff", ImageFormat.JPEG),
    (0, b"GIF87a", ImageFormat.GIF),
    (0, b"GIF89a", ImageFormat.GIF),
    (8, b"WEBP", ImageFormat.WEBP),
    (0, b"BM", ImageFormat.BMP),
)
_ACCEPTED: Final = ", ".join(f"image/{image_format.value}" for image_format in ImageFormat)


class Image:
    """An image to say in a turn or to return from a tool.

    `mime` may be left out: the type is then read from the bytes. `label` is a name that stays
    with the image. Raises `ValueError` for empty bytes, for a type that cannot be carried, and
    for one that the bytes contradict.
    """

    __slots__ = ("_id", "data", "label", "media_type")

    def __init__(self, data: bytes, mime: str | None = None, *, label: str | None = None) -> None:
        self.media_type = image_type(data, mime)
        self.data = bytes(data)
        self.label = label
        self._id: str | None = None

    def attachment_id(self) -> str:
        """The id that it will be stored under. Computed once, in time that grows with it."""
        if self._id is None:
            self._id = attachment_id(self.data)
        return self._id

    def reference(self) -> AttachmentRef:
        """What refers to it once it is stored."""
        meta = AttachmentCreateMeta(media_type=self.media_type, label=self.label)
        return AttachmentRef.of(self.attachment_id(), len(self.data), meta)

    def __repr__(self) -> str:
        return f"<Image {self.media_type.mime}, {len(self.data)} bytes>"


def image_type(data: bytes, mime: str | None = None) -> MediaType:
    """The type of an image; `mime` is what its owner says it is.

    Raises `ValueError` as `Image` does.
    """
    if not data:
        raise ValueError("the image has no bytes")
    seen = _format_in(data)
    if mime is None:
        if seen is None:
            raise ValueError(f"the bytes are no image that is known here; accepted: {_ACCEPTED}")
        return MediaType(type=seen)
    declared = MediaType.from_mime(mime)
    if declared is None:
        raise ValueError(f"{mime!r} cannot be carried; accepted: {_ACCEPTED}")
    if seen is not None and seen is not declared.type:
        raise ValueError(f"the image is declared as {declared.mime}, but its bytes are {seen}")
    return declared


def looks_like_an_image(data: bytes) -> bool:
    """Whether the bytes begin as those of an image that can be carried."""
    return _format_in(data) is not None


def _format_in(data: bytes) -> ImageFormat | None:
    for offset, mark, image_format in _MARKS:
        if data.startswith(mark, offset):
            return image_format
    return None
