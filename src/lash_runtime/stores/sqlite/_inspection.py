"""What an operator may want to know of a database: how large it is, what is in it."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from typing import Final

from ...model.records import dataclass
from ._migrations import version_of

TABLES: Final = """
    SELECT name
      FROM sqlite_master
     WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
     ORDER BY name
"""
SESSIONS: Final = """
    SELECT session_id, created_at_ms, updated_at_ms, message_count
      FROM sessions
     WHERE deleted_at_ms IS NULL
     ORDER BY updated_at_ms DESC, session_id
"""
UNFINISHED: Final = "SELECT count(*) FROM turns WHERE settled_at_ms IS NULL"
TOMBSTONED: Final = "SELECT count(*) FROM graph_nodes WHERE tombstoned = 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInfo:
    """`free_bytes` of the file hold nothing; `log_bytes` are those of the write-ahead log."""

    path: str
    schema_version: int
    file_bytes: int
    free_bytes: int
    log_bytes: int
    unfinished_turn_count: int
    tombstoned_node_count: int
    row_counts: Mapping[str, int]


def info(db: sqlite3.Connection, _: threading.Event, *, path: str) -> DatabaseInfo:
    page_bytes = _number(db, "PRAGMA page_size")
    tables = [name for (name,) in db.execute(TABLES)]
    return DatabaseInfo(
        path=path,
        schema_version=version_of(db),
        file_bytes=page_bytes * _number(db, "PRAGMA page_count"),
        free_bytes=page_bytes * _number(db, "PRAGMA freelist_count"),
        log_bytes=_size_of(f"{path}-wal"),
        unfinished_turn_count=_number(db, UNFINISHED),
        tombstoned_node_count=_number(db, TOMBSTONED),
        row_counts={
            name: _number(db, f'SELECT count(*) FROM "{name}"')  # noqa: S608 - named by SQLite
            for name in tables
        },
    )


def sessions(db: sqlite3.Connection) -> Iterator[dict[str, str | int]]:
    """What tells one session from another, last used first."""
    rows = db.execute(SESSIONS)
    names = [column[0] for column in rows.description]
    return (dict(zip(names, row, strict=True)) for row in rows)


def _number(db: sqlite3.Connection, query: str) -> int:
    value: int = db.execute(query).fetchone()[0]
    return value


def _size_of(path: str) -> int:
    # Asking the folder, not the file: this process may not open and close a file in use.
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
