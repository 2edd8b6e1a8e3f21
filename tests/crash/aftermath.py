"""What the process after a death finds in the database, as the store and the file show it.

It takes the lane, closes the turns that the dead process has left, and claims everything that
waits, so that what it reports is what anybody could go on with.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from crash.calls import CHORES, OVER, SESSION, TTL_MS, VICTIM, take_the_lane
from lash_runtime.model.nodes import SessionNodeRecord
from lash_runtime.ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._deletion import TABLES
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing.conformance._samples import a_store, as_interrupted
from lash_runtime.testing.conformance._waiting_samples import IDLE

EVERY_TIME = 2**62
ANSWERS = "SELECT wait_json, terminal_json FROM await_event_waits WHERE terminal_json NOT NULL"
UNKEPT = """
    attachments WHERE attachment_id NOT IN
    (SELECT attachment_id FROM attachment_manifest WHERE committed_at_ms IS NOT NULL)
"""
UNNAMED = "artifact_blobs WHERE hash NOT IN (SELECT blob_ref FROM artifact_refs)"


@dataclass(frozen=True)
class Found:
    """`done` counts the words of the commits in session `s`: turns, attachments, what was queued.

    `claimable` is what a claim has taken of what `waits`. `turns` has the state of each turn
    as it was found. `groups` has revision, nodes and usage of sessions that commit together.
    `victim_rows` is what is left of a session that is not there. `moved` says of each database
    that was to move on whether it has. `started_over` has nodes, batches and inputs that wait, and
    unfinished turns, of a session that does so. `unnamed_artifacts` counts bytes that no ref of an
    environment leads to.
    """

    problems: list[str]
    token: int
    revision: int
    nodes: int
    usage: int
    newest_state: str | None
    done: dict[str, int]
    waits: list[str]
    claimable: list[str]
    turns: dict[str, str]
    unsettled_attachments: list[str]
    unreadable_attachments: list[str]
    chores: list[str]
    marked_nodes: int
    ended_inputs: int
    litter: int
    unkept_attachments: int
    groups: dict[str, tuple[int, int, int]]
    old_turns: int
    old_stamps: int
    started_over: tuple[int, int, int, int] | None
    environment: str | None
    unnamed_artifacts: int
    victim_nodes: int | None
    victim_rows: int
    new_tokens: dict[str, int]
    broken_copies: list[str]
    broken_new: list[str]
    moved: dict[str, bool]
    answers: dict[str, str]


def look(database: Path, name: str, report: Connection) -> None:
    report.send(asyncio.run(_look(database, name)))


async def _look(database: Path, name: str) -> Found:
    owner = LeaseOwnerIdentity(owner_id=name, incarnation_id="1", liveness=local_process_liveness())
    async with SqliteStorage(database) as storage:
        problems = await storage.maintenance.check()
        store = await a_store(storage, SESSION)
        turns = _rows(database, "SELECT turn_id, state FROM turns WHERE session_id = ?", SESSION)
        fence = (await take_the_lane(store, SESSION, owner)).fence()
        for row in await store.list_unfinished_turns(SESSION):
            await store.settle_turn(fence, as_interrupted(row.turn_id), release=False)
        read = await store.load_session(FullGraph())
        done = Counter(word for node in (read.nodes if read else ()) for word in words_of(node))
        waits = [str(batch.source_key) for batch in await store.list_queued_work(SESSION)]
        waits += [str(each.source_key) for each in await store.list_pending_turn_inputs(SESSION)]
        found = Found(
            problems=[f"{each.session_id}: {each.message}" for each in problems],
            token=fence.fencing_token,
            revision=read.head_revision if read else 0,
            nodes=len(read.nodes) if read else 0,
            usage=sum(each.usage.input_tokens for each in read.token_ledger) if read else 0,
            newest_state=_state(read.checkpoint.execution_state) if read else None,
            done=dict(done),
            waits=waits,
            claimable=await _claim_all(store, fence),
            turns=dict(turns),
            unsettled_attachments=[
                each.attachment_id for each in await store.list_uncommitted(EVERY_TIME)
            ],
            unreadable_attachments=[
                word for word in done if _is_attachment(word) and not await _reads(storage, word)
            ],
            chores=await _node_ids(storage, CHORES),
            marked_nodes=_count(database, "graph_nodes WHERE tombstoned = 1"),
            ended_inputs=_count(database, "pending_turn_inputs WHERE state = 'cancelled'"),
            litter=_count(database, "blobs WHERE length(content) < 4"),
            unkept_attachments=_count(database, UNKEPT),
            groups={
                str(name): await _counts(storage, str(name))
                for (name,) in _rows(database, "SELECT session_id FROM sessions")
                if str(name)[0] == "g"
            },
            old_turns=_count(database, "turns WHERE turn_id LIKE 'old:%'"),
            old_stamps=_count(database, "turn_stamps WHERE turn_id LIKE 'old:%'"),
            started_over=await _session_that_starts_over(storage),
            environment=_state(await storage.process_env_store.get_process_execution_env("env")),
            unnamed_artifacts=_count(database, UNNAMED),
            victim_nodes=await _victim(storage),
            victim_rows=await _what_is_left_of_the_victim(storage, database),
            new_tokens=await _tokens(storage, owner),
            broken_copies=[str(path) for path in database.parent.glob("*.copy.db") if _bad(path)],
            broken_new=[
                str(path)
                for path in database.parent.glob("*.new.db")
                if not await _can_be_used(path)
            ],
            moved={str(path): _has_moved(path) for path in database.parent.glob("*.moved.db")},
            answers={
                json.loads(wait)["key"]: json.loads(terminal)["payload"]
                for wait, terminal in _rows(database, ANSWERS)
            },
        )
        await store.release_session_execution_lease(fence)
        return found


async def _claim_all(store: SqliteSessionStore, fence: SessionExecutionLeaseFence) -> list[str]:
    keys: list[str] = []
    while work := await store.claim_ready_queued_work(
        SESSION, fence, fence.owner, IDLE, TTL_MS, 64
    ):
        keys += [str(batch.source_key) for batch in work.batches]
    while inputs := await store.claim_next_turn_inputs(SESSION, fence, fence.owner, TTL_MS, 64):
        keys += [str(each.source_key) for each in inputs.inputs]
    return keys


async def _session_that_starts_over(storage: SqliteStorage) -> tuple[int, int, int, int] | None:
    store = await storage.session_stores.open_existing_store(
        SessionStoreCreateRequest(session_id=OVER)
    )
    if store is None:
        return None
    return (
        len(await _node_ids(storage, OVER)),
        len(await store.list_queued_work(OVER)),
        len(await store.list_pending_turn_inputs(OVER)),
        len(await store.list_unfinished_turns(OVER)),
    )


async def _victim(storage: SqliteStorage) -> int | None:
    """How many nodes it has; `None` when it does not exist."""
    store = await storage.session_stores.open_existing_store(
        SessionStoreCreateRequest(session_id=VICTIM)
    )
    return None if store is None else len(await _node_ids(storage, VICTIM))


async def _what_is_left_of_the_victim(storage: SqliteStorage, database: Path) -> int:
    await storage.session_stores.delete_session(VICTIM)
    return sum(_count(database, f"{table} WHERE session_id = '{VICTIM}'") for table in TABLES)


async def _tokens(storage: SqliteStorage, owner: LeaseOwnerIdentity) -> dict[str, int]:
    """The fencing token of the next lease of each session that others have held."""
    tokens = {}
    for session_id in (VICTIM, CHORES):
        store = await a_store(storage, session_id)
        lease = await take_the_lane(store, session_id, owner)
        tokens[session_id] = lease.fencing_token
        await store.release_session_execution_lease(lease.fence())
    return tokens


async def _counts(storage: SqliteStorage, session_id: str) -> tuple[int, int, int]:
    read = await (await a_store(storage, session_id)).load_session(FullGraph())
    if read is None:
        return 0, 0, 0
    usage = sum(each.usage.input_tokens for each in read.token_ledger)
    return read.head_revision, len(read.nodes), usage


async def _node_ids(storage: SqliteStorage, session_id: str) -> list[str]:
    read = await (await a_store(storage, session_id)).load_session(FullGraph())
    return [] if read is None else [node.node_id for node in read.nodes]


async def _reads(storage: SqliteStorage, attachment_id: str) -> bool:
    return len((await storage.attachments.get(attachment_id)).data) > 0


async def _can_be_used(path: Path) -> bool:
    async with SqliteStorage(path) as storage:
        await a_store(storage, SESSION)
        return await storage.maintenance.check() == ()


def _bad(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        whole = db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return not whole or db.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0


def _has_moved(path: Path) -> bool:
    """Raises unless the database is wholly of one version."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        version = db.execute("PRAGMA user_version").fetchone()[0]
        (sessions,) = db.execute("SELECT count(*) FROM sessions").fetchone()
        columns = {name for _, name, *_ in db.execute("PRAGMA table_info(sessions)")}
        made = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'colours'").fetchone()[0]
        assert sessions == 1
        assert (version, "colour" in columns, made) in {(1, False, 0), (2, True, 1)}
        if version == 2:
            assert db.execute("SELECT colour, name FROM sessions, colours").fetchall() == [
                ("green", SESSION)
            ]
        return version == 2


def words_of(node: SessionNodeRecord) -> list[str]:
    return node.conversation.message.text.split() if node.conversation is not None else []


def _state(state: bytes | None) -> str | None:
    return None if state is None else state.decode()


def _is_attachment(word: str) -> bool:
    return ":" not in word


def _count(database: Path, what: str) -> int:
    return int(_rows(database, f"SELECT count(*) FROM {what}")[0][0])


def _rows(database: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(query, values).fetchall()
