"""Attachment bytes in the database, by the hash of their content."""

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from ...model.attachments import AttachmentCreateMeta, AttachmentRef
from ...ports.attachments import AttachmentStoreError, StoredAttachment
from ...ports.durability import DurabilityTier
from ...ports.store_errors import StoreError
from ._records import decode
from ._scope import StorageScope

T = TypeVar("T")

PUT: Final = """
    INSERT INTO attachments (attachment_id, meta_json, content)
    VALUES (?, ?, ?)
        ON CONFLICT (attachment_id) DO UPDATE SET meta_json = excluded.meta_json
"""
GET: Final = "SELECT meta_json, content FROM attachments WHERE attachment_id = ?"
DELETE: Final = "DELETE FROM attachments WHERE attachment_id = ?"


class SqliteAttachments:
    """Shared by all sessions of a storage. What the database raises has the code `backend`."""

    __slots__ = ("_scope",)

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._scope.durability_tier

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        """The last metadata given for equal bytes wins."""
        return await _answered(
            lambda: self._scope.database.write(partial(_put, data=data, meta=meta), len(data))
        )

    async def get(self, attachment_id: str) -> StoredAttachment:
        held = await _answered(
            lambda: self._scope.database.read(partial(_get, attachment_id=attachment_id))
        )
        if held is None:
            raise AttachmentStoreError("not_found", f"no attachment {attachment_id!r} is stored")
        return held

    async def delete(self, attachment_id: str) -> None:
        await _answered(
            lambda: self._scope.database.write(partial(_delete, attachment_id=attachment_id))
        )


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except StoreError as error:
        raise AttachmentStoreError("backend", str(error)) from error


def _put(db: sqlite3.Connection, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
    ref = AttachmentRef(
        id=hashlib.sha256(data).hexdigest(),
        byte_len=len(data),
        media_type=meta.media_type,
        width=meta.width,
        height=meta.height,
        label=meta.label,
    )
    db.execute(PUT, (ref.id, ref.model_dump_json(), data))
    return ref


def _get(db: sqlite3.Connection, attachment_id: str) -> StoredAttachment | None:
    row = db.execute(GET, (attachment_id,)).fetchone()
    if row is None:
        return None
    return StoredAttachment(
        meta=decode(AttachmentRef, row[0], kind="attachment's metadata"), data=row[1]
    )


def _delete(db: sqlite3.Connection, attachment_id: str) -> None:
    db.execute(DELETE, (attachment_id,))
