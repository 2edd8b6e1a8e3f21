"""Hearing of others where sockets cannot be had: SQLite itself is asked, while somebody listens."""

import asyncio
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime.ports.signals import StoreSignal
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._version_watch import FIRST_PAUSE_S, LAST_PAUSE_S
from stores.sqlite.listening import (
    FREE,
    LANE_FREE,
    NOBODYS,
    a_change,
    a_temporary_directory,
    heard,
    root,
    settled,
    two_storages,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_sockets(tmp_path: Path) -> Iterator[None]:
    """Somebody has put a file where the folder of the sockets would be."""
    with a_temporary_directory():
        root().write_text("", "utf-8")
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


class Questions:
    """How often a storage has asked its database for the version of its data."""

    def __init__(self) -> None:
        self.asked = 0

    async def watch(self, storage: SqliteStorage) -> None:
        database = storage._scope.database
        await database._writer.run(lambda db: db.set_trace_callback(self._trace))

    def _trace(self, statement: str) -> None:
        self.asked += statement == "PRAGMA data_version"


async def test_what_another_storage_commits_is_heard_of(path: Path) -> None:
    """Late, and without knowing what it was, but not much later."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            for _ in range(3):
                await a_change(here)
                assert await heard(told)


async def test_its_own_commits_are_heard_of_at_once_and_exactly(path: Path) -> None:
    """The connection that is asked is the one that has written them, and does not count them."""
    async with SqliteStorage(path) as storage:
        with storage.signals.listen(FREE) as told:
            await settled(told)
            questions = Questions()
            await questions.watch(storage)
            storage.signals.announce(NOBODYS)
            await storage.session_stores.delete_session("unknown")
            while questions.asked < 3:
                await anyio.sleep(FIRST_PAUSE_S)
            assert not told.take()
            await a_change(storage)
            assert told.take()


async def test_nothing_is_asked_while_nobody_listens(path: Path) -> None:
    """An idle program does not look at its disk."""
    async with two_storages(path) as (here, there):
        questions = Questions()
        await questions.watch(there)
        await a_change(there)
        await anyio.sleep(2 * FIRST_PAUSE_S)
        assert questions.asked == 0
        with there.signals.listen(FREE) as told:
            await settled(told)
            assert questions.asked >= 1
        await anyio.sleep(4 * FIRST_PAUSE_S)
        before = questions.asked
        await anyio.sleep(4 * FIRST_PAUSE_S)
        assert questions.asked == before
        with there.signals.listen(FREE) as told:
            await a_change(here)
            assert await heard(told)


async def test_questions_become_rare_while_nothing_happens(path: Path) -> None:
    """A wait that takes hours costs a question a second."""
    assert LAST_PAUSE_S >= 1
    async with SqliteStorage(path) as storage:
        questions = Questions()
        await questions.watch(storage)
        with storage.signals.listen(FREE) as told:
            await settled(told)
            before = questions.asked
            with anyio.move_on_after(16 * FIRST_PAUSE_S):
                await told.wait()
            # After 25, 75, 175 and 375 ms; a slow machine asks less often.
            assert questions.asked - before <= 5


async def test_a_listener_that_comes_later_is_asked_for_at_once(path: Path) -> None:
    """It need not wait until the next question for the others is due."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as first:
            await settled(first)
            questions = Questions()
            await questions.watch(there)
            for _ in range(10):
                with there.signals.listen(FREE):
                    await anyio.sleep(0)
                asked = questions.asked
                with anyio.fail_after(10):
                    while questions.asked == asked:
                        await anyio.sleep(0)
            await a_change(here)
            assert await heard(first)


async def test_a_question_that_fails_is_asked_again(path: Path) -> None:
    """A database that cannot be read at the moment has nothing to tell, and no listener is lost."""
    async with two_storages(path) as (here, there):
        writer: Any = there._scope.database._writer
        refusals: list[int] = []

        def refuse(action: int, name: str | None, *_: object) -> int:
            if action == sqlite3.SQLITE_PRAGMA and name == "data_version" and len(refusals) < 3:
                refusals.append(action)
                return sqlite3.SQLITE_DENY
            return sqlite3.SQLITE_OK

        with there.signals.listen(FREE) as told:
            await settled(told)
            await writer.run(lambda db: db.set_authorizer(refuse))
            await a_change(here)
            assert await heard(told)
            assert len(refusals) == 3


async def test_closing_and_opening_again_goes_on_hearing(path: Path) -> None:
    """With a database that counts anew."""
    async with SqliteStorage(path) as here:
        storage = SqliteStorage(path)
        for _ in range(3):
            async with storage:
                told = storage.signals.listen(FREE)
                await settled(told)
                await a_change(here)
                assert await heard(told)
            assert await heard(told) is False
            told.close()


async def test_when_there_is_room_for_a_socket_nothing_is_asked_any_more(path: Path) -> None:
    """Whatever was in the way is gone, and the next listener makes up for it."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as first:
            await settled(first)
            root().unlink()
            with there.signals.listen(FREE) as second:
                questions = Questions()
                await questions.watch(there)
                await settled(first)
                await settled(second)
                await a_change(here)
                assert await heard(first)
                assert await heard(second)
                await anyio.sleep(2 * FIRST_PAUSE_S)
                assert questions.asked == 0


class WithoutReaders(asyncio.SelectorEventLoop):
    """An event loop that cannot watch sockets, as that of Windows."""

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError


def test_an_event_loop_that_watches_no_sockets_is_enough(path: Path) -> None:
    """And no socket is left that nobody would read."""

    async def listen() -> None:
        async with two_storages(path) as (here, there):
            with there.signals.listen(FREE) as told:
                await settled(told)
                assert not root().exists()
                await a_change(here)
                assert await heard(told)

    root().unlink()
    with asyncio.Runner(loop_factory=WithoutReaders) as runner:
        runner.run(listen())


async def test_a_system_without_such_sockets_is_enough(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has neither the sockets nor the users that they would belong to."""
    root().unlink()
    async with two_storages(path) as (here, there):
        for module, name in ((socket, "AF_UNIX"), (os, "geteuid")):
            monkeypatch.delattr(module, name)
        with there.signals.listen(FREE) as told:
            await settled(told)
            await a_change(here)
            assert await heard(told)


async def test_a_database_in_memory_is_nobody_elses(no_sockets: None) -> None:
    """Its own commits are all there are: nothing is asked, and no folder is looked for."""
    root().unlink()
    async with SqliteStorage(":memory:") as storage:
        questions = Questions()
        await questions.watch(storage)
        with storage.signals.listen(FREE) as told:
            storage.signals.announce(StoreSignal(LANE_FREE.kind, "another"))
            assert not told.take()
            await a_change(storage)
            assert told.take()
            await anyio.sleep(2 * FIRST_PAUSE_S)
        assert questions.asked == 0
        assert not root().exists()
