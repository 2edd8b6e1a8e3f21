"""How a session gets into memory, and how what no turn has stored gets out of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime import LashCore, LashCoreBuilder, Residency, RuntimeFailure
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.model.frames import initial_frame_id
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.ports.commit import GraphReplaceFull, RuntimeCommit
from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.session_state import (
    ActivePath,
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedSessionRead,
    SessionReadScope,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.ports.turn_persistence import TurnPersistence
from lash_runtime.runtime.residency import kept, orphans_of, read_session
from lash_runtime.runtime.state import RuntimeSessionState, state_of_read
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ScriptedProvider, text_response

pytestmark = pytest.mark.anyio

ALL, PATH = Residency.KEEP_ALL, Residency.ACTIVE_PATH_ONLY
OWNER = LeaseOwnerIdentity(owner_id="o", incarnation_id="1")


def node(name: str, parent: str | None = None) -> SessionNodeRecord:
    message = text_message(name, MessageRole.USER, name)
    return SessionNodeRecord(
        node_id=name,
        parent_node_id=parent,
        timestamp="2026-01-01T00:00:00Z",
        payload=ConversationRecord.of(message),
    )


BRANCHED = (node("a"), node("b", "a"), node("x", "a"), node("c", "b"))


class Scopes:
    """A store that notes what it was asked for."""

    def __init__(self, store: TurnPersistence) -> None:
        self._store = store
        self.asked: list[SessionReadScope] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        self.asked.append(scope)
        return await self._store.load_session(scope)


@asynccontextmanager
async def a_session(
    nodes: tuple[SessionNodeRecord, ...] | None, leaf: str | None = None
) -> AsyncIterator[Any]:
    """A store that holds `nodes`, or nothing at all."""
    storage = MemoryStorage()
    await storage.open()
    try:
        store = await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
        if nodes is not None:
            claimed = await store.try_claim_session_execution_lease("s", OWNER, 30_000)
            assert isinstance(claimed, LeaseAcquired)
            await store.commit_runtime_state(
                RuntimeCommit(
                    session_id="s",
                    expected_head_revision=None,
                    session_execution_lease=claimed.lease.fence(),
                    config=PersistedSessionConfig(),
                    agent_frames=(),
                    current_agent_frame_id=initial_frame_id("s"),
                    graph=GraphReplaceFull(nodes=nodes, leaf_node_id=leaf),
                    checkpoint=HydratedSessionCheckpoint(),
                )
            )
        yield Scopes(store)
    finally:
        await storage.aclose()


# --- reading ------------------------------------------------------------------------------------


async def test_each_residency_asks_for_what_it_keeps() -> None:
    """One read where one is enough."""
    async with a_session(BRANCHED, "c") as store:
        for residency, scope, count in ((ALL, FullGraph(), 4), (PATH, ActivePath(), 3)):
            store.asked.clear()
            read = await read_session(store, residency)
            assert store.asked == [scope]
            assert len(read.nodes) == count


async def test_a_path_whose_leaf_is_gone_is_looked_for_in_the_whole() -> None:
    """What to fall back to cannot be seen in a path that has no end."""
    async with a_session(BRANCHED, "gone") as store:
        read = await read_session(store, PATH)
        assert store.asked == [ActivePath(), FullGraph()]
        assert read.nodes == BRANCHED
        state = kept(state_of_read(read), PATH)
        assert [each.node_id for each in state.graph.nodes] == ["a", "b", "c"]
        assert state.leaf_moved


@pytest.mark.parametrize(("nodes", "leaf"), [(None, None), ((), None), (BRANCHED, None)])
async def test_without_a_leaf_there_is_nothing_to_heal(nodes: Any, leaf: str | None) -> None:
    """A session that was never stored, that is empty, or that shows nothing on purpose."""
    async with a_session(nodes, leaf) as store:
        read = await read_session(store, PATH)
        assert store.asked == [ActivePath()]
        if nodes is None:
            assert read is None
        else:
            assert not state_of_read(read).is_unstored


# --- keeping ------------------------------------------------------------------------------------


def a_state(**changes: Any) -> RuntimeSessionState:
    graph = SessionGraph(BRANCHED, "c")
    return RuntimeSessionState(session_id="s", graph=graph, **changes)


async def test_keeping_everything_keeps_the_very_state() -> None:
    """The default costs nothing."""
    state = a_state()
    assert kept(state, ALL) is state


async def test_a_state_without_branches_is_kept_as_it_is() -> None:
    """The usual turn of the usual session drops nothing and copies nothing."""
    state = RuntimeSessionState(session_id="s", graph=SessionGraph(BRANCHED[:2], "b"))
    assert kept(state, PATH) is state


async def test_a_state_that_replaces_the_stored_one_is_kept_whole() -> None:
    """Its branches are in no store yet."""
    state = a_state(graph_replace_required=True)
    assert kept(state, PATH) is state


async def test_the_leaf_of_the_head_tells_what_was_healed() -> None:
    """A path that ends where the stored one does is stored; any other is work to do."""
    assert not a_state(head_revision=1, head_leaf_node_id="c").is_unstored
    assert a_state(head_revision=1, head_leaf_node_id="gone").is_unstored
    assert not a_state().is_unstored
    assert not a_state(
        head_revision=1, head_leaf_node_id="x", graph_replace_required=True
    ).leaf_moved


async def test_orphans_are_what_healing_leaves_off_the_path() -> None:
    """Told by the path that a reader of the session would see."""
    async with a_session(BRANCHED, "gone") as store:
        assert orphans_of(await store.load_session(FullGraph())) == ("x",)
    async with a_session(BRANCHED, "x") as store:
        assert orphans_of(await store.load_session(FullGraph())) == ("b", "c")
    async with a_session(BRANCHED, None) as store:
        assert orphans_of(await store.load_session(FullGraph())) == ("a", "b", "x", "c")


# --- storing what no turn has stored ------------------------------------------------------------


class Failing:
    """Session stores that fail in the method that is named, as long as it is."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._stores = storage.session_stores
        self.durability_tier = self._stores.durability_tier
        self.in_method = ""

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return _FailingStore(await self._stores.create_store(request), self)

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        return await self._stores.open_existing_store(request)


class _FailingStore:
    def __init__(self, store: Any, failing: Failing) -> None:
        self._store = store
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        if name == self._failing.in_method:
            return self._fail
        return getattr(self._store, name)

    async def _fail(self, *args: Any, **named: Any) -> Any:
        raise StoreBackendError("the disk is gone")


def a_builder(storage: SqliteStorage) -> LashCoreBuilder:
    def answer(request: object) -> Any:
        return text_response("yes")

    provider = ScriptedProvider(otherwise=answer, record=False)
    return LashCore.standard_builder().provider(provider).model("m").storage(storage)


@pytest.mark.parametrize("method", ["load_head_stamp", "commit_runtime_state"])
async def test_a_flush_that_fails_gives_the_lane_back(tmp_path: Path, method: str) -> None:
    """Wherever it fails: the next writer need not wait for a lease to lapse."""
    database = tmp_path / "agents.db"
    async with a_builder(SqliteStorage(database)).build() as core, core.session("s") as session:
        await session.turn("one").run()
        view = session.read_view()
    storage = SqliteStorage(database)
    failing = Failing(storage)
    async with a_builder(storage).store_factory(failing).build() as core:
        session = await core.session("s").open_with_state(view)
        failing.in_method = method
        with pytest.raises(RuntimeFailure):
            await session.close()
        failing.in_method = ""
        async with a_builder(SqliteStorage(database)).build() as other:
            async with other.session("s") as later:
                assert (await later.turn("two").run()).is_success
        assert not session.closed
        await session.close()


async def test_a_flush_is_stored_once_by_many_closings(tmp_path: Path) -> None:
    """Handles that hold the same explicit state take turns; each commit stands on the last."""
    database = tmp_path / "agents.db"
    async with a_builder(SqliteStorage(database)).build() as core:
        async with core.session("s") as session:
            await session.turn("one").run()
            view = session.read_view()
        handles = [await core.session("s").open_with_state(view) for _ in range(5)]
        async with anyio.create_task_group() as closers:
            for handle in handles:
                closers.start_soon(handle.close)
        async with core.session("s") as session:
            assert len(session.read_view().messages) == 2
            assert await session.orphaned_node_ids() == ()
