"""Checkpoints: a manifest for each head, and components by content address.

A component with a payload is stored under the hash of its content. One with a ref alone is the
one that is there already; a ref to nothing is an error, because the session would go on without
its state. What neither the head nor a frame refers to any more goes with the commit that
superseded it, so that a session of many turns keeps one checkpoint and not many.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, TypeVar

from pydantic import BaseModel

from ...model.canonical import canonical_json
from ...model.frames import AgentFrameRecord
from ...model.tools import ToolState
from ...ports.record_versions import decode_versioned_json_record
from ...ports.session_state import (
    SESSION_CHECKPOINT_SCHEMA_VERSION,
    BlobRef,
    HydratedSessionCheckpoint,
    PluginSessionSnapshot,
    SessionCheckpoint,
)
from . import _blobs
from ._blobs import BuiltinBlobProfile, Shelf
from ._records import decode
from ._texts import CommitTexts, StoredCheckpoint

M = TypeVar("M", bound=BaseModel)

SAVE_MANIFEST: Final = """
    INSERT INTO checkpoints (session_id, checkpoint_ref, manifest_json)
    VALUES (?, ?, ?)
        ON CONFLICT (session_id) DO UPDATE
       SET checkpoint_ref = excluded.checkpoint_ref, manifest_json = excluded.manifest_json
     WHERE checkpoint_ref <> excluded.checkpoint_ref
"""
# The condition spares the page: the progress of a turn has the counters of the progress before.
LOAD_MANIFEST: Final = """
    SELECT manifest_json
      FROM checkpoints
     WHERE session_id = ? AND checkpoint_ref = ?
"""
DELETE_MANIFEST: Final = "DELETE FROM checkpoints WHERE session_id = ?"


def save(
    db: sqlite3.Connection,
    session_id: str,
    given: HydratedSessionCheckpoint,
    frames: Iterable[AgentFrameRecord],
    profile: BuiltinBlobProfile,
    texts: CommitTexts,
) -> StoredCheckpoint:
    """Store `given` as the one checkpoint of the session."""
    shelf = Shelf(db, session_id, profile)
    manifest = SessionCheckpoint(
        turn_state=given.turn_state,
        tool_state_ref=shelf.put("tool_state", given.tool_state_ref, _json(given.tool_state)),
        plugin_snapshot_ref=shelf.put(
            "plugin_snapshot", given.plugin_snapshot_ref, _json(given.plugin_snapshot)
        ),
        plugin_snapshot_revision=given.plugin_snapshot_revision,
        execution_state_ref=shelf.put(
            "execution_state", given.execution_state_ref, given.execution_state
        ),
    )
    shelf.drop_all_but(
        {
            manifest.tool_state_ref,
            manifest.plugin_snapshot_ref,
            manifest.execution_state_ref,
            *(frame.execution_state_ref for frame in frames),
        }
    )
    stored = texts.checkpoint(manifest)
    db.execute(SAVE_MANIFEST, (session_id, stored.ref, stored.text))
    return stored


def load(db: sqlite3.Connection, session_id: str, ref: BlobRef) -> HydratedSessionCheckpoint:
    """The checkpoint with its components. Raises `StoreBackendError` if any of it is missing."""
    row = db.execute(LOAD_MANIFEST, (session_id, ref)).fetchone()
    if row is None:
        raise _blobs.missing(session_id, ref)
    manifest = decode_manifest(row[0])
    state_ref = manifest.execution_state_ref
    return HydratedSessionCheckpoint(
        turn_state=manifest.turn_state,
        tool_state_ref=manifest.tool_state_ref,
        tool_state=_value(db, session_id, manifest.tool_state_ref, ToolState),
        plugin_snapshot_ref=manifest.plugin_snapshot_ref,
        plugin_snapshot=_value(db, session_id, manifest.plugin_snapshot_ref, PluginSessionSnapshot),
        plugin_snapshot_revision=manifest.plugin_snapshot_revision,
        execution_state_ref=state_ref,
        execution_state=None if state_ref is None else _blobs.load(db, session_id, state_ref),
    )


def decode_manifest(text: str) -> SessionCheckpoint:
    return decode_versioned_json_record(
        text, "SessionCheckpoint", SESSION_CHECKPOINT_SCHEMA_VERSION, SessionCheckpoint
    )


def delete_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(_blobs.DELETE_ALL, (session_id,))
    db.execute(DELETE_MANIFEST, (session_id,))


def _json(component: BaseModel | None) -> bytes | None:
    return None if component is None else canonical_json(component)


def _value(
    db: sqlite3.Connection, session_id: str, ref: BlobRef | None, record: type[M]
) -> M | None:
    if ref is None:
        return None
    return decode(record, _blobs.load(db, session_id, ref), kind="checkpoint component")
