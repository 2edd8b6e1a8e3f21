"""`SqliteStorage`: every port of a storage over one database file."""

import os
from functools import partial
from pathlib import Path
from typing import Self
from warnings import warn

import anyio

from ...model.session_meta import SessionMeta
from ...ports.clock import Clock
from ...ports.durability import DurabilityTier
from ...ports.ids import IdSource
from ...ports.storage import SessionStoreCreateRequest
from . import _meta
from ._attachments import SqliteAttachments
from ._connections import MEMORY, ConnectionSettings, Synchronous
from ._database import Database
from ._references import SqliteAttachmentReferences
from ._scope import StorageScope
from ._store import SqliteSessionStore

BUSY_TIMEOUT_MS = 15_000


class SqliteSessionStores(SqliteAttachmentReferences):
    """Opens the sessions of one storage. A store is a view of the database and costs nothing."""

    __slots__ = ()

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._scope.durability_tier

    async def create_store(self, request: SessionStoreCreateRequest) -> SqliteSessionStore:
        database = self._scope.database
        exists = partial(_meta.load, session_id=request.session_id)
        if await database.read(exists) is None:
            meta = SessionMeta(
                session_id=request.session_id,
                session_name=request.session_id,
                created_at=self._scope.clock.timestamp_rfc3339(),
                model=request.policy.model.id,
                relation=request.relation,
            )
            await database.write(partial(_meta.seed, meta=meta))
        return SqliteSessionStore(self._scope, request.session_id)

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> SqliteSessionStore | None:
        exists = partial(_meta.exists, session_id=request.session_id)
        if not await self._scope.database.read(exists):
            return None
        return SqliteSessionStore(self._scope, request.session_id)


class SqliteStorage:
    """A storage in the SQLite file `path`, which is made if it does not exist.

    `synchronous="full"` keeps every acknowledged write through a loss of power; `"normal"` is
    faster and may then lose the last ones, never the consistency of the file. `busy_timeout_ms`
    is how long a write waits for another process before it raises `StoreContended`.
    `":memory:"` keeps everything in memory, on one connection, for as long as it is open.

    It belongs to the event loop and the process that opened it. Several may be open on one
    file. Use it as `async with`, or call `open` and `aclose`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "full",
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> None:
        if synchronous not in ("full", "normal"):
            raise ValueError(f"synchronous is 'full' or 'normal', not {synchronous!r}")
        name = os.fspath(path)
        self._scope = StorageScope(
            ConnectionSettings(
                path=name if name == MEMORY else str(Path(name).absolute()),
                synchronous=synchronous,
                busy_timeout_ms=busy_timeout_ms,
            )
        )
        self._opening = anyio.Lock()
        self._session_stores = SqliteSessionStores(self._scope)
        self._attachments = SqliteAttachments(self._scope)

    @property
    def path(self) -> str:
        """The absolute path of the database, or `:memory:`."""
        return self._scope.settings.path

    @property
    def session_stores(self) -> SqliteSessionStores:
        return self._session_stores

    @property
    def attachments(self) -> SqliteAttachments:
        return self._attachments

    def bind(self, *, clock: Clock, ids: IdSource) -> None:
        self._scope.clock = clock
        self._scope.ids = ids

    async def open(self) -> None:
        """Open the file and make its tables if it is new.

        Raises `StoreSchemaUnsupported` for a database of another release or program, and
        `StoreBackendError` for a file that is none or cannot be used.
        """
        async with self._opening:
            if self._scope.is_open:
                self._scope.database.check_owner()
            else:
                self._scope.opened(await Database.open(self._scope.settings))

    async def aclose(self) -> None:
        async with self._opening:
            if self._scope.is_open:
                self._scope.database.check_owner()
            database = self._scope.closed()
            if database is not None:
                await database.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        scope = getattr(self, "_scope", None)
        database = None if scope is None else scope.closed()
        if database is not None:
            database.abandon()
            warn(
                f"the SQLite storage of {self.path} was never closed: "
                "use it as `async with`, or call aclose()",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
