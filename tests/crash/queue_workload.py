"""A process that puts work in line and does it until it is killed, and one that looks afterwards.

Every commit adds a message that names what it has completed, so that the transcript says what
was done, and how often.
"""

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.ports.commit import GraphAppend, RuntimeCommit
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.queued_work import (
    DeliveryPolicy,
    ProcessWakeDelivery,
    ProcessWakePayload,
    QueuedWorkBatchDraft,
    QueuedWorkClaimBoundary,
    SlotPolicy,
)
from lash_runtime.ports.session_state import FullGraph, HydratedSessionCheckpoint
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.turn_inputs import NextTurnIngress, PendingTurnInputDraft
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._store import SqliteSessionStore

SESSION = "queue"
TTL_MS = 600_000
"""Nobody waits for it: the killed holder is proven dead."""


@dataclass(frozen=True)
class Found:
    """What is there after a kill: keys in the transcript, and keys in line."""

    done: dict[str, int]
    batches: list[str]
    free_batches: list[str]
    inputs: list[str]
    damage: list[str]


def work_until_killed(database: Path, prefix: str, seed: int, report: Connection) -> None:
    """Report what is about to happen where that matters, and everything that has happened."""
    asyncio.run(_work_until_killed(database, prefix, random.Random(seed), report))


async def _work_until_killed(
    database: Path, prefix: str, chance: random.Random, report: Connection
) -> None:
    async with SqliteStorage(database) as storage:
        store = await _store(storage)
        fence = await _take_the_lane(store, prefix)
        report.send("ready")
        for number in itertools.count():
            name = f"{prefix}-{number}"
            match chance.randrange(5):
                case 0 | 1:
                    await store.enqueue_queued_work(_wake(f"b:{name}"))
                    report.send(("queued", f"b:{name}"))
                case 2:
                    await store.enqueue_pending_turn_input(_said(f"i:{name}"))
                    report.send(("queued", f"i:{name}"))
                case 3:
                    done = await do_some(store, fence)
                    report.send(("done", *done))
                case _:
                    pending = await store.list_pending_queued_work(SESSION)
                    if pending:
                        batch = chance.choice(pending)
                        report.send(("cancelling", batch.source_key))
                        await store.cancel_queued_work_batch(SESSION, batch.batch_id)
                        report.send(("cancelled", batch.source_key))


def look(database: Path, prefix: str, report: Connection) -> None:
    report.send(asyncio.run(_look(database, prefix)))


def finish(database: Path, prefix: str, report: Connection) -> None:
    """Do everything that is left, and say how often each thing was done."""
    report.send(asyncio.run(_finish(database, prefix)))


async def _look(database: Path, prefix: str) -> Found:
    async with SqliteStorage(database) as storage:
        store = await _store(storage)
        fence = await _take_the_lane(store, f"{prefix}-look")
        found = Found(
            done=await _done(store),
            batches=[str(batch.source_key) for batch in await store.list_queued_work(SESSION)],
            free_batches=[
                str(batch.source_key) for batch in await store.list_pending_queued_work(SESSION)
            ],
            inputs=[str(each.source_key) for each in await store.list_pending_turn_inputs(SESSION)],
            damage=await _damage(storage),
        )
        await store.release_session_execution_lease(fence)
        return found


async def _finish(database: Path, prefix: str) -> dict[str, int]:
    async with SqliteStorage(database) as storage:
        store = await _store(storage)
        fence = await _take_the_lane(store, f"{prefix}-finish")
        while await do_some(store, fence):
            pass
        return await _done(store)


async def do_some(store: SqliteSessionStore, fence: SessionExecutionLeaseFence) -> list[str]:
    """Claim a few of each, and complete them in one commit that names them."""
    owner = fence.owner
    batches = await store.claim_ready_queued_work(
        SESSION, fence, owner, QueuedWorkClaimBoundary.IDLE, TTL_MS, 3
    )
    inputs = await store.claim_next_turn_inputs(SESSION, fence, owner, TTL_MS, 2)
    keys = [str(batch.source_key) for batch in (() if batches is None else batches.batches)]
    keys += [str(each.source_key) for each in (() if inputs is None else inputs.inputs)]
    if keys:
        head = await store.load_head_stamp()
        revision = 0 if head is None else head.head_revision
        under = None if head is None else head.leaf_node_id
        await store.commit_runtime_state(
            RuntimeCommit(
                session_id=SESSION,
                expected_head_revision=revision,
                session_execution_lease=fence,
                config=PersistedSessionConfig(),
                agent_frames=(),
                current_agent_frame_id="",
                graph=_a_message(f"n{revision}", under, " ".join(keys)),
                checkpoint=HydratedSessionCheckpoint(),
                completed_queue_claims=() if batches is None else (batches.completion(),),
                completed_turn_input_claims=() if inputs is None else (inputs.completion(),),
            )
        )
    return keys


async def _store(storage: SqliteStorage) -> SqliteSessionStore:
    return await storage.session_stores.create_store(SessionStoreCreateRequest(session_id=SESSION))


async def _take_the_lane(store: SqliteSessionStore, name: str) -> SessionExecutionLeaseFence:
    owner = LeaseOwnerIdentity(owner_id=name, incarnation_id="1", liveness=local_process_liveness())
    outcome = await store.try_claim_session_execution_lease(SESSION, owner, TTL_MS)
    if isinstance(outcome, LeaseBusy):
        outcome = await store.reclaim_session_execution_lease(
            SESSION, owner, outcome.holder.fence(), TTL_MS
        )
    assert isinstance(outcome, LeaseAcquired)
    return outcome.lease.fence()


async def _done(store: SqliteSessionStore) -> dict[str, int]:
    read = await store.load_session(FullGraph())
    nodes = () if read is None else read.nodes
    return dict(
        Counter(
            key
            for node in nodes
            if node.conversation is not None
            for key in node.conversation.message.text.split()
        )
    )


async def _damage(storage: SqliteStorage) -> list[str]:
    rows = await storage.session_stores._scope.database.read(
        lambda db: db.execute("PRAGMA integrity_check").fetchall()
    )
    return [text for (text,) in rows if text != "ok"]


def _a_message(node_id: str, under: str | None, text: str) -> GraphAppend:
    message = text_message(f"m-{node_id}", MessageRole.ASSISTANT, text)
    node = SessionNodeRecord(
        node_id=node_id,
        parent_node_id=under,
        timestamp="2025-06-15T15:06:40.000Z",
        payload=ConversationRecord.of(message),
    )
    return GraphAppend(nodes=(node,), leaf_node_id=node_id)


def _wake(key: str) -> QueuedWorkBatchDraft:
    wake = ProcessWakeDelivery(
        wake_id=key,
        target_session_id=SESSION,
        target_scope_id="scope",
        process_id="p",
        sequence=1,
        dedupe_key=key,
        input=None,
        created_at_ms=0,
    )
    return QueuedWorkBatchDraft(
        session_id=SESSION,
        payloads=(ProcessWakePayload(wake=wake),),
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.JOIN,
        source_key=key,
    )


def _said(key: str) -> PendingTurnInputDraft:
    return PendingTurnInputDraft(
        session_id=SESSION, ingress=NextTurnIngress(), input=TurnInput.text(key), source_key=key
    )
