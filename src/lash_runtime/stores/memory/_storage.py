"""`MemoryStorage`: every port of a storage over plain dictionaries.

The rules are those of every other store; only nothing outlives the object. It belongs to one
event loop, and needs no lock because no call awaits between its first and its last step.
"""

from ...model.session_meta import SessionMeta
from ...ports.clock import Clock
from ...ports.durability import DurabilityTier
from ...ports.ids import IdSource
from ...ports.storage import SessionStoreCreateRequest
from ._attachments import MemoryAttachments
from ._library import Library
from ._references import MemoryAttachmentReferences
from ._store import MemorySessionStore


class MemorySessionStores(MemoryAttachmentReferences):
    """Opens the sessions of one storage; the same id gives the same store."""

    durability_tier = DurabilityTier.INLINE

    def __init__(self, library: Library) -> None:
        super().__init__(library)
        self._stores: dict[str, MemorySessionStore] = {}

    async def create_store(self, request: SessionStoreCreateRequest) -> MemorySessionStore:
        book = self._library.book(request.session_id)
        if book.meta is None:
            book.meta = SessionMeta(
                session_id=request.session_id,
                session_name=request.session_id,
                created_at=self._library.clock.timestamp_rfc3339(),
                model=request.policy.model.id,
                relation=request.relation,
            )
        return self._store(request.session_id)

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> MemorySessionStore | None:
        if not self._library.exists(request.session_id):
            return None
        return self._store(request.session_id)

    def _store(self, session_id: str) -> MemorySessionStore:
        store = self._stores.get(session_id)
        if store is None:
            store = self._stores[session_id] = MemorySessionStore(self._library, session_id)
        return store


class MemoryStorage:
    """A storage that lives as long as this object: closing and opening it loses nothing."""

    def __init__(self) -> None:
        self._library = Library()
        self._session_stores = MemorySessionStores(self._library)
        self._attachments = MemoryAttachments(self._library)

    @property
    def session_stores(self) -> MemorySessionStores:
        return self._session_stores

    @property
    def attachments(self) -> MemoryAttachments:
        return self._attachments

    def bind(self, *, clock: Clock, ids: IdSource) -> None:
        self._library.clock = clock
        self._library.ids = ids

    async def open(self) -> None:
        self._library.is_open = True

    async def aclose(self) -> None:
        self._library.is_open = False
