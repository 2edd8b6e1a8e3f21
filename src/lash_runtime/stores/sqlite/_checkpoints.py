"""Checkpoints: a manifest for each head, and components by content address.

A component with a payload is stored under the hash of its content. One with a ref alone is the
one that is there already; a ref to nothing is an error, because the session would go on without
its state. What neither the head nor a frame refers to any more goes with the commit that
superseded it, so that a session of many turns keeps one checkpoint and not many.
"""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

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
from ...ports.store_errors import StoreBackendError
from ._records import decode

M = TypeVar("M", bound=BaseModel)

COMPRESSED_FROM_BYTES: Final = 4096
_ZLIB: Final = "zlib"
_PLAIN: Final = "none"

INSERT_BLOB: Final = """
    INSERT INTO blobs (session_id, hash, kind, codec, content)
    VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (session_id, hash) DO NOTHING
"""
STORED_BLOBS: Final = "SELECT hash FROM blobs WHERE session_id = ?"
LOAD_BLOB: Final = "SELECT codec, content FROM blobs WHERE session_id = ? AND hash = ?"
DELETE_BLOB: Final = "DELETE FROM blobs WHERE session_id = ? AND hash = ?"
DELETE_BLOBS: Final = "DELETE FROM blobs WHERE session_id = ?"

SAVE_MANIFEST: Final = """
    INSERT INTO checkpoints (session_id, checkpoint_ref, manifest_json)
    VALUES (?, ?, ?)
        ON CONFLICT (session_id) DO UPDATE
       SET checkpoint_ref = excluded.checkpoint_ref, manifest_json = excluded.manifest_json
"""
LOAD_MANIFEST: Final = """
    SELECT manifest_json
      FROM checkpoints
     WHERE session_id = ? AND checkpoint_ref = ?
"""
DELETE_MANIFEST: Final = "DELETE FROM checkpoints WHERE session_id = ?"


class StoredCheckpoint(NamedTuple):
    """A manifest with its ref and the text that both are made of."""

    ref: BlobRef
    manifest: SessionCheckpoint
    text: str


def save(
    db: sqlite3.Connection,
    session_id: str,
    given: HydratedSessionCheckpoint,
    frames: Iterable[AgentFrameRecord],
) -> StoredCheckpoint:
    """Store `given` as the one checkpoint of the session."""
    there: set[BlobRef] = {row[0] for row in db.execute(STORED_BLOBS, (session_id,))}
    shelf = _Shelf(db, session_id, there)
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
    text = canonical_json(manifest)
    stored = StoredCheckpoint(hashlib.sha256(text).hexdigest(), manifest, text.decode())
    db.execute(SAVE_MANIFEST, (session_id, stored.ref, stored.text))
    return stored


def load(db: sqlite3.Connection, session_id: str, ref: BlobRef) -> HydratedSessionCheckpoint:
    """The checkpoint with its components. Raises `StoreBackendError` if any of it is missing."""
    row = db.execute(LOAD_MANIFEST, (session_id, ref)).fetchone()
    if row is None:
        raise _missing(session_id, ref)
    manifest = decode_manifest(row[0])
    return HydratedSessionCheckpoint(
        turn_state=manifest.turn_state,
        tool_state_ref=manifest.tool_state_ref,
        tool_state=_value(db, session_id, manifest.tool_state_ref, ToolState),
        plugin_snapshot_ref=manifest.plugin_snapshot_ref,
        plugin_snapshot=_value(db, session_id, manifest.plugin_snapshot_ref, PluginSessionSnapshot),
        plugin_snapshot_revision=manifest.plugin_snapshot_revision,
        execution_state_ref=manifest.execution_state_ref,
        execution_state=content_of(db, session_id, manifest.execution_state_ref),
    )


def decode_manifest(text: str) -> SessionCheckpoint:
    return decode_versioned_json_record(
        text, "SessionCheckpoint", SESSION_CHECKPOINT_SCHEMA_VERSION, SessionCheckpoint
    )


def delete_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(DELETE_BLOBS, (session_id,))
    db.execute(DELETE_MANIFEST, (session_id,))


class _Shelf:
    """The blobs of one session. `stored` are the hashes that are there."""

    __slots__ = ("_db", "_session_id", "_stored")

    def __init__(self, db: sqlite3.Connection, session_id: str, stored: set[BlobRef]) -> None:
        self._db = db
        self._session_id = session_id
        self._stored = stored

    def put(self, kind: str, ref: BlobRef | None, content: bytes | None) -> BlobRef | None:
        """The ref of a component after this commit; stores `content` if there is any."""
        if content is None:
            if ref is not None and ref not in self._stored:
                raise _missing(self._session_id, ref)
            return ref
        ref = hashlib.sha256(content).hexdigest()
        if ref not in self._stored:
            codec, stored = _packed(content)
            self._db.execute(INSERT_BLOB, (self._session_id, ref, kind, codec, stored))
            self._stored.add(ref)
        return ref

    def drop_all_but(self, wanted: set[BlobRef | None]) -> None:
        for ref in self._stored - wanted:
            self._db.execute(DELETE_BLOB, (self._session_id, ref))


def _json(component: BaseModel | None) -> bytes | None:
    return None if component is None else canonical_json(component)


def _packed(content: bytes) -> tuple[str, bytes]:
    if len(content) < COMPRESSED_FROM_BYTES:
        return _PLAIN, content
    return _ZLIB, zlib.compress(content)


def _value(
    db: sqlite3.Connection, session_id: str, ref: BlobRef | None, record: type[M]
) -> M | None:
    content = content_of(db, session_id, ref)
    return None if content is None else decode(record, content, kind="checkpoint component")


def content_of(db: sqlite3.Connection, session_id: str, ref: BlobRef | None) -> bytes | None:
    if ref is None:
        return None
    row = db.execute(LOAD_BLOB, (session_id, ref)).fetchone()
    if row is None:
        raise _missing(session_id, ref)
    codec, stored = row
    content: bytes = stored
    if codec == _ZLIB:
        try:
            content = zlib.decompress(stored)
        except zlib.error as error:
            raise StoreBackendError(f"blob {ref!r} cannot be unpacked: {error}") from error
    return content


def _missing(session_id: str, ref: BlobRef) -> StoreBackendError:
    return StoreBackendError(
        f"no part of a checkpoint is stored under {ref!r} in session {session_id!r}"
    )
