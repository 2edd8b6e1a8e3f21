"""Upkeep of a whole database while it is in use: what goes, what stays, and who has to wait."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from lash_runtime.ports.session_state import FullGraph, HydratedSessionCheckpoint
from lash_runtime.ports.store_errors import StoreBackendError, StoreError
from lash_runtime.ports.turn_ledger import TurnAccepted, TurnKnown
from lash_runtime.stores.sqlite import GcPolicy, SqliteStorage
from lash_runtime.stores.sqlite import _maintenance as maintenance
from lash_runtime.stores.sqlite import _upkeep as upkeep
from lash_runtime.stores.sqlite._database import Database
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    append,
    as_committed,
    as_failed,
    first,
    hold,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")

DAY_S = 24 * 60 * 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def storage(path: Path, clock: ManualClock) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(path)
    storage.bind(clock=clock, ids=FixedIdSource())
    async with storage:
        yield storage


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The file behind the store's back."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


async def a_session(storage: SqliteStorage, session_id: str, **changes: Any) -> None:
    """A session of two nodes, with a checkpoint that has an execution state."""
    store = await a_store(storage, session_id)
    fence = (await hold(store, session_id)).fence()
    commit: dict[str, Any] = {
        "graph": first(*a_chain("a", "b")),
        "checkpoint": HydratedSessionCheckpoint(execution_state=session_id.encode()),
    }
    await store.commit_runtime_state(
        a_commit(fence, session_id=session_id, **{**commit, **changes})
    )


async def a_big_session(storage: SqliteStorage, session_id: str = "big", nodes: int = 400) -> None:
    """Some 4 MB, so that a copy of it takes several slices."""
    chain = tuple(a_node(f"n{number}", text="x" * 10_000) for number in range(nodes))
    await a_session(storage, session_id, graph=first(*chain))


async def node_ids(storage: SqliteStorage, session_id: str) -> list[str]:
    read = await (await a_store(storage, session_id)).load_session(FullGraph())
    return [] if read is None else [node.node_id for node in read.nodes]


def mark(path: Path, session_id: str, *ids: str) -> None:
    with raw(path) as db:
        db.executemany(
            "UPDATE graph_nodes SET tombstoned = 1 WHERE session_id = ? AND node_id = ?",
            [(session_id, node_id) for node_id in ids],
        )


def litter(path: Path, session_id: str, *names: str) -> None:
    """Blobs that nothing refers to, as a release with a bug might leave them."""
    with raw(path) as db:
        db.executemany(
            """
            INSERT INTO blobs (session_id, hash, kind, codec, content)
            VALUES (?, ?, 'execution_state', 'none', x'00')
            """,
            [(session_id, name) for name in names],
        )


# Vacuum


async def test_vacuum_removes_what_is_marked_in_every_session_and_nothing_else(
    storage: SqliteStorage, path: Path
) -> None:
    """Marked nodes are hidden at once; vacuum is what takes them from the disk."""
    await a_session(storage, "one")
    await a_session(storage, "two")
    mark(path, "one", "b")
    mark(path, "two", "a", "b")
    report = await storage.maintenance.vacuum()
    assert report.removed_node_count == 3
    assert (await storage.maintenance.vacuum()).removed_node_count == 0
    assert await node_ids(storage, "one") == ["a"]
    with raw(path) as db:
        assert db.execute("SELECT count(*) FROM graph_nodes").fetchone() == (1,)


class Watched:
    """The real database, with a note of how each write was asked for and what it answered."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.writes: list[tuple[bool, object]] = []

    async def write(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
    ) -> T:
        answer = await self.database.write(body, size, alone=alone)
        self.writes.append((alone, answer))
        return answer

    async def aside(self, body: Callable[[sqlite3.Connection, threading.Event], T]) -> T:
        return await self.database.aside(body)


async def test_much_is_removed_in_transactions_that_each_remove_little(
    storage: SqliteStorage, path: Path
) -> None:
    """A commit that comes in between waits for one slice, not for the whole of a long upkeep."""
    count = 2 * upkeep.SLICE_ROWS + 1
    nodes = tuple(a_node(f"n{number}") for number in range(count))
    await a_session(storage, "s", graph=first(*nodes))
    mark(path, "s", *(node.node_id for node in nodes))
    desk = Watched(storage._scope.database)
    report = await upkeep.vacuum(desk)
    assert report.removed_node_count == count
    assert desk.writes == [(True, [upkeep.SLICE_ROWS]), (True, [upkeep.SLICE_ROWS]), (True, [1])]


async def test_a_node_that_came_back_while_vacuum_was_looking_is_kept(
    storage: SqliteStorage, path: Path
) -> None:
    """What was found is asked again before it goes: a commit may have appended it anew."""

    class ComesBack(Watched):
        async def aside(self, body: Callable[[sqlite3.Connection, threading.Event], T]) -> T:
            found = await super().aside(body)
            with raw(path) as db:
                db.execute("UPDATE graph_nodes SET tombstoned = 0 WHERE node_id = 'a'")
            return found

    await a_session(storage, "s")
    mark(path, "s", "a", "b")
    report = await upkeep.vacuum(ComesBack(storage._scope.database))
    assert report.removed_node_count == 1
    assert await node_ids(storage, "s") == ["a"]


# Blobs


async def test_gc_removes_what_nothing_refers_to_and_only_once(
    storage: SqliteStorage, path: Path
) -> None:
    """The state of every session is there afterwards, and a second run finds nothing."""
    await a_session(storage, "one")
    await a_session(storage, "two")
    litter(path, "one", "f00", "ba2")
    litter(path, "nobody", "f00")
    report = await storage.maintenance.gc_unreachable()
    assert (report.root_count, report.retained_blob_count, report.deleted_blob_count) == (2, 2, 3)
    again = await storage.maintenance.gc_unreachable()
    assert (again.root_count, again.retained_blob_count, again.deleted_blob_count) == (2, 2, 0)
    read = await (await a_store(storage, "one")).load_session(FullGraph())
    assert read is not None
    assert read.checkpoint is not None
    assert read.checkpoint.execution_state == b"one"


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM checkpoints", "UPDATE checkpoints SET manifest_json = '{'"],
    ids=["missing", "unreadable"],
)
async def test_gc_that_cannot_follow_a_root_removes_nothing(
    storage: SqliteStorage, path: Path, damage: str
) -> None:
    """What the lost manifest named is not garbage: somebody may still put it back."""
    await a_session(storage, "s")
    litter(path, "s", "f00")
    litter(path, "another", "f00")
    with raw(path) as db:
        db.execute(damage)
    with pytest.raises(StoreError):
        await storage.maintenance.gc_unreachable()
    with raw(path) as db:
        assert db.execute("SELECT count(*) FROM blobs").fetchone() == (3,)


# Turns


async def a_settled_turn(storage: SqliteStorage, turn_id: str, session_id: str = "s") -> None:
    store = await a_store(storage, session_id)
    turn = await accepted(store, an_acceptance(turn_id, session_id=session_id))
    await store.settle_turn(turn.lease.fence(), as_failed(turn_id), release=True)


async def test_turns_are_forgotten_when_they_ended_long_enough_ago(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """An id that was forgotten is free again; one that is kept still finds its result."""
    store = await a_store(storage)
    await a_settled_turn(storage, "old")
    clock.advance(10 * DAY_S)
    await a_settled_turn(storage, "recent")
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert report.removed_turn_count == 1
    assert isinstance(await store.accept_turn(an_acceptance("recent")), TurnKnown)
    assert isinstance(await store.accept_turn(an_acceptance("old")), TurnAccepted)


async def test_a_turn_that_is_not_over_is_never_forgotten(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """However long ago it was accepted: somebody has been promised that it will be finished."""
    store = await a_store(storage)
    await accepted(store, an_acceptance("open"))
    clock.advance(400 * DAY_S)
    report = await storage.maintenance.prune_turns(timedelta())
    assert report.removed_turn_count == 0
    assert [row.turn_id for row in await store.list_unfinished_turns("s")] == ["open"]


async def test_forgetting_turns_leaves_the_transcript_and_the_next_turn_alone(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """Rows of turns are how results are found again, not what was said."""
    store = await a_store(storage)
    turn = await accepted(store, an_acceptance("t1"))
    fence = turn.lease.fence()
    await store.commit_runtime_state(
        a_commit(
            fence,
            graph=first(*a_chain("a", "b")),
            turn_settlement=as_committed("t1"),
            release_session_execution_lease=fence,
        )
    )
    clock.advance(DAY_S)
    await storage.maintenance.prune_turns(timedelta())
    assert await node_ids(storage, "s") == ["a", "b"]
    following = await accepted(store, an_acceptance("t2"))
    assert following.row.base_revision == 1


async def a_committed_turn(
    storage: SqliteStorage, turn_id: str, revision: int, content: str = "c1"
) -> None:
    store = await a_store(storage)
    fence = (await accepted(store, an_acceptance(turn_id))).lease.fence()
    await store.commit_runtime_state(
        a_commit(
            fence,
            expected_head_revision=revision,
            turn_commit=a_stamp(turn_id, content),
            turn_settlement=as_committed(turn_id),
            release_session_execution_lease=fence,
        )
    )


async def test_forgetting_that_is_cut_off_leaves_no_stamp_that_refuses_a_new_turn(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id without a row is free: its commit must not meet that of the turn it once was."""

    class CutOff(Watched):
        async def write(
            self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
        ) -> T:
            answer = await super().write(body, size, alone=alone)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return answer

    monkeypatch.setattr(upkeep, "SLICE_ROWS", 1)
    await a_committed_turn(storage, "t1", 0)
    await a_committed_turn(storage, "t2", 1)
    desk = CutOff(storage._scope.database)
    with anyio.CancelScope() as scope:
        await upkeep.prune_turns(desk, 2**62)
    assert scope.cancelled_caught
    store = await a_store(storage)
    kept = [each for each in ("t1", "t2") if await store.load_turn("s", each) is not None]
    assert len(kept) == len(desk.writes) == 1
    (freed,) = {"t1", "t2"} - set(kept)
    await a_committed_turn(storage, freed, 2, "c2")


async def test_a_stamp_stays_as_long_as_the_row_of_its_turn(
    storage: SqliteStorage, path: Path, clock: ManualClock
) -> None:
    """A commit that is sent again finds its answer; a stamp that never had a row goes by age."""
    store = await a_store(storage)
    acceptance = an_acceptance("t1", lease_ttl_ms=2 * DAY_S * 1_000)
    fence = (await accepted(store, acceptance)).lease.fence()
    await store.commit_runtime_state(a_commit(fence, turn_commit=a_stamp("t1")))
    await store.commit_runtime_state(
        a_commit(fence, expected_head_revision=1, turn_commit=a_stamp("lone"))
    )
    clock.advance(DAY_S)
    await store.settle_turn(fence, as_failed("t1"), release=True)
    report = await storage.maintenance.prune_turns(timedelta(days=1))
    assert (report.removed_turn_count, report.removed_stamp_count) == (0, 1)
    with raw(path) as db:
        assert db.execute("SELECT turn_id FROM turn_stamps").fetchall() == [("t1",)]
    clock.advance(DAY_S)
    report = await storage.maintenance.prune_turns(timedelta(days=1))
    assert (report.removed_turn_count, report.removed_stamp_count) == (1, 1)


# Space


async def test_compacting_gives_the_space_of_what_was_removed_back(
    storage: SqliteStorage, path: Path
) -> None:
    """Removing rows alone leaves the file as large as it ever was."""
    await a_big_session(storage)
    await a_session(storage, "small")
    before = await storage.maintenance.info()
    with raw(path) as db:
        db.execute("DELETE FROM graph_nodes WHERE session_id = 'big'")
    released = await storage.maintenance.compact()
    after = await storage.maintenance.info()
    assert released > 3_000_000
    assert after.file_bytes == before.file_bytes - released
    assert after.free_bytes == 0
    assert await node_ids(storage, "small") == ["a", "b"]
    assert await storage.maintenance.check() == ()


async def test_space_is_given_back_many_pages_at_a_time(storage: SqliteStorage, path: Path) -> None:
    """A transaction, and a flush to the disk, for each page would take all night."""
    await a_big_session(storage)
    with raw(path) as db:
        db.execute("DELETE FROM graph_nodes WHERE session_id = 'big'")
        free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
        assert free > maintenance.SLICE_PAGES
        assert maintenance.release_pages(db)
        after: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    assert free - after == maintenance.SLICE_PAGES


async def test_info_counts_what_is_there(storage: SqliteStorage, path: Path) -> None:
    """An operator sees at a glance whether there is something to tidy."""
    await a_session(storage, "one")
    await accepted(await a_store(storage, "two"), an_acceptance(session_id="two"))
    mark(path, "one", "a")
    found = await storage.maintenance.info()
    assert (found.path, found.schema_version) == (str(path), 1)
    assert (found.unfinished_turn_count, found.tombstoned_node_count) == (1, 1)
    assert (found.row_counts["graph_nodes"], found.row_counts["turns"]) == (2, 1)
    assert found.file_bytes > 0
    assert found.log_bytes > 0


# Company


async def test_upkeep_and_turns_of_many_sessions_do_not_disturb_each_other(
    storage: SqliteStorage,
) -> None:
    """Everything at once, for a while: every commit is there, and the database is whole."""
    sessions, commits = 4, 25
    done = anyio.Event()

    async def work(session_id: str) -> None:
        store = await a_store(storage, session_id)
        fence = (await hold(store, session_id)).fence()
        under = None
        for number in range(commits):
            node_id = f"n{number}"
            await store.commit_runtime_state(
                a_commit(
                    fence,
                    session_id=session_id,
                    graph=append(*a_chain(node_id, under=under)),
                    checkpoint=HydratedSessionCheckpoint(execution_state=node_id.encode()),
                )
            )
            under = node_id

    async def tidy() -> None:
        while not done.is_set():
            await storage.maintenance.gc_unreachable()
            await storage.maintenance.vacuum()
            await storage.maintenance.prune_turns(timedelta(days=1))
            await storage.maintenance.compact()

    async with anyio.create_task_group() as upkeep_tasks:
        upkeep_tasks.start_soon(tidy)
        async with anyio.create_task_group() as workers:
            for number in range(sessions):
                workers.start_soon(work, f"s{number}")
        done.set()
    for number in range(sessions):
        ids = await node_ids(storage, f"s{number}")
        assert ids == [f"n{step}" for step in range(commits)]
    assert await storage.maintenance.check() == ()


async def test_upkeep_that_is_cancelled_leaves_a_storage_that_works(
    storage: SqliteStorage, path: Path
) -> None:
    """Slices that were done stay done, and the next call does the rest."""
    await a_big_session(storage)
    mark(path, "big", *(f"n{number}" for number in range(400)))
    for call in (
        storage.maintenance.vacuum,
        storage.maintenance.gc_unreachable,
        storage.maintenance.compact,
        storage.maintenance.check,
        storage.maintenance.info,
    ):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
    report = await storage.maintenance.vacuum()
    assert report.removed_node_count <= 400
    assert await node_ids(storage, "big") == []
    await a_session(storage, "after")
    assert await storage.maintenance.check() == ()


async def test_a_closed_storage_has_no_upkeep(path: Path) -> None:
    """Nothing is opened behind the host's back."""
    storage = SqliteStorage(path)
    with pytest.raises(StoreBackendError, match="not open"):
        await storage.maintenance.vacuum()


async def test_upkeep_serves_a_database_in_memory_as_well() -> None:
    """Tests that want SQL underneath may want its upkeep."""
    async with SqliteStorage(":memory:") as storage:
        await a_session(storage, "s")
        assert (await storage.maintenance.gc_unreachable()).retained_blob_count == 1
        assert (await storage.maintenance.vacuum()).removed_node_count == 0
        assert await storage.maintenance.compact() == 0
        assert await storage.maintenance.check() == ()
        assert (await storage.maintenance.info()).row_counts["graph_nodes"] == 2


# By itself


async def commits(storage: SqliteStorage, session_id: str, count: int) -> None:
    store = await a_store(storage, session_id)
    fence = (await hold(store, session_id)).fence()
    for _ in range(count):
        await store.commit_runtime_state(a_commit(fence, session_id=session_id))


async def test_a_storage_tidies_after_every_nth_commit(path: Path) -> None:
    """Whichever sessions the commits before it belong to."""
    policy = GcPolicy(every_commits=3, keep_turns=timedelta())
    async with SqliteStorage(path, gc_policy=policy) as storage:
        await a_settled_turn(storage, "over")
        store = await a_store(storage)
        await commits(storage, "another", 1)
        await commits(storage, "s", 1)
        assert await store.load_turn("s", "over") is not None
        await commits(storage, "s", 1)
        assert await store.load_turn("s", "over") is None


async def test_a_storage_forgets_old_turns_if_it_is_told_how_old(
    path: Path, clock: ManualClock
) -> None:
    """Only those of the session that was committed to, and only those that are old."""
    policy = GcPolicy(every_commits=1, keep_turns=timedelta(days=2))
    storage = SqliteStorage(path, gc_policy=policy)
    storage.bind(clock=clock, ids=FixedIdSource())
    async with storage:
        await a_settled_turn(storage, "old")
        await a_settled_turn(storage, "other", "another")
        clock.advance(2 * DAY_S)
        await a_settled_turn(storage, "recent")
        await commits(storage, "s", 1)
        store = await a_store(storage)
        assert await store.load_turn("s", "old") is None
        assert await store.load_turn("s", "recent") is not None
        assert await store.load_turn("another", "other") is not None


async def test_a_commit_stands_though_tidying_after_it_failed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever committed has its answer; the failure is for the log."""
    async with SqliteStorage(path, gc_policy=GcPolicy(every_commits=1)) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        with raw(path) as db:
            db.execute(
                "CREATE TRIGGER unfollowable AFTER INSERT ON session_heads BEGIN "
                "UPDATE checkpoints SET manifest_json = '{'; END"
            )
        result = await store.commit_runtime_state(a_commit(fence))
        assert result.head_revision == 1
    assert "could not be tidied" in caplog.text


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    """Where it is written, not at the first commit."""
    with pytest.raises(ValueError, match="every_commits"):
        GcPolicy(every_commits=-1)
    with pytest.raises(ValueError, match="keep_turns"):
        GcPolicy(keep_turns=timedelta(days=-1))
