"""The lane of each session: its lease row, whose counter outlives every lease.

Every decision is made by the lease rules; this file reads the row that they judge and writes
what they decide, in the transaction of the caller.
"""

import sqlite3
from typing import Final

from pydantic import TypeAdapter

from ...kernel.lease_rules import (
    ClaimVerdict,
    LaneHolder,
    LaneProof,
    backs_a_write,
    claim_verdict,
    expiry_on_reentry,
    may_release,
    reclaim_verdict,
)
from ...ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    LeaseOwnerLiveness,
    SessionExecutionLease,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseFence,
)
from ...ports.store_errors import SessionExecutionLeaseExpired
from ..local_process import proven_dead
from ._records import decode_as

LOAD: Final = """
    SELECT owner_id, owner_incarnation_id, owner_liveness_json, lease_token, fencing_token,
           claimed_at_ms, expires_at_ms
      FROM session_execution_leases
     WHERE session_id = ?
"""
SAVE: Final = """
    INSERT INTO session_execution_leases
           (session_id, owner_id, owner_incarnation_id, owner_liveness_json, lease_token,
            fencing_token, claimed_at_ms, expires_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (session_id) DO UPDATE
       SET owner_id = excluded.owner_id,
           owner_incarnation_id = excluded.owner_incarnation_id,
           owner_liveness_json = excluded.owner_liveness_json,
           lease_token = excluded.lease_token, fencing_token = excluded.fencing_token,
           claimed_at_ms = excluded.claimed_at_ms, expires_at_ms = excluded.expires_at_ms
"""
EXTEND: Final = """
    UPDATE session_execution_leases SET expires_at_ms = ?
     WHERE session_id = ?
"""
FREE: Final = """
    UPDATE session_execution_leases SET lease_token = NULL
     WHERE session_id = ?
"""

_LIVENESS: Final[TypeAdapter[LeaseOwnerLiveness]] = TypeAdapter(LeaseOwnerLiveness)


class Lane:
    """One session's lane, as this transaction finds it. `counter` is 0 before the first lease."""

    __slots__ = ("_counter", "_db", "_lease", "_session_id")

    def __init__(self, db: sqlite3.Connection, session_id: str) -> None:
        self._db = db
        self._session_id = session_id
        self._counter = 0
        self._lease: SessionExecutionLease | None = None
        row = db.execute(LOAD, (session_id,)).fetchone()
        if row is None:
            return
        owner_id, incarnation_id, liveness, token, self._counter, claimed_at, expires_at = row
        if token is not None:
            self._lease = SessionExecutionLease(
                session_id=session_id,
                owner=LeaseOwnerIdentity(
                    owner_id=owner_id,
                    incarnation_id=incarnation_id,
                    liveness=decode_as(_LIVENESS, liveness, kind="lease owner"),
                ),
                lease_token=token,
                fencing_token=self._counter,
                claimed_at_epoch_ms=claimed_at,
                expires_at_epoch_ms=expires_at,
            )

    def claim(
        self, owner: LeaseOwnerIdentity, *, now_ms: int, ttl_ms: int, token: str
    ) -> SessionExecutionLeaseClaimOutcome:
        verdict = claim_verdict(
            self._holder(),
            owner_id=owner.owner_id,
            incarnation_id=owner.incarnation_id,
            now_ms=now_ms,
        )
        return self._apply(verdict, owner, now_ms=now_ms, ttl_ms=ttl_ms, token=token)

    def reclaim(
        self,
        owner: LeaseOwnerIdentity,
        observed: SessionExecutionLeaseFence,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> SessionExecutionLeaseClaimOutcome:
        held = self._lease
        verdict = reclaim_verdict(
            self._holder(),
            _proof(observed),
            now_ms=now_ms,
            # The holder's own facts decide, not what the caller says it observed.
            is_dead=lambda: (
                held is not None
                and observed.session_id == self._session_id
                and proven_dead(held.owner, owner)
            ),
        )
        return self._apply(verdict, owner, now_ms=now_ms, ttl_ms=ttl_ms, token=token)

    def renew(
        self, fence: SessionExecutionLeaseFence, *, now_ms: int, ttl_ms: int
    ) -> SessionExecutionLease:
        return self._extend(self.require(fence, now_ms), now_ms + ttl_ms)

    def release(self, completion: SessionExecutionLeaseFence) -> None:
        if completion.session_id == self._session_id and may_release(
            self._holder(), _proof(completion)
        ):
            self._db.execute(FREE, (self._session_id,))
            self._lease = None

    def clear(self) -> None:
        """Free the lane, whoever holds it. The counter stays, so its lease is worth nothing."""
        self._db.execute(FREE, (self._session_id,))
        self._lease = None

    def live_generation(self, now_ms: int) -> int | None:
        """The counter of the live lease; `None` while the lane is open."""
        held = self._lease
        return None if held is None or held.lapsed(now_ms) else held.fencing_token

    def require(
        self, fence: SessionExecutionLeaseFence | None, now_ms: int
    ) -> SessionExecutionLease:
        """The live lease that `fence` proves, or `SessionExecutionLeaseExpired`."""
        held = self._lease
        if (
            held is None
            or fence is None
            or fence.session_id != self._session_id
            or not backs_a_write(self._holder(), _proof(fence), now_ms)
        ):
            raise SessionExecutionLeaseExpired(session_id=self._session_id)
        return held

    def _apply(
        self,
        verdict: ClaimVerdict,
        owner: LeaseOwnerIdentity,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> SessionExecutionLeaseClaimOutcome:
        held = self._lease
        if held is None or verdict is ClaimVerdict.ACQUIRE:
            return LeaseAcquired(self._acquire(owner, now_ms, now_ms + ttl_ms, token))
        if verdict is ClaimVerdict.BUSY:
            return LeaseBusy(held)
        expiry = expiry_on_reentry(held.expires_at_epoch_ms, now_ms, ttl_ms)
        return LeaseAcquired(self._extend(held, expiry))

    def _acquire(
        self, owner: LeaseOwnerIdentity, now_ms: int, expires_at_ms: int, token: str
    ) -> SessionExecutionLease:
        self._counter += 1
        self._lease = SessionExecutionLease(
            session_id=self._session_id,
            owner=owner,
            lease_token=token,
            fencing_token=self._counter,
            claimed_at_epoch_ms=now_ms,
            expires_at_epoch_ms=expires_at_ms,
        )
        self._db.execute(
            SAVE,
            (
                self._session_id,
                owner.owner_id,
                owner.incarnation_id,
                owner.liveness.model_dump_json(),
                token,
                self._counter,
                now_ms,
                expires_at_ms,
            ),
        )
        return self._lease

    def _extend(self, held: SessionExecutionLease, expires_at_ms: int) -> SessionExecutionLease:
        self._db.execute(EXTEND, (expires_at_ms, self._session_id))
        self._lease = SessionExecutionLease(
            session_id=held.session_id,
            owner=held.owner,
            lease_token=held.lease_token,
            fencing_token=held.fencing_token,
            claimed_at_epoch_ms=held.claimed_at_epoch_ms,
            expires_at_epoch_ms=expires_at_ms,
        )
        return self._lease

    def _holder(self) -> LaneHolder | None:
        held = self._lease
        if held is None:
            return None
        return LaneHolder(_proof(held.fence()), held.expires_at_epoch_ms)


def _proof(fence: SessionExecutionLeaseFence) -> LaneProof:
    return LaneProof(
        fence.owner.owner_id, fence.owner.incarnation_id, fence.lease_token, fence.fencing_token
    )
