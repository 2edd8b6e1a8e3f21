"""The queued work of one session: batches from their enqueueing to the commit that did them.

What a claim takes is decided by the queue rules; this file keeps the rows that they judge.
"""

from collections.abc import Iterator, Sequence

from ...kernel.queue_rules import leads_with_a_command, queue_claim_id, turn_work_prefix
from ...model.records import replace
from ...ports.claims import QueuedWorkCompletion
from ...ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from ...ports.queued_work import (
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
)
from ...ports.store_errors import QueuedWorkClaimExpired, StoreBackendError
from ..lane import Lane
from ._claims import ClaimableRow, ClaimableRows, ClaimMark

WorkRow = ClaimableRow[QueuedWorkBatch]


class WorkQueue:
    """The batches of one session. `numbers` is shared by all sessions of the storage."""

    __slots__ = ("_keys", "_lane", "_numbers", "_rows", "_session_id")

    def __init__(self, session_id: str, lane: Lane, numbers: Iterator[int]) -> None:
        self._session_id = session_id
        self._lane = lane
        self._numbers = numbers
        self._rows: ClaimableRows[QueuedWorkBatch] = ClaimableRows()
        self._keys: dict[str, WorkRow] = {}

    def enqueue(
        self, draft: QueuedWorkBatchDraft, *, batch_id: str, now_ms: int
    ) -> QueuedWorkBatch:
        if draft.work_class is None:
            raise StoreBackendError(
                f"a batch for session {self._session_id!r} holds no payload, or session commands "
                "together with turn work: enqueue each kind in a batch of its own"
            )
        known = None if draft.source_key is None else self._keys.get(draft.source_key)
        if known is not None:
            return known.value
        batch = QueuedWorkBatch.of(
            draft, batch_id=batch_id, enqueue_seq=next(self._numbers), enqueued_at_ms=now_ms
        )
        row = self._rows.add(batch_id, batch)
        if draft.source_key is not None:
            self._keys[draft.source_key] = row
        return batch

    def command_leads(self, now_ms: int) -> bool:
        return leads_with_a_command(row.value for row in self._ready(now_ms))

    def claim_command(
        self,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> QueuedWorkClaim | None:
        generation = self._lane.require(fence, now_ms).fencing_token
        if not self.command_leads(now_ms):
            return None
        ready = self._ready(now_ms)
        return self._claim(
            (next(ready),), owner, generation, now_ms=now_ms, ttl_ms=ttl_ms, token=token
        )

    def claim_work(
        self,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        most: int,
        *,
        only: Sequence[str] | None = None,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> QueuedWorkClaim | None:
        """The next group; with `only`, `None` unless it is exactly those batches, in order."""
        if most < 1:
            return None
        generation = self._lane.require(fence, now_ms).fencing_token
        count = turn_work_prefix((row.value for row in self._ready(now_ms)), boundary, most)
        ready = self._ready(now_ms)
        rows = tuple(next(ready) for _ in range(count))
        if not rows or (only is not None and [row.key for row in rows] != list(only)):
            return None
        return self._claim(rows, owner, generation, now_ms=now_ms, ttl_ms=ttl_ms, token=token)

    def renew(self, claim: QueuedWorkClaim, *, now_ms: int, ttl_ms: int) -> QueuedWorkClaim:
        rows = self._rows.owned(claim.claim_id, claim.lease_token)
        live = self._lane.live_generation(now_ms)
        if len(rows) != len(claim.batches) or not all(row.is_held(live) for row in rows):
            raise QueuedWorkClaimExpired(session_id=self._session_id, claim_id=claim.claim_id)
        self._rows.renew(rows, now_ms + ttl_ms)
        return replace(claim, expires_at_epoch_ms=now_ms + ttl_ms)

    def abandon(self, claim: QueuedWorkClaim) -> None:
        for row in self._rows.owned(claim.claim_id, claim.lease_token):
            self._rows.free(row)

    def cancel(self, batch_id: str, now_ms: int) -> QueuedWorkBatch | None:
        row = self._rows.get(batch_id)
        if row is None or row.is_held(self._lane.live_generation(now_ms)):
            return None
        self._remove(row)
        return row.value

    def listed(self) -> list[QueuedWorkBatch]:
        return [row.value for row in self._rows]

    def pending(self, now_ms: int) -> list[QueuedWorkBatch]:
        live = self._lane.live_generation(now_ms)
        return [row.value for row in self._rows if not row.is_held(live)]

    def check_owned(self, completion: QueuedWorkCompletion, generation: int) -> None:
        """Raise `QueuedWorkClaimExpired` unless the claim owns what it names, and no more.

        It has to be a claim of that generation of the lane, the one that commits.
        """
        rows = self._rows.owned(completion.claim_id, completion.lease_token)
        if (
            completion.session_id != self._session_id
            or not rows
            or {row.key for row in rows} != set(completion.batch_ids)
            or not all(row.is_held(generation) for row in rows)
        ):
            raise QueuedWorkClaimExpired(session_id=self._session_id, claim_id=completion.claim_id)

    def complete(self, completion: QueuedWorkCompletion) -> None:
        for row in self._rows.owned(completion.claim_id, completion.lease_token):
            self._remove(row)

    def clear(self) -> None:
        for row in tuple(self._rows):
            self._remove(row)

    def _claim(
        self,
        rows: Sequence[WorkRow],
        owner: LeaseOwnerIdentity,
        generation: int,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> QueuedWorkClaim:
        head = rows[0]
        fencing_token = head.fencing_token + 1
        mark = ClaimMark(
            claim_id=queue_claim_id(head.value.enqueue_seq, fencing_token),
            token=token,
            owner=owner,
            generation=generation,
            expires_at_ms=now_ms + ttl_ms,
        )
        self._rows.take(rows, mark)
        return QueuedWorkClaim(
            session_id=self._session_id,
            claim_id=mark.claim_id,
            owner=owner,
            lease_token=token,
            fencing_token=fencing_token,
            claimed_at_epoch_ms=now_ms,
            expires_at_epoch_ms=mark.expires_at_ms,
            batches=tuple(row.value for row in rows),
        )

    def _ready(self, now_ms: int) -> Iterator[WorkRow]:
        """What a claim may take, in order."""
        live = self._lane.live_generation(now_ms)
        for row in self._rows:
            if row.value.available_at_ms <= now_ms and not row.is_held(live):
                yield row

    def _remove(self, row: WorkRow) -> None:
        self._rows.remove(row)
        if row.value.source_key is not None:
            del self._keys[row.value.source_key]
