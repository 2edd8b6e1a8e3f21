"""The stamps of turns that were committed, each with the answer that its commit was given."""

import sqlite3
from typing import Final

from ...ports.commit import RuntimeCommitResult, RuntimeTurnCommitStamp
from ...ports.store_errors import RuntimeTurnCommitConflict
from ._checkpoints import decode_manifest
from ._texts import StoredCheckpoint

LOAD: Final = """
    SELECT turn_commit_hash, head_revision, checkpoint_ref, manifest_json
      FROM turn_stamps
     WHERE session_id = ? AND turn_id = ?
"""
INSERT: Final = """
    INSERT INTO turn_stamps
           (session_id, turn_id, turn_commit_hash, head_revision, checkpoint_ref, manifest_json,
            committed_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


def earlier_result(
    db: sqlite3.Connection, session_id: str, stamp: RuntimeTurnCommitStamp
) -> RuntimeCommitResult | None:
    """What the same commit was answered before, if it was.

    Raises `RuntimeTurnCommitConflict` when the turn was committed with other content.
    """
    if stamp.session_id != session_id:
        raise RuntimeTurnCommitConflict(session_id=session_id, turn_id=stamp.turn_id)
    row = db.execute(LOAD, (session_id, stamp.turn_id)).fetchone()
    if row is None:
        return None
    content, revision, ref, manifest = row
    if content != stamp.turn_commit_hash:
        raise RuntimeTurnCommitConflict(session_id=session_id, turn_id=stamp.turn_id)
    return RuntimeCommitResult(
        head_revision=revision,
        checkpoint_ref=ref,
        manifest=decode_manifest(manifest),
        replayed=True,
    )


def save(
    db: sqlite3.Connection,
    stamp: RuntimeTurnCommitStamp,
    head_revision: int,
    checkpoint: StoredCheckpoint,
    now_ms: int,
) -> None:
    db.execute(
        INSERT,
        (
            stamp.session_id,
            stamp.turn_id,
            stamp.turn_commit_hash,
            head_revision,
            checkpoint.ref,
            checkpoint.text,
            now_ms,
        ),
    )
