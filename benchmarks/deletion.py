"""What deleting a very long session costs, and what it costs those who write meanwhile."""

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import anyio

from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord, encode_node
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.ports.commit import GraphAppend, GraphUnchanged, RuntimeCommit
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseOwnerIdentity,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.turn_persistence import TurnPersistence
from lash_runtime.stores.sqlite import SqliteStorage

from .measure import Row, p50

OWNER = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
NODES = 100_000
AT_ONCE = 2_000
TEXT = "It is mild today, with a light breeze from the west. " * 8


async def delete_long_session(place: Path) -> Row:
    """100,000 nodes of half a kilobyte, while another session commits without a pause."""
    database = place / "long.db"
    async with SqliteStorage(database) as storage:
        long, fence = await _held(storage, "long")
        ids = random.Random(0)
        for _ in range(NODES // AT_ONCE):
            nodes = tuple(_node(f"m:{ids.randbytes(16).hex()}:1") for _ in range(AT_ONCE))
            await long.commit_runtime_state(
                _commit("long", fence, GraphAppend(nodes=nodes, leaf_node_id=nodes[-1].node_id))
            )
        other, other_fence = await _held(storage, "other")
        waits: list[float] = []
        over = anyio.Event()

        async def commit_all_the_time() -> None:
            while not over.is_set():
                started = time.perf_counter()
                await other.commit_runtime_state(
                    _commit("other", other_fence, GraphUnchanged(leaf_node_id=None))
                )
                waits.append((time.perf_counter() - started) * 1000)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit_all_the_time)
            started = time.perf_counter()
            report = await storage.session_stores.delete_session("long")
            took = time.perf_counter() - started
            over.set()
        assert report.removed_node_count == NODES
    floor = _raw_delete_s(place / "raw.db")
    return Row(
        measure=f"delete {NODES:,} nodes; a commit meanwhile, p50 and longest",
        floor=f"{floor:.1f} s in one transaction",
        figure=f"{took:.1f} s; {p50(waits):.0f} and {max(waits):.0f} ms",
        target="10 s; 50 and 250 ms",
        reached=took <= 10 and p50(waits) <= 50 and max(waits) <= 250,
    )


async def _held(
    storage: SqliteStorage, session_id: str
) -> tuple[TurnPersistence, SessionExecutionLeaseFence]:
    store = await storage.session_stores.create_store(
        SessionStoreCreateRequest(session_id=session_id)
    )
    claimed = await store.try_claim_session_execution_lease(session_id, OWNER, 600_000)
    assert isinstance(claimed, LeaseAcquired)
    return store, claimed.lease.fence()


def _node(node_id: str) -> SessionNodeRecord:
    message = text_message(node_id, MessageRole.USER, TEXT)
    return SessionNodeRecord(
        node_id=node_id,
        timestamp="2025-06-15T15:06:40.000Z",
        payload=ConversationRecord.of(message),
    )


def _commit(
    session_id: str, fence: SessionExecutionLeaseFence, graph: GraphAppend | GraphUnchanged
) -> RuntimeCommit:
    return RuntimeCommit(
        session_id=session_id,
        expected_head_revision=None,
        session_execution_lease=fence,
        config=PersistedSessionConfig(),
        agent_frames=(),
        current_agent_frame_id="",
        graph=graph,
        checkpoint=HydratedSessionCheckpoint(),
    )


def _raw_delete_s(database: Path) -> float:
    """The same rows in raw SQLite, deleted by one statement."""
    ids = random.Random(0)
    text = encode_node(_node("m"))
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 4096")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "CREATE TABLE nodes (seq INTEGER PRIMARY KEY, s TEXT, id TEXT, j TEXT, UNIQUE (s, id))"
        )
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO nodes (s, id, j) VALUES ('long', ?, ?)",
            ((ids.randbytes(16).hex(), text) for _ in range(NODES)),
        )
        db.execute("COMMIT")
        started = time.perf_counter()
        db.execute("DELETE FROM nodes WHERE s = 'long'")
        return time.perf_counter() - started
