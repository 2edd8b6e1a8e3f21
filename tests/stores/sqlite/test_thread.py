"""What the store relies on in aiosqlite, beyond what aiosqlite publishes."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from lash_runtime.stores.sqlite._thread import DatabaseThread

pytestmark = pytest.mark.anyio


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


async def test_bodies_run_whole_in_order_on_one_other_thread() -> None:
    """No statement of one body can come between two of another."""
    thread = await DatabaseThread.start(connect)
    ran: list[tuple[int, int]] = []

    async def submit(number: int) -> None:
        await thread.run(lambda _: ran.append((number, threading.get_ident())))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(submit, number)
    await thread.close()
    assert [number for number, _ in ran] == list(range(20))
    assert {ident for _, ident in ran} - {threading.get_ident()} == {ran[0][1]}


async def test_a_body_gives_its_result_and_its_error_to_its_own_caller() -> None:
    """The thread outlives what a body raises."""
    thread = await DatabaseThread.start(connect)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await thread.run(lambda db: db.execute("SELECT * FROM nowhere"))
    assert await thread.run(lambda db: db.execute("SELECT 7").fetchone()) == (7,)
    await thread.close()


async def test_a_cancelled_caller_leaves_the_thread_usable() -> None:
    """Only the waiting is cancelled."""
    thread = await DatabaseThread.start(connect)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await thread.run(lambda db: db.execute("CREATE TABLE t (a)"))
    assert await thread.run(lambda db: db.execute("SELECT count(*) FROM t").fetchone()) == (0,)
    await thread.close()


async def test_a_question_is_answered_on_the_loop_and_holds_up_nobody() -> None:
    """In its turn, also when it fails; a connection that is closed does not answer."""
    thread = await DatabaseThread.start(connect)
    answers: list[object] = []
    here = threading.get_ident()

    def answered(found: object) -> None:
        answers.append((found, threading.get_ident() == here))

    def forty_two(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT 42").fetchone()[0])

    def nothing(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT 1 FROM nowhere").fetchone()[0])

    thread.ask(forty_two, answered)
    thread.ask(nothing, answered)
    assert await thread.run(forty_two) == 42
    assert answers == [(42, True), (None, True)]
    await thread.close()
    thread.ask(forty_two, answered)
    await anyio.wait_all_tasks_blocked()
    assert len(answers) == 2


async def test_what_opening_raises_reaches_the_opener() -> None:
    """And leaves no thread behind."""

    def refuse() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open")

    await anyio.to_thread.run_sync(lambda: None)  # anyio's own thread is there from now on
    before = threading.active_count()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await DatabaseThread.start(refuse)
    with anyio.fail_after(10):
        while threading.active_count() > before:
            await anyio.to_thread.run_sync(lambda: None)


async def test_an_opening_whose_task_is_cancelled_leaves_nothing_open() -> None:
    """Neither a connection nor a thread, however far the opening had come."""
    opened: list[sqlite3.Connection] = []
    began, go_on = threading.Event(), threading.Event()

    def slow() -> sqlite3.Connection:
        began.set()
        go_on.wait(30)
        opened.append(connect())
        return opened[0]

    await anyio.to_thread.run_sync(lambda: None)
    before = threading.active_count()
    task = asyncio.ensure_future(DatabaseThread.start(slow))
    await anyio.to_thread.run_sync(began.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    with anyio.fail_after(10):
        while threading.active_count() > before:
            await anyio.to_thread.run_sync(lambda: None)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_a_forgotten_storage_does_not_hold_up_the_end_of_the_program(tmp_path: Path) -> None:
    """A program that forgets to close must still be able to stop."""
    program = f"""
import asyncio
from lash_runtime.stores.sqlite import SqliteStorage
storage = SqliteStorage({str(tmp_path / "a.db")!r})
asyncio.run(storage.open())
print("open")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "open\n"
