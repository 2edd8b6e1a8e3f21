"""One open database: a thread that writes and a few that read.

Reads never wait for a write. Each sees what is committed when it begins, so a read that follows
a finished write sees it. What takes long runs aside, on a connection that is opened for it. A
database in memory has one connection for everything.
"""

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from pydantic_core import PydanticSerializationError

from ...ports.store_errors import StoreBackendError
from ..owner import StorageOwner
from ._connections import ConnectionSettings, open_reader, open_writer
from ._failures import store_error
from ._group_commit import Announce, GroupCommit
from ._migrations import check_unmoved
from ._thread import DatabaseThread

T = TypeVar("T")

READERS: Final = 2

_STEPS_BETWEEN_LOOKS: Final = 10_000
"""Of SQLite's machine in a statement that may have to stop: well under a millisecond."""


class _Reader:
    """A reading connection and how many calls are in line for it."""

    __slots__ = ("in_line", "thread")

    def __init__(self, thread: DatabaseThread) -> None:
        self.thread = thread
        self.in_line = 0


class Database:
    """Open from `open` to `close`, for one event loop of one process."""

    __slots__ = ("_owner", "_readers", "_settings", "_writer", "_writes")

    def __init__(
        self,
        settings: ConnectionSettings,
        writer: DatabaseThread,
        readers: list[_Reader],
        announce: Announce,
    ) -> None:
        self._settings = settings
        self._owner = StorageOwner()
        self._writer = writer
        self._writes = GroupCommit(writer, announce)
        self._readers = readers

    @classmethod
    async def open(cls, settings: ConnectionSettings, announce: Announce) -> "Database":
        """`announce` is told, on another thread, what is committed.

        Raises `StoreSchemaUnsupported`, or the `StoreError` of a file that cannot be used."""
        threads: list[DatabaseThread] = []
        try:
            threads.append(await DatabaseThread.start(partial(open_writer, settings)))
            if not settings.in_memory:
                for _ in range(READERS):
                    threads.append(await DatabaseThread.start(partial(open_reader, settings)))
            readers = [_Reader(thread) for thread in threads[1:]]
            opened = cls(settings, threads[0], readers, announce)
            threads = []
        except sqlite3.Error as error:
            raise store_error(error) from error
        finally:
            for thread in threads:
                await thread.close()
        return opened

    async def write(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
    ) -> T:
        """Run `body` in a write transaction; see `GroupCommit.submit`."""
        self.check_owner()
        try:
            return await self._writes.submit(partial(self._unmoved, body), size, alone=alone)
        except (PydanticSerializationError, UnicodeError) as error:
            raise StoreBackendError(f"a value cannot be stored as text: {error}") from error
        except OverflowError as error:
            raise StoreBackendError(f"a number is too large to be stored: {error}") from error

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

    async def aside(self, body: Callable[[sqlite3.Connection, threading.Event], T]) -> T:
        """Run `body` on one snapshot, however long it takes, while others read and write.

        Cancellation: statements are interrupted and the event that `body` is given is set; the
        cancelled caller goes on when `body` has ended.
        """
        self.check_owner()
        stop = threading.Event()

        def told(db: sqlite3.Connection) -> T:
            return body(db, stop)

        try:
            if self._settings.in_memory:
                return await self._writer.run(told)
            thread = await DatabaseThread.start(partial(_open_aside, self._settings, stop))
            try:
                return await thread.run(partial(_snapshot, told))
            finally:
                stop.set()
                await thread.close()
        except sqlite3.Error as error:
            raise store_error(error) from error

    def ask(
        self, body: Callable[[sqlite3.Connection], T], then: Callable[[T | None], None]
    ) -> None:
        """Have the connection that writes asked between two transactions; see
        `DatabaseThread.ask`."""
        self._writer.ask(body, then)

    async def close(self) -> None:
        """Wait for what was submitted. The last connection to close folds the log away."""
        try:
            for reader in self._readers:
                await reader.thread.close()
        finally:
            await self._writer.close()

    def abandon(self) -> None:
        """Let the threads end by themselves. After a fork there are none."""
        if self._owner.is_this_process:
            for reader in self._readers:
                reader.thread.abandon()
            self._writer.abandon()

    def _unmoved(self, body: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        check_unmoved(db, self._settings.path, self._settings.schema)
        return body(db)

    def check_owner(self) -> None:
        """Raise unless the caller is on the loop and in the process that opened the database."""
        self._owner.check()


def _open_aside(settings: ConnectionSettings, stop: threading.Event) -> sqlite3.Connection:
    db = open_reader(settings)
    db.set_progress_handler(stop.is_set, _STEPS_BETWEEN_LOOKS)
    return db


def _length(reader: _Reader) -> int:
    return reader.in_line


def _snapshot(body: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
    db.execute("BEGIN")
    try:
        return body(db)
    finally:
        if db.in_transaction:
            # Nothing was written. A COMMIT would repeat what damage the body has met.
            db.execute("ROLLBACK")
