"""The rows of durable waits, and what ends them. Bodies of transactions.

Rule 1: the first text in `terminal_json` stays.
Rule 2: a wait of a session is dead once its generation is over, or was revoked. The row of a
deleted session says the former, so that deleting ends the waits in the very step that ends the
session; their rows go with the others.
Rule 3: a wait has a row from when it is first waited for or answered.
"""

import sqlite3
from typing import Any, Final

from ...ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    Resolution,
    ResolveAccepted,
    ResolveOutcome,
    UnknownOrRevoked,
    resolution_adapter,
)
from ...ports.execution_scope import session_of, turn_of
from ...ports.store_errors import StoreBackendError
from ...waits.book import Answered, Pending, WaitState
from . import _sessions
from ._records import decode_as

SIGNED_WITH: Final = "SELECT signing_secret FROM await_event_meta WHERE singleton = 1"
SIGN_WITH: Final = """
    INSERT INTO await_event_meta (singleton, signing_secret)
    VALUES (1, ?)
        ON CONFLICT (singleton) DO NOTHING
"""
IS_DEAD: Final = """
    SELECT EXISTS (SELECT 1
                     FROM sessions
                    WHERE session_id = :session_id
                      AND (generation > :generation
                           OR (generation = :generation AND deleted_at_ms IS NOT NULL)))
        OR EXISTS (SELECT 1
                     FROM await_event_revoked_sessions
                    WHERE session_id = :session_id AND generation >= :generation)
"""
LOAD: Final = """
    SELECT scope_json, wait_json, generation, deadline_ms, terminal_json
      FROM await_event_waits
     WHERE key_id = ?
"""
REGISTER: Final = """
    INSERT INTO await_event_waits
           (key_id, scope_json, wait_json, session_id, generation, turn_id, created_at_ms,
            deadline_ms)
    VALUES (:key_id, :scope_json, :wait_json, :session_id, :generation, :turn_id, :now_ms,
            :deadline_ms)
        ON CONFLICT (key_id) DO NOTHING
"""
ANSWER: Final = """
    UPDATE await_event_waits
       SET terminal_json = :terminal_json, resolved_at_ms = :now_ms
     WHERE key_id = :key_id AND terminal_json IS NULL
"""
ANSWER_PENDING: Final = """
    UPDATE await_event_waits
       SET terminal_json = :terminal_json, resolved_at_ms = :now_ms
     WHERE session_id = :session_id AND terminal_json IS NULL
"""
REVOKE: Final = """
    INSERT INTO await_event_revoked_sessions (session_id, generation, revoked_at_ms)
    VALUES (:session_id, :generation, :now_ms)
        ON CONFLICT (session_id) DO UPDATE
       SET generation = excluded.generation, revoked_at_ms = excluded.revoked_at_ms
     WHERE excluded.generation > generation
"""
REMOVE_REVOKED: Final = """
    DELETE FROM await_event_waits
     WHERE session_id = :session_id AND generation <= :generation
"""
NEWEST_KNOWN: Final = """
    SELECT coalesce(max(generation), :first)
      FROM await_event_waits
     WHERE session_id = :session_id
"""

# A wait goes with the row of its turn, and an answer that belongs to no turn on record by its own
# age. What a turn that is not over waits for stays, and so does what nobody has answered.
REMOVE_OF_SETTLED: Final = """
    DELETE FROM await_event_waits
     WHERE coalesce(resolved_at_ms, created_at_ms) <= :until_ms
       AND (session_id, turn_id) IN (SELECT session_id, turn_id
                                       FROM turns
                                      WHERE rowid = :row AND settled_at_ms <= :until_ms)
"""
WITHOUT_A_TURN: Final = """
       resolved_at_ms <= :until_ms
   AND NOT EXISTS (SELECT 1
                     FROM turns
                    WHERE turns.session_id = await_event_waits.session_id
                      AND turns.turn_id = await_event_waits.turn_id)
"""
FIND_LONE: Final = f"SELECT rowid FROM await_event_waits WHERE {WITHOUT_A_TURN}"  # noqa: S608
REMOVE_LONE: Final = f"""
    DELETE FROM await_event_waits
     WHERE rowid = :row AND {WITHOUT_A_TURN}
"""  # noqa: S608 - made of constants


def secret(db: sqlite3.Connection) -> bytes | None:
    row = db.execute(SIGNED_WITH).fetchone()
    return None if row is None else bytes(row[0])


def keep_secret(db: sqlite3.Connection, drawn: bytes) -> bytes:
    """The secret of the database, which is `drawn` if it has none."""
    db.execute(SIGN_WITH, (drawn,))
    kept: bytes = db.execute(SIGNED_WITH).fetchone()[0]
    return kept


def generation(db: sqlite3.Connection, session_id: str) -> int:
    """The one that the session is in, or was in last. Of a session that is not kept here, the last
    one that anybody has named."""
    known = _sessions.load(db, session_id)
    if known is not None:
        return known.generation
    asked = {"session_id": session_id, "first": _sessions.FIRST_GENERATION}
    named: int = db.execute(NEWEST_KNOWN, asked).fetchone()[0]
    return named


def register(
    db: sqlite3.Connection, key: AwaitEventKey, deadline_ms: int | None, now_ms: int
) -> WaitState:
    if _is_dead(db, key):
        return UnknownOrRevoked()
    _insert(db, key, now_ms, deadline_ms)
    return _state(db, key)


def look(db: sqlite3.Connection, key: AwaitEventKey) -> WaitState:
    return UnknownOrRevoked() if _is_dead(db, key) else _state(db, key)


def answer(
    db: sqlite3.Connection, key: AwaitEventKey, terminal: str, now_ms: int
) -> ResolveOutcome:
    if _is_dead(db, key):
        return UnknownOrRevoked()
    _insert(db, key, now_ms)
    given = {"key_id": key.key_id, "terminal_json": terminal, "now_ms": now_ms}
    if db.execute(ANSWER, given).rowcount:
        return ResolveAccepted()
    match _state(db, key):
        case Answered(terminal=first):
            return AlreadyResolved(first)
        case found:
            raise StoreBackendError(f"a wait can be answered and cannot: {found}")


def answer_pending(db: sqlite3.Connection, session_id: str, terminal: str, now_ms: int) -> None:
    given = {"session_id": session_id, "terminal_json": terminal, "now_ms": now_ms}
    db.execute(ANSWER_PENDING, given)


def revoke(db: sqlite3.Connection, session_id: str, until: int | None, now_ms: int) -> None:
    """Revoke that generation and those before; the one that the session is in, for `None`."""
    newest = generation(db, session_id) if until is None else until
    revoked = {"session_id": session_id, "generation": newest}
    db.execute(REVOKE, revoked | {"now_ms": now_ms})
    db.execute(REMOVE_REVOKED, revoked)


def _is_dead(db: sqlite3.Connection, key: AwaitEventKey) -> bool:
    session_id = session_of(key.scope)
    if session_id is None:
        return False
    asked = {"session_id": session_id, "generation": key.generation}
    return bool(db.execute(IS_DEAD, asked).fetchone()[0])


def _insert(
    db: sqlite3.Connection, key: AwaitEventKey, now_ms: int, deadline_ms: int | None = None
) -> None:
    db.execute(REGISTER, columns(key) | {"now_ms": now_ms, "deadline_ms": deadline_ms})


def columns(key: AwaitEventKey) -> dict[str, Any]:
    """What a row says of the wait itself."""
    return {
        "key_id": key.key_id,
        "scope_json": key.scope.model_dump_json(),
        "wait_json": key.wait.model_dump_json(),
        "session_id": session_of(key.scope),
        "generation": key.generation,
        "turn_id": turn_of(key.scope),
    }


def _state(db: sqlite3.Connection, key: AwaitEventKey) -> WaitState:
    row = db.execute(LOAD, (key.key_id,)).fetchone()
    if row is None:
        return UnknownOrRevoked()
    scope, wait, of_generation, deadline_ms, terminal = row
    said = columns(key)
    if (scope, wait, of_generation) != (said["scope_json"], said["wait_json"], key.generation):
        raise StoreBackendError(f"the row of {key.promise_key} is that of another wait")
    return Pending(deadline_ms) if terminal is None else Answered(decoded(terminal))


def decoded(terminal: str) -> Resolution:
    """Raises `StoreBackendError` for a text that is no resolution."""
    return decode_as(resolution_adapter(), terminal, kind="answer to a wait")
