"""Stores that break one rule, and a way to see whether one case of the suite notices."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.ports.store_errors import StoreError
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance import StorageConformance


class Wrapped:
    """A session store that does everything as the intact one does, but for one override."""

    def __init__(self, intact: RuntimePersistence) -> None:
        self.intact = intact

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intact, name)


class BrokenStorage:
    """A storage in memory, with its session stores exchanged for broken ones."""

    def __init__(self, broken: type[Any], intact: Callable[[], Any] = MemoryStorage) -> None:
        self.intact = intact()
        self._broken = broken
        self._stores: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intact, name)

    @property
    def session_stores(self) -> Any:
        return self if issubclass(self._broken, Wrapped) else self.intact.session_stores

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        intact = await self.intact.session_stores.create_store(request)
        return self._stores.setdefault(request.session_id, self._broken(intact))


async def passes(case: str, make: Callable[[], Any]) -> bool:
    """Whether that case of the suite passes on a storage that `make` builds.

    Any error that is neither the case's own verdict nor the store's is a mistake in this file.
    """
    suite = StorageConformance()
    clock = ManualClock()
    storage: Storage = make()
    storage.bind(clock=clock, ids=FixedIdSource())
    await storage.open()
    method = getattr(suite, case)
    asked = inspect.signature(method).parameters
    given = {"storage": storage, "clock": clock, "attachments": storage.attachments}
    given["process_envs"] = storage.process_env_store
    given["disclaimed"] = suite.without
    given |= {"journaling": storage, "disclaimed": suite.without}
    try:
        await method(**{name: given[name] for name in asked})
    except (AssertionError, pytest.fail.Exception, StoreError):
        return False
    finally:
        await storage.aclose()
    return True
