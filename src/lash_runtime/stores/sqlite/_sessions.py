"""One row for every session id that was ever used: which incarnation it is in, and its entry in
the list of sessions.

Rule 1: a session exists while its row is not buried. The row outlives it, so that an id which is
used again goes on in a higher generation, and whoever still holds the old one is told so.
Rule 2: a generation begins only when nothing is left of the one before.
"""

import sqlite3
from typing import Final

from ...kernel.session_digest import SessionDigest
from ...model.records import dataclass
from ...ports.signals import SignalKind
from ...ports.store_errors import StoredSessionDeleted
from . import _outbox

FIRST_GENERATION: Final = 1

LOAD: Final = """
    SELECT generation, deleted_at_ms IS NULL, swept_at_ms IS NULL
      FROM sessions
     WHERE session_id = ?
"""
IS_LIVE: Final = """
    SELECT 1
      FROM sessions
     WHERE session_id = ? AND generation = ? AND deleted_at_ms IS NULL
"""
BEGIN: Final = """
    INSERT INTO sessions (session_id, generation, created_at_ms, updated_at_ms)
    VALUES (:session_id, :generation, :now_ms, :now_ms)
        ON CONFLICT (session_id) DO UPDATE
       SET generation = excluded.generation, created_at_ms = excluded.created_at_ms,
           updated_at_ms = excluded.updated_at_ms, deleted_at_ms = NULL, swept_at_ms = NULL
"""
BURY: Final = """
    UPDATE sessions
       SET deleted_at_ms = ?, message_count = 0, user_message_count = 0,
           first_user_message = '', last_message = ''
     WHERE session_id = ? AND deleted_at_ms IS NULL
"""
SWEPT: Final = """
    UPDATE sessions SET swept_at_ms = ?
     WHERE session_id = ? AND deleted_at_ms IS NOT NULL
"""
UNSWEPT: Final = """
    SELECT session_id
      FROM sessions
     WHERE deleted_at_ms IS NOT NULL AND swept_at_ms IS NULL
"""
TOUCH: Final = """
    UPDATE sessions SET updated_at_ms = ?
     WHERE session_id = ?
"""
EXTEND: Final = """
    UPDATE sessions
       SET updated_at_ms = :now_ms,
           message_count = message_count + :messages,
           user_message_count = user_message_count + :asked,
           first_user_message = CASE first_user_message WHEN '' THEN :first
                                ELSE first_user_message END,
           last_message = CASE :last WHEN '' THEN last_message ELSE :last END
     WHERE session_id = :session_id
"""
REPLACE: Final = """
    UPDATE sessions
       SET updated_at_ms = :now_ms, message_count = :messages, user_message_count = :asked,
           first_user_message = :first, last_message = :last
     WHERE session_id = :session_id
"""
SHRINK: Final = """
    UPDATE sessions
       SET message_count = message_count - :messages,
           user_message_count = user_message_count - :asked,
           first_user_message = :first, last_message = :last
     WHERE session_id = :session_id
"""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """`has_remains` only says something of one that is over: rows of it are still there."""

    generation: int
    is_live: bool
    has_remains: bool


def load(db: sqlite3.Connection, session_id: str) -> Incarnation | None:
    row = db.execute(LOAD, (session_id,)).fetchone()
    return None if row is None else Incarnation(row[0], bool(row[1]), bool(row[2]))


def require_live(db: sqlite3.Connection, session_id: str, generation: int) -> None:
    """Raise `StoredSessionDeleted` unless that incarnation is the living one."""
    if db.execute(IS_LIVE, (session_id, generation)).fetchone() is None:
        raise StoredSessionDeleted(session_id=session_id)


def generation_of(db: sqlite3.Connection, session_id: str) -> int:
    """The living generation, the first one for an id that no session was created under.

    Raises `StoredSessionDeleted` for an id whose session is gone.
    """
    found = load(db, session_id)
    if found is None:
        return FIRST_GENERATION
    if not found.is_live:
        raise StoredSessionDeleted(session_id=session_id)
    return found.generation


def begin(db: sqlite3.Connection, session_id: str, now_ms: int) -> int | None:
    """The living generation, begun now if there is none; `None` while an earlier one has left
    something."""
    found = load(db, session_id)
    if found is None:
        generation = FIRST_GENERATION
    elif found.is_live:
        return found.generation
    elif found.has_remains:
        return None
    else:
        generation = found.generation + 1
    db.execute(BEGIN, {"session_id": session_id, "generation": generation, "now_ms": now_ms})
    return generation


def bury(db: sqlite3.Connection, session_id: str, now_ms: int) -> bool:
    """End the living incarnation; `False` if there is none."""
    if db.execute(BURY, (now_ms, session_id)).rowcount == 0:
        return False
    _outbox.tell(db, SignalKind.SESSION_DELETED, session_id)
    return True


def mark_swept(db: sqlite3.Connection, session_id: str, now_ms: int) -> None:
    db.execute(SWEPT, (now_ms, session_id))


def unswept(db: sqlite3.Connection) -> tuple[str, ...]:
    """The ids whose session is over and not yet removed to its last row."""
    return tuple(row[0] for row in db.execute(UNSWEPT))


def touch(db: sqlite3.Connection, session_id: str, now_ms: int) -> None:
    """The session was committed to, and its messages are what they were."""
    db.execute(TOUCH, (now_ms, session_id))


def extend(db: sqlite3.Connection, session_id: str, added: SessionDigest, now_ms: int) -> None:
    """Add to the session's entry what a commit has added to its messages."""
    db.execute(EXTEND, _entry(session_id, added, now_ms))


def replace(db: sqlite3.Connection, session_id: str, whole: SessionDigest, now_ms: int) -> None:
    db.execute(REPLACE, _entry(session_id, whole, now_ms))


def shrink(
    db: sqlite3.Connection, session_id: str, gone: SessionDigest, *, first: str, last: str
) -> None:
    """Take from the session's entry what is no longer among its messages. Upkeep is no use."""
    counts = {"messages": gone.message_count, "asked": gone.user_message_count}
    db.execute(SHRINK, {"session_id": session_id, "first": first, "last": last} | counts)


def _entry(session_id: str, digest: SessionDigest, now_ms: int) -> dict[str, str | int]:
    return {
        "session_id": session_id,
        "now_ms": now_ms,
        "messages": digest.message_count,
        "asked": digest.user_message_count,
        "first": digest.first_user_message,
        "last": digest.last_message,
    }
