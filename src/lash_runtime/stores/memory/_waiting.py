"""What waits for a session, in memory: the store's calls on inputs and on queued work.

Each is one synchronous step on the book of the session that it names.
"""

from collections.abc import Sequence

from ...model.checkpoints import CheckpointKind
from ...ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from ...ports.queued_work import (
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
)
from ...ports.turn_inputs import (
    InputIdTarget,
    PendingTurnInput,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    PendingTurnInputSuffixCancelOutcome,
    TurnInputClaim,
)
from ._inputs import PendingInputs
from ._library import SessionLibrary
from ._work import WorkQueue


class MemoryTurnInputs:
    """The `TurnInputStore` of a library."""

    _library: SessionLibrary

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        book, now_ms = self._library.book(draft.session_id), self._library.now_ms()
        stored = book.inputs.enqueue(
            draft,
            input_id=f"ti:{self._library.token()}" if draft.input_id is None else draft.input_id,
            now_ms=now_ms,
        )
        book.attachments.commit((ref.id for ref in draft.input.attachments()), now_ms)
        return stored

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]:
        return self._inputs(session_id).pending(self._library.now_ms())

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        target = InputIdTarget(value=input_id)
        return self._inputs(session_id).cancel(target, self._library.now_ms())

    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]:
        inputs, now_ms = self._inputs(session_id), self._library.now_ms()
        return [
            PendingTurnInputCancelResult(target, inputs.cancel(target, now_ms))
            for target in targets
        ]

    async def cancel_pending_turn_input_suffix(
        self, session_id: str, anchor: PendingTurnInputCancelTarget
    ) -> PendingTurnInputSuffixCancelOutcome:
        return self._inputs(session_id).cancel_suffix(anchor, self._library.now_ms())

    async def claim_turn_input(
        self, session_id: str, session_execution_lease: SessionExecutionLeaseFence, input_id: str
    ) -> TurnInputClaim | None:
        return self._inputs(session_id).claim_one(
            session_execution_lease,
            input_id,
            now_ms=self._library.now_ms(),
            token=self._library.token(),
        )

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
        return self._inputs(session_id).claim_active(
            session_execution_lease,
            owner,
            turn_id,
            checkpoint,
            max_inputs,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def claim_next_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None:
        return self._inputs(session_id).claim_next(
            session_execution_lease,
            owner,
            max_inputs,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def renew_turn_input_claim(
        self, claim: TurnInputClaim, lease_ttl_ms: int
    ) -> TurnInputClaim:
        return self._inputs(claim.session_id).renew(
            claim, now_ms=self._library.now_ms(), ttl_ms=lease_ttl_ms
        )

    async def abandon_turn_input_claim(self, claim: TurnInputClaim) -> None:
        self._inputs(claim.session_id).abandon(claim)

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int:
        return self._inputs(session_id).defer_orphans(
            session_execution_lease, resumable_turn_id, self._library.now_ms()
        )

    def _inputs(self, session_id: str) -> PendingInputs:
        return self._library.book(session_id).inputs


class MemoryQueuedWork:
    """The `QueuedWorkStore` of a library."""

    _library: SessionLibrary

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        return self._work(draft.session_id).enqueue(
            draft, batch_id=f"qwb:{self._library.token()}", now_ms=self._library.now_ms()
        )

    async def claim_leading_ready_session_command(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
    ) -> QueuedWorkClaim | None:
        return self._work(session_id).claim_command(
            session_execution_lease,
            owner,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def claim_ready_queued_work(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        max_batches: int,
    ) -> QueuedWorkClaim | None:
        return self._work(session_id).claim_work(
            session_execution_lease,
            owner,
            boundary,
            max_batches,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def claim_ready_queued_work_by_batch_ids(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None:
        return self._work(session_id).claim_work(
            session_execution_lease,
            owner,
            boundary,
            len(batch_ids),
            only=batch_ids,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def renew_queued_work_claim(
        self, claim: QueuedWorkClaim, lease_ttl_ms: int
    ) -> QueuedWorkClaim:
        return self._work(claim.session_id).renew(
            claim, now_ms=self._library.now_ms(), ttl_ms=lease_ttl_ms
        )

    async def abandon_queued_work_claim(self, claim: QueuedWorkClaim) -> None:
        self._work(claim.session_id).abandon(claim)

    async def cancel_queued_work_batch(
        self, session_id: str, batch_id: str
    ) -> QueuedWorkBatch | None:
        return self._work(session_id).cancel(batch_id, self._library.now_ms())

    async def list_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        return self._work(session_id).listed()

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        return self._work(session_id).pending(self._library.now_ms())

    def _work(self, session_id: str) -> WorkQueue:
        return self._library.book(session_id).work
