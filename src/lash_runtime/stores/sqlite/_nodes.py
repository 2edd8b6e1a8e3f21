"""The nodes of each session's graph. A node never changes once it is stored."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydantic import ValidationError

from ...model.nodes import SessionNodeRecord, decode_nodes, encode_node
from ...ports.store_errors import StoreBackendError
from ._records import undecodable

INSERT: Final = """
    INSERT INTO graph_nodes (session_id, node_id, parent_node_id, node_json)
    VALUES (?, ?, ?, ?)
        ON CONFLICT (session_id, node_id) DO NOTHING
"""
STORED: Final = """
    SELECT node_json
      FROM graph_nodes
     WHERE session_id = ? AND node_id = ?
"""
REVIVE: Final = """
    UPDATE graph_nodes SET tombstoned = 0
     WHERE session_id = ? AND node_id = ? AND tombstoned = 1
"""
TOMBSTONE: Final = """
    UPDATE graph_nodes SET tombstoned = 1
     WHERE session_id = ? AND node_id = ?
"""
LOAD: Final = """
    SELECT node_json
      FROM graph_nodes
     WHERE session_id = ? AND node_id = ? AND tombstoned = 0
"""
# Going by `seq` reads the rows in the order in which they lie, with nothing left to sort.
LOAD_ALL: Final = """
    SELECT node_json
      FROM graph_nodes
     WHERE seq IN (SELECT seq FROM graph_nodes WHERE session_id = ?) AND tombstoned = 0
     ORDER BY seq
"""
LOAD_ALL_NEWEST_FIRST: Final = """
    SELECT node_json
      FROM graph_nodes
     WHERE seq IN (SELECT seq FROM graph_nodes WHERE session_id = ?) AND tombstoned = 0
     ORDER BY seq DESC
"""
# The depth ends a walk that a cycle of parents would never let end.
LOAD_PATH: Final = """
    WITH RECURSIVE path (depth, parent_node_id, seq) AS (
        SELECT 0, parent_node_id, seq
          FROM graph_nodes
         WHERE session_id = :session_id AND node_id = :leaf_node_id AND tombstoned = 0
        UNION ALL
        SELECT path.depth + 1, node.parent_node_id, node.seq
          FROM path
          JOIN graph_nodes AS node
            ON node.session_id = :session_id AND node.node_id = path.parent_node_id
         WHERE node.tombstoned = 0 AND path.depth < :limit
    )
    SELECT node.node_json
      FROM path
      JOIN graph_nodes AS node ON node.seq = path.seq
     ORDER BY path.depth DESC
"""
COUNT: Final = "SELECT count(*) FROM graph_nodes WHERE session_id = ?"
DELETE_ALL: Final = "DELETE FROM graph_nodes WHERE session_id = ?"

DECODED_AT_ONCE: Final = 256
"""Nodes decoded in one call. The event loop gets no time while a call runs."""


def append(
    db: sqlite3.Connection, session_id: str, nodes: Iterable[SessionNodeRecord]
) -> list[SessionNodeRecord]:
    """Add `nodes` in order. One that is there with equal content is left, or revived.

    Returns those that were not there, or not alive. Raises `StoreBackendError` when one is there
    with other content.
    """
    added: list[SessionNodeRecord] = []
    for node in nodes:
        text = encode_node(node)
        inserted = db.execute(INSERT, (session_id, node.node_id, node.parent_node_id, text))
        if inserted.rowcount or _revived(db, session_id, node.node_id, text):
            added.append(node)
    return added


def replace_all(
    db: sqlite3.Connection, session_id: str, nodes: Iterable[SessionNodeRecord]
) -> list[SessionNodeRecord]:
    """Returns what `append` does."""
    delete_all(db, session_id)
    return append(db, session_id, nodes)


def delete_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(DELETE_ALL, (session_id,))


def load(db: sqlite3.Connection, session_id: str, node_id: str) -> SessionNodeRecord | None:
    return next(iter(_decoded(db.execute(LOAD, (session_id, node_id)).fetchall())), None)


def load_all(db: sqlite3.Connection, session_id: str) -> tuple[SessionNodeRecord, ...]:
    """Every live node, in storage order."""
    return _decoded(db.execute(LOAD_ALL, (session_id,)).fetchall())


def live(
    db: sqlite3.Connection, session_id: str, *, newest_first: bool = False
) -> Iterator[SessionNodeRecord]:
    """Every live node that can be read, in storage order or against it, one by one as they are
    asked for."""
    statement = LOAD_ALL_NEWEST_FIRST if newest_first else LOAD_ALL
    for (text,) in db.execute(statement, (session_id,)):
        if (node := _readable(text)) is not None:
            yield node


def tombstone(
    db: sqlite3.Connection, session_id: str, node_ids: Iterable[str]
) -> list[SessionNodeRecord]:
    """Give nodes up; returns those that were alive and can be read. Ids that no node has are
    passed over."""
    given_up: list[SessionNodeRecord] = []
    for node_id in node_ids:
        row = db.execute(LOAD, (session_id, node_id)).fetchone()
        if row is not None:
            db.execute(TOMBSTONE, (session_id, node_id))
            if (node := _readable(row[0])) is not None:
                given_up.append(node)
    return given_up


def load_path(
    db: sqlite3.Connection, session_id: str, leaf_node_id: str | None
) -> tuple[SessionNodeRecord, ...]:
    """The leaf and its ancestors, root first; nothing when there is no such leaf."""
    if leaf_node_id is None:
        return ()
    asked = {"session_id": session_id, "leaf_node_id": leaf_node_id}
    stored: int = db.execute(COUNT, (session_id,)).fetchone()[0]
    rows = db.execute(LOAD_PATH, asked | {"limit": stored}).fetchall()
    if len(rows) > stored:
        raise StoreBackendError(
            f"the nodes of session {session_id!r} above {leaf_node_id!r} form a cycle"
        )
    return _decoded(rows)


def _revived(db: sqlite3.Connection, session_id: str, node_id: str, text: str) -> bool:
    """Whether a stored node of that content had been given up and is there again."""
    stored = db.execute(STORED, (session_id, node_id)).fetchone()[0]
    # The text of equal nodes can differ in the order of keys inside opaque payloads.
    if stored != text and json.loads(stored) != json.loads(text):
        raise StoreBackendError(
            f"node {node_id!r} of session {session_id!r} exists with other content: "
            "a node never changes once it is stored"
        )
    return db.execute(REVIVE, (session_id, node_id)).rowcount > 0


def _readable(text: str) -> SessionNodeRecord | None:
    """Upkeep goes on where reading a session would stop: what is damaged can be given up."""
    try:
        return decode_nodes((text,))[0]
    except ValidationError:
        return None


def _decoded(rows: Sequence[tuple[str]]) -> tuple[SessionNodeRecord, ...]:
    nodes: list[SessionNodeRecord] = []
    for first in range(0, len(rows), DECODED_AT_ONCE):
        batch = rows[first : first + DECODED_AT_ONCE]
        try:
            nodes.extend(decode_nodes(row[0] for row in batch))
        except ValidationError as error:
            raise undecodable("node", error) from None
    return tuple(nodes)
