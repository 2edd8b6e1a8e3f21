"""Where a process dies: before or after a statement, beside a file, in the middle of a write.

The library has no part in it. A process that is to die makes its own connections tell of every
statement and listens for what Python does to files; both are points, which it counts while it is
in danger, and at one of them it sends itself SIGKILL. For a write that is torn it asks the kernel
to let no file grow beyond a size, and to end it by the signal for that, which leaves the first
part of the write on the disk.
"""

import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

FILE_EVENTS: Final = frozenset(
    {"open", "os.chmod", "os.link", "os.remove", "os.rename", "sqlite3.connect"}
)


@dataclass(frozen=True)
class Death:
    """At which point, or once a file has grown by so many bytes. With neither: none."""

    point: int | None = None
    growth: int | None = None

    @property
    def signal(self) -> int:
        return -signal.SIGXFSZ if self.point is None else -signal.SIGKILL


class Reaper:
    """Counts the points that this process passes while it is in danger."""

    def __init__(self) -> None:
        self.passed = 0
        self._at: int | None = None
        self._armed = False
        self._counting = threading.Lock()

    def point(self) -> None:
        if not self._armed:
            return
        with self._counting:
            self.passed += 1
            if self.passed == self._at:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_event(self, event: str, _: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS:
            self.point()

    @contextmanager
    def danger(self, death: Death, size: int) -> Iterator[None]:
        """Die within the block if `death` says so. Growth counts from `size` bytes."""
        self._at = death.point
        if death.growth is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + death.growth, hard))
        self._armed = True
        yield
        self._armed = False
        if death.growth is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class WatchedConnection(sqlite3.Connection):
    """A connection that passes a point before and after each statement."""

    reaper: Reaper

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.reaper.point()
        cursor = super().execute(*args)
        self.reaper.point()
        return cursor

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self.reaper.point()
        cursor = super().executemany(*args)
        self.reaper.point()
        return cursor

    def backup(self, target: sqlite3.Connection, *, pages: int, progress: Any) -> None:
        def copied(*status: int) -> None:
            self.reaper.point()
            progress(*status)

        super().backup(target, pages=pages, progress=copied)

    def close(self) -> None:
        self.reaper.point()
        super().close()
        self.reaper.point()


def watched_process() -> Reaper:
    """Watch this process from now on. For a process that is made to die."""
    reaper = Reaper()
    WatchedConnection.reaper = reaper
    sqlite3.connect = partial(_connect_watched, sqlite3.connect)
    sys.addaudithook(reaper.on_event)
    return reaper


def _connect_watched(
    connect: Callable[..., sqlite3.Connection],
    *args: Any,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
    **named: Any,
) -> sqlite3.Connection:
    """A connection of the kind that is asked for, which is watched as well."""
    watched = type(f"Watched{factory.__name__}", (WatchedConnection, factory), {})
    return connect(*args, factory=watched, **named)
