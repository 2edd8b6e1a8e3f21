"""Input that waits for a session, as far as a commit moves it.

A completion names exactly the inputs that its claim still owns. Whether the claim is overdue
does not matter: one that nobody took over still completes.
"""

import sqlite3
from typing import Final

from ...ports.claims import TurnInputCompletion
from ...ports.store_errors import TurnInputClaimExpired
from ...ports.turn_inputs import TurnInputState

OWNED: Final = """
    SELECT input_id
      FROM pending_turn_inputs
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""
COMPLETE: Final = """
    UPDATE pending_turn_inputs
       SET state = ?, claim_id = NULL, claim_token = NULL, claim_owner_id = NULL,
           claim_owner_incarnation_id = NULL, claim_owner_liveness_json = NULL,
           claim_expires_at_ms = 0
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""
DEFER: Final = """
    UPDATE pending_turn_inputs
       SET state = ?, ingress_turn_id = NULL, ingress_min_boundary = NULL,
           claim_id = NULL, claim_token = NULL, claim_owner_id = NULL,
           claim_owner_incarnation_id = NULL, claim_owner_liveness_json = NULL,
           claim_expires_at_ms = 0
     WHERE session_id = ? AND state = ? AND ingress_turn_id = ?
"""
CANCEL_WAITING: Final = """
    UPDATE pending_turn_inputs
       SET state = ?, claim_id = NULL, claim_token = NULL, claim_owner_id = NULL,
           claim_owner_incarnation_id = NULL, claim_owner_liveness_json = NULL,
           claim_expires_at_ms = 0
     WHERE session_id = ? AND state IN (?, ?, ?)
"""


def check_owned(db: sqlite3.Connection, session_id: str, completion: TurnInputCompletion) -> None:
    """Raise `TurnInputClaimExpired` unless the claim owns what it names, and nothing more."""
    claim = (session_id, completion.claim_id, completion.lease_token)
    owned = {row[0] for row in db.execute(OWNED, claim)}
    if completion.session_id != session_id or not owned or owned != set(completion.input_ids):
        raise TurnInputClaimExpired(session_id=session_id, claim_id=completion.claim_id)


def complete(db: sqlite3.Connection, session_id: str, completion: TurnInputCompletion) -> None:
    claim = (session_id, completion.claim_id, completion.lease_token)
    db.execute(COMPLETE, (TurnInputState.COMPLETED.value, *claim))


def defer(db: sqlite3.Connection, session_id: str, turn_id: str) -> None:
    """What waited for that turn and was not taken waits for the next one."""
    db.execute(
        DEFER,
        (
            TurnInputState.DEFERRED_NEXT_TURN.value,
            session_id,
            TurnInputState.PENDING_ACTIVE.value,
            turn_id,
        ),
    )


def cancel_waiting(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(
        CANCEL_WAITING,
        (
            TurnInputState.CANCELLED.value,
            session_id,
            TurnInputState.PENDING_ACTIVE.value,
            TurnInputState.DEFERRED_NEXT_TURN.value,
            TurnInputState.ACCEPTED.value,
        ),
    )
