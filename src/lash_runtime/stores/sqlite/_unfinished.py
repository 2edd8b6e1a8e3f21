"""The unfinished turns of all sessions, with what is on their lanes. An index holds just them."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from ...ports.turn_ledger import RequiredWiring, StoredUnfinishedTurn, TurnState
from ._leases import StoredLane
from ._records import decode, decode_member

PAGE: Final = """
    SELECT session_id, seq, turn_id, state, journaled, attempt, accepted_at_ms,
           required_wiring_json
      FROM turns
     WHERE settled_at_ms IS NULL
       AND (session_id, seq) > (?, ?)
       AND session_id IN (SELECT session_id FROM sessions WHERE deleted_at_ms IS NULL)
     ORDER BY session_id, seq
     LIMIT ?
"""


def page(
    db: sqlite3.Connection, after: StoredUnfinishedTurn | None, limit: int
) -> Sequence[StoredUnfinishedTurn]:
    start = ("", 0) if after is None else (after.session_id, after.seq)
    rows = db.execute(PAGE, (*start, limit)).fetchall()
    return [
        StoredUnfinishedTurn(
            session_id=session_id,
            seq=seq,
            turn_id=turn_id,
            state=decode_member(TurnState, state, kind="turn's state"),
            journaled=bool(journaled),
            attempt=attempt,
            accepted_at_ms=accepted_at_ms,
            required_wiring=decode(RequiredWiring, wiring, kind="turn's wiring"),
            lease=StoredLane(db, session_id).lease,
        )
        for session_id, seq, turn_id, state, journaled, attempt, accepted_at_ms, wiring in rows
    ]
