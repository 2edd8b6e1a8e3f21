"""What a picker tells of a transcript, kept up to date by what each commit adds.

What a user said is told from what tools answered, which the transcript has under the same role.
"""

from collections.abc import Iterable
from typing import Final, Self

from ..model.messages import Message, MessageRole, PartKind
from ..model.nodes import SessionNodeRecord
from ..model.records import dataclass

EXCERPT_CHARS: Final = 200
"""How much of a message a digest keeps."""

_IMAGE: Final = "[Image attached]"
_UNSPOKEN: Final = frozenset({PartKind.TOOL_CALL, PartKind.TOOL_RESULT, PartKind.REASONING})
_SPEAKERS: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDigest:
    """Counts of messages, and the beginnings of the user's first and of anybody's last."""

    message_count: int = 0
    user_message_count: int = 0
    first_user_message: str = ""
    last_message: str = ""

    def followed_by(self, later: Self) -> Self:
        """The digest of two stretches of a transcript, this one before `later`."""
        return type(self)(
            message_count=self.message_count + later.message_count,
            user_message_count=self.user_message_count + later.user_message_count,
            first_user_message=self.first_user_message or later.first_user_message,
            last_message=later.last_message or self.last_message,
        )


def digest_of(nodes: Iterable[SessionNodeRecord]) -> SessionDigest:
    """The digest of the messages among `nodes`."""
    count = asked = 0
    first = last = ""
    for node in nodes:
        record = node.conversation
        if record is None:
            continue
        count += 1
        message = record.message
        if not _is_spoken(message):
            continue
        said = excerpt(message)
        last = said or last
        if message.role is MessageRole.USER:
            asked += 1
            first = first or said
    return SessionDigest(
        message_count=count, user_message_count=asked, first_user_message=first, last_message=last
    )


def first_of_user(nodes: Iterable[SessionNodeRecord]) -> str:
    """What the digest of `nodes` tells of the user; reads no further than it has to."""
    said = (
        excerpt(message)
        for node in nodes
        if (message := _spoken(node)) is not None and message.role is MessageRole.USER
    )
    return next(filter(None, said), "")


def first_of_anybody(nodes: Iterable[SessionNodeRecord]) -> str:
    """The beginning of the first message that says something; of the last, for nodes that come
    newest first."""
    said = (excerpt(message) for node in nodes if (message := _spoken(node)) is not None)
    return next(filter(None, said), "")


def excerpt(message: Message) -> str:
    """The beginning of what a message says; an image is told by a placeholder."""
    said = [
        _IMAGE if part.kind is PartKind.IMAGE else part.content
        for part in message.parts
        if part.kind not in _UNSPOKEN
    ]
    text = "\n\n".join([piece for piece in said if piece.strip()]).strip()
    if len(text) <= EXCERPT_CHARS:
        return text
    return text[: EXCERPT_CHARS - 1].rstrip() + "…"


def _spoken(node: SessionNodeRecord) -> Message | None:
    """The message of `node`, if the user or the model speaks in it."""
    record = node.conversation
    return record.message if record is not None and _is_spoken(record.message) else None


def _is_spoken(message: Message) -> bool:
    # A loop, because each node that is stored is asked, and a generator costs more than its parts.
    if message.role in _SPEAKERS:
        for part in message.parts:
            if part.kind not in _UNSPOKEN:
                return True
    return False
