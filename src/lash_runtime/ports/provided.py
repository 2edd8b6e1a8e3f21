"""What a session store need not write itself: calls that are made of its other calls.

A base for the stores of a backend. One that can do better overrides them.
"""

from collections.abc import Sequence
from typing import Protocol

from . import composed_acceptance
from .leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from .queued_work import QueuedWorkClaim, QueuedWorkClaimBoundary
from .turn_inputs import (
    InputIdTarget,
    InputNotFound,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
)
from .turn_ledger import TurnAcceptance, TurnAcceptanceOutcome


class _Cancelling(Protocol):
    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]: ...


class _Claiming(Protocol):
    async def claim_ready_queued_work(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        max_batches: int,
    ) -> QueuedWorkClaim | None: ...

    async def abandon_queued_work_claim(self, claim: QueuedWorkClaim) -> None: ...


class ProvidedCalls:
    """`accept_turn`, `cancel_pending_turn_input` and `claim_ready_queued_work_by_batch_ids`.

    They keep what the port says of them, each by several transactions. What an acceptance can leave
    when it is cut off between two of them, and why that harms nobody: `composed_acceptance`.
    Cancellation: a claim that turns out to be of other batches is given back, unless the caller is
    cancelled in between; then it ends with its lease, as any other.
    """

    async def accept_turn(
        self: composed_acceptance.SmallCalls, acceptance: TurnAcceptance
    ) -> TurnAcceptanceOutcome:
        return await composed_acceptance.accept_turn(self, acceptance)

    async def cancel_pending_turn_input(
        self: _Cancelling, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        results = await self.cancel_pending_turn_inputs(session_id, [InputIdTarget(value=input_id)])
        return results[0].outcome if results else InputNotFound()

    async def claim_ready_queued_work_by_batch_ids(
        self: _Claiming,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None:
        if not batch_ids:
            return None
        claim = await self.claim_ready_queued_work(
            session_id, session_execution_lease, owner, boundary, lease_ttl_ms, len(batch_ids)
        )
        if claim is None or [batch.batch_id for batch in claim.batches] == list(batch_ids):
            return claim
        await self.abandon_queued_work_claim(claim)
        return None
