"""`RuntimePersistence`: everything that a session store can do, in segments.

Each segment is what one caller needs. Turns need `TurnPersistence`, which has a module of its
own; queues, inputs and maintenance are for the callers that use them. What its methods say of
cancellation and concurrency holds here too.
"""

from collections.abc import Sequence
from typing import Protocol

from ..model.checkpoints import CheckpointKind
from ..model.records import dataclass
from .leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from .queued_work import (
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
)
from .turn_inputs import (
    PendingTurnInput,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    PendingTurnInputSuffixCancelOutcome,
    TurnInputClaim,
)
from .turn_persistence import TurnPersistence


class TurnInputStore(Protocol):
    """Input that waits, by the session id that each call names.

    An input is *held* while its claim's lease is the live one of its lane. A call that claims
    needs the live fence of the session; the claim's `owner` may be another than the lease's.
    """

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        """Store an input, or return the one that its source key names, in whatever state.

        Raises `PendingTurnInputSourceKeyConflict` when the key names other content, compared
        with what was submitted and not with what deferral made of it. The key is bound until
        vacuum removes the input. Raises `StoreBackendError` when the session has another input
        of the same `input_id`. Without one, the id is opaque. The session keeps the attachments
        that the input names. Needs no lease.
        """
        ...

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]:
        """Pending and deferred inputs that are not held, in the order of enqueueing."""
        ...

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        """Cancel an input that is not held. An accepted one is claimed, held or not."""
        ...

    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]:
        """All in one transaction, one result for each target, in order.

        A target that is named twice is `InputAlreadyCancelled` the second time.
        """
        ...

    async def cancel_pending_turn_input_suffix(
        self, session_id: str, anchor: PendingTurnInputCancelTarget
    ) -> PendingTurnInputSuffixCancelOutcome:
        """Cancel the anchor and every input of the session that was enqueued after it.

        One transaction. There is an outcome for each, also for those that are over or claimed.
        An anchor that does not exist changes nothing.
        """
        ...

    async def claim_turn_input(
        self, session_id: str, session_execution_lease: SessionExecutionLeaseFence, input_id: str
    ) -> TurnInputClaim | None:
        """Take this one deferred input for the turn about to start, wherever it stands.

        The owner and the expiry are those of the lease. `None` when it is not deferred or held.
        """
        ...

    async def claim_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        turn_id: str,
        checkpoint: CheckpointKind,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None:
        """Take the oldest pending inputs of `turn_id` that `checkpoint` admits; all are accepted.

        `None` when there are none. A `max_inputs` of 0 gives `None` and checks nothing.
        Raises `SessionExecutionLeaseExpired` when the fence is not the live one.
        """
        ...

    async def claim_next_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None:
        """Take the oldest deferred inputs for the turn about to start; `None` when none wait.

        Their state stays, so that a claim which ends without a commit leaves no trace.
        `max_inputs` is a cap, not a target; 0 gives `None` and checks nothing. Two callers never
        receive the same input. Raises `SessionExecutionLeaseExpired` when the fence is not the
        live one.
        """
        ...

    async def renew_turn_input_claim(
        self, claim: TurnInputClaim, lease_ttl_ms: int
    ) -> TurnInputClaim:
        """Promise to be done by `lease_ttl_ms` from now; overdue or not.

        Raises `TurnInputClaimExpired` unless the claim still owns all its inputs under a live
        lease.
        """
        ...

    async def abandon_turn_input_claim(self, claim: TurnInputClaim) -> None:
        """Free what the claim still owns: an accepted input is pending again. Never an error."""
        ...

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int:
        """Turn the inputs of turns that will not run again to the next turn; says how many.

        These are pending inputs older than `ORPHAN_GRACE_MS` and accepted ones of any age that
        are not held, except those of `resumable_turn_id` or its frames. Raises
        `SessionExecutionLeaseExpired` when the fence is not the live one.
        """
        ...


class QueuedWorkStore(Protocol):
    """Work that waits, by the session id that each call names.

    A batch is *held* while its claim's lease is the live one of its lane. A call that claims
    needs the live fence of the session; the claim's `owner` may be another than the lease's.
    The *ready* batches are those that are available and not held, in the order of enqueueing:
    the others are passed over and block nothing.
    """

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        """Store a batch, or return the one that its source key names, whatever the payload.

        A key is free again once its batch is completed or cancelled. Raises `StoreBackendError`
        for a batch of no payloads or of more than one class. Needs no lease.
        """
        ...

    async def claim_leading_ready_session_command(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
    ) -> QueuedWorkClaim | None:
        """Take the first ready batch if it is a session command; always exactly one.

        Raises `SessionExecutionLeaseExpired` when the fence is not the live one.
        """
        ...

    async def claim_ready_queued_work(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        max_batches: int,
    ) -> QueuedWorkClaim | None:
        """Take the first ready batch of turn work, and those that join it.

        `None` when a command leads, or when the first batch waits for the end of the turn and
        `boundary` is a checkpoint. An exclusive batch is taken alone. A joining one takes along
        the ready batches right behind it that also join, with the same delivery and merge key.
        `max_batches` of 0 gives `None` and checks nothing. Raises
        `SessionExecutionLeaseExpired` when the fence is not the live one.
        """
        ...

    async def claim_ready_queued_work_by_batch_ids(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None:
        """The same, if that would take exactly these batches in this order; otherwise nothing.

        So a caller can take what is next in line, never something from the middle. No ids give
        `None` and check nothing.
        """
        ...

    async def renew_queued_work_claim(
        self, claim: QueuedWorkClaim, lease_ttl_ms: int
    ) -> QueuedWorkClaim:
        """Promise to be done by `lease_ttl_ms` from now; overdue or not.

        Raises `QueuedWorkClaimExpired` unless the claim still owns all its batches under a live
        lease.
        """
        ...

    async def abandon_queued_work_claim(self, claim: QueuedWorkClaim) -> None:
        """Free what the claim still owns. Never an error."""
        ...

    async def cancel_queued_work_batch(
        self, session_id: str, batch_id: str
    ) -> QueuedWorkBatch | None:
        """Remove and return a batch that is not held.

        `None` for one that is, and for an unknown one: it is being worked on, or is done.
        """
        ...

    async def list_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        """Every batch of the session, held or not, in the order of enqueueing."""
        ...

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        """The same without those that are held; not yet available ones are among them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumReport:
    """What one call has removed."""

    removed_node_count: int
    removed_pending_turn_input_tombstone_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """Refs that were followed, and blobs that are still there or were removed by one call."""

    root_count: int
    retained_blob_count: int
    deleted_blob_count: int


class StoreMaintenance(Protocol):
    """Upkeep of one session, at a time of the host's choosing. Needs no lease.

    Concurrency: others read and commit meanwhile, and wait for no longer than a slice of it takes.
    Cancellation, for every method: what is done stays done, and the next call does the rest.
    """

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        """Hide nodes from every read. Ids that no node has are passed over.

        Allowed on the active path, which then ends where a node is missing: a leaf that is
        hidden dangles. A hidden node that is appended again with its own content is back.
        """
        ...

    async def vacuum(self) -> VacuumReport:
        """Remove hidden nodes, and inputs that are cancelled or completed, with their source keys.

        Rows of turns and stamps of commits stay: they answer what is submitted again.
        """
        ...

    async def gc_unreachable(self) -> GcReport:
        """Remove blobs that neither the head nor a frame refers to.

        Raises `StoreBackendError`, and removes nothing, where a root cannot be followed. A store
        that keeps no such blobs reports zeros.
        """
        ...


class RuntimePersistence(
    TurnPersistence, TurnInputStore, QueuedWorkStore, StoreMaintenance, Protocol
):
    """The whole surface of a session store."""
