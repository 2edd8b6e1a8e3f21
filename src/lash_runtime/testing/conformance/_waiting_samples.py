"""Short ways to build what waits for a session, and to claim it."""

from dataclasses import replace
from typing import Any

from ...model.checkpoints import CheckpointKind
from ...model.turn_input import TurnInput
from ...ports.leases import SessionExecutionLease, SessionExecutionLeaseFence
from ...ports.persistence import QueuedWorkStore, TurnInputStore
from ...ports.queued_work import (
    DeliveryPolicy,
    MergeKey,
    ProcessWakeDelivery,
    ProcessWakePayload,
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
    RefreshToolCatalog,
    SessionCommandPayload,
    SlotPolicy,
)
from ...ports.turn_inputs import (
    ActiveTurnIngress,
    NextTurnIngress,
    PendingTurnInputDraft,
    TurnInputCheckpointBoundary,
    TurnInputClaim,
)
from ._samples import TTL_MS

IDLE = QueuedWorkClaimBoundary.IDLE
CHECKPOINT = QueuedWorkClaimBoundary.ACTIVE_TURN_CHECKPOINT
MANY = 64


def a_wake(number: int = 1) -> ProcessWakePayload:
    return ProcessWakePayload(
        wake=ProcessWakeDelivery(
            wake_id=f"w{number}",
            target_session_id="s",
            target_scope_id="root",
            process_id="p",
            sequence=number,
            dedupe_key=f"p:{number}",
            input={"text": f"wake {number} \U0001f9ed", "none": None, "list": [1, 2.5, True]},
            created_at_ms=number,
        )
    )


def a_command(reason: str = "asked") -> SessionCommandPayload:
    return SessionCommandPayload(command=RefreshToolCatalog(reason=reason))


def some_work(
    *payloads: ProcessWakePayload | SessionCommandPayload,
    session_id: str = "s",
    delivery: DeliveryPolicy = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
    slot: SlotPolicy = SlotPolicy.EXCLUSIVE,
    merge: MergeKey = "never",
    key: str | None = None,
    available_at_ms: int = 0,
) -> QueuedWorkBatchDraft:
    """An exclusive wake for the earliest boundary, unless it is said otherwise."""
    return QueuedWorkBatchDraft(
        session_id=session_id,
        payloads=payloads or (a_wake(),),
        delivery_policy=delivery,
        slot_policy=slot,
        merge_key=merge,
        source_key=key,
        available_at_ms=available_at_ms,
    )


def joining(
    merge: MergeKey = "never",
    delivery: DeliveryPolicy = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
    **changes: Any,
) -> QueuedWorkBatchDraft:
    """Turn work that joins what is like it."""
    return some_work(slot=SlotPolicy.JOIN, merge=merge, delivery=delivery, **changes)


def a_queued_command(reason: str = "asked", **changes: Any) -> QueuedWorkBatchDraft:
    """A command as a host submits it."""
    return some_work(
        a_command(reason), delivery=DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT, **changes
    )


async def enqueued(store: QueuedWorkStore, *drafts: QueuedWorkBatchDraft) -> list[QueuedWorkBatch]:
    return [await store.enqueue_queued_work(draft) for draft in drafts]


async def next_work(
    store: QueuedWorkStore,
    lease: SessionExecutionLease,
    boundary: QueuedWorkClaimBoundary = IDLE,
    most: int = MANY,
    ttl_ms: int = TTL_MS,
) -> QueuedWorkClaim | None:
    return await store.claim_ready_queued_work(
        lease.session_id, lease.fence(), lease.owner, boundary, ttl_ms, most
    )


async def claimed_work(
    store: QueuedWorkStore,
    lease: SessionExecutionLease,
    boundary: QueuedWorkClaimBoundary = IDLE,
    most: int = MANY,
    ttl_ms: int = TTL_MS,
) -> QueuedWorkClaim:
    """Claim the next group of turn work, which must be there."""
    claim = await next_work(store, lease, boundary, most, ttl_ms)
    assert claim is not None
    return claim


async def next_command(
    store: QueuedWorkStore, lease: SessionExecutionLease
) -> QueuedWorkClaim | None:
    return await store.claim_leading_ready_session_command(
        lease.session_id, lease.fence(), lease.owner, TTL_MS
    )


def for_next_turn(
    text: str = "hello",
    *,
    input_id: str | None = None,
    key: str | None = None,
    session_id: str = "s",
    said: TurnInput | None = None,
) -> PendingTurnInputDraft:
    return PendingTurnInputDraft(
        session_id=session_id,
        ingress=NextTurnIngress(),
        input=said or TurnInput.text(text),
        input_id=input_id,
        source_key=key,
    )


def for_turn(
    turn_id: str = "t1",
    text: str = "hello",
    *,
    boundary: TurnInputCheckpointBoundary = TurnInputCheckpointBoundary.AFTER_WORK,
    input_id: str | None = None,
    key: str | None = None,
    session_id: str = "s",
    said: TurnInput | None = None,
) -> PendingTurnInputDraft:
    """Input that steers a turn."""
    return PendingTurnInputDraft(
        session_id=session_id,
        ingress=ActiveTurnIngress(turn_id=turn_id, min_boundary=boundary),
        input=said or TurnInput.text(text),
        input_id=input_id,
        source_key=key,
    )


async def submitted(store: TurnInputStore, *drafts: PendingTurnInputDraft) -> list[str]:
    """Enqueue all, in order; their ids."""
    rows = [await store.enqueue_pending_turn_input(draft) for draft in drafts]
    return [row.input_id for row in rows]


async def next_inputs(
    store: TurnInputStore,
    lease: SessionExecutionLease,
    most: int = MANY,
    ttl_ms: int = TTL_MS,
) -> TurnInputClaim | None:
    return await store.claim_next_turn_inputs(
        lease.session_id, lease.fence(), lease.owner, ttl_ms, most
    )


async def claimed_inputs(
    store: TurnInputStore,
    lease: SessionExecutionLease,
    most: int = MANY,
    ttl_ms: int = TTL_MS,
) -> TurnInputClaim:
    """Claim what waits for the next turn, which must be there."""
    claim = await next_inputs(store, lease, most, ttl_ms)
    assert claim is not None
    return claim


async def steering(
    store: TurnInputStore,
    lease: SessionExecutionLease,
    checkpoint: CheckpointKind = CheckpointKind.AFTER_WORK,
    turn_id: str = "t1",
    most: int = MANY,
    ttl_ms: int = TTL_MS,
) -> TurnInputClaim | None:
    """Claim what waits for that turn at a checkpoint."""
    return await store.claim_active_turn_inputs(
        lease.session_id, lease.fence(), lease.owner, turn_id, checkpoint, ttl_ms, most
    )


def ids(claim: TurnInputClaim | QueuedWorkClaim | None) -> list[str]:
    match claim:
        case None:
            return []
        case TurnInputClaim(inputs=inputs):
            return [row.input_id for row in inputs]
        case QueuedWorkClaim(batches=batches):
            return [batch.batch_id for batch in batches]


async def pending_inputs(store: TurnInputStore, session_id: str = "s") -> list[str]:
    return [row.input_id for row in await store.list_pending_turn_inputs(session_id)]


async def pending_work(store: QueuedWorkStore, session_id: str = "s") -> list[str]:
    return [batch.batch_id for batch in await store.list_pending_queued_work(session_id)]


async def all_work(store: QueuedWorkStore, session_id: str = "s") -> list[str]:
    return [batch.batch_id for batch in await store.list_queued_work(session_id)]


def forged(lease: SessionExecutionLease) -> list[SessionExecutionLeaseFence]:
    """Fences that differ from the lease's in one point each."""
    fence = lease.fence()
    return [
        replace(fence, lease_token="forged"),  # noqa: S106
        replace(fence, fencing_token=fence.fencing_token + 1),
        replace(fence, session_id="other"),
        replace(fence, owner=fence.owner.model_copy(update={"incarnation_id": "another"})),
    ]
