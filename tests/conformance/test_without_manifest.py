"""A backend that keeps no manifest: it may say so, and is held to everything else."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lash_runtime.ports.attachments import AttachmentReferences, NoopAttachmentManifest
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.session_catalogue import SessionDeleteReport, SessionPage, SessionQuery
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance import StorageConformance


class PlainStore(NoopAttachmentManifest):
    """A session store that has no manifest of its own."""

    def __init__(self, intact: RuntimePersistence) -> None:
        self._intact = intact

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)


class PlainStores:
    """A factory that cannot say what its sessions refer to."""

    def __init__(self, intact: Any) -> None:
        self._intact = intact
        self.durability_tier = intact.durability_tier

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return PlainStore(await self._intact.create_store(request))

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        store = await self._intact.open_existing_store(request)
        return None if store is None else PlainStore(store)

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        report: SessionDeleteReport = await self._intact.delete_session(session_id)
        return report

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page: SessionPage = await self._intact.list_sessions(query)
        return page


class PlainStorage:
    """The memory storage without its manifest, and without all that rests on it."""

    def __init__(self) -> None:
        self._intact = MemoryStorage()
        self.session_stores = PlainStores(self._intact.session_stores)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)


class TestWithoutManifest(StorageConformance):
    without: ClassVar[Any] = ("manifest", "collection", "journal")

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return PlainStorage


def test_such_a_backend_cannot_say_what_its_sessions_refer_to() -> None:
    """So a sweep refuses to remove anything, instead of finding that nobody keeps it."""
    assert not isinstance(PlainStorage().session_stores, AttachmentReferences)
