"""Input that waits for a session: its rows, from submission until it is over and beyond.

`ingress_*` say where a row goes now, `submitted_ingress_json` where it was sent. A row that is
over stays as a tombstone, so that its source key still answers a repeated submission.
"""

import sqlite3
from typing import Any, Final

from pydantic import TypeAdapter

from ...kernel.queue_rules import is_orphan
from ...model.records import dataclass
from ...model.turn_input import TurnInput
from ...ports.claims import TurnInputCompletion
from ...ports.store_errors import (
    PendingTurnInputSourceKeyConflict,
    StoreBackendError,
    TurnInputClaimExpired,
)
from ...ports.turn_inputs import (
    ActiveTurnIngress,
    NextTurnIngress,
    PendingTurnInput,
    PendingTurnInputDraft,
    TurnInputCheckpointBoundary,
    TurnInputIngress,
    TurnInputState,
)
from ._claims import FREE, HOLD, UNHELD
from ._records import decode, decode_as, decode_member

_COLUMNS: Final = """
           enqueue_seq, input_id, source_key, ingress_turn_id, ingress_min_boundary, state,
           input_json, enqueued_at_ms, claim_id, claim_generation, claim_owner_json,
           claim_expires_at_ms, claim_fencing_token
"""
LOAD_BY_ID: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND input_id = ?
"""  # noqa: S608 - made of constants
LOAD_BY_KEY: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND source_key = ?
"""  # noqa: S608 - made of constants
LOAD_SUFFIX: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND enqueue_seq >= ?
     ORDER BY enqueue_seq
"""  # noqa: S608 - made of constants
LOAD_UNHELD: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND state IN (?, ?) AND {UNHELD}
     ORDER BY enqueue_seq
"""  # noqa: S608 - made of constants
LOAD_FOR_THE_NEXT_TURN: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND state = ? AND {UNHELD}
     ORDER BY enqueue_seq
     LIMIT ?
"""  # noqa: S608 - made of constants
LOAD_FOR_A_TURN: Final = f"""
    SELECT {_COLUMNS}
      FROM pending_turn_inputs
     WHERE session_id = ? AND state = ? AND {UNHELD}
       AND ingress_turn_id = ? AND ingress_min_boundary IN (?, ?)
     ORDER BY enqueue_seq
     LIMIT ?
"""  # noqa: S608 - made of constants
LOAD_SUBMITTED_INGRESS: Final = """
    SELECT submitted_ingress_json
      FROM pending_turn_inputs
     WHERE enqueue_seq = ?
"""
INSERT: Final = """
    INSERT INTO pending_turn_inputs
           (session_id, input_id, source_key, submitted_ingress_json, ingress_turn_id,
            ingress_min_boundary, state, input_json, enqueued_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
TAKE: Final = f"""
    UPDATE pending_turn_inputs SET {HOLD}, state = ?
     WHERE enqueue_seq = ?
"""  # noqa: S608 - made of constants
RENEW: Final = """
    UPDATE pending_turn_inputs SET claim_expires_at_ms = ?
     WHERE session_id = ? AND claim_id = ? AND claim_token = ? AND claim_generation = ?
"""
LET_GO: Final = f"""
    UPDATE pending_turn_inputs
       SET {FREE}, state = CASE state WHEN ? THEN ? ELSE state END
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""  # noqa: S608 - made of constants
OWNED: Final = """
    SELECT input_id
      FROM pending_turn_inputs
     WHERE session_id = ? AND claim_id = ? AND claim_token = ? AND claim_generation = ?
"""
COMPLETE: Final = f"""
    UPDATE pending_turn_inputs SET {FREE}, state = ?
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""  # noqa: S608 - made of constants
CANCEL: Final = f"""
    UPDATE pending_turn_inputs SET {FREE}, state = ?
     WHERE enqueue_seq = ?
"""  # noqa: S608 - made of constants
CANCEL_WAITING: Final = f"""
    UPDATE pending_turn_inputs SET {FREE}, state = ?
     WHERE session_id = ? AND state IN (?, ?, ?)
"""  # noqa: S608 - made of constants
_TO_THE_NEXT_TURN: Final = f"{FREE}, state = ?, ingress_turn_id = NULL, ingress_min_boundary = NULL"
DEFER: Final = f"""
    UPDATE pending_turn_inputs SET {_TO_THE_NEXT_TURN}
     WHERE session_id = ? AND state = ? AND ingress_turn_id = ?
"""  # noqa: S608 - made of constants
DEFER_ONE: Final = f"""
    UPDATE pending_turn_inputs SET {_TO_THE_NEXT_TURN}
     WHERE enqueue_seq = ?
"""  # noqa: S608 - made of constants
LOAD_OF_TURNS: Final = f"""
    SELECT enqueue_seq, state, ingress_turn_id, enqueued_at_ms
      FROM pending_turn_inputs
     WHERE session_id = ? AND state IN (?, ?) AND {UNHELD}
"""  # noqa: S608 - made of constants

_INGRESS: Final[TypeAdapter[TurnInputIngress]] = TypeAdapter(TurnInputIngress)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRow:
    """A row, with the claim that it carries."""

    value: PendingTurnInput
    claim_id: str | None
    claim_generation: int | None
    claim_owner_json: str | None
    claim_expires_at_ms: int | None
    claim_fencing_token: int


def rows(
    db: sqlite3.Connection, session_id: str, statement: str, *values: object
) -> list[InputRow]:
    """What one of the `LOAD` statements finds in that session."""
    return [_row(session_id, row) for row in db.execute(statement, (session_id, *values))]


def enqueue(
    db: sqlite3.Connection, draft: PendingTurnInputDraft, *, input_id: str, now_ms: int
) -> PendingTurnInput:
    session_id, source_key = draft.session_id, draft.source_key
    if source_key is not None:
        for known in rows(db, session_id, LOAD_BY_KEY, source_key):
            if not draft.repeats(_submitted_ingress(db, known.value), known.value.input):
                raise PendingTurnInputSourceKeyConflict(
                    session_id=session_id,
                    source_key=source_key,
                    existing_input_id=known.value.input_id,
                )
            return known.value
    if rows(db, session_id, LOAD_BY_ID, input_id):
        raise StoreBackendError(
            f"session {session_id!r} already has an input {input_id!r}: use a new id, or a source "
            "key if the same input may be submitted twice"
        )
    seq = db.execute(
        INSERT,
        (
            session_id,
            input_id,
            source_key,
            draft.ingress.model_dump_json(),
            *_where_to(draft.ingress),
            draft.first_state.value,
            draft.input.model_dump_json(),
            now_ms,
        ),
    ).lastrowid
    assert seq is not None  # an INSERT that did not raise has given the row its number
    return PendingTurnInput(
        input_id=input_id,
        session_id=session_id,
        enqueue_seq=seq,
        source_key=source_key,
        ingress=draft.ingress,
        state=draft.first_state,
        enqueued_at_ms=now_ms,
        input=draft.input,
    )


def pending(
    db: sqlite3.Connection, session_id: str, live_generation: int
) -> tuple[PendingTurnInput, ...]:
    waiting = (TurnInputState.PENDING_ACTIVE.value, TurnInputState.DEFERRED_NEXT_TURN.value)
    return tuple(row.value for row in rows(db, session_id, LOAD_UNHELD, *waiting, live_generation))


def check_owned(
    db: sqlite3.Connection, session_id: str, completion: TurnInputCompletion, generation: int
) -> None:
    """Raise `TurnInputClaimExpired` unless the claim owns what it names, and nothing more.

    It must be a claim of that generation of the lane. Whether it is overdue does not matter.
    """
    claim = (session_id, completion.claim_id, completion.lease_token, generation)
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


def defer_orphans(
    db: sqlite3.Connection,
    session_id: str,
    *,
    live_generation: int,
    resumable_turn_id: str | None,
    now_ms: int,
) -> int:
    of_turns = (TurnInputState.PENDING_ACTIVE.value, TurnInputState.ACCEPTED.value)
    found = db.execute(LOAD_OF_TURNS, (session_id, *of_turns, live_generation)).fetchall()
    orphans = [
        (TurnInputState.DEFERRED_NEXT_TURN.value, seq)
        for seq, state, turn_id, enqueued_at_ms in found
        if is_orphan(
            TurnInputState(state),
            turn_id=turn_id,
            is_held=False,
            age_ms=now_ms - enqueued_at_ms,
            resumable_turn_id=resumable_turn_id,
        )
    ]
    db.executemany(DEFER_ONE, orphans)
    return len(orphans)


def cancel_waiting(db: sqlite3.Connection, session_id: str) -> None:
    """Cancel whatever is not over."""
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


def _where_to(ingress: TurnInputIngress) -> tuple[str | None, str | None]:
    match ingress:
        case ActiveTurnIngress(turn_id=turn_id, min_boundary=boundary):
            return turn_id, boundary.value
        case NextTurnIngress():
            return None, None


def _submitted_ingress(db: sqlite3.Connection, known: PendingTurnInput) -> TurnInputIngress:
    text: str = db.execute(LOAD_SUBMITTED_INGRESS, (known.enqueue_seq,)).fetchone()[0]
    return decode_as(_INGRESS, text, kind="turn input's ingress")


def _row(session_id: str, row: tuple[Any, ...]) -> InputRow:
    (
        enqueue_seq,
        input_id,
        source_key,
        turn_id,
        boundary,
        state,
        given,
        enqueued_at_ms,
        claim_id,
        claim_generation,
        claim_owner_json,
        claim_expires_at_ms,
        claim_fencing_token,
    ) = row
    ingress: TurnInputIngress = NextTurnIngress()
    if turn_id is not None:
        ingress = ActiveTurnIngress(
            turn_id=turn_id,
            min_boundary=decode_member(TurnInputCheckpointBoundary, boundary, kind="boundary"),
        )
    return InputRow(
        value=PendingTurnInput(
            input_id=input_id,
            session_id=session_id,
            enqueue_seq=enqueue_seq,
            source_key=source_key,
            ingress=ingress,
            state=decode_member(TurnInputState, state, kind="turn input's state"),
            enqueued_at_ms=enqueued_at_ms,
            input=decode(TurnInput, given, kind="turn input"),
        ),
        claim_id=claim_id,
        claim_generation=claim_generation,
        claim_owner_json=claim_owner_json,
        claim_expires_at_ms=claim_expires_at_ms,
        claim_fencing_token=claim_fencing_token,
    )
