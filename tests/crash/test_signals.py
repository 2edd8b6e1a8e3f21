"""Signals between processes: they arrive, and the death of anybody holds up nobody.

The time until a waiter has seen what another process has committed is printed (`-s`) and not
judged.
"""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from crash.conftest import REPORT_TIMEOUT_S, start
from crash.listeners import fork_while_listening, listen, settle_for_ever
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing.conformance._samples import a_store, accepted, an_acceptance, as_failed

pytestmark = [pytest.mark.crash, pytest.mark.anyio]


class Child:
    """A process, and what it says."""

    def __init__(self, started: tuple[ForkServerProcess, Connection]) -> None:
        self.process, self._pipe = started

    async def says(self) -> Any:
        assert await asyncio.to_thread(self._pipe.poll, REPORT_TIMEOUT_S), "it said nothing"
        return self._pipe.recv()

    async def waits_for(self, turn_id: str) -> None:
        assert await self.says() == ("waits", turn_id)

    async def saw(self, turn_id: str) -> tuple[int, int]:
        """When, and at which look."""
        said, seen, at_ns, looks = await self.says()
        assert (said, seen) == ("saw", turn_id)
        return at_ns, looks

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def end(self) -> None:
        self._pipe.close()
        self.process.join(REPORT_TIMEOUT_S)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
async def storage(database: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage(database) as storage:
        yield storage


@pytest.fixture
async def store(storage: SqliteStorage) -> SqliteSessionStore:
    return await a_store(storage)  # type: ignore[return-value]


def sockets_of(storage: SqliteStorage) -> list[str]:
    return [found.path for found in storage.signals._folder.sockets()]


@pytest.fixture(autouse=True)
def nothing_is_left(storage: SqliteStorage) -> Iterator[None]:
    """Whoever died, the next announcement has cleared away after it."""
    yield
    for left in sockets_of(storage):
        Path(left).unlink()
    storage.signals._folder.remove()


async def settle(store: SqliteSessionStore, turn_id: str) -> int:
    """Run a turn to its end; when that was committed, in nanoseconds."""
    turn = await accepted(store, an_acceptance(turn_id))
    await store.settle_turn(turn.lease.fence(), as_failed(turn_id), release=True)
    return time.monotonic_ns()


async def test_a_wait_ends_with_what_another_process_commits(
    processes: ForkServerContext, database: Path, store: SqliteSessionStore
) -> None:
    """Again and again, and by a signal alone: the clock of those who wait stands still."""
    turn_ids = [f"t{number}" for number in range(40)]
    children = [Child(start(processes, listen, (database, turn_ids))) for _ in range(3)]
    delays_ms = []
    for turn_id in turn_ids:
        for child in children:
            await child.waits_for(turn_id)
        committed_ns = await settle(store, turn_id)
        for child in children:
            seen_ns, _ = await child.saw(turn_id)
            delays_ms.append((seen_ns - committed_ns) / 1e6)
    for child in children:
        child.end()
    print(
        f"\nseen after the answer: median {statistics.median(delays_ms):.2f} ms, "
        f"slowest {max(delays_ms):.2f} ms"
    )


async def test_a_listener_that_was_killed_is_cleared_away(
    processes: ForkServerContext, database: Path, storage: SqliteStorage, store: SqliteSessionStore
) -> None:
    """Its socket refuses what is sent; the others hear, and nobody tries again."""
    killed, other = [Child(start(processes, listen, (database, ["t"]))) for _ in range(2)]
    for child in (killed, other):
        await child.waits_for("t")
    assert len(sockets_of(storage)) == 2
    killed.kill()
    await settle(store, "t")
    await other.saw("t")
    other.end()
    assert sockets_of(storage) == []


async def test_one_that_is_killed_while_it_announces_harms_nobody(
    processes: ForkServerContext, database: Path, store: SqliteSessionStore
) -> None:
    """Wherever it was: between its commit and its signal, or between two listeners."""
    turn_ids = [f"t{number}" for number in range(5)]
    listener = Child(start(processes, listen, (database, turn_ids)))
    for number, turn_id in enumerate(turn_ids):
        await listener.waits_for(turn_id)
        victim = Child(start(processes, settle_for_ever, (database, f"session-{number}")))
        assert await victim.says() == "at it"
        victim.kill()
        await settle(store, turn_id)
        await listener.saw(turn_id)
    listener.end()


async def test_a_stopped_listener_holds_up_nobody_and_hears_when_it_goes_on(
    processes: ForkServerContext, database: Path, store: SqliteSessionStore
) -> None:
    """What was for it came last, after all that it had room for."""
    stopped = Child(start(processes, listen, (database, ["wanted"])))
    await stopped.waits_for("wanted")
    assert stopped.process.pid is not None
    os.kill(stopped.process.pid, signal.SIGSTOP)
    try:
        for number in range(50):
            await settle(store, f"t{number}")
        await settle(store, "wanted")
    finally:
        # Whatever went wrong: one that is stopped cannot even be asked to end.
        os.kill(stopped.process.pid, signal.SIGCONT)
    await stopped.saw("wanted")
    stopped.end()


async def test_a_forked_child_has_no_part_in_it(
    processes: ForkServerContext, database: Path, storage: SqliteStorage, store: SqliteSessionStore
) -> None:
    """One that ends takes nothing along, one that lives hears nothing in its parent's place, and
    does not make it look alive."""
    parent = Child(start(processes, fork_while_listening, (database, ["first", "second"])))
    lives_on = await parent.says()
    try:
        await parent.waits_for("first")
        await settle(store, "first")
        await parent.saw("first")
        await parent.waits_for("second")
        assert len(sockets_of(storage)) == 1
        parent.kill()
        await settle(store, "second")
        assert sockets_of(storage) == []
    finally:
        os.kill(lives_on, signal.SIGKILL)
