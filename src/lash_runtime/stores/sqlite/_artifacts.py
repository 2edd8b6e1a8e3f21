"""Artifacts: bytes of no session, under keys that their owners give.

A pointer leads from each key, in its namespace, to bytes that are stored once under the hash of
their content, whoever else has put the same. Pointers are never removed, only moved. Bytes that no
pointer leads to any more go in the transaction that moved the last one away.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from ...ports.session_state import BlobRef
from ...ports.store_errors import StoreBackendError, StoreError
from ._blobs import BuiltinBlobProfile, packed, unpacked
from ._records import decode_member

INSERT: Final = """
    INSERT INTO artifact_blobs (hash, codec, content)
    VALUES (?, ?, ?)
        ON CONFLICT (hash) DO NOTHING
"""
LOAD_REF: Final = """
    SELECT blob_ref
      FROM artifact_refs
     WHERE namespace = ? AND artifact_ref = ?
"""
POINT: Final = """
    INSERT INTO artifact_refs (namespace, artifact_ref, blob_ref)
    VALUES (?, ?, ?)
        ON CONFLICT (namespace, artifact_ref) DO UPDATE
       SET blob_ref = excluded.blob_ref
"""
LOAD: Final = """
    SELECT codec, content
      FROM artifact_blobs
     WHERE hash = ?
"""
_UNNAMED: Final = "NOT EXISTS (SELECT 1 FROM artifact_refs WHERE blob_ref = hash)"
DELETE_UNNAMED: Final = f"""
    DELETE FROM artifact_blobs
     WHERE hash = ? AND {_UNNAMED}
"""  # noqa: S608 - made of constants
SWEEP: Final = f"""
    DELETE FROM artifact_blobs
     WHERE rowid IN (SELECT rowid FROM artifact_blobs WHERE {_UNNAMED} LIMIT ?)
"""  # noqa: S608 - made of constants
COUNT: Final = f"""
    SELECT (SELECT count(*) FROM artifact_refs),
           (SELECT count(*) FROM artifact_blobs),
           (SELECT count(*) FROM artifact_blobs WHERE {_UNNAMED})
"""  # noqa: S608 - made of constants
ALL_REFS: Final = """
    SELECT namespace, artifact_ref, blob_ref
      FROM artifact_refs
     ORDER BY namespace, artifact_ref
"""
ALL_BLOBS: Final = "SELECT hash, codec, content FROM artifact_blobs ORDER BY hash"


class Namespace(StrEnum):
    """What a key is a key of. Equal keys of two namespaces have nothing to do with each other.

    The last two are for what an embedded language keeps of its modules; nothing writes them yet.
    """

    PROCESS_EXECUTION_ENV = "process_execution_env"
    LASHLANG_MODULE = "lashlang_module"
    LASHLANG_ARTIFACT = "lashlang_artifact"


class Artifact(NamedTuple):
    """Bytes in the form in which they are stored, and the hash of what they are."""

    ref: BlobRef
    codec: str
    content: bytes

    @classmethod
    def of(cls, content: bytes, profile: BuiltinBlobProfile) -> "Artifact":
        return cls(hashlib.sha256(content).hexdigest(), *packed(content, profile))


class Reach(NamedTuple):
    """Pointers, and the bytes that they lead to or do not."""

    pointers: int
    named: int
    unnamed: int


def put(db: sqlite3.Connection, namespace: Namespace, key: str, artifact: Artifact) -> None:
    before = db.execute(LOAD_REF, (namespace.value, key)).fetchone()
    db.execute(INSERT, artifact)
    db.execute(POINT, (namespace.value, key, artifact.ref))
    if before is not None:
        db.execute(DELETE_UNNAMED, before)


def get(db: sqlite3.Connection, namespace: Namespace, key: str) -> bytes | None:
    """`None` for a key that nothing was put under. Raises `StoreBackendError` for one whose bytes
    are missing or cannot be unpacked."""
    pointer = db.execute(LOAD_REF, (namespace.value, key)).fetchone()
    if pointer is None:
        return None
    stored = db.execute(LOAD, pointer).fetchone()
    if stored is None:
        raise _missing(namespace, key, pointer[0])
    codec, content = stored
    return unpacked(pointer[0], codec, content)


def reach(db: sqlite3.Connection) -> Reach:
    pointers, stored, unnamed = db.execute(COUNT).fetchone()
    return Reach(pointers, stored - unnamed, unnamed)


def sweep(db: sqlite3.Connection, most: int) -> int:
    """Remove bytes that no pointer leads to, at most so many; says how many."""
    return db.execute(SWEEP, (most,)).rowcount


def problems(db: sqlite3.Connection) -> Iterator[str]:
    """What no sequence of puts can bring about."""
    stored = set()
    for ref, codec, content in db.execute(ALL_BLOBS):
        stored.add(ref)
        try:
            if hashlib.sha256(unpacked(ref, codec, content)).hexdigest() != ref:
                yield f"artifact bytes {ref!r} have other content than their name says"
        except StoreError as error:
            yield str(error)
    for namespace, key, ref in db.execute(ALL_REFS):
        try:
            known = decode_member(Namespace, namespace, kind="artifact's namespace")
        except StoreError as error:
            yield str(error)
            continue
        if ref not in stored:
            yield str(_missing(known, key, ref))


def _missing(namespace: Namespace, key: str, ref: BlobRef) -> StoreBackendError:
    return StoreBackendError(f"{namespace.value} {key!r} leads to bytes that are gone: {ref!r}")
