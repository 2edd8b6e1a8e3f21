"""The lane of each session as its row, whose counter outlives every lease.

Read when a lane is made and written as it changes, in the transaction of the caller.
"""

import sqlite3
from functools import lru_cache
from typing import Final

from pydantic import TypeAdapter

from ...ports.leases import LeaseOwnerIdentity, LeaseOwnerLiveness, SessionExecutionLease
from ...ports.signals import SignalKind
from ..lane import Lane
from . import _outbox
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


class StoredLane(Lane):
    """One session's lane, as this transaction finds it. `counter` is 0 before the first lease."""

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection, session_id: str) -> None:
        super().__init__(session_id)
        self._db = db
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
                    liveness=_decoded(liveness),
                ),
                lease_token=token,
                fencing_token=self._counter,
                claimed_at_epoch_ms=claimed_at,
                expires_at_epoch_ms=expires_at,
            )

    def _acquired(self, lease: SessionExecutionLease) -> None:
        owner = lease.owner
        self._db.execute(
            SAVE,
            (
                lease.session_id,
                owner.owner_id,
                owner.incarnation_id,
                owner.liveness.model_dump_json(),
                lease.lease_token,
                lease.fencing_token,
                lease.claimed_at_epoch_ms,
                lease.expires_at_epoch_ms,
            ),
        )

    def _extended(self, lease: SessionExecutionLease) -> None:
        self._db.execute(EXTEND, (lease.expires_at_epoch_ms, lease.session_id))

    def _freed(self) -> None:
        self._db.execute(FREE, (self._session_id,))
        _outbox.tell(self._db, SignalKind.LANE_FREE, self._session_id)


@lru_cache(maxsize=64)  # nearly all leases of a database are those of one process
def _decoded(liveness: str) -> LeaseOwnerLiveness:
    return decode_as(_LIVENESS, liveness, kind="lease owner")
