"""Turns what a caller said into what is stored: text joined, images put where they are kept.

This happens before a turn is accepted, so that a row refers to images and never holds them, and
so that bad input costs nothing and leaves nothing but bytes that a later sweep removes.
"""

from typing import assert_never

from ...model.attachments import AttachmentRef
from ...model.turn_input import AttachmentItem, ImageRefItem, InputItem, TextItem, TurnInput
from ...model.unicode_text import why_not_storable
from ...ports.attachments import AttachmentStoreError
from ..session_attachments import SessionAttachments


class InvalidTurnInput(Exception):
    """The input cannot be made into a message; its text says which item and why."""


async def normalise_input(turn_input: TurnInput, attachments: SessionAttachments) -> TurnInput:
    """Drop empty text, join adjacent text, store images, find those that are stored.

    Raises `InvalidTurnInput` for text that is not valid Unicode, a blank image name, one without
    bytes, bytes that could not be stored, and a stored image that is not there.
    """
    items: list[InputItem] = []
    for item in turn_input.items:
        match item:
            case TextItem(text=text):
                if not text:
                    continue
                if (reason := why_not_storable(text)) is not None:
                    raise InvalidTurnInput(f"a text of the input cannot be stored: {reason}")
                if items and isinstance(items[-1], TextItem):
                    items[-1] = TextItem(text=items[-1].text + text)
                else:
                    items.append(item)
            case AttachmentItem(ref=ref):
                await _adopt(ref, attachments)
                items.append(item)
            case ImageRefItem(id=name):
                items.append(AttachmentItem(ref=await _stored(name, turn_input, attachments)))
            case _:
                assert_never(item)
    normal = tuple(items)
    if normal == turn_input.items and not turn_input.image_blobs:
        return turn_input
    return turn_input.model_copy(update={"items": normal, "image_blobs": {}})


async def _adopt(ref: AttachmentRef, attachments: SessionAttachments) -> None:
    try:
        await attachments.adopt((ref,))
    except AttachmentStoreError as error:
        raise InvalidTurnInput(f"image {ref.id!r} cannot be shown: {error}") from error


async def _stored(
    name: str, turn_input: TurnInput, attachments: SessionAttachments
) -> AttachmentRef:
    if not name.strip():
        raise InvalidTurnInput("an image item has a blank id: name one of the input's image blobs")
    blob = turn_input.image_blobs.get(name)
    if blob is None:
        raise InvalidTurnInput(f"image {name!r} has no bytes: give its bytes in `image_blobs`")
    if (reason := why_not_storable(name)) is not None:
        raise InvalidTurnInput(f"an image's name cannot be stored: {reason}")
    mime = blob.declared_type()
    try:
        return await attachments.put(blob.data, mime, label=name)
    except AttachmentStoreError as error:
        raise InvalidTurnInput(f"image {name!r} could not be stored: {error}") from error
