"""Whose a storage in memory is while it is open, and what is left of it afterwards."""

import asyncio
import os

import anyio
import pytest

from lash_runtime.ports.attachments import AttachmentStoreError
from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreError, StoreForked, StoreWrongLoop
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance._samples import a_store

pytestmark = pytest.mark.anyio


async def codes(storage: MemoryStorage) -> list[str]:
    """What every way in answers."""
    found = []
    for call in (
        a_store(storage),
        storage.session_stores.list_sessions(SessionQuery()),
        storage.attachments.get("0" * 64),
        storage.open(),
        storage.aclose(),
    ):
        try:
            await call
        except AttachmentStoreError as error:
            found.append(getattr(error.__cause__, "code", error.code))
        except StoreError as error:
            found.append(error.code)
    return found


async def names(storage: MemoryStorage) -> list[str]:
    page = await storage.session_stores.list_sessions(SessionQuery())
    return [entry.session_id for entry in page.sessions]


async def test_another_loop_is_told_that_the_storage_is_not_its_own() -> None:
    """Two threads would change the same dictionaries at once."""
    storage = MemoryStorage()
    await storage.open()
    await a_store(storage)
    elsewhere = await anyio.to_thread.run_sync(asyncio.run, codes(storage))
    assert elsewhere == [StoreWrongLoop.code] * 5
    assert await names(storage) == ["s"]
    await storage.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_forked_child_is_told_that_the_storage_is_not_its_own() -> None:
    """What it would store there, its parent would never see."""
    storage = MemoryStorage()
    await storage.open()
    child = os.fork()
    if child == 0:
        try:
            await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
        except StoreForked:
            os._exit(7)
        finally:
            os._exit(1)
    status = await anyio.to_thread.run_sync(lambda: os.waitpid(child, 0)[1])
    assert os.waitstatus_to_exitcode(status) == 7
    assert await names(storage) == []
    await storage.aclose()


@pytest.mark.parametrize("closes", [True, False])
def test_what_one_loop_has_stored_the_next_one_finds(closes: bool) -> None:
    """A program may run one loop after the other over one storage, also if it forgets to close."""
    storage = MemoryStorage()

    async def store() -> None:
        await storage.open()
        await a_store(storage)
        if closes:
            await storage.aclose()

    async def look() -> list[str]:
        await storage.open()
        found = await names(storage)
        await storage.aclose()
        return found

    asyncio.run(store())
    assert asyncio.run(look()) == ["s"]


async def test_opening_and_closing_twice_are_one() -> None:
    """Whoever comes second changes nothing."""
    storage = MemoryStorage()
    for _ in range(2):
        await storage.open()
    await a_store(storage)
    for _ in range(2):
        await storage.aclose()
    await storage.open()
    assert await names(storage) == ["s"]
    await storage.aclose()
