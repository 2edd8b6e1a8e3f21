"""One open database: a thread that writes and a few that read.

Reads never wait for a write. Each sees what is committed when it begins, so a read that follows
a finished write sees it. A database in memory has one connection for both.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from pydantic_core import PydanticSerializationError

from ...ports.store_errors import StoreBackendError, StoreForked, StoreWrongLoop
from ._connections import ConnectionSettings, open_reader, open_writer
from ._failures import store_error
from ._group_commit import GroupCommit
from ._thread import DatabaseThread

T = TypeVar("T")

READERS: Final = 2


class _Reader:
    """A reading connection and how many calls are in line for it."""

    __slots__ = ("in_line", "thread")

    def __init__(self, thread: DatabaseThread) -> None:
        self.thread = thread
        self.in_line = 0


class Database:
    """Open from `open` to `close`, for one event loop of one process."""

    __slots__ = ("_loop", "_pid", "_readers", "_writer", "_writes")

    def __init__(self, writer: DatabaseThread, readers: list[_Reader]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._writer = writer
        self._writes = GroupCommit(writer)
        self._readers = readers

    @classmethod
    async def open(cls, settings: ConnectionSettings) -> "Database":
        """Raises `StoreSchemaUnsupported`, or the `StoreError` of a file that cannot be used."""
        threads: list[DatabaseThread] = []
        try:
            threads.append(await DatabaseThread.start(partial(open_writer, settings)))
            if not settings.in_memory:
                for _ in range(READERS):
                    threads.append(await DatabaseThread.start(partial(open_reader, settings)))
            opened = cls(threads[0], [_Reader(thread) for thread in threads[1:]])
            threads = []
        except sqlite3.Error as error:
            raise store_error(error) from error
        finally:
            for thread in threads:
                await thread.close()
        return opened

    async def write(self, body: Callable[[sqlite3.Connection], T], size: int = 0) -> T:
        """Run `body` in a write transaction; see `GroupCommit.submit`."""
        self.check_owner()
        try:
            return await self._writes.submit(body, size)
        except (PydanticSerializationError, UnicodeError) as error:
            raise StoreBackendError(f"a value cannot be stored as text: {error}") from error

    async def read(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """Run `body` on one snapshot of the database."""
        self.check_owner()
        try:
            if not self._readers:
                return await self._writer.run(body)
            reader = min(self._readers, key=_length)
            reader.in_line += 1
            try:
                return await reader.thread.run(partial(_snapshot, body))
            finally:
                reader.in_line -= 1
        except sqlite3.Error as error:
            raise store_error(error) from error
        except UnicodeError as error:
            raise StoreBackendError(f"a value cannot be read as text: {error}") from error

    async def close(self) -> None:
        """Wait for what was submitted. The last connection to close folds the log away."""
        try:
            for reader in self._readers:
                await reader.thread.close()
        finally:
            await self._writer.close()

    def abandon(self) -> None:
        """Let the threads end by themselves. After a fork there are none."""
        if os.getpid() == self._pid:
            for reader in self._readers:
                reader.thread.abandon()
            self._writer.abandon()

    def check_owner(self) -> None:
        """Raise unless the caller is on the loop and in the process that opened the database."""
        if os.getpid() != self._pid:
            raise StoreForked
        if asyncio.get_running_loop() is not self._loop:
            raise StoreWrongLoop


def _length(reader: _Reader) -> int:
    return reader.in_line


def _snapshot(body: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
    db.execute("BEGIN")
    try:
        return body(db)
    finally:
        if db.in_transaction:
            db.execute("COMMIT")
