"""What the store alone does, below sessions and turns."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import anyio

from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.queued_work import (
    DeliveryPolicy,
    ProcessWakeDelivery,
    ProcessWakePayload,
    QueuedWorkBatchDraft,
    QueuedWorkClaimBoundary,
    SlotPolicy,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage

from .measure import Row, p50

OWNER = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
QUEUED = 10_000
GROUP = 64


async def queue_claims(place: Path) -> Row:
    """Claims by one caller while 10,000 batches wait. Each is given back before the next."""
    async with SqliteStorage(place / "queue.db") as storage:
        store = await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
        async with anyio.create_task_group() as writers:
            for number in range(QUEUED):
                writers.start_soon(store.enqueue_queued_work, _batch(number))
        lease = await store.try_claim_session_execution_lease("s", OWNER, 600_000)
        assert isinstance(lease, LeaseAcquired)
        fence = lease.lease.fence()

        async def claim_ms(most: int, times: int) -> float:
            samples = []
            for _ in range(times):
                started = time.perf_counter()
                claim = await store.claim_ready_queued_work(
                    "s", fence, OWNER, QueuedWorkClaimBoundary.IDLE, 600_000, most
                )
                samples.append((time.perf_counter() - started) * 1000)
                assert claim is not None
                assert len(claim.batches) == most
                await store.abandon_queued_work_claim(claim)
            return p50(samples)

        alone = await claim_ms(1, 500)
        grouped = await claim_ms(GROUP, 200)
    floor = _raw_claim_ms(place / "raw-queue.db", 1)
    group_floor = _raw_claim_ms(place / "raw-groups.db", GROUP)
    return Row(
        measure=f"claim of 1, and of {GROUP}, out of {QUEUED:,} batches",
        floor=f"{floor:.2f} ms, {group_floor:.2f} ms",
        figure=f"{alone:.2f} ms, {grouped:.2f} ms ({GROUP / grouped * 1000:,.0f} batches/s)",
        target="5 times the floors",
        reached=alone <= 5 * floor and grouped <= 5 * group_floor,
    )


def _batch(number: int) -> QueuedWorkBatchDraft:
    wake = ProcessWakeDelivery(
        wake_id=f"w{number}",
        target_session_id="s",
        target_scope_id="scope",
        process_id=f"p{number}",
        sequence=1,
        dedupe_key=f"p{number}:1",
        input={"text": "what the process has to say"},
        created_at_ms=0,
    )
    return QueuedWorkBatchDraft(
        session_id="s",
        payloads=(ProcessWakePayload(wake=wake),),
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.JOIN,
        source_key=f"process:p{number}:event:1:wake",
    )


def _raw_claim_ms(path: Path, most: int) -> float:
    """The first free rows are read and marked, in a transaction of their own."""
    samples = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE work (seq INTEGER PRIMARY KEY, body TEXT, claim TEXT)")
        db.execute("CREATE INDEX free ON work (seq) WHERE claim IS NULL")
        db.execute("BEGIN")
        db.executemany("INSERT INTO work (body) VALUES (?)", [("x" * 300,)] * QUEUED)
        db.execute("COMMIT")
        for _ in range(100):
            started = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            free = "SELECT seq, body FROM work WHERE claim IS NULL ORDER BY seq LIMIT ?"
            rows = db.execute(free, (most,)).fetchall()
            db.executemany("UPDATE work SET claim = 'c' WHERE seq = ?", [(row[0],) for row in rows])
            db.execute("COMMIT")
            samples.append((time.perf_counter() - started) * 1000)
    return p50(samples)
