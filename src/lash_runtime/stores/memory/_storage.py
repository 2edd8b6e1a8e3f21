"""`MemoryStorage`: every port of a storage over plain dictionaries.

The rules are those of every other store; only nothing outlives the object. It belongs to one
event loop, and needs no lock because no call awaits between its first and its last step.
"""

import heapq
from collections.abc import Sequence
from itertools import islice

from ...model.session_meta import SessionMeta
from ...ports.clock import Clock
from ...ports.durability import DurabilityTier
from ...ports.ids import IdSource
from ...ports.session_catalogue import (
    SessionDeleteReport,
    SessionPage,
    SessionPickerInfo,
    SessionQuery,
)
from ...ports.storage import SessionStoreCreateRequest
from ...ports.turn_ledger import StoredUnfinishedTurn, TurnRow
from ...waits.keeper import AwaitEventKeeper
from ...waits.memory import MemoryWaitBook
from ...waits.signal import WaitSignal
from ..local_signals import LocalSignals
from ._attachments import MemoryAttachments
from ._book import SessionBook
from ._library import Library
from ._process_envs import MemoryProcessEnvs
from ._references import MemoryAttachmentReferences
from ._store import MemorySessionStore


class MemorySessionStores(MemoryAttachmentReferences):
    """Opens the sessions of one storage; the same session gives the same store."""

    durability_tier = DurabilityTier.INLINE

    def __init__(
        self,
        library: Library,
        attachments: MemoryAttachments,
        waits: MemoryWaitBook,
        wait_signal: WaitSignal,
    ) -> None:
        super().__init__(library)
        self._attachments = attachments
        self._waits = waits
        self._wait_signal = wait_signal
        self._stores: dict[str, MemorySessionStore] = {}

    async def create_store(self, request: SessionStoreCreateRequest) -> MemorySessionStore:
        book = self._library.book(request.session_id)
        if book.meta is None:
            meta = SessionMeta(
                session_id=request.session_id,
                session_name=request.session_id,
                created_at=self._library.clock.timestamp_rfc3339(),
                model=request.policy.model.id,
                relation=request.relation,
            )
            book.create(meta, self._library.now_ms())
        return self._store(request.session_id)

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> MemorySessionStore | None:
        if not self._library.exists(request.session_id):
            return None
        return self._store(request.session_id)

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        book = self._library.bury(session_id)
        self._stores.pop(session_id, None)
        if book is None:
            self._waits.drop_session(session_id)
        else:
            self._waits.revoke_now(session_id, book.generation)
        self._wait_signal.ring_session(session_id)
        if book is None:
            return SessionDeleteReport(session_id=session_id, existed=False)
        still_named = [other.attachments for other in self._library.books()]
        dropped = [
            self._attachments.drop(name)
            for name in book.attachments.ids()
            if not any(manifest.names(name) for manifest in still_named)
        ]
        return SessionDeleteReport(
            session_id=session_id,
            existed=book.exists,
            removed_node_count=len(book.nodes),
            removed_turn_count=len(book.turns),
            removed_attachment_count=sum(dropped),
        )

    async def list_unfinished_turns(
        self, *, after: StoredUnfinishedTurn | None = None, limit: int = 1_000
    ) -> Sequence[StoredUnfinishedTurn]:
        start = ("", 0) if after is None else (after.session_id, after.seq)
        books = sorted(self._library.books(), key=lambda book: book.session_id)
        found = (
            _unfinished(book, row)
            for book in books
            for row in book.turns.unfinished()
            if book.exists and (row.session_id, row.seq) > start
        )
        return list(islice(found, limit))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        start = query.start()
        entries = [_entry(book, book.meta) for book in self._library.books() if book.meta]
        if start is not None:
            entries = [entry for entry in entries if query.key_of(entry) < start]
        return query.page(heapq.nlargest(query.limit + 1, entries, key=query.key_of))

    def _store(self, session_id: str) -> MemorySessionStore:
        store = self._stores.get(session_id)
        if store is None:
            store = self._stores[session_id] = MemorySessionStore(self._library, session_id)
        return store


def _entry(book: SessionBook, meta: SessionMeta) -> SessionPickerInfo:
    return SessionPickerInfo(
        session_id=book.session_id,
        session_name=meta.session_name,
        created_at_epoch_ms=book.created_at_ms,
        updated_at_epoch_ms=book.updated_at_ms,
        model=meta.model,
        cwd=meta.cwd,
        relation=meta.relation,
        message_count=book.digest.message_count,
        user_message_count=book.digest.user_message_count,
        first_user_message=book.digest.first_user_message,
        last_message=book.digest.last_message,
    )


def _unfinished(book: SessionBook, row: TurnRow) -> StoredUnfinishedTurn:
    return StoredUnfinishedTurn(
        session_id=row.session_id,
        seq=row.seq,
        turn_id=row.turn_id,
        state=row.state,
        journaled=row.journaled,
        attempt=row.attempt,
        accepted_at_ms=row.accepted_at_ms,
        required_wiring=row.required_wiring,
        lease=book.lane.lease,
    )


class MemoryStorage:
    """A storage that lives as long as this object: closing and opening it loses nothing.

    While it is open it belongs to the event loop and the process that opened it.
    """

    def __init__(self) -> None:
        self._library = Library()
        self._attachments = MemoryAttachments(self._library)
        self._process_envs = MemoryProcessEnvs(self._library)
        waits = MemoryWaitBook(
            generation_of=self._library.last_generation, check=self._library.check_open
        )
        self._wait_signal = WaitSignal(shared_book=False)
        self._session_stores = MemorySessionStores(
            self._library, self._attachments, waits, self._wait_signal
        )
        self._await_events = AwaitEventKeeper(waits, self._wait_signal, lambda: self._library.clock)

    @property
    def session_stores(self) -> MemorySessionStores:
        return self._session_stores

    @property
    def attachments(self) -> MemoryAttachments:
        return self._attachments

    @property
    def process_env_store(self) -> MemoryProcessEnvs:
        return self._process_envs

    @property
    def signals(self) -> LocalSignals:
        return self._library.signals

    @property
    def await_events(self) -> AwaitEventKeeper:
        """The durable waits of the storage, which live as long as it does."""
        return self._await_events

    def bind(self, *, clock: Clock, ids: IdSource) -> None:
        self._library.clock = clock
        self._library.ids = ids

    async def open(self) -> None:
        self._library.open()

    async def aclose(self) -> None:
        self._library.close()
        self._wait_signal.ring_all()
