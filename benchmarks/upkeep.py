"""What upkeep costs, and what it costs those who go on working meanwhile.

`UPKEEP_MB` in the environment is how much of garbage the collection finds, 1,024 unless it is set.
"""

import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio

from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ScriptedProvider, text_response
from lash_runtime.testing.conformance._samples import a_commit, a_node, a_store, append, first, hold

from .floors import raw_database, raw_turn
from .measure import Row
from .scenes import a_core

T = TypeVar("T")

GARBAGE_MB = int(os.environ.get("UPKEEP_MB", "1024"))
BLOB_BYTES = 256 * 1024
SESSIONS = 16
TURNS = 1_000
WORDS = 500
"""Characters of a question, and of its answer."""


async def collection(place: Path) -> Row:
    """Remove the garbage and give its space back, while one session commits without a pause."""
    path = place / "garbage.db"
    async with SqliteStorage(path) as storage:
        for number in range(SESSIONS):
            await _a_session(storage, f"s{number}")
        _litter(path)
        await storage.maintenance.backup(place / "raw.db")
        started = time.perf_counter()
        report, collecting = await _beside_commits(storage, storage.maintenance.gc_unreachable)
        collected = time.perf_counter() - started
        started = time.perf_counter()
        released, compacting = await _beside_commits(storage, storage.maintenance.compact)
        compacted = time.perf_counter() - started
    assert report.deleted_blob_count == GARBAGE_MB * 1024 * 1024 // BLOB_BYTES
    assert released >= GARBAGE_MB * 1_000_000
    longest = max(*collecting, *compacting)
    floor = _raw_collection_s(place / "raw.db")
    return Row(
        measure=f"collect {GARBAGE_MB} MB of garbage + release its space; longest commit meanwhile",
        floor=f"{floor:.2f} s in one transaction",
        figure=f"{collected:.2f} + {compacted:.2f} s; {longest:.0f} ms",
        target="100 ms for the longest commit",
        reached=longest <= 100,
    )


async def backup(place: Path) -> Row:
    """Copy a database of the same size while one session commits without a pause."""
    path, target = place / "source.db", place / "copy.db"
    async with SqliteStorage(path) as storage:
        await _a_session(storage, "s0")
        _litter(path)
        _, alone = await _beside_commits(storage, lambda: anyio.sleep(1))
        started = time.perf_counter()
        size, beside = await _beside_commits(storage, lambda: storage.maintenance.backup(target))
        took = time.perf_counter() - started
    longest, longest_alone = max(beside), max(alone)
    return Row(
        measure=f"back up {size / 1e6:.0f} MB; longest commit meanwhile",
        floor=f"{longest_alone:.0f} ms without a backup",
        figure=f"{size / 1e6 / took:.0f} MB/s; {longest:.0f} ms",
        target="100 ms for the longest commit",
        reached=longest <= 100,
    )


async def size_of_turns(place: Path) -> Row:
    """1,000 turns of a question and an answer of 500 characters each, in 10 sessions."""
    path = place / "size.db"

    def answer(request: LlmRequest) -> LlmResponse:
        return text_response("a" * WORDS)

    provider = ScriptedProvider(otherwise=answer, record=False)
    async with a_core(path, provider) as core:
        for number in range(10):
            async with core.session(f"s{number}") as session:
                for _ in range(TURNS // 10):
                    await session.turn("q" * WORDS).run()
    raw = place / "raw-size.db"
    with raw_database(raw) as db:
        for number in range(TURNS):
            raw_turn(db, f"s{number % 10}", number, ("q" * WORDS, "a" * WORDS))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size, floor = path.stat().st_size / 1e6, raw.stat().st_size / 1e6
    return Row(
        measure=f"database size per {TURNS:,} turns of {2 * WORDS:,} characters",
        floor=f"{floor:.1f} MB",
        figure=f"{size:.1f} MB",
        target="4 times the floor",
        reached=size <= 4 * floor,
    )


async def _a_session(storage: SqliteStorage, session_id: str) -> None:
    store = await a_store(storage, session_id)
    fence = (await hold(store, session_id)).fence()
    state = HydratedSessionCheckpoint(execution_state=session_id.encode())
    await store.commit_runtime_state(
        a_commit(fence, session_id=session_id, graph=first(a_node("n")), checkpoint=state)
    )


def _litter(path: Path) -> None:
    """Blobs that nothing refers to, spread over all sessions."""
    content = os.urandom(BLOB_BYTES)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for number in range(GARBAGE_MB * 1024 * 1024 // BLOB_BYTES):
            db.execute(
                """
                INSERT INTO blobs (session_id, hash, kind, codec, content)
                VALUES (?, ?, 'execution_state', 'none', ?)
                """,
                (f"s{number % SESSIONS}", f"garbage-{number}", content),
            )


async def _beside_commits(
    storage: SqliteStorage, work: Callable[[], Awaitable[T]]
) -> tuple[T, list[float]]:
    """What `work` answers, and how many milliseconds each commit took while it ran."""
    store = await a_store(storage, "busy")
    fence = (await hold(store, "busy", ttl_ms=600_000)).fence()
    samples: list[float] = []
    done = anyio.Event()

    async def commit() -> None:
        while not done.is_set():
            node = a_node(f"n{time.monotonic_ns()}")
            started = time.perf_counter()
            await store.commit_runtime_state(a_commit(fence, session_id="busy", graph=append(node)))
            samples.append((time.perf_counter() - started) * 1000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        answer = await work()
        done.set()
    return answer, samples


def _raw_collection_s(path: Path) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        started = time.perf_counter()
        db.execute("BEGIN")
        db.execute("DELETE FROM blobs WHERE hash LIKE 'garbage-%'")
        free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
        for _ in range(free):
            db.execute("PRAGMA incremental_vacuum(1)")
        db.execute("COMMIT")
        return time.perf_counter() - started
