"""A session as lines of JSON, to read, to archive, or to take elsewhere.

The first line is the session, then come its live nodes in storage order, what it has spent, and
its turns in the order of acceptance. `record` says which of these a line is.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from ...ports.store_errors import StoreBackendError
from . import _heads, _sessions

FORMAT: Final = 1
"""Of the lines; raised when a line that was written before would be read wrongly."""

META: Final = "SELECT meta_json FROM session_meta WHERE session_id = ?"
NODES: Final = """
    SELECT node_json
      FROM graph_nodes
     WHERE session_id = ? AND tombstoned = 0
     ORDER BY seq
"""
USAGE: Final = """
    SELECT source, model, input_tokens, output_tokens, cache_read_input_tokens,
           cache_write_input_tokens, reasoning_output_tokens
      FROM usage_totals
     WHERE session_id = ?
     ORDER BY rowid
"""
TURNS: Final = """
    SELECT turn_id, state, turn_index, accepted_at_ms, settled_at_ms, input_json, result_json,
           failure_json, cancel_request_json
      FROM turns
     WHERE session_id = ?
     ORDER BY seq
"""

_PARTS_OF_TURNS: Final = ("input", "result", "failure", "cancel_request")


def lines(db: sqlite3.Connection, session_id: str) -> Iterator[str]:
    """Nothing when there is no such session. Run it inside a read transaction."""
    known = _sessions.load(db, session_id)
    if known is None or not known.is_live:
        return
    yield _line("session", format=FORMAT, **_session(db, session_id))
    for (node,) in db.execute(NODES, (session_id,)):
        yield _line("node", node=_json(node))
    for row in _named(db.execute(USAGE, (session_id,))):
        yield _line("usage", **row)
    for row in _named(db.execute(TURNS, (session_id,))):
        parsed = {name: _json(row.pop(f"{name}_json")) for name in _PARTS_OF_TURNS}
        yield _line("turn", **row, **{name: value for name, value in parsed.items() if value})


def _session(db: sqlite3.Connection, session_id: str) -> dict[str, Any]:
    meta = db.execute(META, (session_id,)).fetchone()
    head = db.execute(_heads.LOAD, (session_id,)).fetchone()
    revision, leaf, checkpoint_ref, turn_index, document = head or (0, None, None, 0, None)
    return {
        "session_id": session_id,
        "meta": None if meta is None else _json(meta[0]),
        "head_revision": revision,
        "leaf_node_id": leaf,
        "checkpoint_ref": checkpoint_ref,
        "turn_index": turn_index,
        "head": _json(document),
    }


def _named(rows: sqlite3.Cursor) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in rows.description]
    return (dict(zip(names, row, strict=True)) for row in rows)


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise StoreBackendError(f"stored JSON cannot be read: {error}") from error


def _line(record: str, **values: Any) -> str:
    return json.dumps({"record": record, **values}, ensure_ascii=False, separators=(",", ":"))
