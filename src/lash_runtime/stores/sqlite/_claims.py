"""The claim that a waiting row carries, in the columns that batches and inputs share.

A row is held while the lease that backed its claim is the live one of its lane. That lease is
kept as its fencing token, so that a row is free the moment the lane is, without being touched.
"""

import sqlite3
from typing import Any, Final, Self

from ...model.records import dataclass
from ...ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from ._leases import StoredLane

NOBODY: Final = 0
"""Stands for the live lease of an open lane: no fencing token is 0."""

UNHELD: Final = "claim_generation IS NOT ?"
"""With the fencing token of the lane's live lease, or `NOBODY`."""

HOLD: Final = """
           claim_id = ?, claim_token = ?, claim_generation = ?, claim_owner_json = ?,
           claim_expires_at_ms = ?, claim_fencing_token = claim_fencing_token + 1
"""
FREE: Final = """
           claim_id = NULL, claim_token = NULL, claim_generation = NULL,
           claim_owner_json = NULL, claim_expires_at_ms = NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who claims, under which lease, from when to when. `token` makes the claim its own."""

    owner: LeaseOwnerIdentity
    generation: int
    token: str
    now_ms: int
    expires_at_ms: int

    @classmethod
    def under(
        cls,
        db: sqlite3.Connection,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        *,
        token: str,
        now_ms: int,
        owner: LeaseOwnerIdentity | None = None,
        ttl_ms: int | None = None,
    ) -> Self:
        """A claimant whose fence is the live one; owner and expiry are the lease's unless given.

        Raises `SessionExecutionLeaseExpired`.
        """
        lease = StoredLane(db, session_id).require(fence, now_ms)
        return cls(
            owner=lease.owner if owner is None else owner,
            generation=lease.fencing_token,
            token=token,
            now_ms=now_ms,
            expires_at_ms=lease.expires_at_epoch_ms if ttl_ms is None else now_ms + ttl_ms,
        )

    def columns(self, claim_id: str) -> tuple[Any, ...]:
        """The values of `HOLD`."""
        return (
            claim_id,
            self.token,
            self.generation,
            self.owner.model_dump_json(),
            self.expires_at_ms,
        )


def live_generation(db: sqlite3.Connection, session_id: str, now_ms: int) -> int:
    """The fencing token of the lane's live lease, or `NOBODY`."""
    return StoredLane(db, session_id).live_generation(now_ms) or NOBODY
