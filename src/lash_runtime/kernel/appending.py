"""Nodes that a host or a plugin appends to a session between its turns."""

from collections.abc import Callable, Iterable
from typing import assert_never

from ..model.causes import PluginOrigin
from ..model.messages import Message, renumber_parts
from ..model.nodes import (
    ConversationRecord,
    MessageNode,
    NodePayload,
    PluginNode,
    PluginPayload,
    ProtocolEvent,
    ProtocolEventNode,
    SessionAppendNode,
    SessionNodeRecord,
)
from ..model.records import replace
from .graph import SessionGraph
from .node_ids import cause_of, message_node_id


def is_on_path(graph: SessionGraph, node_id: str) -> bool:
    """Whether the active path goes through that node. O(n)."""
    return any(node.node_id == node_id for node in graph.active_path)


def appended_nodes(
    graph: SessionGraph,
    drafts: Iterable[SessionAppendNode],
    *,
    frame_id: str,
    timestamp: str,
    new_hex: Callable[[], str],
) -> tuple[SessionNodeRecord, ...]:
    """The nodes of `drafts`, which chain from the leaf of `graph` one under the other.

    A message of no origin comes from a plugin, and its parts are numbered. `new_hex` gives 32
    random hex digits.
    """
    nodes: list[SessionNodeRecord] = []
    used: set[str] = set()
    parent = graph.leaf_node_id

    def is_taken(node_id: str) -> bool:
        return node_id in used or node_id in graph

    for draft in drafts:
        caused_by = draft.caused_by
        payload: NodePayload
        match draft:
            case MessageNode():
                message = _attributed(draft.message, new_hex)
                node_id = message_node_id(message.id, is_taken)
                caused_by = caused_by or cause_of(message)
                payload = ConversationRecord.of(message)
            case ProtocolEventNode(plugin_id=plugin_id, payload=body):
                node_id = f"protocol:{new_hex()}"
                payload = ProtocolEvent(plugin_id=plugin_id, payload=body)
            case PluginNode(plugin_type=plugin_type, body=body):
                node_id = f"plugin:{new_hex()}"
                payload = PluginPayload(plugin_type=plugin_type, body=body)
            case _:
                assert_never(draft)
        nodes.append(
            SessionNodeRecord(
                node_id=node_id,
                parent_node_id=parent,
                caused_by=caused_by,
                agent_frame_id=frame_id or None,
                timestamp=timestamp,
                payload=payload,
            )
        )
        used.add(node_id)
        parent = node_id
    return tuple(nodes)


def _attributed(message: Message, new_hex: Callable[[], str]) -> Message:
    message_id = message.id or f"m{new_hex()}"
    if message.origin is not None:
        return replace(message, id=message_id)
    return replace(
        message,
        id=message_id,
        origin=PluginOrigin(plugin_id="plugin"),
        parts=renumber_parts(message_id, message.parts),
    )
