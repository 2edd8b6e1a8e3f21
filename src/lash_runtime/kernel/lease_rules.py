"""Fencing: who may write to a session, decided from one lease row.

Rule 1: every comparison of tokens, owners or expiry is made here, so that all stores agree.
Rule 2: no clock, no SQL and no look at processes; the caller passes what it knows and applies
the verdict in its own transaction.
Rule 3: the counter of a lane only ever rises. A free lane keeps it.

A lane is *live* while its token is set and its expiry lies ahead; absent, free and lapsed lanes
are all *open*.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple, Protocol


class LaneProof(NamedTuple):
    """What a caller shows to prove that the lane is its own."""

    owner_id: str
    incarnation_id: str
    lease_token: str
    fencing_token: int


class LaneHolder(NamedTuple):
    """Who a stored lane belongs to, and until when (epoch milliseconds)."""

    proof: LaneProof
    expires_at_ms: int

    def is_live(self, now_ms: int) -> bool:
        return self.expires_at_ms > now_ms


class Lane(Enum):
    """What a claimant finds."""

    OPEN = "open"
    LIVE_OWN = "live_own"
    LIVE_OTHER = "live_other"


class ClaimVerdict(Enum):
    """What a claim does.

    `ACQUIRE` raises the counter and draws a new token; `REENTER` keeps both and the claim time
    and only moves the expiry; `BUSY` changes nothing.
    """

    ACQUIRE = "acquire"
    REENTER = "reenter"
    BUSY = "busy"


CLAIM: Final[Mapping[Lane, ClaimVerdict]] = {
    Lane.OPEN: ClaimVerdict.ACQUIRE,
    Lane.LIVE_OWN: ClaimVerdict.REENTER,
    Lane.LIVE_OTHER: ClaimVerdict.BUSY,
}
"""A plain claim. It never asks whether a holder is alive."""


def lane_as_found(
    holder: LaneHolder | None, *, owner_id: str, incarnation_id: str, now_ms: int
) -> Lane:
    """Owners are told apart by owner id and incarnation id together, never by liveness."""
    if holder is None or not holder.is_live(now_ms):
        return Lane.OPEN
    own = (holder.proof.owner_id, holder.proof.incarnation_id) == (owner_id, incarnation_id)
    return Lane.LIVE_OWN if own else Lane.LIVE_OTHER


def claim_verdict(
    holder: LaneHolder | None, *, owner_id: str, incarnation_id: str, now_ms: int
) -> ClaimVerdict:
    """What a plain claim by that owner does to the lane of `holder`."""
    return CLAIM[
        lane_as_found(holder, owner_id=owner_id, incarnation_id=incarnation_id, now_ms=now_ms)
    ]


def reclaim_verdict(
    holder: LaneHolder | None, observed: LaneProof, *, now_ms: int, is_dead: Callable[[], bool]
) -> ClaimVerdict:
    """Take over from a holder that is provably dead, if it still is the one that was observed.

    `is_dead` is asked last, and only about a live holder that matches: it may read files. Of
    several claimants with one observation, the first raises the counter and so defeats the rest.
    """
    if holder is None or not holder.is_live(now_ms):
        return ClaimVerdict.ACQUIRE
    if holder.proof == observed and is_dead():
        return ClaimVerdict.ACQUIRE
    return ClaimVerdict.BUSY


def backs_a_write(holder: LaneHolder | None, proof: LaneProof, now_ms: int) -> bool:
    """Whether `proof` is that of the live holder: the one condition of every guarded write."""
    return holder is not None and holder.proof == proof and holder.is_live(now_ms)


def may_release(holder: LaneHolder | None, proof: LaneProof) -> bool:
    """Whether a release by `proof` frees the lane. Expiry does not matter, identity does."""
    return holder is not None and holder.proof == proof


def expiry_on_reentry(expires_at_ms: int, now_ms: int, ttl_ms: int) -> int:
    """Re-entry never shortens a lease that was already granted."""
    return max(expires_at_ms, now_ms + ttl_ms)


class ProcessFacts(Protocol):
    """What a process says of itself so that its death can be proven later."""

    @property
    def host_id(self) -> str: ...
    @property
    def boot_id(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def process_start(self) -> str: ...
    @property
    def pid_namespace(self) -> str | None: ...


class ProcessSighting(NamedTuple):
    """What the process table says of a pid right now.

    `start` is `None` when there is no such process. `ended` says that it has exited and only
    waits for its parent to collect it, so that it can never run again.
    """

    start: str | None
    ended: bool = False


def same_process_table(holder: ProcessFacts, claimant: ProcessFacts) -> bool:
    """Whether the claimant's process table can say anything about the holder.

    Two containers may share host and boot, hence the pid namespace.
    """
    return (
        holder.host_id == claimant.host_id
        and holder.boot_id == claimant.boot_id
        and holder.pid_namespace == claimant.pid_namespace
    )


def death_is_proven(
    holder: ProcessFacts, claimant: ProcessFacts, sighting: ProcessSighting | None
) -> bool:
    """Dead if there is no such process, if it has ended, or if the pid was given to another.

    `sighting` is `None` when the table could not be read; anything short of a proof is alive.
    """
    if sighting is None or not same_process_table(holder, claimant):
        return False
    return sighting.ended or sighting.start != holder.process_start
