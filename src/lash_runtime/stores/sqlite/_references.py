"""What the sessions of one database say together about attachments."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from . import _manifest
from ._scope import StorageScope


class SqliteAttachmentReferences:
    """The `AttachmentReferences` of a storage; part of its session store factory."""

    __slots__ = ("_scope",)

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope

    async def list_abandoned(self, older_than_epoch_ms: int) -> Sequence[str]:
        return await self._scope.database.read(
            partial(_manifest.abandoned, older_than_ms=older_than_epoch_ms)
        )

    async def kept_of(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        return await self._scope.database.read(
            partial(
                _manifest.kept_of,
                attachment_ids=attachment_ids,
                older_than_ms=older_than_epoch_ms,
            )
        )

    async def forget_abandoned(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        def body(db: sqlite3.Connection) -> frozenset[str]:
            return _manifest.forget_abandoned(db, attachment_ids, older_than_epoch_ms)

        return await self._scope.database.write(body)
