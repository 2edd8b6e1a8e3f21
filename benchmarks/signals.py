"""How soon a process sees what another one has committed, and what telling it costs."""

import asyncio
import multiprocessing
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from lash_runtime.model.turn_input import TurnInput
from lash_runtime.ports.clock import SystemClock
from lash_runtime.ports.leases import LeaseOwnerIdentity
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.signals import SignalFilter, SignalKind, StoreSignal
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.turn_ledger import (
    RequiredWiring,
    StoredTurnOptions,
    TurnAcceptance,
    TurnAccepted,
    TurnFailure,
    TurnRow,
    TurnSettlement,
    TurnState,
)
from lash_runtime.ports.waiting import wait_until
from lash_runtime.stores.local_signals import LocalSignals
from lash_runtime.stores.sqlite import SqliteStorage

from .floors import raw_database
from .measure import Row

OWNER: Final = LeaseOwnerIdentity(owner_id="benchmark", incarnation_id="1")
WAKES: Final = 400
POLLED_WAKES: Final = 40
LONGEST_WAIT_S: Final = 1.0
"""Of a wait that is polled for: how late it ends depends on how long it was."""

ANNOUNCEMENTS: Final = 400
TOGETHER: Final = (
    StoreSignal(SignalKind.TURN_SETTLED, "session", "turn"),
    StoreSignal(SignalKind.LANE_FREE, "session"),
)
"""What the commit of a turn has to tell."""


async def wake_up(place: Path) -> Row:
    """From the answer to a settlement until a waiter in another process has the row."""
    told = await _wake_ups(place / "told.db", "listen", WAKES, 0.0)
    polled = await _wake_ups(place / "polled.db", "poll", POLLED_WAKES, LONGEST_WAIT_S)
    floor = _raw_wake_ups(place / "raw.db")
    return Row(
        measure="wake-up of a waiter in another process, median and p99",
        floor=f"{_shown(floor)}, a pipe and raw SQLite",
        figure=f"{_shown(told)} ({_shown(polled)} by polling, waits of up to a second)",
        target="median 3 ms, p99 20 ms",
        reached=statistics.median(told) <= 3 and _p99(told) <= 20,
    )


def announcing(peers: int) -> Callable[[Path], Coroutine[None, None, Row]]:
    """What a commit pays for telling so many other processes, apart from the commit."""
    most_us = 5 + 50 * peers

    async def measure(place: Path) -> Row:
        database = place / "announced.db"
        async with SqliteStorage(database) as storage:
            with _listeners(database, peers) as ready:
                for pipe in ready:
                    assert pipe.recv() == "listens"
                await asyncio.sleep(0.1)
                samples = []
                for _ in range(ANNOUNCEMENTS):
                    started = time.perf_counter()
                    storage.signals.announce_all(TOGETHER)
                    samples.append((time.perf_counter() - started) * 1e6)
                    await asyncio.sleep(0.001)
        median = statistics.median(samples)
        return Row(
            measure=f"announcing a turn's commit, other processes that listen: {peers}",
            floor="-",
            figure=f"{median:.1f} µs",
            target=f"{most_us} µs",
            reached=median <= most_us,
        )

    return measure


# --- a waiter in another process ----------------------------------------------------------------


async def _wake_ups(database: Path, how: str, times: int, longest_s: float) -> list[float]:
    """Milliseconds of each."""
    samples = []
    chance = random.Random(1)
    async with SqliteStorage(database) as storage:
        store = await _store(storage)
        with _a_child(_wait_for_turns, database, how, times) as pipe:
            for number in range(times):
                turn_id = f"t{number}"
                outcome = await store.accept_turn(_a_turn(turn_id))
                assert isinstance(outcome, TurnAccepted)
                await asyncio.to_thread(pipe.recv)
                await asyncio.sleep(0.01 + chance.uniform(0, longest_s))
                failed = TurnSettlement(
                    turn_id=turn_id,
                    state=TurnState.FAILED,
                    failure=TurnFailure(code="benchmark", message=""),
                )
                await store.settle_turn(outcome.lease.fence(), failed, release=True)
                settled_ns = time.monotonic_ns()
                samples.append((await asyncio.to_thread(pipe.recv) - settled_ns) / 1e6)
    return samples


def _wait_for_turns(database: Path, how: str, times: int, parent: Connection) -> None:
    asyncio.run(_waiting_for_turns(database, how, times, parent))


async def _waiting_for_turns(database: Path, how: str, times: int, parent: Connection) -> None:
    async with SqliteStorage(database) as storage:
        store = await _store(storage)
        signals = storage.signals if how == "listen" else LocalSignals()
        clock = SystemClock()
        for number in range(times):
            turn_id = f"t{number}"

            async def settled(turn_id: str = turn_id) -> TurnRow | None:
                row = await store.load_turn("s", turn_id)
                return row if row is not None and row.state.is_settled else None

            wanted = SignalFilter.of(SignalKind.TURN_SETTLED, session_id="s", turn_id=turn_id)
            parent.send("waits")
            await wait_until(settled, signals, wanted, clock=clock)
            parent.send(time.monotonic_ns())


async def _store(storage: SqliteStorage) -> RuntimePersistence:
    return await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))


def _a_turn(turn_id: str) -> TurnAcceptance:
    return TurnAcceptance(
        session_id="s",
        turn_id=turn_id,
        input=TurnInput.text("And tomorrow?"),
        options=StoredTurnOptions(),
        required_wiring=RequiredWiring(protocol="standard"),
        content_hash="0" * 64,
        owner=OWNER,
        lease_ttl_ms=600_000,
    )


# --- listeners that only listen -----------------------------------------------------------------


@contextmanager
def _listeners(database: Path, number: int) -> Iterator[Sequence[Connection]]:
    with ExitStack() as children:
        yield [children.enter_context(_a_child(_listen, database)) for _ in range(number)]


def _listen(database: Path, parent: Connection) -> None:
    asyncio.run(_listening(database, parent))


async def _listening(database: Path, parent: Connection) -> None:
    async with SqliteStorage(database) as storage:
        with storage.signals.listen(SignalFilter.of(SignalKind.TURN_SETTLED)):
            parent.send("listens")
            await asyncio.to_thread(parent.recv)


# --- the same with nothing in between -----------------------------------------------------------


def _raw_wake_ups(database: Path) -> list[float]:
    """A pipe that is written after the commit, and a read by the one who is woken."""
    samples = []
    with raw_database(database) as db, _a_child(_wait_raw, database) as pipe:
        assert pipe.recv() == "waits"
        for number in range(WAKES):
            time.sleep(0.01)
            db.execute("INSERT INTO turn VALUES ('s', ?, 'failed', '')", (str(number),))
            settled_ns = time.monotonic_ns()
            pipe.send(number)
            samples.append((pipe.recv() - settled_ns) / 1e6)
        pipe.send(None)
    return samples


def _wait_raw(database: Path, parent: Connection) -> None:
    db = sqlite3.connect(database, isolation_level=None)
    parent.send("waits")
    while (number := parent.recv()) is not None:
        db.execute("SELECT state FROM turn WHERE id = ?", (str(number),)).fetchone()
        parent.send(time.monotonic_ns())
    db.close()


@contextmanager
def _a_child(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A process of its own, and the pipe to it. It is told when it is over."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=work, args=(*arguments, theirs))
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        if child.is_alive():
            ours.send(None)
        child.join()
        ours.close()


def _p99(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=100)[98]


def _shown(samples: list[float]) -> str:
    return f"{statistics.median(samples):.2f} and {_p99(samples):.1f} ms"
