"""`SqliteStorage`: every port of a storage over one database file."""

import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self
from warnings import warn

import anyio

from ...model.session_meta import SessionMeta
from ...model.unicode_text import storable_text
from ...ports.clock import Clock
from ...ports.durability import DurabilityTier
from ...ports.ids import IdSource
from ...ports.session_catalogue import SessionDeleteReport, SessionPage, SessionQuery
from ...ports.storage import SessionStoreCreateRequest
from ...ports.turn_ledger import StoredUnfinishedTurn
from ...waits.keeper import AwaitEventKeeper
from . import _catalogue, _deletion, _meta, _sessions, _unfinished
from ._attachments import SqliteAttachments
from ._auto_gc import NO_GC, GcPolicy
from ._await_events import await_events_over
from ._blobs import BuiltinBlobProfile
from ._connections import MEMORY, ConnectionSettings, Synchronous
from ._database import Database
from ._maintenance import SqliteMaintenance
from ._process_envs import SqliteProcessEnvs
from ._references import SqliteAttachmentReferences
from ._scope import StorageScope
from ._signals import SqliteSignals
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
        generation = await self._living_generation(request.session_id)
        while generation is None:
            generation = await database.write(partial(self._begin, request))
            if generation is None:
                await _deletion.sweep(database, self._scope.clock, request.session_id)
        return SqliteSessionStore(self._scope, request.session_id, generation)

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> SqliteSessionStore | None:
        generation = await self._living_generation(request.session_id)
        if generation is None:
            return None
        return SqliteSessionStore(self._scope, request.session_id, generation)

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        try:
            return await _deletion.delete(self._scope.database, self._scope.clock, session_id)
        finally:
            self._scope.wait_signal.ring_session(session_id)

    async def list_unfinished_turns(
        self, *, after: StoredUnfinishedTurn | None = None, limit: int = 1_000
    ) -> Sequence[StoredUnfinishedTurn]:
        return await self._scope.database.read(partial(_unfinished.page, after=after, limit=limit))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._scope.database.read(partial(_catalogue.page, query=query))

    async def _living_generation(self, session_id: str) -> int | None:
        found = await self._scope.database.read(partial(_sessions.load, session_id=session_id))
        return found.generation if found is not None and found.is_live else None

    def _begin(self, request: SessionStoreCreateRequest, db: sqlite3.Connection) -> int | None:
        """The generation of the session, which is created if it does not exist; `None` while
        a deleted one has left something under its id."""
        clock = self._scope.clock
        generation = _sessions.begin(db, request.session_id, clock.timestamp_ms())
        if generation is not None:
            meta = SessionMeta(
                session_id=request.session_id,
                session_name=request.session_id,
                created_at=clock.timestamp_rfc3339(),
                model=request.policy.model.id,
                cwd=_working_directory(),
                relation=request.relation,
            )
            _meta.seed(db, meta)
        return generation


def _profile_of(path: str) -> BuiltinBlobProfile:
    return BuiltinBlobProfile.LOW_LATENCY if path == MEMORY else BuiltinBlobProfile.BALANCED


def _working_directory() -> str | None:
    """Where this process is, for people to know a session by; `None` if that folder is gone."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    return storable_text(folder, limit=len(folder))


class SqliteStorage:
    """A storage in the SQLite file `path`, which is made if it does not exist.

    `synchronous="full"` keeps every acknowledged write through a loss of power; `"normal"` is
    faster and may then lose the last ones, never the consistency of the file. `busy_timeout_ms`
    is how long a write waits for another process before it raises `StoreContended`. `gc_policy`
    is what it tidies up by itself; the rest of its upkeep is `maintenance`. `blob_profile` says
    which states it compresses: balanced on a file, none in memory, unless it is given.
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
        gc_policy: GcPolicy = NO_GC,
        blob_profile: BuiltinBlobProfile | None = None,
    ) -> None:
        if synchronous not in ("full", "normal"):
            raise ValueError(f"synchronous is 'full' or 'normal', not {synchronous!r}")
        name = os.fspath(path)
        self._scope = StorageScope(
            ConnectionSettings(
                path=name if name == MEMORY else str(Path(name).absolute()),
                synchronous=synchronous,
                busy_timeout_ms=busy_timeout_ms,
            ),
            gc_policy,
            _profile_of(name) if blob_profile is None else BuiltinBlobProfile(blob_profile),
        )
        self._opening = anyio.Lock()
        self._session_stores = SqliteSessionStores(self._scope)
        self._attachments = SqliteAttachments(self._scope)
        self._process_envs = SqliteProcessEnvs(self._scope)
        self._await_events = await_events_over(self._scope)
        self._maintenance = SqliteMaintenance(self._scope)
        self._signals = SqliteSignals(self._scope)

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

    @property
    def process_env_store(self) -> SqliteProcessEnvs:
        return self._process_envs

    @property
    def signals(self) -> SqliteSignals:
        return self._signals

    @property
    def await_events(self) -> AwaitEventKeeper:
        """The durable waits in the database, answered from any process that has it open."""
        return self._await_events

    @property
    def maintenance(self) -> SqliteMaintenance:
        """Backup, check and upkeep of the whole database, while the storage is open."""
        return self._maintenance

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
                announce = self._signals.announce_all
                self._scope.opened(await Database.open(self._scope.settings, announce))

    async def aclose(self) -> None:
        async with self._opening:
            if self._scope.is_open:
                self._scope.database.check_owner()
            database = self._scope.closed()
            if database is not None:
                self._scope.wait_signal.ring_all()
                try:
                    await database.close()
                finally:
                    self._signals.end()

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
            self._signals.abandon()
            warn(
                f"the SQLite storage of {self.path} was never closed: "
                "use it as `async with`, or call aclose()",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
