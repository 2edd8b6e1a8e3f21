"""The session graph and the drafts that grow from it, against a plain model."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lash_runtime.kernel.chronology import chronological_projection
from lash_runtime.kernel.draft import TurnDraft
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.kernel.message_tree import message_tree
from lash_runtime.kernel.read_model import EVERYTHING, FrameFilter
from lash_runtime.kernel.read_view import SessionReadView
from lash_runtime.kernel.shared_sequence import SharedSequence
from lash_runtime.model.causes import PluginOrigin, ProcessEventRef, ProcessOrigin
from lash_runtime.model.messages import Message, MessageRole, text_message
from lash_runtime.model.nodes import (
    ConversationRecord,
    ProtocolEvent,
    SessionNodeRecord,
)

NOW = "2026-01-01T00:00:00Z"
FIRST, SECOND = FrameFilter("f1", True), FrameFilter("f2", False)


def message(name: str, *, transient: bool = False) -> Message:
    origin = PluginOrigin(plugin_id="p", transient=True) if transient else None
    return text_message(name, MessageRole.USER, name, origin=origin)


def node(name: str, parent: str | None, **fields: object) -> SessionNodeRecord:
    event = ConversationRecord.of(message(name))
    return SessionNodeRecord(
        node_id=name,
        parent_node_id=parent,
        timestamp=NOW,
        payload=event,
        **fields,
    )


def chain(*names: str) -> SessionGraph:
    parents = [None, *names]
    nodes = [node(name, parent) for name, parent in zip(names, parents, strict=False)]
    return SessionGraph(nodes, names[-1] if names else None)


def draft_of(graph: SessionGraph, frame: str = "", visible: FrameFilter = EVERYTHING) -> TurnDraft:
    return TurnDraft(graph, frame_id=frame, visible=visible, scope="t")


def ids(messages: Sequence[Message]) -> list[str]:
    return [item.id for item in messages]


def shown(graph: SessionGraph, visible: FrameFilter = EVERYTHING) -> list[str]:
    return ids(graph.read_model(visible).messages)


# Against a model

names = st.sampled_from([f"m{number}" for number in range(8)])
lists = st.lists(st.tuples(names, st.booleans()), max_size=6)


class GraphLaws(RuleBasedStateMachine):
    """Drafts over one session: progress, commits, failures, branches; every version is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = SessionGraph()
        self.expected: list[str] = []
        self.kept: list[tuple[SessionGraph, list[str], int]] = []
        self.begin()

    def begin(self) -> None:
        self.draft = draft_of(self.committed)
        self.working = list(self.expected)

    @rule(added=lists)
    def grow(self, added: list[tuple[str, bool]]) -> None:
        """The machine's list, grown from what the draft shows."""
        messages = [message(name, transient=transient) for name, transient in added]
        self.draft.reconcile(self.draft.messages.extend(messages), NOW)
        for item in messages:
            if not item.transient and item.id not in self.working:
                self.working.append(item.id)

    @rule(wanted=st.lists(names, unique=True, max_size=6))
    def replace(self, wanted: list[str]) -> None:
        """Another list altogether: the old end stays as a branch."""
        self.draft.reconcile(SharedSequence([message(name) for name in wanted]), NOW)
        self.working = wanted

    @rule(added=lists, payload=st.integers())
    def append_events(self, added: list[tuple[str, bool]], payload: int) -> None:
        """Records as a protocol reports them, facts of its own among them."""
        records = [
            ConversationRecord.of(message(name, transient=transient)) for name, transient in added
        ]
        event = ProtocolEvent(plugin_id="p", payload=payload)
        before = len(self.draft.graph.nodes)
        self.draft.append_events([event, *records], NOW)
        assert self.draft.graph.nodes[before].event == event
        for record in records:
            if not record.message.transient and record.id not in self.working:
                self.working.append(record.id)

    @rule()
    def commit(self) -> None:
        self.committed, self.expected = self.draft.graph, list(self.working)
        self.draft.mark_committed()
        assert self.draft.uncommitted() == ()
        self.keep()

    @rule()
    def fail(self) -> None:
        """A turn that fails drops its draft, and nothing has happened."""
        self.begin()

    @rule()
    def keep(self) -> None:
        graph = self.draft.graph
        self.kept.append((graph, list(self.working), len(graph.nodes)))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        """Somebody opens an older version and goes on from there."""
        graph, expected, _ = data.draw(st.sampled_from(self.kept))
        self.committed, self.expected = graph, list(expected)
        self.begin()

    @rule()
    def drop_branches(self) -> None:
        """The session goes on with its active path alone; older versions keep their branches."""
        self.committed = self.committed.fork_current_path()
        assert self.committed.nodes == self.committed.active_path
        self.begin()

    @invariant()
    def the_draft_shows_what_was_put_in(self) -> None:
        assert ids(self.draft.messages) == self.working
        assert shown(SessionGraph(self.draft.graph.nodes, self.draft.graph.leaf_node_id)) == (
            self.working
        )

    @invariant()
    def no_version_changes(self) -> None:
        for graph, expected, size in self.kept:
            assert shown(graph) == expected
            assert len(graph.nodes) == size

    @invariant()
    def messages_are_found_where_they_are_shown_and_nowhere_else(self) -> None:
        for graph, expected, _ in [*self.kept, (self.draft.graph, self.working, 0)]:
            model = graph.read_model()
            assert {name for name in (f"m{n}" for n in range(8)) if model.has_message(name)} == (
                set(expected)
            )

    @invariant()
    def node_ids_are_unique_and_hang_together(self) -> None:
        nodes = self.draft.graph.nodes
        assert len({item.node_id for item in nodes}) == len(nodes)
        before: set[str | None] = {None}
        for item in nodes:
            assert item.parent_node_id in before
            before.add(item.node_id)

    @invariant()
    def what_is_uncommitted_is_what_the_store_lacks(self) -> None:
        stored = self.draft.committed.nodes
        assert (*stored, *self.draft.uncommitted()) == self.draft.graph.nodes[:]


TestGraphLaws = GraphLaws.TestCase
TestGraphLaws.settings = settings(max_examples=60, stateful_step_count=25)


# Growing


def test_a_turn_takes_over_the_machines_own_list() -> None:
    """Two lists of one transcript would cost its length in every turn."""
    draft = draft_of(chain("a", "b"))
    messages = draft.messages.append(message("c"))
    draft.reconcile(messages, NOW)
    grown = messages.append(message("d"))
    draft.reconcile(grown, NOW)
    assert draft.messages.grew_from(messages)
    assert draft.messages == grown


def test_nodes_that_do_not_chain_from_the_leaf_are_refused() -> None:
    """They would vanish from the path without anybody noticing."""
    with pytest.raises(ValueError, match="hangs under"):
        chain("a", "b").extend_active_path([node("c", "a")])


def test_a_message_of_a_process_says_which_event_caused_it() -> None:
    """A host follows a wake-up back to what woke the session."""
    origin = ProcessOrigin(process_id="p", event_type="exit", sequence=4)
    draft = draft_of(SessionGraph())
    draft.reconcile(
        draft.messages.append(text_message("w", MessageRole.EVENT, "x", origin=origin)), NOW
    )
    (added,) = draft.uncommitted()
    assert added.caused_by == ProcessEventRef(process_id="p", sequence=4)


def test_a_node_id_that_is_taken_is_avoided() -> None:
    """A branch may bring the same message back under another node."""
    draft = draft_of(chain("a", "b"))
    draft.reconcile(SharedSequence([message("b"), message("a")]), NOW)
    assert [item.node_id for item in draft.uncommitted()] == ["message:b", "message:a"]
    draft.reconcile(SharedSequence([message("a")]), NOW)
    assert [item.node_id for item in draft.graph.active_path] == ["message:a:2"]
    assert ids(draft.messages) == ["a"]


def test_a_graph_without_branches_is_its_own_path() -> None:
    """Dropping nothing costs nothing, whatever the length of the history."""
    graph = chain("a", "b")
    assert graph.fork_current_path() is graph


def test_a_path_that_is_alone_shows_what_it_showed() -> None:
    """What was read of the path is taken along, and grows on as before."""
    graph = SessionGraph([node("a", None), node("x", "a"), node("b", "a")], "b")
    before = graph.read_model(EVERYTHING)
    alone = graph.fork_current_path()
    assert [item.node_id for item in alone.nodes] == ["a", "b"]
    assert alone.leaf_node_id == "b"
    assert alone.find("x") is None
    assert alone.read_model(EVERYTHING) is before
    grown = alone.extend_active_path([node("c", "b")])
    assert shown(grown) == ["a", "b", "c"]
    assert [item.node_id for item in graph.nodes] == ["a", "x", "b"]
    assert SessionGraph([node("a", None)], None).fork_current_path().nodes == []


def test_a_path_below_a_gap_can_be_alone() -> None:
    """Its first node hangs under one that is gone, and it is grown on like any other."""
    alone = SessionGraph([node("a", None), node("c", "gone")], "c").fork_current_path()
    assert shown(alone.extend_active_path([node("d", "c")])) == ["c", "d"]


# Frames


def test_each_frame_sees_its_own_messages() -> None:
    """An agent that was handed a task starts with a clean transcript."""
    nodes = [node("old", None), node("one", "old", agent_frame_id="f1")]
    nodes.append(node("two", "one", agent_frame_id="f2"))
    graph = SessionGraph(nodes, "two")
    assert shown(graph) == ["old", "one", "two"]
    assert shown(graph, FIRST) == ["old", "one"]
    assert shown(graph, SECOND) == ["two"]


def test_replacing_a_frames_transcript_keeps_the_other_frames() -> None:
    """They are not shown, and that is no reason to lose them."""
    nodes = [node("one", None, agent_frame_id="f1"), node("two", "one", agent_frame_id="f2")]
    draft = draft_of(
        SessionGraph([*nodes, node("3", "two", agent_frame_id="f2")], "3"), "f2", SECOND
    )
    draft.reconcile(SharedSequence([message("two"), message("new")]), NOW)
    assert shown(draft.graph, SECOND) == ["two", "new"]
    assert shown(draft.graph, FIRST) == ["one"]


# Damage


def test_a_leaf_that_is_gone_is_healed_to_the_last_message() -> None:
    """A damaged head must not hide a whole conversation."""
    nodes = [node("a", None), node("b", "a")]
    assert SessionGraph(nodes, "gone").healed().leaf_node_id == "b"
    assert SessionGraph([], "gone").healed().leaf_node_id is None
    whole = SessionGraph(nodes, "a")
    assert whole.healed() is whole


def test_a_cycle_or_a_missing_parent_ends_the_path() -> None:
    """Reading a damaged store must come to an end, with what there is."""
    assert shown(SessionGraph([node("a", "b"), node("b", "a")], "b")) == ["a", "b"]
    assert shown(SessionGraph([node("b", "gone")], "b")) == ["b"]
    assert shown(SessionGraph([node("a", None)], "gone")) == []


# Views


def test_the_message_tree_shows_every_branch() -> None:
    """A host that lets its user go back needs to see what was left behind."""
    graph = chain("a", "b").with_leaf("a").extend_active_path([node("c", "a")])
    (root,) = message_tree(graph)
    assert root.node_id == "a"
    assert [(child.node_id, child.active) for child in root.children] == [("b", False), ("c", True)]


def test_the_message_tree_looks_through_what_is_no_message() -> None:
    """A protocol's fact between two messages parts nobody; a missing parent makes a root."""
    fact = ProtocolEvent(plugin_id="p", payload=1)
    between = SessionNodeRecord(node_id="p", parent_node_id="a", timestamp=NOW, payload=fact)
    graph = SessionGraph([node("a", None), between, node("b", "p"), node("c", "gone")], "b")
    first, orphan = message_tree(graph)
    assert [child.node_id for child in first.children] == ["b"]
    assert first.children[0].parent_message_node_id == "a"
    assert (orphan.node_id, orphan.active) == ("c", False)


def test_a_view_shows_one_frame_and_goes_on_showing_it() -> None:
    """An observer reads while the session grows."""
    graph = SessionGraph([node("one", None, agent_frame_id="f1")], "one")
    view = SessionReadView(session_id="s", graph=graph, visible=FIRST)
    graph.extend_active_path([node("two", "one", agent_frame_id="f1")])
    assert ids(view.messages) == ["one"]
    assert [event.id for event in view.active_events] == ["one"]
    assert [entry.payload.id for entry in view.chronological_projection()] == ["one"]
    assert [root.node_id for root in view.message_tree()] == ["one"]
    assert SessionReadView(session_id="s", graph=graph, visible=SECOND).messages == []
    model = graph.read_model(FIRST)
    assert model.message("one") == message("one")
    assert model.message("two") is None


@given(st.lists(names, max_size=6), st.lists(names, unique=True, max_size=4))
def test_the_chronology_has_each_message_once_and_no_holes(
    recorded: list[str], extra: list[str]
) -> None:
    """Hosts use the index as an address."""
    events = [ConversationRecord.of(message(name)) for name in recorded]
    fact = ProtocolEvent(plugin_id="p", payload=1)
    entries = chronological_projection([fact, *events], [message(name) for name in extra])
    assert [entry.index for entry in entries] == list(range(len(entries)))
    assert entries[0].payload == fact
    found = [entry.payload.id for entry in entries[1:]]
    assert found == list(dict.fromkeys([*recorded, *extra]))
