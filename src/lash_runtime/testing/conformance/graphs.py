"""The graph of a session: what a commit writes, and what the two read scopes show of it."""

from ...model.nodes import PluginPayload, SessionNodeRecord
from ...ports.commit import GraphReplaceFull, GraphUnchanged
from ...ports.session_state import ActivePath, FullGraph, PersistedSessionRead, SessionReadScope
from ...ports.storage import Storage
from ...ports.store_errors import StoreBackendError
from ...ports.turn_persistence import TurnPersistence
from ._case import StorageCase
from ._raises import raised_by
from ._samples import TIMESTAMP, a_chain, a_commit, a_node, a_store, append, everything, first, hold


async def a_read(
    store: TurnPersistence, scope: SessionReadScope | None = None
) -> PersistedSessionRead:
    read = await store.load_session(scope or FullGraph())
    assert read is not None
    return read


async def ids(store: TurnPersistence, scope: SessionReadScope | None = None) -> list[str]:
    return [node.node_id for node in (await a_read(store, scope)).nodes]


class GraphConformance(StorageCase):
    """Nodes are written once, shown in order, and dropped only where that was asked for."""

    async def test_nothing_is_loaded_before_the_first_commit(self, storage: Storage) -> None:
        """Metadata and a lease do not make a head: both scopes and the stamp are `None`."""
        store = await a_store(storage)
        await hold(store)
        assert await store.load_session(FullGraph()) is None
        assert await store.load_session(ActivePath()) is None
        assert await store.load_session(ActivePath("n1")) is None
        assert await store.load_head_stamp() is None
        assert await store.load_node("n1") is None

    async def test_the_full_graph_is_every_node_in_storage_order(self, storage: Storage) -> None:
        """A branch that was left is stored and shown; the leaf is the head's."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (*a_chain("a", "b", "c"), a_node("b2", "a"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        read = await a_read(store)
        assert read.nodes == nodes
        assert read.leaf_node_id == "b2"

    async def test_the_active_path_is_the_leafs_ancestors_root_first(
        self, storage: Storage
    ) -> None:
        """Siblings of the path are not part of it."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (*a_chain("a", "b", "c"), a_node("b2", "a"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        assert await ids(store, ActivePath()) == ["a", "b2"]

    async def test_an_active_path_may_end_in_any_leaf(self, storage: Storage) -> None:
        """The leaf that was asked for is the leaf of the answer; the head's stays as it is."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (*a_chain("a", "b", "c"), a_node("b2", "a"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        read = await a_read(store, ActivePath("c"))
        assert [node.node_id for node in read.nodes] == ["a", "b", "c"]
        assert read.leaf_node_id == "c"
        stamp = await store.load_head_stamp()
        assert stamp is not None
        assert stamp.leaf_node_id == "b2"

    async def test_a_leaf_that_does_not_exist_gives_no_nodes_and_is_kept(
        self, storage: Storage
    ) -> None:
        """The reader sees that its leaf is dangling, and heals; the store does not guess."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a"), leaf="gone")))
        for scope, leaf in ((ActivePath(), "gone"), (ActivePath("never"), "never")):
            read = await a_read(store, scope)
            assert read.nodes == ()
            assert read.leaf_node_id == leaf
        full = await a_read(store)
        assert (full.leaf_node_id, len(full.nodes)) == ("gone", 1)

    async def test_without_a_leaf_the_active_path_is_empty(self, storage: Storage) -> None:
        """Nodes without a leaf are stored, but nothing is visible."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        graph = GraphReplaceFull(nodes=a_chain("a", "b"), leaf_node_id=None)
        await store.commit_runtime_state(a_commit(fence, graph=graph))
        read = await a_read(store, ActivePath())
        assert (read.nodes, read.leaf_node_id) == ((), None)
        assert await ids(store) == ["a", "b"]

    async def test_a_missing_parent_ends_the_path(self, storage: Storage) -> None:
        """What is above a gap cannot be reached, and is no reason to fail."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (a_node("a"), *a_chain("c", "d", under="b"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        assert await ids(store, ActivePath()) == ["c", "d"]

    async def test_a_path_through_a_cycle_is_an_error(self, storage: Storage) -> None:
        """A damaged parent chain never hangs the reader, and never passes for a history."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (a_node("a", "b"), a_node("b", "a"), *a_chain("c", "d"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes, leaf="b")))
        await raised_by(store.load_session(ActivePath()), StoreBackendError)
        assert await ids(store, ActivePath("d")) == ["c", "d"]
        assert (await a_read(store)).nodes == nodes

    async def test_an_unchanged_graph_moves_the_leaf_alone(self, storage: Storage) -> None:
        """Going back to an earlier node keeps everything that was said after it."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await store.commit_runtime_state(a_commit(fence, graph=GraphUnchanged(leaf_node_id="a")))
        assert await ids(store) == ["a", "b"]
        assert await ids(store, ActivePath()) == ["a"]

    async def test_an_append_adds_behind_what_is_there(self, storage: Storage) -> None:
        """Storage order is the order in which nodes were committed."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("z", "y"))))
        await store.commit_runtime_state(
            a_commit(fence, graph=append(*a_chain("x", "a", under="y")))
        )
        assert await ids(store) == ["z", "y", "x", "a"]
        assert await ids(store, ActivePath()) == ["z", "y", "x", "a"]

    async def test_appending_the_same_node_again_changes_nothing(self, storage: Storage) -> None:
        """A repeated append neither fails, nor doubles a node, nor moves it."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        again = append(a_node("a"), a_node("c", "b"), a_node("c", "b"))
        await store.commit_runtime_state(a_commit(fence, graph=again))
        assert await ids(store) == ["a", "b", "c"]

    async def test_a_stored_node_never_changes(self, storage: Storage) -> None:
        """The same id with other content is an error, and nothing of that commit is written."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        before = await everything(store)
        changed = append(a_node("c", "b"), a_node("b", "a", text="something else"))
        await raised_by(
            store.commit_runtime_state(a_commit(fence, graph=changed)), StoreBackendError
        )
        assert await everything(store) == before

    async def test_a_replacement_drops_every_node(self, storage: Storage) -> None:
        """Ids of dropped nodes are free: they may come back with other content."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        replaced = (a_node("b", None, text="anew"), a_node("c", "b"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*replaced)))
        assert (await a_read(store)).nodes == replaced
        assert await store.load_node("a") is None

    async def test_a_node_is_loaded_on_the_path_and_off_it(self, storage: Storage) -> None:
        """A reader that holds the path alone can still look at a branch."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (*a_chain("a", "b"), a_node("b2", "a"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        assert await store.load_node("b") == nodes[1]
        assert await store.load_node("b2") == nodes[2]
        assert await store.load_node("never") is None

    async def test_whatever_a_node_holds_comes_back_as_it_was(self, storage: Storage) -> None:
        """Text of any script and size, and any JSON in a plugin's body."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        body = {
            "n": [1, -2.5, True, None, "", {"": {"ключ": "\u0000\u2028\U0001f9ed"}}],
            "big": 2**53,
        }
        nodes = (
            a_node("text", None, text="naïve \U0001f9ed\r\n\t\u0000 'quoted' \\ %s"),
            a_node("empty", "text", text=""),
            a_node("long", "empty", text="x" * 1_000_000),
            SessionNodeRecord(
                node_id="plugin",
                parent_node_id="long",
                agent_frame_id="s:frame:initial",
                timestamp=TIMESTAMP,
                payload=PluginPayload(plugin_type="notes", body=body),
            ),
        )
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        assert (await a_read(store)).nodes == nodes
        assert (await a_read(store, ActivePath())).nodes == nodes
        assert await store.load_node("plugin") == nodes[3]
