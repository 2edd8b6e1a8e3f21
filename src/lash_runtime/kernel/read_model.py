"""What is visible of a session's active path: its messages and events, each message once.

Transient messages and repeated message ids are skipped. A read model grows with the path in
O(1) for each node and shares everything with its earlier versions.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Self

from ..model.messages import Message
from ..model.nodes import ConversationRecord, ProtocolEvent, SessionNodeRecord
from .shared_sequence import SharedSequence

EventRecord = ConversationRecord | ProtocolEvent


class FrameFilter(NamedTuple):
    """Which nodes a reader sees: those of `frame_id`, and unscoped ones if asked.

    An empty `frame_id` sees everything. The key of every look at a graph, hence a tuple.
    """

    frame_id: str
    include_unscoped: bool

    def admits(self, node: SessionNodeRecord) -> bool:
        if not self.frame_id:
            return True
        if node.agent_frame_id is None:
            return self.include_unscoped
        return node.agent_frame_id == self.frame_id


EVERYTHING = FrameFilter("", True)


@lru_cache(maxsize=4096)
def frame_filter(frame_id: str, include_unscoped: bool) -> FrameFilter:
    """The filter; the same one for as long as it is in use, because every version of a session
    keeps one."""
    return FrameFilter(frame_id, include_unscoped)


class ReadModel:
    """The messages and events of one path, as one frame sees them."""

    __slots__ = ("_positions", "events", "messages")

    def __init__(
        self,
        messages: SharedSequence[Message],
        events: SharedSequence[EventRecord],
        positions: dict[str, int],
    ) -> None:
        self.messages = messages
        self.events = events
        self._positions = positions

    @classmethod
    def of(cls, nodes: Iterable[SessionNodeRecord], visible: FrameFilter) -> Self:
        empty = cls(SharedSequence(), SharedSequence(), {})
        return empty.extended(nodes, visible)

    def has_message(self, message_id: str) -> bool:
        return self._position(message_id) is not None

    def message(self, message_id: str) -> Message | None:
        position = self._position(message_id)
        return None if position is None else self.messages[position]

    def extended(
        self,
        nodes: Iterable[SessionNodeRecord],
        visible: FrameFilter,
        adopt: SharedSequence[Message] | None = None,
    ) -> Self:
        """This model with `nodes` at the end of its path.

        `adopt` is a sequence that already ends in exactly these messages; it is taken over
        instead of growing a second list beside it.
        """
        messages: list[Message] = []
        events: list[EventRecord] = []
        known = self._positions
        first_new = len(self.messages)
        fresh: dict[str, int] = {}
        for node in nodes:
            event = node.event
            if event is None or not visible.admits(node):
                continue
            if isinstance(event, ConversationRecord):
                message = event.message
                if message.transient or message.id in fresh or self.has_message(message.id):
                    continue
                fresh[message.id] = first_new + len(messages)
                messages.append(message)
            events.append(event)
        if not events:
            return self
        grown = self._grow(messages, adopt)
        if fresh and not grown.grew_from(self.messages):
            known = dict(known)
        known.update(fresh)
        return type(self)(grown, self.events.extend(events), known)

    def _grow(
        self, messages: list[Message], adopt: SharedSequence[Message] | None
    ) -> SharedSequence[Message]:
        wanted = len(self.messages) + len(messages)
        if adopt is not None and len(adopt) == wanted and adopt.grew_from(self.messages):
            return adopt
        return self.messages.extend(messages)

    def _position(self, message_id: str) -> int | None:
        """Positions are shared between versions, so one may lie beyond this version or, after
        two versions grew apart, name another message."""
        position = self._positions.get(message_id)
        if position is None or position >= len(self.messages):
            return None
        return position if self.messages[position].id == message_id else None
