"""The check of a database: a sound one passes, and each kind of damage is named."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.ports.clock import SystemClock
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._await_event_case import (
    OPERATION,
    TURN,
    YES,
    a_key,
    answer_now,
)
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
    first,
    hold,
)
from lash_runtime.testing.conformance._waiting_samples import (
    claimed_inputs,
    enqueued,
    for_next_turn,
    some_work,
    submitted,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database in which everything occurs that a session can have."""
    path = tmp_path / "agents.db"
    async with SqliteStorage(path) as storage:
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance("t1"))
        fence = turn.lease.fence()
        await store.commit_runtime_state(
            a_commit(
                fence,
                graph=first(*a_chain("a", "b", "c"), a_node("d", "a")),
                checkpoint=HydratedSessionCheckpoint(execution_state=b"x" * 10_000),
                turn_commit=a_stamp("t1"),
                turn_settlement=as_committed("t1"),
                release_session_execution_lease=fence,
            )
        )
        turn = await accepted(store, an_acceptance("t2"))
        await submitted(store, for_next_turn("one"), for_next_turn("two"))
        await claimed_inputs(store, turn.lease, 1)
        await enqueued(store, some_work())
        await storage.attachments.put(
            b"picture", AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG))
        )
        await storage.process_env_store.put_process_execution_env("env", b"x" * 5_000)
        for scope, answer in ((TURN, YES), (OPERATION, None)):
            key = await a_key(storage.await_events, scope)
            if answer is None:
                await answer_now(storage.await_events, key, SystemClock())
            else:
                await storage.await_events.resolve_await_event(key, answer)
        await a_store(storage, "only created")
    return path


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage(path) as storage:
        yield storage


async def test_a_sound_database_has_no_problem(storage: SqliteStorage) -> None:
    """Whatever is in it: waiting, claimed, unfinished, committed."""
    assert await storage.maintenance.check() == ()


async def test_nodes_that_were_removed_are_no_damage(storage: SqliteStorage) -> None:
    """A leaf without its node and a gap in a path are what a host asked for."""
    store = await storage.session_stores.create_store(_request("s"))
    await store.tombstone_nodes(["b", "d"])
    assert await storage.maintenance.check() == ()
    await storage.maintenance.vacuum()
    assert await storage.maintenance.check() == ()


async def test_what_a_deletion_has_left_is_no_damage(storage: SqliteStorage, path: Path) -> None:
    """Its rows go bit by bit, and while they do they need not make sense."""
    with raw(path) as db:
        db.execute("UPDATE sessions SET deleted_at_ms = 1 WHERE session_id = 's'")
        db.execute("DELETE FROM checkpoints")
    assert await storage.maintenance.check() == ()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE graph_nodes SET node_json = '{' WHERE node_id = 'd'", "a stored node"),
        ("UPDATE session_heads SET head_json = '{}'", "SessionHeadMeta"),
        ("UPDATE session_meta SET meta_json = '[]'", "metadata"),
        ("DELETE FROM session_meta", "metadata is missing"),
        ("DELETE FROM checkpoints", "checkpoint"),
        ("UPDATE checkpoints SET manifest_json = 'x'", "SessionCheckpoint"),
        ("DELETE FROM blobs", "is missing"),
        ("UPDATE blobs SET content = x'00'", "cannot be unpacked"),
        ("UPDATE blobs SET content = x'00', codec = 'none'", "other content"),
        ("UPDATE turns SET settled_at_ms = NULL WHERE turn_id = 't1'", "when it ended"),
        ("UPDATE turns SET input_json = NULL WHERE turn_id = 't2'", "its input"),
        ("UPDATE turns SET options_json = '7'", "turn's options"),
        ("UPDATE turns SET state = 'odd' WHERE turn_id = 't1'", "turn 't1': a stored turn's state"),
        ("UPDATE turns SET members_json = '['", "turn 't2': a stored turn's members"),
        ("UPDATE turns SET members_json = '[1]'", "turn 't1': a stored turn's members"),
        ("UPDATE turns SET fencing_token = 99", "under a lease that never was"),
        ("UPDATE turns SET generation = 7", "another generation"),
        ("UPDATE turn_stamps SET manifest_json = ''", "the stamp of turn 't1'"),
        ("UPDATE pending_turn_inputs SET input_json = 'no'", "input"),
        ("UPDATE queued_work_batches SET payloads_json = 'no'", "batch of queued work"),
        (
            "UPDATE pending_turn_inputs SET claim_generation = 99 WHERE claim_id IS NOT NULL",
            "is claimed under a lease that never was",
        ),
        ("UPDATE attachments SET content = x'00'", "attachment"),
        ("DELETE FROM artifact_blobs", "process_execution_env 'env' leads to bytes that are gone"),
        ("UPDATE artifact_blobs SET content = x'00'", "cannot be unpacked"),
        ("UPDATE artifact_blobs SET content = x'00', codec = 'none'", "have other content"),
        ("UPDATE artifact_refs SET namespace = 'odd'", "artifact's namespace"),
        ("DELETE FROM await_event_meta", "the secret is missing"),
        ("UPDATE await_event_meta SET signing_secret = x'00'", "has 1 bytes"),
        ("UPDATE await_event_waits SET scope_json = '{}'", "a stored scope"),
        ("UPDATE await_event_waits SET wait_json = 'x'", "a stored wait"),
        (
            "UPDATE await_event_waits SET terminal_json = '[]' WHERE terminal_json IS NOT NULL",
            "answer to a wait",
        ),
        (
            "UPDATE await_event_waits SET resolved_at_ms = NULL WHERE terminal_json IS NOT NULL",
            "whether it was answered",
        ),
        ("UPDATE await_event_waits SET generation = 7 WHERE session_id = 's'", "of another one"),
        ("UPDATE await_event_waits SET turn_id = 'odd'", "another session or turn"),
    ],
)
async def test_each_kind_of_damage_is_named(
    storage: SqliteStorage, path: Path, damage: str, says: str
) -> None:
    """One problem at least, and one that tells what to look at."""
    with raw(path) as db:
        assert db.execute(damage).rowcount > 0
    problems = await storage.maintenance.check()
    assert any(says in problem.message for problem in problems), problems
    assert {problem.session_id for problem in problems} <= {"s", "only created", None}


async def test_a_cycle_of_parents_is_named_once(storage: SqliteStorage) -> None:
    """By one of its nodes, whether or not the leaf leads into it."""
    store = await storage.session_stores.create_store(_request("round"))
    fence = (await hold(store, "round")).fence()
    nodes = (a_node("x", "z"), a_node("y", "x"), a_node("z", "y"), a_node("hangs on", "y"))
    await store.commit_runtime_state(
        a_commit(fence, session_id="round", graph=append(*nodes, a_node("leaf"), leaf="leaf"))
    )
    (problem,) = await storage.maintenance.check()
    assert (problem.session_id, problem.message) == ("round", "node 'x' is its own ancestor")


async def test_a_page_that_cannot_be_followed_is_named(path: Path) -> None:
    """What SQLite itself finds comes first; what is below it is not asked."""
    whole = bytearray(path.read_bytes())
    page = _root_page(path, "graph_nodes")
    whole[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(whole)
    async with SqliteStorage(path) as storage:
        problems = await storage.maintenance.check()
    assert problems
    assert {problem.session_id for problem in problems} == {None}


def _root_page(path: Path, table: str) -> int:
    with raw(path) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        page: int = db.execute(query, (table,)).fetchone()[0]
    return page


def _request(session_id: str) -> SessionStoreCreateRequest:
    return SessionStoreCreateRequest(session_id=session_id)
