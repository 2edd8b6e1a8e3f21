"""All branches of a conversation as a forest of messages."""

from ..model.messages import Message
from ..model.records import dataclass
from .graph import SessionGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMessageTreeNode:
    """A message and what followed it. `active` says that it lies on the active path."""

    node_id: str
    parent_message_node_id: str | None
    message: Message
    timestamp: str
    active: bool
    children: tuple["SessionMessageTreeNode", ...] = ()


def message_tree(graph: SessionGraph) -> tuple[SessionMessageTreeNode, ...]:
    """The roots of the forest; siblings are ordered by timestamp."""
    active = {node.node_id for node in graph.active_path}
    children: dict[str | None, list[str]] = {}
    for node in graph.nodes:
        if node.conversation is not None:
            children.setdefault(_message_ancestor(graph, node.parent_node_id), []).append(
                node.node_id
            )
    built: dict[str, SessionMessageTreeNode] = {}
    # Children before parents: a node is stored after its parent.
    for node in reversed(graph.nodes[:]):
        record = node.conversation
        if record is None:
            continue
        below = (built[child] for child in children.get(node.node_id, ()) if child in built)
        built[node.node_id] = SessionMessageTreeNode(
            node_id=node.node_id,
            parent_message_node_id=_message_ancestor(graph, node.parent_node_id),
            message=record.message,
            timestamp=node.timestamp,
            active=node.node_id in active,
            children=tuple(sorted(below, key=lambda item: item.timestamp)),
        )
    roots = (built[node_id] for node_id in children.get(None, ()))
    return tuple(sorted(roots, key=lambda item: item.timestamp))


def _message_ancestor(graph: SessionGraph, node_id: str | None) -> str | None:
    visited: set[str] = set()
    while node_id is not None and node_id not in visited:
        visited.add(node_id)
        node = graph.find(node_id)
        if node is None:
            return None
        if node.conversation is not None:
            return node_id
        node_id = node.parent_node_id
    return None
