"""What identifies each session to people."""

import sqlite3
from typing import Final

from ...model.session_meta import SessionMeta
from ._records import decode

LOAD: Final = "SELECT meta_json FROM session_meta WHERE session_id = ?"
SEED: Final = """
    INSERT INTO session_meta (session_id, meta_json)
    VALUES (?, ?)
        ON CONFLICT (session_id) DO NOTHING
"""
SAVE: Final = """
    INSERT INTO session_meta (session_id, meta_json)
    VALUES (?, ?)
        ON CONFLICT (session_id) DO UPDATE SET meta_json = excluded.meta_json
"""
EXISTS: Final = """
    SELECT EXISTS (SELECT 1 FROM session_meta WHERE session_id = :session_id)
        OR EXISTS (SELECT 1 FROM session_heads WHERE session_id = :session_id)
"""


def load(db: sqlite3.Connection, session_id: str) -> SessionMeta | None:
    row = db.execute(LOAD, (session_id,)).fetchone()
    return None if row is None else decode(SessionMeta, row[0], kind="session's metadata")


def seed(db: sqlite3.Connection, meta: SessionMeta) -> None:
    """Save `meta` only if the session has none."""
    db.execute(SEED, (meta.session_id, meta.model_dump_json()))


def save(db: sqlite3.Connection, session_id: str, meta: SessionMeta) -> None:
    db.execute(SAVE, (session_id, meta.model_dump_json()))


def exists(db: sqlite3.Connection, session_id: str) -> bool:
    """Whether the session was created; a lease or a turn alone does not create one."""
    return bool(db.execute(EXISTS, {"session_id": session_id}).fetchone()[0])
