"""What it brings that writes share transactions, and that reads wait for none."""

import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.ports.commit import GraphAppend, RuntimeCommit
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseOwnerIdentity,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage, _group_commit
from lash_runtime.stores.sqlite._store import SqliteSessionStore

from .floors import raw_commit_ms
from .measure import Row, p50, timed

OWNER = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
COMMITS = 2_000
FEWEST_EACH = 2
MOST_EACH = 400

READS = 400
WRITE_S = 0.2


def commits(sessions: int) -> Callable[[Path], Coroutine[None, None, Row]]:
    """Commits of two messages, by so many sessions at the same time."""

    async def measure(place: Path) -> Row:
        grouped = await _rate(place / "grouped.db", sessions)
        with _groups_of_one():
            alone = await _rate(place / "alone.db", sessions)
        floor = 1000 / raw_commit_ms(place / "raw.db", 500)
        share, times = {1: (0.2, 0), 10: (0.4, 1)}.get(sessions, (0.75, 2))
        return Row(
            measure=f"commits at once, sessions: {sessions:,}",
            floor=f"{floor:,.0f}/s",
            figure=f"{grouped:,.0f}/s ({alone:,.0f}/s with a transaction for each)",
            target=f"{share:g} of the floor" + (f", {times} times the other" if times else ""),
            reached=grouped >= max(share * floor, times * alone),
        )

    return measure


async def reads_beside_a_write(place: Path) -> Row:
    """Reads of a head while a transaction that takes 0.2 s holds the database."""
    async with SqliteStorage(place / "read.db") as storage:
        store, fence = await _session(storage, "s")
        await _commit(store, fence, 0)
        idle = await timed(READS, store.load_head_stamp)

        def slow(db: sqlite3.Connection) -> None:
            db.execute("UPDATE session_heads SET head_revision = head_revision")
            time.sleep(WRITE_S)

        beside: list[float] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_writing, storage, slow, tasks.cancel_scope)
            await anyio.sleep(WRITE_S / 4)
            beside = await timed(READS, store.load_head_stamp)
            tasks.cancel_scope.cancel()
    return Row(
        measure=f"read of a head while writes of {WRITE_S * 1000:.0f} ms run, p50 and slowest",
        floor=f"{p50(idle):.2f}, {max(idle):.2f} ms with no write",
        figure=f"{p50(beside):.2f}, {max(beside):.2f} ms",
        target=f"twice the floor, and none above {WRITE_S * 1000 / 4:.0f} ms",
        reached=p50(beside) <= 2 * p50(idle) and max(beside) <= WRITE_S * 1000 / 4,
    )


async def _keep_writing(
    storage: SqliteStorage,
    body: Callable[[sqlite3.Connection], None],
    until: anyio.CancelScope,
) -> None:
    while not until.cancel_called:
        await storage.session_stores._scope.database.write(body)


@contextmanager
def _groups_of_one() -> Iterator[None]:
    usual = _group_commit.MAX_GROUP_BODIES
    _group_commit.MAX_GROUP_BODIES = 1  # type: ignore[misc]
    try:
        yield
    finally:
        _group_commit.MAX_GROUP_BODIES = usual  # type: ignore[misc]


async def _rate(database: Path, sessions: int) -> float:
    """Commits in a second, all sessions together."""
    each = min(MOST_EACH, max(FEWEST_EACH, COMMITS // sessions))

    async def run(store: SqliteSessionStore, fence: SessionExecutionLeaseFence) -> None:
        for number in range(each):
            await _commit(store, fence, number)

    async with SqliteStorage(database) as storage:
        opened = [await _session(storage, f"s{number}") for number in range(sessions)]
        started = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for store, fence in opened:
                tasks.start_soon(run, store, fence)
        return sessions * each / (time.perf_counter() - started)


async def _session(
    storage: SqliteStorage, session_id: str
) -> tuple[SqliteSessionStore, SessionExecutionLeaseFence]:
    store = await storage.session_stores.create_store(
        SessionStoreCreateRequest(session_id=session_id)
    )
    outcome = await store.try_claim_session_execution_lease(session_id, OWNER, 600_000)
    assert isinstance(outcome, LeaseAcquired)
    return store, outcome.lease.fence()


async def _commit(
    store: SqliteSessionStore, fence: SessionExecutionLeaseFence, number: int
) -> None:
    question, reply = f"{number}.0", f"{number}.1"
    await store.commit_runtime_state(
        RuntimeCommit(
            session_id=fence.session_id,
            expected_head_revision=number,
            session_execution_lease=fence,
            config=PersistedSessionConfig(),
            agent_frames=(),
            current_agent_frame_id="",
            graph=GraphAppend(
                nodes=(
                    _node(question, f"{number - 1}.1" if number else None, MessageRole.USER),
                    _node(reply, question, MessageRole.ASSISTANT),
                ),
                leaf_node_id=reply,
            ),
            checkpoint=HydratedSessionCheckpoint(),
        )
    )


def _node(node_id: str, under: str | None, role: MessageRole) -> SessionNodeRecord:
    return SessionNodeRecord(
        node_id=node_id,
        parent_node_id=under,
        timestamp="2025-06-15T15:06:40.000Z",
        payload=ConversationRecord.of(text_message(node_id, role, "words")),
    )
