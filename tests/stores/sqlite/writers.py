"""A group-committing writer over a file of its own, and bodies for it."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from lash_runtime.ports.signals import SignalKind, StoreSignal
from lash_runtime.ports.store_errors import HeadRevisionConflict
from lash_runtime.stores.sqlite._group_commit import GroupCommit
from lash_runtime.stores.sqlite._outbox import WritingConnection, tell
from lash_runtime.stores.sqlite._thread import DatabaseThread

Body = Callable[[sqlite3.Connection], int]


class Writer:
    """A group-committing writer over a file, the statements it ran, and a second reader."""

    def __init__(self, path: Path, thread: DatabaseThread, statements: list[str]) -> None:
        self.path = path
        self.thread = thread
        self.statements = statements
        self.announced: list[StoreSignal] = []
        self.writes = GroupCommit(thread, self.announced.extend)

    @property
    def transactions(self) -> int:
        return self.statements.count("COMMIT")

    def stored(self) -> list[int]:
        with sqlite3.connect(self.path) as db:
            rows = [row[0] for row in db.execute("SELECT a FROM t ORDER BY a")]
        db.close()
        return rows

    async def together(
        self, *bodies: Body, size: int = 0, alone: Container[int] = ()
    ) -> list[int | Exception]:
        """Submit `bodies` while the thread is busy, so that they meet in one line."""
        answers: dict[int, int | Exception] = {}
        busy = threading.Event()

        async def submit(number: int, body: Body) -> None:
            try:
                answers[number] = await self.writes.submit(body, size, alone=number in alone)
            except Exception as error:
                answers[number] = error

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.thread.run, lambda _: busy.wait(30))
            for number, body in enumerate(bodies):
                tasks.start_soon(submit, number, body)
            await anyio.wait_all_tasks_blocked()
            busy.set()
        return [answers[number] for number in range(len(bodies))]


@asynccontextmanager
async def a_writer(path: Path) -> AsyncIterator[Writer]:
    statements: list[str] = []

    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=WritingConnection
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, filling BLOB)")
        db.set_trace_callback(statements.append)
        return db

    thread = await DatabaseThread.start(connect)
    yield Writer(path, thread, statements)
    await thread.close()


def inserts(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t (a) VALUES (?)", (number,))
        return number

    return body


def inserts_then_raises(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t (a) VALUES (?)", (number,))
        raise HeadRevisionConflict(expected=1, actual=2)

    return body


def tells(number: int, body: Body) -> Body:
    """`body`, which has something to tell if it is committed."""

    def telling(db: sqlite3.Connection) -> int:
        tell(db, SignalKind.TURN_SETTLED, f"s{number}", "t")
        return body(db)

    return telling
