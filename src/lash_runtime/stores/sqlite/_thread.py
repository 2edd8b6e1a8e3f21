"""One SQLite connection on a thread of its own, which aiosqlite keeps.

A body is a synchronous function of the connection and is submitted whole, so no other task's
statement can come between two of its own. Bodies run one at a time, in submission order.

This is the only module that touches what aiosqlite does not publish: `_execute` and `_tx`, which
queue any function for the connection's thread, and `_thread`, to keep the thread from holding up
the end of the interpreter.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import aiosqlite
from anyio import CancelScope

T = TypeVar("T")


class DatabaseThread:
    """A connection that is open from `start` to `close`."""

    __slots__ = ("_connection", "_database", "_execute")

    def __init__(self, connection: aiosqlite.Connection, database: sqlite3.Connection) -> None:
        self._connection = connection
        self._database = database
        self._execute = cast("Callable[..., Awaitable[object]]", connection._execute)  # noqa: SLF001

    @classmethod
    async def start(cls, connect: Callable[[], sqlite3.Connection]) -> "DatabaseThread":
        """Open what `connect` returns, on the new thread. What it raises is raised here.

        Cancellation: waits for the opening, unless the task itself is cancelled; then what is
        being opened is closed again.
        """
        opened: list[sqlite3.Connection] = []
        refused: list[Exception] = []
        given_up = threading.Event()

        def connector() -> sqlite3.Connection:
            try:
                opened.append(connect())
            except Exception as error:
                # A connector that raised would leave a thread that nothing waits for.
                refused.append(error)
                opened.append(sqlite3.connect(":memory:", check_same_thread=False))
            if given_up.is_set():
                opened[0].close()
            return opened[0]

        connection = aiosqlite.Connection(connector, iter_chunk_size=64)
        connection._thread.daemon = True  # noqa: SLF001
        started = False
        with CancelScope(shield=True):  # bounded by the busy timeout of `connect`
            try:
                await connection
                started = True
            finally:
                if not started:
                    # One of the two sides sees what the other did, and closing twice is one.
                    given_up.set()
                    for database in opened:
                        database.close()
            if refused:
                await connection.close()
                raise refused[0]
        return cls(connection, opened[0])

    async def run(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `body`, or what it raises.

        Cancellation: the caller stops waiting; a body that was submitted still runs.
        """
        return cast("T", await self._execute(body, self._database))

    def ask(
        self, body: Callable[[sqlite3.Connection], T], then: Callable[[T | None], None]
    ) -> None:
        """Have `then` called on the running loop with what `body` answers, `None` if it raises.

        Nobody waits for it: a connection that is closed by then does not answer.
        """
        loop = asyncio.get_running_loop()

        def answer() -> None:
            try:
                found = body(self._database)
            except sqlite3.Error:
                loop.call_soon_threadsafe(then, None)
            else:
                loop.call_soon_threadsafe(then, found)

        self._connection._tx.put_nowait((None, answer))  # noqa: SLF001

    async def close(self) -> None:
        """Run what was submitted, then close the connection and end the thread."""
        with CancelScope(shield=True):
            await self._connection.close()

    def abandon(self) -> None:
        """End the thread when nobody is there to wait for it."""
        # On its own thread, where there is no event loop that could be gone before the answer.
        self._connection._tx.put_nowait((None, self._connection.stop))  # noqa: SLF001
