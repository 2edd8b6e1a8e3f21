"""How a figure is taken and shown."""

import gc
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `floor` is the same work in raw SQLite or plain asyncio, measured
    in the same run; `target` is what the figure has to reach."""

    measure: str
    floor: str
    figure: str
    target: str
    reached: bool


async def timed(times: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of each of `times` calls, with the collector out of the way."""
    samples = []
    gc.collect()
    gc.freeze()
    try:
        for _ in range(times):
            started = time.perf_counter()
            await work()
            samples.append((time.perf_counter() - started) * 1000)
    finally:
        gc.unfreeze()
    return samples


def p50(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def machine() -> str:
    """Where the figures come from."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pydantic", "anyio", "aiosqlite"))
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def resident_kib() -> int:
    """Resident memory of this process in KiB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
