"""What waits for a session: the store's calls on inputs and on queued work.

Each is one transaction body on the rows of the session that it names. A listing reads the lane
and the rows in one snapshot, so it never shows what is held as free.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from ...model.checkpoints import CheckpointKind
from ...model.records import replace
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
from . import _manifest, _queue, _sessions, _turn_input_cancelling, _turn_input_claims, _turn_inputs
from ._claims import Claimant, live_generation
from ._scope import StorageScope
from ._session_database import SessionDatabase

T = TypeVar("T")

MOST_ROWS = 2**31
"""No claim takes more. SQLite cannot even be asked for more than 2**63."""


class _Segment:
    """What both segments need of the store that they are part of."""

    __slots__ = ("_database", "_scope")

    def __init__(self, scope: StorageScope, database: SessionDatabase) -> None:
        self._scope = scope
        self._database = database

    def _now_ms(self) -> int:
        return self._scope.clock.timestamp_ms()

    async def _enqueue(self, session_id: str, insert: Callable[[sqlite3.Connection, int], T]) -> T:
        """Nothing is enqueued for a session that was deleted."""

        def body(db: sqlite3.Connection) -> T:
            _sessions.generation_of(db, session_id)
            return insert(db, self._now_ms())

        return await self._database.write(body)

    async def _claim(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        take: Callable[[sqlite3.Connection, Claimant], T],
        owner: LeaseOwnerIdentity | None = None,
        ttl_ms: int | None = None,
    ) -> T:
        token = self._scope.ids.hex()

        def body(db: sqlite3.Connection) -> T:
            claimant = Claimant.under(
                db,
                session_id,
                fence,
                token=token,
                now_ms=self._now_ms(),
                owner=owner,
                ttl_ms=ttl_ms,
            )
            return take(db, claimant)

        return await self._database.write(body)

    def _judging(
        self, session_id: str, judge: Callable[[sqlite3.Connection, int], T]
    ) -> Callable[[sqlite3.Connection], T]:
        """A body that is given the generation of the session's live lease."""

        def body(db: sqlite3.Connection) -> T:
            return judge(db, live_generation(db, session_id, self._now_ms()))

        return body


class SqliteTurnInputs(_Segment):
    """The `TurnInputStore`."""

    __slots__ = ()

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        input_id = f"ti:{self._scope.ids.hex()}" if draft.input_id is None else draft.input_id

        def insert(db: sqlite3.Connection, now_ms: int) -> PendingTurnInput:
            stored = _turn_inputs.enqueue(db, draft, input_id=input_id, now_ms=now_ms)
            images = (ref.id for ref in draft.input.attachments())
            _manifest.commit(db, draft.session_id, images, now_ms)
            return stored

        return await self._enqueue(draft.session_id, insert)

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]:
        def judge(db: sqlite3.Connection, live: int) -> Sequence[PendingTurnInput]:
            return _turn_inputs.pending(db, session_id, live)

        return await self._database.read(self._judging(session_id, judge))

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        results = await self.cancel_pending_turn_inputs(
            session_id, (InputIdTarget(value=input_id),)
        )
        return results[0].outcome

    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]:
        def judge(db: sqlite3.Connection, live: int) -> Sequence[PendingTurnInputCancelResult]:
            return _turn_input_cancelling.cancel_many(db, session_id, targets, live)

        return await self._database.write(self._judging(session_id, judge))

    async def cancel_pending_turn_input_suffix(
        self, session_id: str, anchor: PendingTurnInputCancelTarget
    ) -> PendingTurnInputSuffixCancelOutcome:
        def judge(db: sqlite3.Connection, live: int) -> PendingTurnInputSuffixCancelOutcome:
            return _turn_input_cancelling.cancel_suffix(db, session_id, anchor, live)

        return await self._database.write(self._judging(session_id, judge))

    async def claim_turn_input(
        self, session_id: str, session_execution_lease: SessionExecutionLeaseFence, input_id: str
    ) -> TurnInputClaim | None:
        def take(db: sqlite3.Connection, claimant: Claimant) -> TurnInputClaim | None:
            return _turn_input_claims.claim_one(db, session_id, input_id, claimant)

        return await self._claim(session_id, session_execution_lease, take)

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
        if max_inputs < 1:
            return None
        most = min(max_inputs, MOST_ROWS)

        def take(db: sqlite3.Connection, claimant: Claimant) -> TurnInputClaim | None:
            return _turn_input_claims.claim_for_turn(
                db, session_id, turn_id, checkpoint, most, claimant
            )

        return await self._claim(session_id, session_execution_lease, take, owner, lease_ttl_ms)

    async def claim_next_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
        max_inputs: int,
    ) -> TurnInputClaim | None:
        if max_inputs < 1:
            return None
        most = min(max_inputs, MOST_ROWS)

        def take(db: sqlite3.Connection, claimant: Claimant) -> TurnInputClaim | None:
            return _turn_input_claims.claim_for_next_turn(db, session_id, most, claimant)

        return await self._claim(session_id, session_execution_lease, take, owner, lease_ttl_ms)

    async def renew_turn_input_claim(
        self, claim: TurnInputClaim, lease_ttl_ms: int
    ) -> TurnInputClaim:
        def judge(db: sqlite3.Connection, live: int) -> TurnInputClaim:
            expires_at_ms = self._now_ms() + lease_ttl_ms
            _turn_input_claims.renew(db, claim, live_generation=live, expires_at_ms=expires_at_ms)
            return replace(claim, expires_at_epoch_ms=expires_at_ms)

        return await self._database.write(self._judging(claim.session_id, judge))

    async def abandon_turn_input_claim(self, claim: TurnInputClaim) -> None:
        await self._database.write(partial(_turn_input_claims.abandon, claim=claim))

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int:
        def defer(db: sqlite3.Connection, claimant: Claimant) -> int:
            return _turn_inputs.defer_orphans(
                db,
                session_id,
                live_generation=claimant.generation,
                resumable_turn_id=resumable_turn_id,
                now_ms=claimant.now_ms,
            )

        return await self._claim(session_id, session_execution_lease, defer)


class SqliteQueuedWork(_Segment):
    """The `QueuedWorkStore`."""

    __slots__ = ()

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        batch_id = f"qwb:{self._scope.ids.hex()}"

        def insert(db: sqlite3.Connection, now_ms: int) -> QueuedWorkBatch:
            return _queue.enqueue(db, draft, batch_id=batch_id, now_ms=now_ms)

        return await self._enqueue(draft.session_id, insert)

    async def claim_leading_ready_session_command(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
    ) -> QueuedWorkClaim | None:
        def take(db: sqlite3.Connection, claimant: Claimant) -> QueuedWorkClaim | None:
            return _queue.claim_command(db, session_id, claimant)

        return await self._claim(session_id, session_execution_lease, take, owner, lease_ttl_ms)

    async def claim_ready_queued_work(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        max_batches: int,
    ) -> QueuedWorkClaim | None:
        if max_batches < 1:
            return None

        def take(db: sqlite3.Connection, claimant: Claimant) -> QueuedWorkClaim | None:
            return _queue.claim_turn_work(db, session_id, boundary, max_batches, claimant)

        return await self._claim(session_id, session_execution_lease, take, owner, lease_ttl_ms)

    async def claim_ready_queued_work_by_batch_ids(
        self,
        session_id: str,
        session_execution_lease: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None:
        if not batch_ids:
            return None
        exactly = tuple(batch_ids)

        def take(db: sqlite3.Connection, claimant: Claimant) -> QueuedWorkClaim | None:
            return _queue.claim_turn_work(db, session_id, boundary, len(exactly), claimant, exactly)

        return await self._claim(session_id, session_execution_lease, take, owner, lease_ttl_ms)

    async def renew_queued_work_claim(
        self, claim: QueuedWorkClaim, lease_ttl_ms: int
    ) -> QueuedWorkClaim:
        def judge(db: sqlite3.Connection, live: int) -> QueuedWorkClaim:
            expires_at_ms = self._now_ms() + lease_ttl_ms
            _queue.renew(db, claim, live_generation=live, expires_at_ms=expires_at_ms)
            return replace(claim, expires_at_epoch_ms=expires_at_ms)

        return await self._database.write(self._judging(claim.session_id, judge))

    async def abandon_queued_work_claim(self, claim: QueuedWorkClaim) -> None:
        await self._database.write(partial(_queue.abandon, claim=claim))

    async def cancel_queued_work_batch(
        self, session_id: str, batch_id: str
    ) -> QueuedWorkBatch | None:
        def judge(db: sqlite3.Connection, live: int) -> QueuedWorkBatch | None:
            return _queue.cancel(db, session_id, batch_id, live)

        return await self._database.write(self._judging(session_id, judge))

    async def list_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        return await self._database.read(partial(_queue.all_of, session_id=session_id))

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        def judge(db: sqlite3.Connection, live: int) -> Sequence[QueuedWorkBatch]:
            return _queue.unheld(db, session_id, live)

        return await self._database.read(self._judging(session_id, judge))
