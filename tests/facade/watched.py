"""A host's own factory around the stores of a storage, which sees every call before it is made."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage

Before = Callable[[str], Awaitable[None]]


class WatchedStores:
    """Awaits `before` with the method's name ahead of every call of a session's store."""

    def __init__(self, storage: Storage, before: Before) -> None:
        self._stores = storage.session_stores
        self._before = before

    @property
    def durability_tier(self) -> Any:
        return self._stores.durability_tier

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return _WatchedStore(await self._stores.create_store(request), self._before)

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        store = await self._stores.open_existing_store(request)
        return None if store is None else _WatchedStore(store, self._before)


class _WatchedStore:
    def __init__(self, store: Any, before: Before) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def watched(*args: Any, **named: Any) -> Any:
            await self._before(name)
            return await attribute(*args, **named)

        return watched


class Calls(list[str]):
    """Writes down the name of each call."""

    async def __call__(self, name: str) -> None:
        self.append(name)


class Gate:
    """Holds the first call of `name` until it is released."""

    def __init__(self, name: str) -> None:
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self._name = name

    async def __call__(self, name: str) -> None:
        if name == self._name and not self.entered.is_set():
            self.entered.set()
            await self.release.wait()
