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
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
    SlotPolicy,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage

from .measure import Row, p50, timed

OWNER = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
QUEUED = 10_000
GROUP = 64


async def queue_claims(place: Path) -> Row:
    """Claims by one caller while 10,000 batches wait; what it has claimed stays in front."""
    async with SqliteStorage(place / "queue.db") as storage:
        store = await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
        async with anyio.create_task_group() as writers:
            for number in range(QUEUED):
                writers.start_soon(store.enqueue_queued_work, _batch(number))
        lease = await store.try_claim_session_execution_lease("s", OWNER, 600_000)
        assert isinstance(lease, LeaseAcquired)
        fence = lease.lease.fence()

        async def claim(most: int) -> QueuedWorkClaim:
            taken = await store.claim_ready_queued_work(
                "s", fence, OWNER, QueuedWorkClaimBoundary.IDLE, 600_000, most
            )
            assert taken is not None
            assert len(taken.batches) == most
            return taken

        alone = p50(await timed(500, lambda: claim(1)))
        grouped = p50(await timed(100, lambda: claim(GROUP)))
    floor = _raw_claim_ms(place / "raw-queue.db")
    return Row(
        measure=f"claim of 1, and of {GROUP}, out of {QUEUED:,} batches",
        floor=f"{floor:.2f} ms",
        figure=f"{alone:.2f} ms, {grouped:.2f} ms ({GROUP / grouped * 1000:,.0f} batches/s)",
        target="5 times the floor, 20,000 batches/s",
        reached=alone <= 5 * floor and GROUP / grouped * 1000 >= 20_000,
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


def _raw_claim_ms(path: Path) -> float:
    """A row is found and marked, in a transaction of its own."""
    samples = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE work (seq INTEGER PRIMARY KEY, body TEXT, claim TEXT)")
        db.execute("CREATE INDEX free ON work (seq) WHERE claim IS NULL")
        db.execute("BEGIN")
        db.executemany("INSERT INTO work (body) VALUES (?)", [("x" * 300,)] * QUEUED)
        db.execute("COMMIT")
        for _ in range(500):
            started = time.perf_counter()
            db.execute("BEGIN IMMEDIATE")
            seq = db.execute("SELECT min(seq) FROM work WHERE claim IS NULL").fetchone()[0]
            db.execute("UPDATE work SET claim = 'c' WHERE seq = ?", (seq,))
            db.execute("COMMIT")
            samples.append((time.perf_counter() - started) * 1000)
    return p50(samples)
