"""The messages that a turn begins with, and the ids that make a repeated turn recognisable.

Ids derive from the turn's id, so that a turn that runs again makes the same messages. A turn id
may come again once its row was pruned, and in a session that keeps no rows; then the turn's index
is part of the ids, for a message whose id is known already would not be stored.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from ..model.causes import TurnCause
from ..model.messages import Message, MessageRole, Part, PartKind, part_id, text_message
from ..model.turn_input import AttachmentItem, ImageRefItem, TextItem, TurnInput


def user_message_id(turn_id: str) -> str:
    """The id of the message that a turn's input becomes."""
    return f"m:{turn_id}:user"


def message_scope(turn_id: str, turn_index: int, is_taken: Callable[[str], bool]) -> str:
    """What the message ids of a turn that begins derive from. `is_taken` knows the transcript."""
    return _indexed(turn_id, turn_index) if is_taken(user_message_id(turn_id)) else turn_id


def scope_of_begun(turn_id: str, turn_index: int, is_taken: Callable[[str], bool]) -> str:
    """The same for a turn that has messages in the transcript already."""
    indexed = _indexed(turn_id, turn_index)
    return indexed if is_taken(user_message_id(indexed)) else turn_id


def _indexed(turn_id: str, turn_index: int) -> str:
    return f"{turn_id}#{turn_index}"


def turn_message_id(turn_id: str, iteration: int, role: str) -> str:
    """The id of what a turn adds in one iteration: one message for each role."""
    return f"m:{turn_id}:{iteration}:{role}"


def opening_messages(
    turn_id: str, turn_input: TurnInput, causes: Sequence[TurnCause] = ()
) -> tuple[Message, ...]:
    """An event message for each cause, then the user's message.

    Empty input gives one empty text part, unless a cause made the turn run: then there is no
    user message. `turn_input` is normalised: it refers to images only as attachments.
    """
    messages = [
        text_message(cause.id, MessageRole.EVENT, cause.text, origin=cause.origin)
        for cause in causes
    ]
    if turn_input.items or not causes:
        messages.append(_user_message(turn_id, turn_input))
    return tuple(messages)


def _user_message(turn_id: str, turn_input: TurnInput) -> Message:
    message_id = user_message_id(turn_id)
    parts: list[Part] = []
    for item in turn_input.items:
        identity = part_id(message_id, len(parts))
        match item:
            case TextItem(text=text):
                parts.append(Part(id=identity, kind=PartKind.TEXT, content=text))
            case AttachmentItem(ref=ref):
                parts.append(Part(id=identity, kind=PartKind.IMAGE, attachments=(ref,)))
            case ImageRefItem(id=name):
                raise ValueError(f"image {name!r} was not stored before its turn began")
            case _:
                assert_never(item)
    if not parts:
        parts.append(Part(id=part_id(message_id, 0), kind=PartKind.TEXT))
    return Message(id=message_id, role=MessageRole.USER, parts=tuple(parts))
