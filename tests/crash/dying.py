"""Where a process dies, or stops: beside a statement or a file, in a write, or at some moment.

The library has no part in it. A process that is to die makes its own connections tell of every
statement and listens for what Python does to files; both are points, which it counts while it is
in danger, and at one of them it sends itself SIGKILL, or SIGSTOP. For a write that is torn it asks
the kernel to let no file grow beyond a size, and to end it by the signal for that, which leaves the
first part of the write on the disk. For a death at any instruction it has the kernel ring an alarm.
"""

import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

FILE_EVENTS: Final = frozenset(
    {"open", "os.chmod", "os.link", "os.remove", "os.rename", "sqlite3.connect"}
)


class Points(Enum):
    """Where a process passes points."""

    EVERYTHING = "beside statements and files, and where it says so itself"
    WRITES = "where a transaction that writes begins and ends, and where it says so itself"
    BETWEEN_WRITES = "the same, but not inside a transaction or a step of the loop"
    INSIDE_WRITES = "the same, but inside a transaction and nowhere else"


_BEFORE: Final[Mapping[Points, frozenset[str]]] = {
    Points.WRITES: frozenset({"BEGIN IMMEDIATE", "COMMIT"}),
    Points.BETWEEN_WRITES: frozenset({"BEGIN IMMEDIATE"}),
    Points.INSIDE_WRITES: frozenset({"COMMIT"}),
}
_AFTER: Final[Mapping[Points, frozenset[str]]] = {
    Points.WRITES: frozenset({"BEGIN IMMEDIATE", "COMMIT"}),
    Points.BETWEEN_WRITES: frozenset({"COMMIT"}),
    Points.INSIDE_WRITES: frozenset({"BEGIN IMMEDIATE"}),
}


@dataclass(frozen=True)
class Death:
    """At which point, once a file has grown by so many bytes, or after so many seconds. With none
    of them: none. One that only `stops` is over when somebody lets the process go on."""

    point: int | None = None
    growth: int | None = None
    after_s: float | None = None
    stops: bool = False

    @property
    def signal(self) -> int:
        if self.after_s is not None:
            return -signal.SIGALRM
        return -signal.SIGXFSZ if self.point is None else -signal.SIGKILL


class Reaper:
    """Counts the points that this process passes while it is in danger."""

    def __init__(self, points: Points = Points.EVERYTHING) -> None:
        self.passed = 0
        self._points = points
        self._at: int | None = None
        self._signal = signal.SIGKILL
        self._armed = False
        self._writing: int | None = None
        self._counting = threading.Lock()

    def point(self) -> None:
        if not self._armed:
            return
        with self._counting:
            self.passed += 1
            between = self._writing is None and _loop_rests()
            waits = self._points is Points.BETWEEN_WRITES and not between
            if self._at is not None and self.passed >= self._at and not waits:
                self._at = None
                # To this thread, which would run on for a while if another one had to take it.
                signal.pthread_kill(threading.get_ident(), self._signal)

    def here(self) -> None:
        """A point of the process's own making."""
        if self._points is not Points.INSIDE_WRITES:
            self.point()

    def perish(self) -> None:
        """Die here, whatever point this is."""
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, statement: str) -> None:
        if self._points is Points.EVERYTHING or statement in _BEFORE[self._points]:
            self.point()
        if statement == "BEGIN IMMEDIATE":
            with self._counting:
                self._writing = threading.get_ident()

    def after(self, statement: str) -> None:
        if statement in {"COMMIT", "ROLLBACK"} and self._writing == threading.get_ident():
            self._writing = None
        if self._points is Points.EVERYTHING or statement in _AFTER[self._points]:
            self.point()

    def on_event(self, event: str, _: tuple[Any, ...]) -> None:
        if self._points is Points.EVERYTHING and event in FILE_EVENTS:
            self.point()

    @contextmanager
    def danger(self, death: Death, size: int = 0) -> Iterator[None]:
        """Die within the block if `death` says so. Growth counts from `size` bytes."""
        self._at = death.point
        self._signal = signal.SIGSTOP if death.stops else signal.SIGKILL
        if death.growth is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + death.growth, hard))
        if death.after_s is not None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, max(death.after_s, 1e-6))
        self._armed = True
        yield
        self._armed = False
        if death.growth is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if death.after_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _loop_rests() -> bool:
    """Whether the event loop, unless this is its thread, is not about to do anything. For whoever
    stops in another thread stops the loop wherever it is, in the middle of a step, too."""
    loop = threading.main_thread().ident
    if loop is None or loop == threading.get_ident():
        return True
    return sys._current_frames()[loop].f_code.co_name == "select"


class Watched(sqlite3.Connection):
    """A connection, of whatever class besides, that passes a point before and after each
    statement."""

    reaper: Reaper

    def execute(self, statement: str, *args: Any) -> sqlite3.Cursor:
        self.reaper.before(statement)
        cursor = super().execute(statement, *args)
        self.reaper.after(statement)
        return cursor

    def executemany(self, statement: str, *args: Any) -> sqlite3.Cursor:
        self.reaper.before(statement)
        cursor = super().executemany(statement, *args)
        self.reaper.after(statement)
        return cursor

    def backup(self, target: sqlite3.Connection, *, pages: int, progress: Any) -> None:
        def copied(*status: int) -> None:
            self.reaper.point()
            progress(*status)

        super().backup(target, pages=pages, progress=copied)

    def close(self) -> None:
        self.reaper.before("close")
        super().close()
        self.reaper.after("close")


def watched_process(points: Points = Points.EVERYTHING) -> Reaper:
    """Watch this process from now on. For a process that is made to die."""
    reaper = Reaper(points)
    Watched.reaper = reaper
    connect = sqlite3.connect

    def watched(
        *args: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **settings: Any
    ) -> sqlite3.Connection:
        return connect(*args, factory=_watched(factory), **settings)

    sqlite3.connect = watched
    sys.addaudithook(reaper.on_event)
    return reaper


@cache
def _watched(factory: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
    return type(f"Watched{factory.__name__}", (Watched, factory), {})
