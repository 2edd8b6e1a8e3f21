"""Turns what a caller said into what is stored: text joined, images put where they are kept.

This happens before a turn is accepted, so that a row refers to images and never holds them, and
so that bad input costs nothing and leaves nothing.
"""

from typing import assert_never

from ...model.attachments import AttachmentCreateMeta
from ...model.turn_input import AttachmentItem, ImageRefItem, InputItem, TextItem, TurnInput
from ...model.unicode_text import why_not_storable
from ...ports.attachments import AttachmentStore, AttachmentStoreError


class InvalidTurnInput(Exception):
    """The input cannot be made into a message; its text says which item and why."""


async def normalise_input(turn_input: TurnInput, attachments: AttachmentStore | None) -> TurnInput:
    """Drop empty text, join adjacent text, store images.

    Raises `InvalidTurnInput` for text that is not valid Unicode, a blank image name, one without
    bytes, and bytes that could not be stored.
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
            case AttachmentItem():
                items.append(item)
            case ImageRefItem(id=name):
                items.append(await _stored(name, turn_input, attachments))
            case _:
                assert_never(item)
    return turn_input.model_copy(update={"items": tuple(items), "image_blobs": {}})


async def _stored(
    name: str, turn_input: TurnInput, attachments: AttachmentStore | None
) -> AttachmentItem:
    if not name.strip():
        raise InvalidTurnInput("an image item has a blank id: name one of the input's image blobs")
    blob = turn_input.image_blobs.get(name)
    if blob is None:
        raise InvalidTurnInput(f"image {name!r} has no bytes: give its bytes in `image_blobs`")
    if attachments is None:
        raise InvalidTurnInput(f"image {name!r} cannot be kept: no attachment store is wired")
    meta = AttachmentCreateMeta(media_type=blob.media_type, label=name)
    try:
        reference = await attachments.put(blob.data, meta)
    except AttachmentStoreError as error:
        raise InvalidTurnInput(f"image {name!r} could not be stored: {error}") from error
    return AttachmentItem(ref=reference)
