"""Whether a database is whole: as SQLite sees it, and as the rules of this store have it.

It looks for what no sequence of calls can bring about. A leaf that names no node, or a parent
that is gone, is none of that: nodes may be removed, and the next load heals the path.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ...model.nodes import SessionNodeRecord
from ...model.records import dataclass
from ...ports.session_state import FullGraph
from ...ports.store_errors import StoreError
from . import (
    _artifacts,
    _blobs,
    _check_waits,
    _checkpoints,
    _journal,
    _meta,
    _queue,
    _session,
    _sessions,
    _turn_inputs,
    _turns,
)
from ._reachability import reach

INTEGRITY: Final = "PRAGMA integrity_check(100)"

# What a deletion that was cut off has left of a session is nobody's any more.
SESSIONS: Final = """
    SELECT session_id
      FROM (SELECT session_id FROM sessions
             UNION SELECT session_id FROM session_heads
             UNION SELECT session_id FROM turns
             UNION SELECT session_id FROM pending_turn_inputs
             UNION SELECT session_id FROM queued_work_batches)
     WHERE session_id NOT IN (SELECT session_id FROM sessions WHERE deleted_at_ms IS NOT NULL)
     ORDER BY session_id
"""
ATTACHMENTS: Final = "SELECT attachment_id, content FROM attachments"
TURNS: Final = "SELECT turn_id FROM turns WHERE session_id = ? ORDER BY seq"
STAMPS: Final = "SELECT turn_id, manifest_json FROM turn_stamps WHERE session_id = ?"
CLAIMED_FROM_NOBODY: Final = """
    SELECT 'input ' || input_id
      FROM pending_turn_inputs
     WHERE session_id = :session_id AND claim_generation > :newest
     UNION ALL
    SELECT 'batch ' || batch_id
      FROM queued_work_batches
     WHERE session_id = :session_id AND claim_generation > :newest
"""
NEWEST_FENCE: Final = """
    SELECT coalesce(max(fencing_token), 0)
      FROM session_execution_leases
     WHERE session_id = ?
"""


_PRIMARY: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Problem:
    """`session_id` is `None` where the file itself is damaged, or what is no session's."""

    session_id: str | None
    message: str


def check(db: sqlite3.Connection, stop: threading.Event) -> tuple[Problem, ...]:
    """Every problem there is; of a file that is damaged, only where."""
    try:
        pages = [text for (text,) in db.execute(INTEGRITY) if text != "ok"]
        if pages:
            return tuple(Problem(None, text) for text in pages)
        problems = [Problem(None, text) for text in _attachment_problems(db)]
        problems += [Problem(None, text) for text in _artifacts.problems(db)]
        problems += [Problem(session_id, text) for session_id, text in _check_waits.problems(db)]
        for (session_id,) in db.execute(SESSIONS).fetchall():
            if stop.is_set():
                break
            problems += [Problem(session_id, text) for text in _session_problems(db, session_id)]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_CORRUPT:
            raise
        return (Problem(None, str(error)),)  # damaged too badly for SQLite to say where
    return tuple(problems)


def _session_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    for part in _PARTS:
        try:
            yield from part(db, session_id)
        except StoreError as error:
            yield str(error)


def _meta_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    known = _sessions.load(db, session_id)
    if _meta.load(db, session_id) is None and known is not None:
        yield "its metadata is missing"


def _graph_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    read = _session.read(db, session_id, FullGraph())
    if read is not None:
        yield from (f"node {node_id!r} is its own ancestor" for node_id in _in_cycles(read.nodes))


def _in_cycles(nodes: Iterable[SessionNodeRecord]) -> Iterator[str]:
    """One node of each cycle of parents."""
    parents = {node.node_id: node.parent_node_id for node in nodes}
    sound: set[str] = set()
    for start in parents:
        walked: dict[str, None] = {}
        node_id: str | None = start
        while node_id in parents and node_id not in sound:
            if node_id in walked:
                yield node_id
                break
            walked[node_id] = None
            node_id = parents[node_id]
        sound |= walked.keys()


def _blob_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    found = reach(db, session_id)
    yield from (f"blob {ref!r} is missing" for ref in sorted(found.missing))
    for ref in sorted(found.stored):
        content = _blobs.load(db, session_id, ref)
        if hashlib.sha256(content).hexdigest() != ref:
            yield f"blob {ref!r} has other content than its name says"


def _turn_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    newest: int = db.execute(NEWEST_FENCE, (session_id,)).fetchone()[0]
    known = _sessions.load(db, session_id)
    stray = set(_journal.turns(db, session_id))
    for (turn_id,) in db.execute(TURNS, (session_id,)).fetchall():
        try:
            row = _turns.load(db, session_id, turn_id)
        except StoreError as error:
            yield f"turn {turn_id!r}: {error}"
            continue
        if row is None:
            continue
        if row.state.is_settled != (row.settled_at_ms is not None):
            yield f"turn {turn_id!r} is {row.state.value} and says otherwise when it ended"
        if row.state.is_settled == (row.input is not None):
            yield f"turn {turn_id!r} is {row.state.value} and its input says otherwise"
        if row.fencing_token > newest:
            yield f"turn {turn_id!r} was started under a lease that never was"
        if known is not None and row.generation != known.generation:
            yield f"turn {turn_id!r} belongs to another generation of the session"
        if row.journaled and row.state.is_started:
            stray.discard(turn_id)
            _journal.load(db, session_id, turn_id)
    yield from (f"turn {turn_id!r} is over and has a journal" for turn_id in sorted(stray))


def _stamp_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    for turn_id, manifest in db.execute(STAMPS, (session_id,)).fetchall():
        try:
            _checkpoints.decode_manifest(manifest)
        except StoreError as error:
            yield f"the stamp of turn {turn_id!r}: {error}"


def _waiting_problems(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    _turn_inputs.rows(db, session_id, _turn_inputs.LOAD_SUFFIX, 0)
    _queue.all_of(db, session_id)
    newest: int = db.execute(NEWEST_FENCE, (session_id,)).fetchone()[0]
    asked = {"session_id": session_id, "newest": newest}
    for (what,) in db.execute(CLAIMED_FROM_NOBODY, asked):
        yield f"{what} is claimed under a lease that never was"


def _attachment_problems(db: sqlite3.Connection) -> Iterator[str]:
    for attachment_id, content in db.execute(ATTACHMENTS):
        if hashlib.sha256(content).hexdigest() != attachment_id:
            yield f"attachment {attachment_id!r} has other content than its name says"


_PARTS: Final[tuple[Callable[[sqlite3.Connection, str], Iterator[str]], ...]] = (
    _meta_problems,
    _graph_problems,
    _blob_problems,
    _turn_problems,
    _stamp_problems,
    _waiting_problems,
)
