"""Removing a session, without anybody waiting long for it.

The session is over in one small transaction. Its rows then go in slices, each a transaction of
its own between which others write. A process that dies in between leaves a session that is over
and rows that nobody can reach; whoever deletes or vacuums next, or wants the id again, removes
them.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

from ...model.records import dataclass, replace
from ...ports.clock import Clock
from ...ports.session_catalogue import SessionDeleteReport
from . import _sessions
from ._database import Database
from ._leases import StoredLane

SLICE_ROWS: Final = 1_000
SLICE_BYTES: Final = 8 * 1024 * 1024
"""What one transaction removes: that many rows, or the attachments that have taken it past that
many bytes."""

FOUND_AT_ONCE: Final = 100_000
"""Rows whose numbers are held in memory while they are removed."""

_NODES: Final = "graph_nodes"
_TURNS: Final = "turns"
_WAITS: Final = "await_event_waits"

TABLES: Final = (
    "session_heads",
    "session_meta",
    "checkpoints",
    "blobs",
    "usage_totals",
    "turn_stamps",
    "pending_turn_inputs",
    "queued_work_batches",
    "turn_effects",
    _WAITS,
    _TURNS,
    _NODES,
)
"""Whatever has a session in its key, apart from four: the manifest, with which attachments go;
the row of the session, which is its tombstone; the lane, whose counter must never fall; the
revocation of its waits, which is for good."""

_REMOVE: Final = {
    table: f"""
    DELETE FROM {table}
     WHERE rowid IN (SELECT rowid FROM {table} WHERE session_id = ? LIMIT ?)
    """  # noqa: S608 - the names above
    for table in TABLES
}
_FIND: Final = {
    table: f"""
    SELECT rowid
      FROM {table}
     WHERE session_id = ?
     ORDER BY rowid
     LIMIT ?
    """  # noqa: S608 - the names above
    for table in TABLES
}
_REMOVE_ROW: Final = {
    table: f"""
    DELETE FROM {table}
     WHERE rowid = ? AND session_id = ?
    """  # noqa: S608 - the names above
    for table in TABLES
}
NAMED: Final = """
    SELECT named.attachment_id, coalesce(length(content), 0)
      FROM attachment_manifest AS named
      LEFT JOIN attachments ON attachments.attachment_id = named.attachment_id
     WHERE named.session_id = ?
     LIMIT ?
"""
FORGET: Final = "DELETE FROM attachment_manifest WHERE session_id = ? AND attachment_id = ?"
REMOVE_BYTES: Final = """
    DELETE FROM attachments
     WHERE attachment_id = :attachment_id
       AND NOT EXISTS (SELECT 1 FROM attachment_manifest WHERE attachment_id = :attachment_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removed:
    """How much a slice, or several, took. `rows` counts all of them."""

    rows: int = 0
    nodes: int = 0
    turns: int = 0
    attachments: int = 0
    nothing_left: bool = False

    def and_then(self, later: "_Removed") -> "_Removed":
        return _Removed(
            rows=self.rows + later.rows,
            nodes=self.nodes + later.nodes,
            turns=self.turns + later.turns,
            attachments=self.attachments + later.attachments,
            nothing_left=later.nothing_left,
        )


async def delete(database: Database, clock: Clock, session_id: str) -> SessionDeleteReport:
    """End the session and remove it, with what earlier deletions have left of others."""

    def bury(db: sqlite3.Connection) -> bool:
        StoredLane(db, session_id).clear()
        return _sessions.bury(db, session_id, clock.timestamp_ms())

    existed = await database.write(bury)
    removed = await sweep(database, clock, session_id)
    await finish(database, clock)
    return SessionDeleteReport(
        session_id=session_id,
        existed=existed,
        removed_node_count=removed.nodes,
        removed_turn_count=removed.turns,
        removed_attachment_count=removed.attachments,
    )


async def finish(database: Database, clock: Clock) -> None:
    """Remove what deletions have left that did not come to their end."""
    for session_id in await database.read(_sessions.unswept):
        await sweep(database, clock, session_id)


async def sweep(database: Database, clock: Clock, session_id: str) -> _Removed:
    """Remove what is left of a session that is over. Does nothing to one that lives."""
    slice_of_all = partial(_slice, session_id=session_id, clock=clock)
    removed = await database.write(slice_of_all, alone=True)
    while not removed.nothing_left:
        for table in TABLES:
            removed = removed.and_then(await _sweep_table(database, table, session_id))
        removed = removed.and_then(await database.write(slice_of_all, alone=True))
    return removed


async def _sweep_table(database: Database, table: str, session_id: str) -> _Removed:
    """Remove rows in the order in which they lie, so that a slice changes as few pages as it
    can. Found by their keys, rows that lie side by side would go in different slices."""
    rows = await database.read(partial(_find, table=table, session_id=session_id))
    removed = _Removed()
    for start in range(0, len(rows), SLICE_ROWS):
        named = rows[start : start + SLICE_ROWS]
        body = partial(_remove_these, table=table, session_id=session_id, rows=named)
        removed = removed.and_then(await database.write(body, alone=True))
    return removed


def _slice(db: sqlite3.Connection, session_id: str, clock: Clock) -> _Removed:
    if not _is_over(db, session_id):
        return _Removed(nothing_left=True)
    removed = _remove_attachments(db, session_id)
    for table in TABLES:
        if not removed.nothing_left:
            break
        removed = removed.and_then(_remove_rows(db, table, session_id, SLICE_ROWS - removed.rows))
    if removed.nothing_left:
        _sessions.mark_swept(db, session_id, clock.timestamp_ms())
    return removed


def _find(db: sqlite3.Connection, table: str, session_id: str) -> list[int]:
    return [row for (row,) in db.execute(_FIND[table], (session_id, FOUND_AT_ONCE))]


def _remove_these(
    db: sqlite3.Connection, table: str, session_id: str, rows: Sequence[int]
) -> _Removed:
    # The rows were found before. Whoever was faster may have removed them, and then their
    # numbers may be those of the next session's.
    if not _is_over(db, session_id):
        return _Removed()
    gone = db.executemany(_REMOVE_ROW[table], [(row, session_id) for row in rows]).rowcount
    return _removed_from(table, gone)


def _remove_rows(db: sqlite3.Connection, table: str, session_id: str, room: int) -> _Removed:
    gone = db.execute(_REMOVE[table], (session_id, room)).rowcount
    return replace(_removed_from(table, gone), nothing_left=gone < room)


def _removed_from(table: str, gone: int) -> _Removed:
    return _Removed(
        rows=gone,
        nodes=gone if table == _NODES else 0,
        turns=gone if table == _TURNS else 0,
    )


def _is_over(db: sqlite3.Connection, session_id: str) -> bool:
    found = _sessions.load(db, session_id)
    return found is None or not found.is_live


def _remove_attachments(db: sqlite3.Connection, session_id: str) -> _Removed:
    """Remove what the manifest names, and the bytes of it that no other session names."""
    named: list[tuple[str, int]] = db.execute(NAMED, (session_id, SLICE_ROWS)).fetchall()
    rows = size = attachments = 0
    for attachment_id, length in named:
        if size > SLICE_BYTES:
            break
        db.execute(FORGET, (session_id, attachment_id))
        attachments += db.execute(REMOVE_BYTES, {"attachment_id": attachment_id}).rowcount
        rows += 1
        size += length
    return _Removed(
        rows=rows, attachments=attachments, nothing_left=rows == len(named) < SLICE_ROWS
    )
