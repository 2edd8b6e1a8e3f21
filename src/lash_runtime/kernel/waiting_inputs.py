"""What becomes of inputs that have waited: one turn for several, or words in a running one."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from ..model.causes import PluginOrigin
from ..model.messages import Message, MessageRole, Part, PartKind, renumber_parts
from ..model.turn_input import (
    AttachmentItem,
    ImageBlob,
    ImageRefItem,
    InputItem,
    TextItem,
    TurnInput,
)


def join_inputs(inputs: Iterable[TurnInput]) -> TurnInput:
    """The input of the one turn that answers all of them, in their order.

    Options and trace id are the first ones that any of them has. Images keep their names; one
    whose name stands for other bytes already gets another.
    """
    items: list[InputItem] = []
    blobs: dict[str, ImageBlob] = {}
    options = trace_turn_id = None
    for each in inputs:
        names = {name: _add(blobs, name, blob) for name, blob in each.image_blobs.items()}
        items += [
            ImageRefItem(id=names.get(item.id, item.id)) if isinstance(item, ImageRefItem) else item
            for item in each.items
        ]
        options = each.protocol_turn_options if options is None else options
        trace_turn_id = each.trace_turn_id if trace_turn_id is None else trace_turn_id
    return TurnInput(
        items=tuple(items),
        image_blobs=blobs,
        protocol_turn_options=options,
        trace_turn_id=trace_turn_id,
    )


def injected_message(message_id: str, turn_input: TurnInput) -> Message | None:
    """What a running turn tells the model of an input; `None` of an empty one.

    Text alone is one part, its items in lines of their own; with images there is a part for each
    item, in their order. The message is transient: the model sees it in this turn, and it is not
    part of the transcript. `turn_input` is normalised: it refers to images only as attachments.
    """
    texts = [item.text for item in turn_input.items if isinstance(item, TextItem)]
    if len(texts) == len(turn_input.items):
        parts = [_text("\n".join(texts))] if any(text.strip() for text in texts) else []
    else:
        parts = _parts(turn_input.items)
    if not parts:
        return None
    return Message(
        id=message_id,
        role=MessageRole.USER,
        parts=renumber_parts(message_id, parts),
        origin=PluginOrigin(plugin_id="turn_input", transient=True),
    )


def _parts(items: Sequence[InputItem]) -> list[Part]:
    parts: list[Part] = []
    for item in items:
        match item:
            case TextItem(text=text):
                parts.append(_text(text))
            case AttachmentItem(ref=ref):
                parts.append(Part(id="", kind=PartKind.IMAGE, attachments=(ref,)))
            case ImageRefItem(id=name):
                raise ValueError(f"image {name!r} was not stored before its turn was told of it")
            case _:
                assert_never(item)
    return parts


def _text(text: str) -> Part:
    return Part(id="", kind=PartKind.TEXT, content=text)


def _add(blobs: dict[str, ImageBlob], name: str, blob: ImageBlob) -> str:
    """Add `blob` under `name`, or under a free one like it; the name it has now."""
    free, number = name, 2
    while blobs.get(free, blob) != blob:
        free, number = f"{name}-{number}", number + 1
    blobs[free] = blob
    return free
