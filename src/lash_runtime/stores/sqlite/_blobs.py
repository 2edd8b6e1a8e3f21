"""Blobs: bytes of one session under the hash of their content.

The hash is that of the content itself, whatever form it takes in the file, so the same bytes
have the same ref under every profile, and a database may hold blobs of several.
"""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, assert_never

from ...ports.session_state import BlobRef
from ...ports.store_errors import StoreBackendError

_ZLIB: Final = "zlib"
_PLAIN: Final = "none"

INSERT: Final = """
    INSERT INTO blobs (session_id, hash, kind, codec, content)
    VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (session_id, hash) DO NOTHING
"""
STORED: Final = "SELECT hash FROM blobs WHERE session_id = ?"
LOAD: Final = "SELECT codec, content FROM blobs WHERE session_id = ? AND hash = ?"
DELETE: Final = "DELETE FROM blobs WHERE session_id = ? AND hash = ?"
DELETE_ALL: Final = "DELETE FROM blobs WHERE session_id = ?"


class BuiltinBlobProfile(StrEnum):
    """From which size on a storage compresses the states of tools, plugins and executions."""

    LOW_LATENCY = "low_latency"
    """Never: what a commit writes is written as it is."""

    BALANCED = "balanced"
    """From 4,096 bytes on."""

    COMPACT = "compact"
    """From 1,024 bytes on."""

    def compresses(self, size: int) -> bool:
        """Whether so many bytes are compressed."""
        match self:
            case BuiltinBlobProfile.LOW_LATENCY:
                return False
            case BuiltinBlobProfile.BALANCED:
                return size >= 4096
            case BuiltinBlobProfile.COMPACT:
                return size >= 1024
            case _:
                assert_never(self)


class Shelf:
    """The blobs of one session, in the transaction of the caller."""

    __slots__ = ("_db", "_profile", "_session_id", "_stored")

    def __init__(
        self, db: sqlite3.Connection, session_id: str, profile: BuiltinBlobProfile
    ) -> None:
        self._db = db
        self._session_id = session_id
        self._profile = profile
        self._stored = stored(db, session_id)

    def put(self, kind: str, ref: BlobRef | None, content: bytes | None) -> BlobRef | None:
        """The ref of a component after this commit; stores `content` if there is any.

        Raises `StoreBackendError` for a ref without content that nothing is stored under.
        """
        if content is None:
            if ref is not None and ref not in self._stored:
                raise missing(self._session_id, ref)
            return ref
        ref = hashlib.sha256(content).hexdigest()
        if ref not in self._stored:
            codec, form = packed(content, self._profile)
            self._db.execute(INSERT, (self._session_id, ref, kind, codec, form))
            self._stored.add(ref)
        return ref

    def drop_all_but(self, wanted: set[BlobRef | None]) -> None:
        if superseded := self._stored - wanted:
            delete(self._db, self._session_id, superseded)


def stored(db: sqlite3.Connection, session_id: str) -> set[BlobRef]:
    """The refs of everything that the session has."""
    return {ref for (ref,) in db.execute(STORED, (session_id,))}


def load(db: sqlite3.Connection, session_id: str, ref: BlobRef) -> bytes:
    """Raises `StoreBackendError` for a ref to nothing, and for what cannot be unpacked."""
    row = db.execute(LOAD, (session_id, ref)).fetchone()
    if row is None:
        raise missing(session_id, ref)
    codec, content = row
    return unpacked(ref, codec, content)


def delete(db: sqlite3.Connection, session_id: str, refs: Iterable[BlobRef]) -> None:
    db.executemany(DELETE, [(session_id, ref) for ref in refs])


def missing(session_id: str, ref: BlobRef) -> StoreBackendError:
    return StoreBackendError(
        f"no part of a checkpoint is stored under {ref!r} in session {session_id!r}"
    )


def packed(content: bytes, profile: BuiltinBlobProfile) -> tuple[str, bytes]:
    """The form in which `content` is stored, with the name of that form before it."""
    if profile.compresses(len(content)):
        return _ZLIB, zlib.compress(content)
    return _PLAIN, content


def unpacked(ref: BlobRef, codec: str, content: bytes) -> bytes:
    """What was packed so. Raises `StoreBackendError` where that is not what it is."""
    if codec != _ZLIB:
        return content
    try:
        return zlib.decompress(content)
    except zlib.error as error:
        raise StoreBackendError(f"blob {ref!r} cannot be unpacked: {error}") from error
