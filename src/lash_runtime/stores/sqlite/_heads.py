"""The head of each session: its revision, its leaf, and the JSON beside them."""

import sqlite3
from typing import Final

from ...model.records import dataclass
from ...ports.record_versions import decode_versioned_json_record
from ...ports.session_state import (
    SESSION_HEAD_META_SCHEMA_VERSION,
    BlobRef,
    HeadStamp,
    SessionHeadMeta,
)

LOAD: Final = """
    SELECT head_revision, leaf_node_id, checkpoint_ref, turn_index, head_json
      FROM session_heads
     WHERE session_id = ?
"""
LOAD_STAMP: Final = """
    SELECT head_revision, leaf_node_id, checkpoint_ref, turn_index
      FROM session_heads
     WHERE session_id = ?
"""
SAVE: Final = """
    INSERT INTO session_heads
           (session_id, head_revision, leaf_node_id, checkpoint_ref, turn_index, head_json)
    VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (session_id) DO UPDATE
       SET head_revision = excluded.head_revision, leaf_node_id = excluded.leaf_node_id,
           checkpoint_ref = excluded.checkpoint_ref, turn_index = excluded.turn_index,
           head_json = excluded.head_json
"""


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The columns of a head. `turn_index` is that of the last turn that reached a commit."""

    revision: int
    leaf_node_id: str | None
    checkpoint_ref: BlobRef | None
    turn_index: int

    def stamp(self) -> HeadStamp:
        return HeadStamp(
            head_revision=self.revision,
            leaf_node_id=self.leaf_node_id,
            checkpoint_ref=self.checkpoint_ref,
        )


def load_row(db: sqlite3.Connection, session_id: str) -> HeadRow | None:
    row = db.execute(LOAD_STAMP, (session_id,)).fetchone()
    return None if row is None else HeadRow(*row)


def load(db: sqlite3.Connection, session_id: str) -> tuple[HeadRow, SessionHeadMeta] | None:
    row = db.execute(LOAD, (session_id,)).fetchone()
    if row is None:
        return None
    meta = decode_versioned_json_record(
        row[4], "SessionHeadMeta", SESSION_HEAD_META_SCHEMA_VERSION, SessionHeadMeta
    )
    return HeadRow(*row[:4]), meta


def save(db: sqlite3.Connection, session_id: str, row: HeadRow, head_json: str) -> None:
    db.execute(
        SAVE,
        (
            session_id,
            row.revision,
            row.leaf_node_id,
            row.checkpoint_ref,
            row.turn_index,
            head_json,
        ),
    )
