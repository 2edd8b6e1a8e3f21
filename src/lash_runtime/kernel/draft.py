"""What a running turn adds to its session, kept apart until it is committed.

A draft is a graph that has grown from the session's own. A turn that fails drops its draft and
nothing has happened; a progress commit marks what is stored, and the next commit takes the rest.
"""

from collections.abc import Sequence
from typing import assert_never

from ..model.messages import Message
from ..model.nodes import ConversationRecord, ProtocolEvent, SessionNodeRecord
from .graph import SessionGraph
from .node_ids import cause_of, message_node_id
from .read_model import EventRecord, FrameFilter
from .shared_sequence import SharedSequence


class TurnDraft:
    """The growing graph of one turn. `committed` is the graph that the store has."""

    __slots__ = ("_frame_id", "_ordinal", "_scope", "_visible", "committed", "graph")

    def __init__(
        self, base: SessionGraph, *, frame_id: str, visible: FrameFilter, scope: str
    ) -> None:
        """`scope` makes the ids of protocol nodes unique and repeatable, e.g. the turn id."""
        base.read_model(visible)
        self.graph = base
        self.committed = base
        self._frame_id = frame_id
        self._visible = visible
        self._scope = scope
        self._ordinal = 0

    @property
    def messages(self) -> SharedSequence[Message]:
        """What the session's current frame shows, this turn included."""
        return self.graph.read_model(self._visible).messages

    def append_events(self, events: Sequence[EventRecord], timestamp: str) -> None:
        """Add events in order; transient messages and ones already there are skipped."""
        self._extend(self._nodes_for(events, timestamp), None)

    def reconcile(self, messages: SharedSequence[Message], timestamp: str) -> None:
        """Make the visible transcript equal `messages`, transient ones aside.

        A list that extends the present one is appended; any other moves the leaf back to the
        last common message and goes on from there, leaving the old end as a branch.
        """
        present = self.messages
        shown = len(present)
        if messages.grew_from(present) or _same_start(messages, present):
            added = messages[shown:]
            adopt = messages if not any(message.transient for message in added) else None
            nodes = self._nodes_for([ConversationRecord.of(m) for m in added], timestamp)
            self._extend(nodes, adopt)
            return
        wanted = [message for message in messages if not message.transient]
        if wanted == list(present):
            return
        leaf, matched = self.graph.kept_prefix(wanted, self._visible)
        self.graph = self.graph.with_leaf(leaf)
        rest = [ConversationRecord.of(message) for message in wanted[matched:]]
        self._extend(self._nodes_for(rest, timestamp), None)

    def uncommitted(self) -> tuple[SessionNodeRecord, ...]:
        """The nodes that the store does not have yet, in order."""
        return self.graph.nodes[len(self.committed.nodes) :]

    def mark_committed(self) -> None:
        self.committed = self.graph

    def _extend(
        self, nodes: Sequence[SessionNodeRecord], adopt: SharedSequence[Message] | None
    ) -> None:
        self.graph = self.graph.extend_active_path(nodes, adopt)

    def _nodes_for(self, events: Sequence[EventRecord], timestamp: str) -> list[SessionNodeRecord]:
        model = self.graph.read_model(self._visible)
        nodes: list[SessionNodeRecord] = []
        taken: set[str] = set()
        used: set[str] = set()
        parent = self.graph.leaf_node_id

        def is_taken(node_id: str) -> bool:
            return node_id in used or node_id in self.graph

        for event in events:
            match event:
                case ConversationRecord():
                    message = event.message
                    if message.transient or message.id in taken or model.has_message(message.id):
                        continue
                    taken.add(message.id)
                    node_id = message_node_id(message.id, is_taken)
                    caused_by = cause_of(message)
                case ProtocolEvent():
                    node_id = self._protocol_id()
                    caused_by = None
                case _:
                    assert_never(event)
            node = SessionNodeRecord(
                node_id=node_id,
                parent_node_id=parent,
                caused_by=caused_by,
                agent_frame_id=self._frame_id or None,
                timestamp=timestamp,
                payload=event,
            )
            nodes.append(node)
            used.add(node_id)
            parent = node_id
        return nodes

    def _protocol_id(self) -> str:
        """The next id of this scope; an earlier run of it may have stored the first ones."""
        while True:
            self._ordinal += 1
            node_id = f"protocol:{self._scope}:{self._ordinal}"
            if node_id not in self.graph:
                return node_id


def _same_start(messages: SharedSequence[Message], present: SharedSequence[Message]) -> bool:
    if len(messages) < len(present):
        return False
    return all(
        ours is theirs or ours.id == theirs.id
        for ours, theirs in zip(messages, present, strict=False)
    )
