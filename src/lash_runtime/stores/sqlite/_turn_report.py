"""What a turn did, effect by effect, as far as the database says: while it runs and afterwards."""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from ...ports.turn_ledger import TurnRow
from . import _journal, _turns

SESSIONS_OF: Final = """
    SELECT turns.session_id
      FROM turns
      JOIN sessions ON sessions.session_id = turns.session_id
     WHERE turn_id = ? AND deleted_at_ms IS NULL
     ORDER BY turns.session_id
"""


def sessions_of(db: sqlite3.Connection, turn_id: str) -> tuple[str, ...]:
    """The sessions that have a turn of that id. Reads every turn: nobody waits for this."""
    return tuple(session_id for (session_id,) in db.execute(SESSIONS_OF, (turn_id,)))


def report(db: sqlite3.Connection, session_id: str, turn_id: str) -> dict[str, Any] | None:
    """The turn and its effects as JSON data; `None` where there is no such turn.

    Of what was asked and answered it says nothing: that is in the transcript, and may be secret.
    """
    row = _turns.load(db, session_id, turn_id)
    if row is None:
        return None
    facts: dict[str, Any] = {
        "session_id": session_id,
        "turn_id": turn_id,
        "state": row.state.value,
        "accepted_at_ms": row.accepted_at_ms,
        "settled_at_ms": row.settled_at_ms,
        "journaled": row.journaled,
        "attempt": row.attempt,
        "deaths": row.deaths,
    }
    if row.result is not None:
        facts["outcome"] = row.result.outcome.model_dump(mode="json")
        facts["issues"] = [issue.code or issue.kind for issue in row.result.issues]
    if row.failure is not None:
        facts["failure"] = row.failure.model_dump(mode="json")
    if row.cancel_request is not None:
        facts["cancel_request"] = row.cancel_request.model_dump(mode="json")
    facts["effects"] = list(_effects(db, row))
    return facts


def _effects(db: sqlite3.Connection, row: TurnRow) -> Iterator[dict[str, Any]]:
    """In the order in which they were first put on record."""
    for summary in row.effects:
        yield {
            "key": summary.key,
            "kind": summary.kind.value,
            "subject": summary.subject,
            "runs": summary.runs,
            "recorded": summary.recorded,
        }
    shared = f"{row.session_id}:{row.turn_id}:{row.turn_index}:"
    for entry in _journal.load(db, row.session_id, row.turn_id):
        yield {
            "key": entry.effect.replay_key.removeprefix(shared),
            "kind": entry.effect.kind.value,
            "subject": entry.effect.subject,
            "runs": entry.runs,
            "recorded": entry.outcome is not None,
        }
