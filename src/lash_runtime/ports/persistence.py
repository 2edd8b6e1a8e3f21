"""`RuntimePersistence`: everything that a session store can do, in segments.

Each segment is what one caller needs. Turns need `TurnPersistence`, which has a module of its
own; queues, inputs and maintenance are for the callers that use them. What its methods say of
cancellation and concurrency holds here too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..model.checkpoints import CheckpointKind
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
    """Input that waits. Claims need the live fence of the session."""

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        """Raises `PendingTurnInputSourceKeyConflict` when the key names other content."""
        ...

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]: ...

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome: ...

    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]:
        """All in one transaction, one result for each target, in order."""
        ...

    async def cancel_pending_turn_input_suffix(
        self, session_id: str, anchor: PendingTurnInputCancelTarget
    ) -> PendingTurnInputSuffixCancelOutcome: ...

    async def claim_turn_input(
        self, session_id: str, session_execution_lease: SessionExecutionLeaseFence, input_id: str
    ) -> TurnInputClaim | None: ...

    async def claim_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        turn_id: str,
        checkpoint: CheckpointKind,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None: ...

    async def claim_next_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None:
        """Take the oldest waiting inputs for the turn about to start; `None` when none wait.

        `max_inputs` is a cap, not a target. Two callers never receive the same input.
        """
        ...

    async def renew_turn_input_claim(
        self, claim: TurnInputClaim, lease_ttl_ms: int
    ) -> TurnInputClaim: ...

    async def abandon_turn_input_claim(self, claim: TurnInputClaim) -> None: ...

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int: ...


class QueuedWorkStore(Protocol):
    """Work that waits. Claims need the live fence of the session."""

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch: ...

    async def claim_leading_ready_session_command(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
    ) -> QueuedWorkClaim | None: ...

    async def claim_ready_queued_work(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        max_batches: int,
    ) -> QueuedWorkClaim | None: ...

    async def claim_ready_queued_work_by_batch_ids(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None: ...

    async def renew_queued_work_claim(
        self, claim: QueuedWorkClaim, lease_ttl_ms: int
    ) -> QueuedWorkClaim: ...

    async def abandon_queued_work_claim(self, claim: QueuedWorkClaim) -> None: ...

    async def cancel_queued_work_batch(
        self, session_id: str, batch_id: str
    ) -> QueuedWorkBatch | None: ...

    async def list_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]: ...

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumReport:
    removed_node_count: int
    removed_pending_turn_input_tombstone_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    root_count: int
    retained_blob_count: int
    deleted_blob_count: int


class StoreMaintenance(Protocol):
    """What an operator may do to a store, at a time of the host's choosing."""

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None: ...

    async def vacuum(self) -> VacuumReport: ...

    async def gc_unreachable(self) -> GcReport: ...


class RuntimePersistence(
    TurnPersistence, TurnInputStore, QueuedWorkStore, StoreMaintenance, Protocol
):
    """The whole surface of a session store."""
