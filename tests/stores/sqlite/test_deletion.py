"""What deleting leaves in the tables, and what it leaves when it is cut off."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from cancellation.stepping import AtStep, SteppingLoop
from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.stores.sqlite import SqliteStorage, _catalogue, _deletion
from lash_runtime.stores.sqlite._schema import TABLES
from lash_runtime.testing.conformance._await_event_case import YES, a_key
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_store,
    append,
    first,
    hold,
)
from lash_runtime.testing.conformance._waiting_samples import (
    enqueued,
    for_next_turn,
    some_work,
    submitted,
)
from lash_runtime.testing.conformance.deletion import a_full_session, names

pytestmark = pytest.mark.anyio

KEPT = {"sessions", "session_execution_leases", "await_event_revoked_sessions"}
MOST_STEPS = 1_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SteppingLoop}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage(path) as storage:
        yield storage


def sql(path: Path, statement: str) -> list[Any]:
    """Run a statement as another program would."""
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


def tables_of_sessions(db: sqlite3.Connection) -> set[str]:
    """Every table that has a session in it."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name
        for name in names
        if any(column[1] == "session_id" for column in db.execute(f"PRAGMA table_info({name})"))
    }


async def a_long_session(storage: SqliteStorage, nodes: int, session_id: str = "s") -> None:
    store = await a_store(storage, session_id)
    fence = (await hold(store, session_id)).fence()
    chain = a_chain(*(f"n{number}" for number in range(nodes)))
    await store.commit_runtime_state(a_commit(fence, session_id=session_id, graph=first(*chain)))


def nodes_left(path: Path, session_id: str = "s") -> int:
    statement = f"SELECT count(*) FROM graph_nodes WHERE session_id = '{session_id}'"
    count: int = sql(path, statement)[0][0]
    return count


def test_every_table_of_a_session_is_thought_of() -> None:
    """A table that is added later and forgotten here would outlive its session."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in TABLES:
            db.execute(statement)
        found = tables_of_sessions(db)
    assert found == set(_deletion.TABLES) | KEPT | {"attachment_manifest"}


async def test_nothing_of_a_deleted_session_is_in_the_file(
    storage: SqliteStorage, path: Path
) -> None:
    """But for the row that fences it, the counter of its lane and a revocation of its waits, none
    of which says a word."""
    await a_full_session(storage)
    store = await a_store(storage)
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO turn_effects VALUES (1, 's', 't2', 'k', 'sleep', '1', '1 ms', '{}', 1, "
            "NULL, 5)"
        )
        db.commit()
    await enqueued(store, some_work())
    await submitted(store, for_next_turn())
    await storage.await_events.revoke_await_events_for_session("s", 0)
    await storage.await_events.resolve_await_event(await a_key(storage.await_events), YES)
    with closing(sqlite3.connect(path)) as db:
        full = tables_of_sessions(db)
        assert [name for name in full if not _rows(db, name)] == []
        await storage.session_stores.delete_session("s")
        assert {name for name in full if _rows(db, name)} == KEPT
        assert _rows(db, "attachments") == 0
        (tombstone,) = db.execute(
            "SELECT generation, message_count, first_user_message, last_message FROM sessions"
        )
        assert tombstone == (1, 0, "", "")
        assert db.execute("SELECT lease_token FROM session_execution_leases").fetchall() == [
            (None,)
        ]


async def test_others_write_while_a_long_session_goes(storage: SqliteStorage, path: Path) -> None:
    """A slice at a time: a commit waits for one of them at most."""
    await a_long_session(storage, 5_000)
    other = await a_store(storage, "other")
    fence = (await hold(other, "other")).fence()
    left: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.session_stores.delete_session, "s")
        number = 0
        while not left or left[-1]:
            node = a_node(f"o{number}")
            await other.commit_runtime_state(
                a_commit(fence, session_id="other", graph=append(node))
            )
            left.append(nodes_left(path))
            number += 1
    assert [count for count in left if 0 < count < 5_000] != []
    assert nodes_left(path, "other") == number


async def test_a_deletion_that_is_cut_off_leaves_all_or_nothing_to_be_seen(
    storage: SqliteStorage, path: Path
) -> None:
    """At every step of the loop: the session is whole or gone, and its id is of use at once."""
    remains: set[int] = set()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    for step in range(MOST_STEPS):
        await a_long_session(storage, 2_500)
        with anyio.CancelScope() as scope:
            with AtStep(loop, step, scope.cancel) as cut:
                await storage.session_stores.delete_session("s")
        page = await storage.session_stores.list_sessions(SessionQuery())
        if page.sessions:
            assert nodes_left(path) == 2_500
        else:
            remains.add(nodes_left(path))
            store = await a_store(storage)
            assert await store.load_session(FullGraph()) is None
            assert nodes_left(path) == 0
        await storage.session_stores.delete_session("s")
        assert nodes_left(path) == 0
        if not cut.reached:
            break
    assert not cut.reached
    assert [count for count in remains if count > 0] != []


async def test_the_next_deletion_removes_what_an_earlier_one_has_left(
    storage: SqliteStorage, path: Path
) -> None:
    """Whichever session it is for: nothing stays for ever because its process died."""
    await a_long_session(storage, 2_500)
    await a_store(storage, "other")
    sql(path, "UPDATE sessions SET deleted_at_ms = 1 WHERE session_id = 's'")
    await storage.session_stores.delete_session("other")
    assert nodes_left(path) == 0


async def test_vacuum_removes_what_a_deletion_has_left(storage: SqliteStorage, path: Path) -> None:
    """For a host that deletes rarely: its upkeep finds it."""
    await a_long_session(storage, 2_500)
    sql(path, "UPDATE sessions SET deleted_at_ms = 1 WHERE session_id = 's'")
    await storage.maintenance.vacuum()
    assert nodes_left(path) == 0


async def test_a_damaged_node_can_be_given_up(storage: SqliteStorage, path: Path) -> None:
    """What keeps a session from being read is taken out, and the list goes on without it."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    nodes = (*a_chain("a", "b"), a_node("c", "b", text="last"))
    await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
    sql(path, "UPDATE graph_nodes SET node_json = '{' WHERE node_id = 'a'")
    await store.tombstone_nodes(["a", "c"])
    read = await store.load_session(FullGraph())
    assert read is not None
    assert [node.node_id for node in read.nodes] == ["b"]
    (entry,) = (await storage.session_stores.list_sessions(SessionQuery())).sessions
    assert (entry.first_user_message, entry.last_message) == ("hello", "hello")


async def test_large_attachments_go_a_few_at_a_time(storage: SqliteStorage, path: Path) -> None:
    """Bytes count as well as rows: gigabytes of pictures are not one transaction."""
    for number in range(8):
        await names(storage, "s", bytes([number]) * (4 * 1024 * 1024))
    left: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.session_stores.delete_session, "s")
        while not left or left[-1]:
            await a_store(storage, f"other {len(left)}")
            left.append(sql(path, "SELECT count(*) FROM attachments")[0][0])
    assert [count for count in left if 0 < count < 8] != []


@pytest.mark.parametrize(
    "statement",
    [
        *_deletion._REMOVE.values(),
        _deletion.NAMED,
        _deletion.REMOVE_BYTES,
        _catalogue.LAST_USED,
        _catalogue.LAST_USED_FIRST,
        _catalogue.CREATED,
        _catalogue.CREATED_FIRST,
    ],
)
def test_no_slice_and_no_page_reads_a_whole_table(statement: str) -> None:
    """Each costs what it takes, in a file of any size."""
    with closing(sqlite3.connect(":memory:")) as db:
        for table in TABLES:
            db.execute(table)
        values: Any = [None] * statement.count("?") or {"attachment_id": ""}
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    scans = [line for line in plan if line.startswith("SCAN") and "USING INDEX" not in line]
    assert [line for line in scans if "SUBQUERY" not in line] == []
    assert [line for line in plan if "TEMP B-TREE" in line] == []


def _rows(db: sqlite3.Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count
