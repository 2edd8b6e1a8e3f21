"""A backend that writes the small calls alone and takes everything that it is provided with.

What it stores is stored by another storage, so that nothing but the composition differs. Each of
its calls lets others run before and after it, as a call over a network would.
"""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from anyio.lowlevel import checkpoint

from lash_runtime.ports.provided import ProvidedCalls
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage


class SmallCallStore(ProvidedCalls):
    """A session store without any call that `ProvidedCalls` has."""

    def __init__(self, intact: Any) -> None:
        for name in dir(intact):
            if not name.startswith("_") and not hasattr(ProvidedCalls, name):
                setattr(self, name, _letting_others_run(getattr(intact, name)))


class SmallCallStores:
    """A factory that gives such stores."""

    def __init__(self, intact: Any) -> None:
        for name in dir(intact):
            if not name.startswith("_") and not hasattr(SmallCallStores, name):
                setattr(self, name, getattr(intact, name))
        self._intact = intact

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return SmallCallStore(await self._intact.create_store(request))

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        store = await self._intact.open_existing_store(request)
        return None if store is None else SmallCallStore(store)


class SmallCallStorage:
    """A storage whose sessions are stored so."""

    def __init__(self, intact: Storage) -> None:
        self._intact = intact
        self.session_stores = SmallCallStores(intact.session_stores)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)


def _letting_others_run(member: Any) -> Any:
    if not iscoroutinefunction(member):
        return member
    call: Callable[..., Awaitable[Any]] = member

    async def patient(*args: Any, **named: Any) -> Any:
        await checkpoint()
        answer = await call(*args, **named)
        await checkpoint()
        return answer

    return patient
