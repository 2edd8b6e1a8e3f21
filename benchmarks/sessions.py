"""What sessions cost: opened cold, parked by the thousand, at work by the thousand, on disk."""

import gc
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from lash_runtime import EmbedError, LashCore
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.testing import ScriptedProvider, text_response

from .floors import raw_database, raw_turn
from .measure import Row, open_descriptors, p50, resident_kib
from .scenes import a_core


async def cold_open(place: Path) -> Row:
    """2,000 messages: open core and session, then run the first turn."""
    database = place / "cold.db"
    async with a_core(database) as core, core.session("old") as session:
        for number in range(1_000):
            await session.turn(f"question {number}").run()
    opened, first = [], []
    for _ in range(7):
        started = time.perf_counter()
        async with a_core(database) as core, core.session("old") as session:
            opened.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            await session.turn("And now?").run()
            first.append((time.perf_counter() - started) * 1000)
        # Letting go of this history must not be counted as part of opening the next.
        del session
    return Row(
        measure="cold open of 2,000 messages, then the first turn",
        floor=f"{_raw_read_ms(database):.1f} ms",
        figure=f"{p50(opened):.1f} + {p50(first):.1f} ms",
        target="30 + 5 ms",
        reached=p50(opened) <= 30 and p50(first) <= 5,
    )


def _raw_read_ms(database: Path) -> float:
    started = time.perf_counter()
    connection = sqlite3.connect(database)
    connection.execute("SELECT * FROM graph_nodes").fetchall()
    connection.close()
    return (time.perf_counter() - started) * 1000


async def parked_sessions(place: Path) -> Row:
    async with a_core(place / "parked.db") as core:
        # As many that are not kept first: SQLite's caches and the allocator's pools grow with
        # sessions that were used, up to their bounds, and have nothing to do with parking.
        for number in range(1_000):
            await _parked(core, f"warm-{number}")
        gc.collect()
        memory, descriptors = resident_kib(), open_descriptors()
        kept = [await _parked(core, f"parked-{number}") for number in range(1_000)]
        gc.collect()
        each = (resident_kib() - memory) / 1_000
        more = open_descriptors() - descriptors
        assert len(kept) == 1_000
    return Row(
        measure="memory for each of 1,000 parked sessions",
        floor="-",
        figure=f"{each:.1f} KiB, {more} descriptors",
        target="3 KiB, no descriptors",
        reached=each <= 3 and more <= 0,
    )


async def _parked(core: LashCore, session_id: str) -> object:
    session = await core.session(session_id).open()
    await session.turn("Remember this.").run()
    return await session.park()


@contextmanager
def _calm_collector() -> Iterator[None]:
    """The garbage collector as a busy server should have it: see docs/performance.md."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def many_sessions(
    count: int, *, calm: bool = False
) -> Callable[[Path], Coroutine[None, None, Row]]:
    """`calm` takes the figure with the collector set for a server instead of a script."""

    async def measure(place: Path) -> Row:
        if not calm:
            return await crowd(place)
        with _calm_collector():
            return await crowd(place)

    async def crowd(place: Path) -> Row:
        turns = 5
        errors = 0
        async with a_core(place / f"many-{count}.db") as core:

            async def work(number: int) -> None:
                nonlocal errors
                try:
                    async with core.session(f"s{number}") as session:
                        for _ in range(turns):
                            await session.turn("go").run()
                except EmbedError:
                    errors += 1

            started = time.perf_counter()
            async with anyio.create_task_group() as sessions:
                for number in range(count):
                    sessions.start_soon(work, number)
            rate = count * turns / (time.perf_counter() - started)
        return Row(
            measure=f"{count:,} sessions × {turns} turns on one file"
            + (", collector calmed" if calm else ""),
            floor=f"{_raw_rate(place / f'raw-{count}.db'):,.0f}/s, one by one",
            figure=f"{rate:,.0f}/s, {errors} errors",
            target="700/s, no error",
            reached=rate >= 700 and not errors,
        )

    return measure


def _raw_rate(path: Path) -> float:
    started = time.perf_counter()
    with raw_database(path) as db:
        for number in range(300):
            raw_turn(db, "s", number, ("question", "answer"))
    return 300 / (time.perf_counter() - started)


async def disk(place: Path) -> Row:
    """500 turns that carry 1.05 MB of text."""
    question, reply = "q" * 1_050, "a" * 1_050

    def answer(request: LlmRequest) -> LlmResponse:
        return text_response(reply)

    database = place / "disk.db"
    provider = ScriptedProvider(otherwise=answer, record=False)
    async with a_core(database, provider) as core, core.session("s") as session:
        for _ in range(500):
            await session.turn(question).run()
    text = 500 * (len(question) + len(reply))
    on_disk = sum(path.stat().st_size for path in place.glob("disk.db*"))
    raw = place / "rawdisk.db"
    with raw_database(raw) as db:
        for number in range(500):
            raw_turn(db, "s", number, (question, reply))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    factor = on_disk / text
    return Row(
        measure="disk after close, times the text stored",
        floor=f"{raw.stat().st_size / text:.1f}",
        figure=f"{factor:.2f}",
        target="3",
        reached=factor <= 3,
    )
