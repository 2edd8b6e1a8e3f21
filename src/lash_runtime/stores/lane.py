"""The lane of one session: its lease, and the counter that outlives every lease.

Every decision is made by the lease rules; this file keeps the lease that they judge.
"""

from ..kernel.lease_rules import (
    ClaimVerdict,
    LaneHolder,
    LaneProof,
    backs_a_write,
    claim_verdict,
    expiry_on_reentry,
    may_release,
    reclaim_verdict,
)
from ..ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseFence,
)
from ..ports.store_errors import SessionExecutionLeaseExpired
from .local_process import proven_dead


class Lane:
    """One session's lane. `counter` never falls: not when the session is emptied, and not when
    it is deleted, for the lane of whatever comes after goes on from it.

    A store that keeps its lanes elsewhere too overrides `_acquired`, `_extended` and `_freed`.
    """

    __slots__ = ("_counter", "_lease", "_session_id")

    def __init__(self, session_id: str, counter: int = 0) -> None:
        self._session_id = session_id
        self._counter = counter
        self._lease: SessionExecutionLease | None = None

    @property
    def counter(self) -> int:
        """The number of the latest lease."""
        return self._counter

    @property
    def lease(self) -> SessionExecutionLease | None:
        """The lease that is on the lane, lapsed or not."""
        return self._lease

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
            self.clear()

    def clear(self) -> None:
        """Free the lane, whoever holds it. The counter stays, so its lease is worth nothing."""
        self._lease = None
        self._freed()

    def require(
        self, fence: SessionExecutionLeaseFence | None, now_ms: int
    ) -> SessionExecutionLease:
        """The live lease that `fence` proves, or `SessionExecutionLeaseExpired`."""
        held = self._lease
        if held is None or not self.is_backed_by(fence, now_ms):
            raise SessionExecutionLeaseExpired(session_id=self._session_id)
        return held

    def is_backed_by(self, fence: SessionExecutionLeaseFence | None, now_ms: int) -> bool:
        """Whether `fence` proves the live lease."""
        return (
            fence is not None
            and fence.session_id == self._session_id
            and backs_a_write(self._holder(), _proof(fence), now_ms)
        )

    def live_generation(self, now_ms: int) -> int | None:
        """The counter of the live lease; `None` while the lane is open."""
        held = self._lease
        return None if held is None or held.lapsed(now_ms) else held.fencing_token

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
        lease = SessionExecutionLease(
            session_id=self._session_id,
            owner=owner,
            lease_token=token,
            fencing_token=self._counter,
            claimed_at_epoch_ms=now_ms,
            expires_at_epoch_ms=expires_at_ms,
        )
        self._acquired(lease)
        self._lease = lease
        return lease

    def _extend(self, held: SessionExecutionLease, expires_at_ms: int) -> SessionExecutionLease:
        lease = SessionExecutionLease(
            session_id=held.session_id,
            owner=held.owner,
            lease_token=held.lease_token,
            fencing_token=held.fencing_token,
            claimed_at_epoch_ms=held.claimed_at_epoch_ms,
            expires_at_epoch_ms=expires_at_ms,
        )
        self._extended(lease)
        self._lease = lease
        return lease

    def _acquired(self, lease: SessionExecutionLease) -> None:
        """Called before `lease` takes the lane."""

    def _extended(self, lease: SessionExecutionLease) -> None:
        """Called before `lease` replaces the same one with an earlier end."""

    def _freed(self) -> None:
        """Called when the lane has no lease any more."""

    def _holder(self) -> LaneHolder | None:
        held = self._lease
        if held is None:
            return None
        return LaneHolder(_proof(held.fence()), held.expires_at_epoch_ms)


def _proof(fence: SessionExecutionLeaseFence) -> LaneProof:
    return LaneProof(
        fence.owner.owner_id, fence.owner.incarnation_id, fence.lease_token, fence.fencing_token
    )
