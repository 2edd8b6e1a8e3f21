"""Removing what nothing needs any more, without anybody waiting long for it.

Rule 1: rows are looked for aside, on a snapshot, and removed by the writer in slices, each a
transaction of its own between which others commit.
Rule 2: a slice checks again what it removes, because a commit may have come in between.
Rule 3: `session_id=None` means every session of the database.
Cancellation, for every function: slices that are done stay done, and the rest is found the next
time.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from ...model.records import dataclass
from ...ports.persistence import GcReport, VacuumReport
from ...ports.turn_inputs import TurnInputState
from . import _artifacts, _session, _waits
from ._blobs import delete
from ._reachability import reach

T = TypeVar("T")

SLICE_ROWS: Final = 500
"""Rows that one transaction removes."""

SLICE_BLOBS: Final = 32
"""Blobs that one transaction removes: each may be a megabyte or more."""

OF_ONE_SESSION: Final = " AND session_id = :session_id"

FIND_TOMBSTONED: Final = "SELECT seq FROM graph_nodes WHERE tombstoned = 1"
REMOVE_TOMBSTONED: Final = "DELETE FROM graph_nodes WHERE seq = :row AND tombstoned = 1"

FIND_ENDED: Final = """
    SELECT enqueue_seq
      FROM pending_turn_inputs
     WHERE state IN (:cancelled, :completed)
"""
REMOVE_ENDED: Final = """
    DELETE FROM pending_turn_inputs
     WHERE enqueue_seq = :row AND state IN (:cancelled, :completed)
"""
# The numbers of rows without a key of integers may change when the whole file is rewritten, so
# what makes a row removable is asked of the row itself.
FIND_SETTLED: Final = "SELECT rowid FROM turns WHERE settled_at_ms <= :until_ms"
REMOVE_SETTLED: Final = "DELETE FROM turns WHERE rowid = :row AND settled_at_ms <= :until_ms"

# A stamp that outlived its row would refuse the commit of a new turn that was given the same id,
# so it goes with the row, and by its own age only where there is no row.
REMOVE_STAMP_OF_SETTLED: Final = """
    DELETE FROM turn_stamps
     WHERE (session_id, turn_id) IN (SELECT session_id, turn_id
                                       FROM turns
                                      WHERE rowid = :row AND settled_at_ms <= :until_ms)
"""
WITHOUT_A_ROW: Final = """
       NOT EXISTS (SELECT 1
                     FROM turns
                    WHERE turns.session_id = turn_stamps.session_id
                      AND turns.turn_id = turn_stamps.turn_id)
"""
FIND_LONE_STAMPS: Final = f"""
    SELECT rowid
      FROM turn_stamps
     WHERE committed_at_ms <= :until_ms AND {WITHOUT_A_ROW}
"""  # noqa: S608 - made of constants
REMOVE_LONE_STAMPS: Final = f"""
    DELETE FROM turn_stamps
     WHERE rowid = :row AND committed_at_ms <= :until_ms AND {WITHOUT_A_ROW}
"""  # noqa: S608 - made of constants
SESSIONS_WITH_BLOBS: Final = "SELECT DISTINCT session_id FROM blobs"

_ENDED: Final = {
    "cancelled": TurnInputState.CANCELLED.value,
    "completed": TurnInputState.COMPLETED.value,
}


class Desk(Protocol):
    """A database, or what one session may use of it."""

    async def write(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
    ) -> T: ...

    async def aside(self, body: Callable[[sqlite3.Connection, threading.Event], T]) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What one pruning has removed."""

    removed_turn_count: int
    removed_stamp_count: int
    removed_wait_count: int


async def tombstone(desk: Desk, session_id: str, node_ids: Sequence[str]) -> None:
    """Mark nodes as removed. Ids that no node has are passed over."""
    for ids in _slices(node_ids):
        body = partial(_session.tombstone, session_id=session_id, node_ids=ids)
        await desk.write(body, alone=True)


async def vacuum(desk: Desk, session_id: str | None = None) -> VacuumReport:
    """Remove tombstoned nodes, and inputs that were cancelled or completed."""
    (nodes,) = await _remove(desk, FIND_TOMBSTONED, [REMOVE_TOMBSTONED], session_id, {})
    (inputs,) = await _remove(desk, FIND_ENDED, [REMOVE_ENDED], session_id, _ENDED)
    return VacuumReport(removed_node_count=nodes, removed_pending_turn_input_tombstone_count=inputs)


async def prune_turns(desk: Desk, until_ms: int, session_id: str | None = None) -> PruneReport:
    """Remove the rows of turns that were settled by then, each with the stamp of its commit and
    what it has waited for.

    Stamps that are as old and have no row go as well, and so do answers to waits that belong to no
    turn on record.
    """
    until = {"until_ms": until_ms}
    removes = [REMOVE_STAMP_OF_SETTLED, _waits.REMOVE_OF_SETTLED, REMOVE_SETTLED]
    stamps, waits, turns = await _remove(desk, FIND_SETTLED, removes, session_id, until)
    (lone,) = await _remove(desk, FIND_LONE_STAMPS, [REMOVE_LONE_STAMPS], session_id, until)
    (answers,) = await _remove(desk, _waits.FIND_LONE, [_waits.REMOVE_LONE], session_id, until)
    return PruneReport(
        removed_turn_count=turns,
        removed_stamp_count=stamps + lone,
        removed_wait_count=waits + answers,
    )


async def gc(desk: Desk, session_id: str | None = None) -> GcReport:
    """Remove blobs that neither a head nor a frame refers to and, of the whole database, the bytes
    of artifacts that no key leads to.

    Raises `StoreBackendError`, and removes nothing, where what a head refers to is missing or
    cannot be read: what else it refers to is then unknown.
    """
    roots = retained = deleted = 0
    for marked in await desk.aside(partial(_mark, session_id=session_id)):
        roots += marked.roots
        retained += marked.retained
        for _ in range(0, marked.garbage, SLICE_BLOBS):
            deleted += await desk.write(marked.sweep, alone=True)
    return GcReport(root_count=roots, retained_blob_count=retained, deleted_blob_count=deleted)


@dataclass(frozen=True, slots=True)
class _Marked:
    """What was found on a snapshot. `sweep` removes a slice of the garbage that is still it."""

    sweep: Callable[[sqlite3.Connection], int]
    roots: int
    retained: int
    garbage: int


def _mark(db: sqlite3.Connection, _: threading.Event, session_id: str | None) -> list[_Marked]:
    names = [session_id]
    if session_id is None:
        names = [name for (name,) in db.execute(SESSIONS_WITH_BLOBS)]
    marked = [_mark_session(db, name) for name in names if name is not None]
    if session_id is None:
        marked.append(_Marked(_sweep_artifacts, *_artifacts.reach(db)))
    return marked


def _mark_session(db: sqlite3.Connection, session_id: str) -> _Marked:
    found = reach(db, session_id)
    retained = len(found.stored & found.wanted)
    sweep = partial(_sweep, session_id=session_id)
    return _Marked(sweep, len(found.roots), retained, len(found.garbage))


def _sweep(db: sqlite3.Connection, session_id: str) -> int:
    garbage = sorted(reach(db, session_id).garbage)[:SLICE_BLOBS]
    delete(db, session_id, garbage)
    return len(garbage)


def _sweep_artifacts(db: sqlite3.Connection) -> int:
    return _artifacts.sweep(db, SLICE_BLOBS)


async def _remove(
    desk: Desk,
    find: str,
    removes: Sequence[str],
    session_id: str | None,
    values: dict[str, Any],
) -> list[int]:
    """How many rows each of `removes` took. A slice makes all of them, in their order."""
    query, bound = find, values
    if session_id is not None:
        query, bound = find + OF_ONE_SESSION, {**values, "session_id": session_id}

    def found(db: sqlite3.Connection, _: threading.Event) -> list[int]:
        return [row for (row,) in db.execute(query, bound)]

    removed = [0] * len(removes)
    for rows in _slices(await desk.aside(found)):
        marks = [{**values, "row": row} for row in rows]
        counts = await desk.write(partial(_execute_many, removes, marks), alone=True)
        removed = [before + count for before, count in zip(removed, counts, strict=True)]
    return removed


def _execute_many(
    statements: Sequence[str], values: list[Any], db: sqlite3.Connection
) -> list[int]:
    return [db.executemany(statement, values).rowcount for statement in statements]


def _slices(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[first : first + SLICE_ROWS] for first in range(0, len(rows), SLICE_ROWS)]
