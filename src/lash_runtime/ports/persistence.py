"""`RuntimePersistence`: everything that a session store can do, in segments.

Each segment is what one caller needs. The runtime's turns need `TurnPersistence`; queues,
inputs and maintenance are for the callers that use them.

Cancellation, for every method: the call happened or it did not, and the store stays usable.
Concurrency, for every method: safe to call from several tasks of the loop that opened it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..model.checkpoints import CheckpointKind
from ..model.nodes import SessionNodeRecord
from ..model.session_meta import SessionMeta
from .attachments import AttachmentManifest
from .commit import RuntimeCommit, RuntimeCommitResult
from .durability import DurabilityTier
from .leases import (
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseCompletion,
    SessionExecutionLeaseFence,
)
from .queued_work import (
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
)
from .session_state import HeadStamp, PersistedSessionRead, SessionReadScope
from .turn_inputs import (
    PendingTurnInput,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    PendingTurnInputSuffixCancelOutcome,
    TurnInputClaim,
)
from .turn_ledger import TurnAcceptance, TurnAcceptanceOutcome, TurnRow, TurnSettlement


class SessionCommitStore(Protocol):
    """Reading a session and committing its head."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        """The session as of one instant; `None` until its first commit.

        Raises `StoreBackendError` when a row cannot be decoded or a referenced blob is missing.
        """
        ...

    async def load_head_stamp(self) -> HeadStamp | None:
        """The head's revision, leaf and checkpoint ref, without any node."""
        ...

    async def load_node(self, node_id: str) -> SessionNodeRecord | None:
        """One node, also off the active path; `None` if absent or tombstoned."""
        ...

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        """Write everything in `commit`, or nothing.

        Checks, in the order that decides which error wins: binding
        (`SessionBindingMismatch`), stamp (a repeated stamp with the same hash answers the
        stored result and writes nothing but the lease release; another hash is
        `RuntimeTurnCommitConflict`), lease (`SessionExecutionLeaseExpired`), head revision
        (`HeadRevisionConflict`), queue claims, input claims.
        """
        ...

    async def save_session_meta(self, meta: SessionMeta) -> None:
        """Overwrite the whole record."""
        ...

    async def load_session_meta(self) -> SessionMeta | None: ...


class SessionExecutionLeaseStore(Protocol):
    """One writer per session, kept by a lease whose fencing token only ever rises."""

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        """Take a free or lapsed lane, or extend one's own; never probes a busy holder.

        Re-entry keeps both tokens and the claim time, and never shortens the lease.
        """
        ...

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome:
        """Take the lane from `observed_holder` if it still holds it and is provably dead."""
        ...

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> SessionExecutionLease:
        """Extend to `lease_ttl_ms` from now; the claim time and both tokens stay.

        Raises `SessionExecutionLeaseExpired` unless owner, token and counter match a live row.
        """
        ...

    async def release_session_execution_lease(
        self, completion: SessionExecutionLeaseCompletion
    ) -> None:
        """Free the lane if it is still this one's; otherwise nothing."""
        ...


class TurnLedgerStore(Protocol):
    """The rows of accepted turns."""

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        """Write the turn's row and take the lane, in one transaction.

        Raises `TurnContentConflict` when the turn id is known with other content. A lane held
        by another live owner, also by another incarnation of the same owner, is refused and
        leaves no row.
        """
        ...

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None: ...

    async def list_unfinished_turns(self, session_id: str) -> Sequence[TurnRow]:
        """Rows that are not settled, in the order in which they were accepted."""
        ...

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: TurnSettlement, *, release: bool
    ) -> None:
        """Settle a row without a commit, and release the lane in the same transaction if asked.

        Raises `SessionExecutionLeaseExpired` when `fence` is not the live one. Settling a row
        that is already settled changes nothing.
        """
        ...


class TurnPersistence(
    SessionCommitStore, SessionExecutionLeaseStore, TurnLedgerStore, AttachmentManifest, Protocol
):
    """What a turn needs of a store."""


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
