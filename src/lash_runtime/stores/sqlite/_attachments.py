"""Attachment bytes in the database, by the hash of their content.

Bytes that a sweep has set aside carry its id in `retired_by`. They read as before, and storing
them again takes the mark off, so that the sweep finds nothing of its own to remove.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from ...model.attachments import AttachmentCreateMeta, AttachmentRef
from ...ports.attachments import AttachmentStoreError, StoredAttachment, attachment_id_of
from ...ports.durability import DurabilityTier
from ...ports.store_errors import StoreError
from ._records import decode
from ._scope import StorageScope

T = TypeVar("T")

PUT: Final = """
    INSERT INTO attachments (attachment_id, meta_json, stored_at_ms, content)
    VALUES (?, ?, ?, ?)
        ON CONFLICT (attachment_id) DO UPDATE
       SET meta_json = excluded.meta_json, stored_at_ms = excluded.stored_at_ms,
           retired_by = NULL
"""
GET: Final = "SELECT meta_json, content FROM attachments WHERE attachment_id = ?"
DELETE: Final = "DELETE FROM attachments WHERE attachment_id = ?"
STORED: Final = "SELECT attachment_id FROM attachments WHERE stored_at_ms <= ?"
RETIRED: Final = "SELECT attachment_id FROM attachments WHERE retired_by IS NOT NULL"
RETIRE: Final = "UPDATE attachments SET retired_by = ? WHERE attachment_id = ?"
RESTORE: Final = "UPDATE attachments SET retired_by = NULL WHERE attachment_id = ?"
DISCARD: Final = "DELETE FROM attachments WHERE attachment_id = ? AND retired_by = ?"

_LARGEST: Final = 2**63 - 1


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
        ref = AttachmentRef.of(await attachment_id_of(data), len(data), meta)

        def body(db: sqlite3.Connection) -> None:
            now_ms = self._scope.clock.timestamp_ms()
            db.execute(PUT, (ref.id, ref.model_dump_json(), now_ms, data))

        await self._write(body, len(data))
        return ref

    async def get(self, attachment_id: str) -> StoredAttachment:
        held = await self._read(partial(_get, attachment_id=attachment_id))
        if held is None:
            raise AttachmentStoreError("not_found", f"no attachment {attachment_id!r} is stored")
        return held

    async def delete(self, attachment_id: str) -> None:
        await self._change(DELETE, attachment_id)

    async def list_stored(self, older_than_epoch_ms: int) -> Sequence[str]:
        bound = max(-_LARGEST, min(older_than_epoch_ms, _LARGEST))
        return await self._ids(STORED, bound)

    async def list_retired(self) -> Sequence[str]:
        return await self._ids(RETIRED)

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        await self._change(RETIRE, sweep_id, attachment_id)

    async def restore(self, attachment_id: str) -> None:
        await self._change(RESTORE, attachment_id)

    async def discard(self, attachment_id: str, sweep_id: str) -> None:
        await self._change(DISCARD, attachment_id, sweep_id)

    async def _ids(self, statement: str, *values: object) -> list[str]:
        def body(db: sqlite3.Connection) -> list[str]:
            return [attachment_id for (attachment_id,) in db.execute(statement, values)]

        return await self._read(body)

    async def _change(self, statement: str, *values: object) -> None:
        def body(db: sqlite3.Connection) -> None:
            db.execute(statement, values)

        await self._write(body)

    async def _read(self, body: Callable[[sqlite3.Connection], T]) -> T:
        return await _answered(lambda: self._scope.database.read(body))

    async def _write(self, body: Callable[[sqlite3.Connection], T], size: int = 0) -> T:
        return await _answered(lambda: self._scope.database.write(body, size))


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except StoreError as error:
        raise AttachmentStoreError("backend", str(error)) from error


def _get(db: sqlite3.Connection, attachment_id: str) -> StoredAttachment | None:
    row = db.execute(GET, (attachment_id,)).fetchone()
    if row is None:
        return None
    return StoredAttachment(
        meta=decode(AttachmentRef, row[0], kind="attachment's metadata"), data=row[1]
    )
