"""What opening a long session costs, by how much of its graph is kept in memory."""

import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from lash_runtime import LashCore, Residency
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.ports.commit import GraphReplaceFull, RuntimeCommit
from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ScriptedProvider

from .measure import Row, p50
from .scenes import answer

OWNER = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
NODES = 10_000
LEFT_BRANCHES = 9
ROUNDS = 7


async def cold_load(place: Path) -> Row:
    """A core is built, and a session of 10,000 nodes opened: first one straight conversation,
    then one that left nine branches of a tenth each behind."""
    straight, branched = place / "straight.db", place / "branched.db"
    await _store(straight, list(_chain("path", NODES, under=None)))
    each = NODES // (LEFT_BRANCHES + 1)
    nodes = list(_chain("root", 1, under=None))
    for branch in range(LEFT_BRANCHES):
        nodes += _chain(f"left{branch}", each, under="root-0")
    nodes += _chain("path", each - 1, under="root-0")
    await _store(branched, nodes)

    all_ms = [await _open_ms(database, Residency.KEEP_ALL) for database in (straight, branched)]
    path_ms = [
        await _open_ms(database, Residency.ACTIVE_PATH_ONLY) for database in (straight, branched)
    ]
    all_mib = await _opened_mib(branched, Residency.KEEP_ALL)
    path_mib = await _opened_mib(branched, Residency.ACTIVE_PATH_ONLY)
    floor = _raw_read_ms(branched)
    return Row(
        measure=f"cold load of {NODES:,} nodes: straight, branched; memory of the branched one",
        floor=f"{floor:.1f} ms to read the rows",
        figure=(
            f"keep_all {all_ms[0]:.0f}, {all_ms[1]:.0f} ms, {all_mib:.1f} MiB; "
            f"active_path_only {path_ms[0]:.0f}, {path_ms[1]:.0f} ms, {path_mib:.1f} MiB"
        ),
        target="150 ms straight; branched, by path: a quarter of the time and the memory of all",
        reached=max(all_ms[0], path_ms[0]) <= 150
        and path_ms[1] <= all_ms[1] / 4
        and path_mib <= all_mib / 4,
    )


def _chain(name: str, count: int, *, under: str | None) -> Iterator[SessionNodeRecord]:
    for number in range(count):
        role = MessageRole.ASSISTANT if number % 2 else MessageRole.USER
        message = text_message(f"{name}-{number}", role, "what was said, at some length " * 7)
        yield SessionNodeRecord(
            node_id=message.id,
            parent_node_id=under,
            timestamp="2026-01-01T00:00:00Z",
            payload=ConversationRecord.of(message),
        )
        under = message.id


async def _store(database: Path, nodes: list[SessionNodeRecord]) -> None:
    async with SqliteStorage(database) as storage:
        store = await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
        lease = await store.try_claim_session_execution_lease("s", OWNER, 600_000)
        assert isinstance(lease, LeaseAcquired)
        fence = lease.lease.fence()
        await store.commit_runtime_state(
            RuntimeCommit(
                session_id="s",
                expected_head_revision=None,
                session_execution_lease=fence,
                config=PersistedSessionConfig(),
                agent_frames=(),
                current_agent_frame_id="",
                graph=GraphReplaceFull(nodes=nodes, leaf_node_id=nodes[-1].node_id),
                checkpoint=HydratedSessionCheckpoint(),
                release_session_execution_lease=fence,
            )
        )


def _a_core(database: Path, residency: Residency) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(ScriptedProvider(otherwise=answer, record=False))
        .model("scripted")
        .storage(SqliteStorage(database))
        .residency(residency)
        .build()
    )


async def _open_ms(database: Path, residency: Residency) -> float:
    samples = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        async with _a_core(database, residency) as core, core.session("s"):
            samples.append((time.perf_counter() - started) * 1000)
    return p50(samples)


async def _opened_mib(database: Path, residency: Residency) -> float:
    """What Python has allocated for the open session."""
    tracemalloc.start()
    try:
        async with _a_core(database, residency) as core:
            before, _ = tracemalloc.get_traced_memory()
            async with core.session("s"):
                after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / 2**20


def _raw_read_ms(database: Path) -> float:
    samples = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with closing(sqlite3.connect(database)) as db:
            db.execute("SELECT node_json FROM graph_nodes ORDER BY seq").fetchall()
        samples.append((time.perf_counter() - started) * 1000)
    return p50(samples)
