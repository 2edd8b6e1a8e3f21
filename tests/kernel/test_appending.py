"""Nodes that are appended between turns: what they are called, and where they hang."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from lash_runtime.kernel.agent_frames import frame_to_open, with_frame
from lash_runtime.kernel.appending import appended_nodes, is_on_path
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.model.causes import PluginOrigin, ProcessEventRef, ProcessOrigin, TurnRef
from lash_runtime.model.frames import AgentFrameAssignment, AgentFrameRecord, FrameStatus
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import (
    MessageNode,
    PluginNode,
    ProtocolEventNode,
    SessionAppendNode,
    SessionNodeRecord,
)

NOW = "2026-01-01T00:00:00Z"


def said(message_id: str, text: str = "hello", **changes: Any) -> MessageNode:
    message = replace(text_message(message_id, MessageRole.USER, text), **changes)
    return MessageNode(message=message)


def appended(
    graph: SessionGraph, *drafts: SessionAppendNode, frame_id: str = "f"
) -> tuple[SessionNodeRecord, ...]:
    numbers = count()
    return appended_nodes(
        graph, drafts, frame_id=frame_id, timestamp=NOW, new_hex=lambda: f"{next(numbers):032x}"
    )


def grown(*drafts: SessionAppendNode) -> SessionGraph:
    empty = SessionGraph()
    return empty.extend_active_path(appended(empty, *drafts))


def test_nodes_hang_under_the_leaf_one_under_the_other() -> None:
    """In the frame that is current, all of the same instant."""
    graph = grown(said("a"), said("b"))
    nodes = appended(graph, said("c"), PluginNode(plugin_type="note", body=1), said("d"))
    assert [node.parent_node_id for node in nodes] == ["b", "c", f"plugin:{0:032x}"]
    assert {node.timestamp for node in nodes} == {NOW}
    assert {node.agent_frame_id for node in nodes} == {"f"}
    assert len(graph.extend_active_path(nodes).active_path) == 5


def test_a_message_gives_its_node_its_name() -> None:
    """The first free one like it where that is taken, also by a node of the same batch."""
    graph = grown(said("a"))
    nodes = appended(graph, said("a"), said("a"), said("b"), said("b"))
    assert [node.node_id for node in nodes] == ["message:a", "message:a:2", "b", "message:b"]
    assert [node.conversation.id for node in nodes if node.conversation] == ["a", "a", "b", "b"]


def test_what_has_no_name_is_given_one() -> None:
    """A message, an event of a protocol, a note of a plugin."""
    message, event, note = appended(
        SessionGraph(),
        said(""),
        ProtocolEventNode(plugin_id="p", payload={"a": 1}),
        PluginNode(plugin_type="note", body=[1]),
    )
    assert message.node_id == f"m{0:032x}"
    assert message.conversation is not None
    assert message.conversation.id == message.node_id
    assert event.node_id == f"protocol:{1:032x}"
    assert note.node_id == f"plugin:{2:032x}"
    assert event.event is not None
    assert event.conversation is None


def test_a_message_of_no_origin_comes_from_a_plugin() -> None:
    """It is kept as history, and its parts are called after it."""
    (node,) = appended(SessionGraph(), said("a"))
    assert node.conversation is not None
    message = node.conversation.message
    assert message.origin == PluginOrigin(plugin_id="plugin", transient=False)
    assert [part.id for part in message.parts] == ["a.p0"]


def test_a_message_says_what_caused_it() -> None:
    """By itself, or by the process that it comes from."""
    origin = ProcessOrigin(process_id="p", event_type="done", sequence=3)
    cause = TurnRef(session_id="s", turn_id="t")
    woken, told = appended(
        SessionGraph(),
        said("a", origin=origin),
        said("b", origin=origin).model_copy(update={"caused_by": cause}),
    )
    assert woken.caused_by == ProcessEventRef(process_id="p", sequence=3)
    assert told.caused_by == cause


def test_only_the_active_path_is_gone_through() -> None:
    """A branch that was left is no ancestor of what comes next."""
    graph = grown(said("a"), said("b"))
    back = graph.with_leaf("a")
    branch = back.extend_active_path(appended(back, said("c")))
    assert is_on_path(branch, "a")
    assert is_on_path(branch, "c")
    assert not is_on_path(branch, "b")
    assert not is_on_path(branch, "never")


FIRST = AgentFrameRecord(
    frame_id="first",
    session_id="s",
    created_at=NOW,
    assignment=AgentFrameAssignment(usage_source="child"),
    execution_state_ref="a" * 64,
)


@pytest.mark.parametrize("frame_id", ["", "  ", "first"])
def test_what_is_current_already_is_not_opened(frame_id: str) -> None:
    """Whoever repeats the step finds the frame open."""
    assert frame_to_open(FIRST, frame_id, reason="compaction", created_at=NOW) is None


def test_a_new_frame_goes_on_with_what_the_current_one_was_assigned() -> None:
    """The earlier one is superseded, and otherwise as it was."""
    second = frame_to_open(FIRST, "second", reason="of a protocol's own", created_at=NOW)
    assert second is not None
    assert (second.assignment, second.reason) == (FIRST.assignment, "of a protocol's own")
    frames = with_frame((FIRST,), "first", second)
    third = frame_to_open(frames[-1], "third", reason="compaction", created_at=NOW)
    assert third is not None
    frames = with_frame(frames, "second", third)
    superseded = FrameStatus.SUPERSEDED
    assert [frame.status for frame in frames] == [superseded, superseded, FrameStatus.ACTIVE]
    assert [frame.previous_frame_id for frame in frames] == [None, "first", "second"]
    assert frames[0] == FIRST.model_copy(update={"status": superseded})


def test_a_frame_that_names_its_predecessor_keeps_it() -> None:
    """It may go on from another than the last one."""
    added = FIRST.model_copy(update={"frame_id": "third", "previous_frame_id": "first"})
    assert with_frame((FIRST,), "second", added)[-1].previous_frame_id == "first"
