"""The rows of each session's turns. A row that is settled has lost its input and never moves.

All rows of a session are of one generation: those of an earlier one went with it.
"""

import json
import sqlite3
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from ...kernel.turn_cancels import cancel_verdict, stands_against
from ...kernel.turn_states import IllegalTurnMove, check_settlement, discarded
from ...model.cancelling import CancelRequest, CancelVerdict
from ...model.policy import SessionPolicy
from ...model.records import replace
from ...model.turn_input import TurnInput
from ...ports.signals import SignalKind
from ...ports.store_errors import StoreBackendError, TurnCancelRequested
from ...ports.turn_ledger import (
    EffectSummary,
    RequiredWiring,
    StoredTurnOptions,
    TurnAcceptance,
    TurnCancelAnswer,
    TurnFailure,
    TurnResultRecord,
    TurnRow,
    TurnSettlement,
    TurnState,
    cancelled_before_start,
)
from . import _journal, _outbox, _sessions
from ._records import decode, decode_as, decode_member

_MEMBERS: Final = TypeAdapter(tuple[str, ...])
_EFFECTS: Final = TypeAdapter(tuple[EffectSummary, ...])

_COLUMNS: Final = """
           generation, turn_id, seq, state, content_hash, turn_index, base_revision,
           options_json, required_wiring_json, members_json, input_json, policy_json,
           fencing_token, journaled, attempt, deaths, accepted_at_ms, settled_at_ms, result_json,
           failure_json, effects_json, cancel_request_json
"""
LOAD: Final = f"""
    SELECT {_COLUMNS}
      FROM turns
     WHERE session_id = ? AND turn_id = ?
"""  # noqa: S608 - made of constants
LOAD_UNFINISHED: Final = f"""
    SELECT {_COLUMNS}
      FROM turns
     WHERE session_id = ? AND settled_at_ms IS NULL
     ORDER BY seq
"""  # noqa: S608 - made of constants
LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM turns WHERE session_id = ?"
INSERT: Final = """
    INSERT INTO turns
           (session_id, generation, turn_id, seq, state, content_hash, turn_index, base_revision,
            options_json, required_wiring_json, members_json, input_json, policy_json,
            fencing_token, journaled, accepted_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
LOAD_LIFE: Final = """
    SELECT state, fencing_token, journaled, cancel_request_json
      FROM turns
     WHERE session_id = ? AND turn_id = ?
"""
SETTLE: Final = """
    UPDATE turns
       SET state = ?, input_json = NULL, policy_json = NULL, settled_at_ms = ?, result_json = ?,
           failure_json = ?, effects_json = ?
     WHERE session_id = ? AND turn_id = ?
"""
ADOPT: Final = """
    UPDATE turns
       SET state = :state, fencing_token = :fencing_token, attempt = attempt + 1,
           deaths = CASE WHEN records < 0        THEN deaths
                         WHEN records = :records THEN deaths + 1
                         ELSE 1
                    END,
           records = :records
     WHERE session_id = :session_id AND turn_id = :turn_id
 RETURNING attempt, deaths
"""
LEAVE: Final = """
    UPDATE turns
       SET deaths = CASE WHEN records = :records THEN deaths ELSE 0 END,
           records = -1 - :records
     WHERE session_id = :session_id AND turn_id = :turn_id AND fencing_token = :fencing_token
       AND settled_at_ms IS NULL
"""
"""`records` below zero is the mark of a turn that was left: nobody has died in it."""
REQUEST_CANCEL: Final = """
    UPDATE turns
       SET cancel_request_json = ?
     WHERE session_id = ? AND turn_id = ?
"""
CANCEL_REQUEST_UNDER: Final = """
    SELECT cancel_request_json
      FROM turns
     WHERE session_id = ? AND settled_at_ms IS NULL
       AND fencing_token = ? AND cancel_request_json IS NOT NULL
     ORDER BY seq
     LIMIT 1
"""


def load(db: sqlite3.Connection, session_id: str, turn_id: str) -> TurnRow | None:
    row = db.execute(LOAD, (session_id, turn_id)).fetchone()
    return None if row is None else _row(session_id, row)


def unfinished(db: sqlite3.Connection, session_id: str) -> tuple[TurnRow, ...]:
    """In the order in which they were accepted."""
    rows = db.execute(LOAD_UNFINISHED, (session_id,)).fetchall()
    return tuple(_row(session_id, row) for row in rows)


def start(
    db: sqlite3.Connection,
    acceptance: TurnAcceptance,
    *,
    policy_json: str | None,
    turn_index: int,
    base_revision: int | None,
    fencing_token: int,
    now_ms: int,
) -> TurnRow:
    last: int = db.execute(LAST_SEQ, (acceptance.session_id,)).fetchone()[0]
    row = TurnRow(
        session_id=acceptance.session_id,
        generation=_sessions.generation_of(db, acceptance.session_id),
        turn_id=acceptance.turn_id,
        seq=last + 1,
        state=TurnState.RUNNING,
        content_hash=acceptance.content_hash,
        turn_index=turn_index,
        base_revision=base_revision,
        options=acceptance.options,
        required_wiring=acceptance.required_wiring,
        members=(acceptance.turn_id,),
        input=acceptance.input,
        fencing_token=fencing_token,
        accepted_at_ms=now_ms,
        policy=acceptance.policy,
        journaled=acceptance.journaled,
    )
    db.execute(
        INSERT,
        (
            row.session_id,
            row.generation,
            row.turn_id,
            row.seq,
            row.state.value,
            row.content_hash,
            row.turn_index,
            row.base_revision,
            row.options.model_dump_json(),
            row.required_wiring.model_dump_json(),
            json.dumps(row.members, ensure_ascii=False),
            acceptance.input.model_dump_json(),
            policy_json,
            row.fencing_token,
            row.journaled,
            row.accepted_at_ms,
        ),
    )
    _outbox.tell(db, SignalKind.TURN_ACCEPTED, row.session_id, row.turn_id)
    return row


def is_settled(db: sqlite3.Connection, session_id: str, turn_id: str) -> bool:
    row = db.execute(LOAD_LIFE, (session_id, turn_id)).fetchone()
    return row is not None and _state(row[0]).is_settled


def settle(
    db: sqlite3.Connection,
    session_id: str,
    settlement: TurnSettlement,
    *,
    fencing_token: int,
    now_ms: int,
) -> None:
    """Raises `StoreBackendError` where the row does not exist or may not move so, and
    `TurnCancelRequested` where it is to be cancelled."""
    turn_id = settlement.turn_id
    row = db.execute(LOAD_LIFE, (session_id, turn_id)).fetchone()
    if row is None:
        raise StoreBackendError(f"session {session_id!r} has no turn {turn_id!r} to settle")
    state, started_under, journaled, asked = row
    try:
        check_settlement(
            _state(state),
            settlement.state,
            started_under=started_under,
            fencing_token=fencing_token,
        )
    except IllegalTurnMove as error:
        raise StoreBackendError(f"turn {turn_id!r}: {error}") from error
    if asked is not None and stands_against(settlement.state, settlement.outcome):
        raise TurnCancelRequested(
            session_id=session_id, turn_id=turn_id, request=_cancel_request(asked)
        )
    db.execute(
        SETTLE,
        (
            settlement.state.value,
            now_ms,
            _json(settlement.result),
            _json(settlement.failure),
            _effects_json(settlement.effects),
            session_id,
            turn_id,
        ),
    )
    if journaled:
        _journal.remove(db, session_id, turn_id)
    _outbox.tell(db, SignalKind.TURN_SETTLED, session_id, turn_id)


def adopt(db: sqlite3.Connection, session_id: str, turn_id: str, fencing_token: int) -> TurnRow:
    """Make a journaled turn that an earlier lease has started the holder's of this one.

    Raises `StoreBackendError` for one that is not there to be adopted.
    """
    row = load(db, session_id, turn_id)
    if row is None or not row.state.is_started or not row.journaled:
        what = "is none" if row is None else f"is {row.state.value}"
        raise StoreBackendError(f"turn {turn_id!r} {what} that could be gone on with")
    given = {
        "state": TurnState.RUNNING.value,
        "fencing_token": fencing_token,
        "records": _journal.recorded(db, session_id, turn_id),
        "session_id": session_id,
        "turn_id": turn_id,
    }
    attempt, deaths = db.execute(ADOPT, given).fetchone()
    return replace(
        row,
        state=TurnState.RUNNING,
        fencing_token=fencing_token,
        attempt=attempt,
        deaths=deaths,
    )


def leave(db: sqlite3.Connection, session_id: str, turn_id: str, fencing_token: int) -> None:
    """Whoever runs the turn stops to, and has not died: whoever adopts it counts no death."""
    given = {
        "records": _journal.recorded(db, session_id, turn_id),
        "session_id": session_id,
        "turn_id": turn_id,
        "fencing_token": fencing_token,
    }
    db.execute(LEAVE, given)
    _outbox.tell(db, SignalKind.TURN_LEFT, session_id, turn_id)


def check_running(
    db: sqlite3.Connection, session_id: str, turn_id: str, fencing_token: int
) -> CancelRequest | None:
    """The request to cancel that the turn has. Raises `StoreBackendError` unless it runs under this
    very lease."""
    row = db.execute(LOAD_LIFE, (session_id, turn_id)).fetchone()
    if row is None or _state(row[0]) is not TurnState.RUNNING or row[1] != fencing_token:
        raise StoreBackendError(f"turn {turn_id!r} does not run under lease {fencing_token}")
    return None if row[3] is None else _cancel_request(row[3])


def request_cancel(
    db: sqlite3.Connection, session_id: str, turn_id: str, request: CancelRequest
) -> TurnCancelAnswer:
    row = load(db, session_id, turn_id)
    if row is None:
        return TurnCancelAnswer(CancelVerdict.UNKNOWN_TURN)
    first = row.cancel_request
    verdict = cancel_verdict(row.state, row.outcome, asked_before=first is not None)
    if row.state.is_settled or first is not None:
        return TurnCancelAnswer(verdict, first)
    db.execute(REQUEST_CANCEL, (_json(request), session_id, turn_id))
    if row.state is TurnState.ACCEPTED:
        now_ms, result = request.requested_at_ms, _json(cancelled_before_start(request))
        db.execute(
            SETTLE, (TurnState.CANCELLED.value, now_ms, result, None, None, session_id, turn_id)
        )
        _outbox.tell(db, SignalKind.TURN_SETTLED, session_id, turn_id)
    else:
        _outbox.tell(db, SignalKind.TURN_CANCEL_REQUESTED, session_id, turn_id)
    return TurnCancelAnswer(verdict, request)


def cancel_request_under(
    db: sqlite3.Connection, session_id: str, fencing_token: int
) -> CancelRequest | None:
    """What was asked of the turn that runs under that lease."""
    row = db.execute(CANCEL_REQUEST_UNDER, (session_id, fencing_token)).fetchone()
    return None if row is None else _cancel_request(row[0])


def discard_unfinished(db: sqlite3.Connection, session_id: str, now_ms: int) -> None:
    for row in unfinished(db, session_id):
        state = discarded(row.state).value
        db.execute(SETTLE, (state, now_ms, None, None, None, session_id, row.turn_id))
        _outbox.tell(db, SignalKind.TURN_SETTLED, session_id, row.turn_id)
    _journal.remove_all(db, session_id)


def started(rows: tuple[TurnRow, ...]) -> tuple[TurnRow, ...]:
    return tuple(row for row in rows if row.state.is_started)


def _json(value: BaseModel | None) -> str | None:
    return None if value is None else value.model_dump_json()


def _effects_json(effects: tuple[EffectSummary, ...]) -> str | None:
    return _EFFECTS.dump_json(effects).decode() if effects else None


def _cancel_request(text: str) -> CancelRequest:
    return decode(CancelRequest, text, kind="turn's cancel request")


def _state(text: str) -> TurnState:
    return decode_member(TurnState, text, kind="turn's state")


def _row(session_id: str, row: tuple[Any, ...]) -> TurnRow:
    (
        generation,
        turn_id,
        seq,
        state,
        content_hash,
        turn_index,
        base_revision,
        options,
        wiring,
        members,
        given,
        policy,
        fencing_token,
        journaled,
        attempt,
        deaths,
        accepted_at_ms,
        settled_at_ms,
        result,
        failure,
        effects,
        cancel_request,
    ) = row
    return TurnRow(
        session_id=session_id,
        generation=generation,
        turn_id=turn_id,
        seq=seq,
        state=_state(state),
        content_hash=content_hash,
        turn_index=turn_index,
        base_revision=base_revision,
        options=decode(StoredTurnOptions, options, kind="turn's options"),
        required_wiring=decode(RequiredWiring, wiring, kind="turn's wiring"),
        members=decode_as(_MEMBERS, members, kind="turn's members"),
        input=None if given is None else decode(TurnInput, given, kind="turn's input"),
        fencing_token=fencing_token,
        accepted_at_ms=accepted_at_ms,
        policy=None if policy is None else decode(SessionPolicy, policy, kind="turn's policy"),
        journaled=bool(journaled),
        attempt=attempt,
        deaths=deaths,
        settled_at_ms=settled_at_ms,
        result=None if result is None else decode(TurnResultRecord, result, kind="turn's result"),
        failure=None if failure is None else decode(TurnFailure, failure, kind="turn's failure"),
        effects=() if effects is None else decode_as(_EFFECTS, effects, kind="turn's effects"),
        cancel_request=None if cancel_request is None else _cancel_request(cancel_request),
    )
