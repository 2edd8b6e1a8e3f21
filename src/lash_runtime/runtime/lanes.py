"""One lane per session of a core: turns and other writers pass through it one at a time.

First in, first out. Handles that were opened separately on one session id share its lane, so
callers in one process are served in order; other processes are kept out by the store's lease.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import anyio


class SessionLane:
    """The line of writers of one session."""

    __slots__ = ("__weakref__", "_glances", "_lock", "waiting")

    def __init__(self) -> None:
        self._lock = anyio.Lock(fast_acquire=True)
        self._glances = 0
        self.waiting = 0

    @property
    def busy(self) -> bool:
        return self._lock.locked() or self.waiting > 0

    @property
    def at_work(self) -> bool:
        """Whether somebody writes, or waits to: not counting those who have a look."""
        return self._lock.locked() + self.waiting > self._glances

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[None]:
        """Hold the lane for as long as it takes to read the session again, and write nothing."""
        self._glances += 1
        try:
            async with self.turn():
                yield
        finally:
            self._glances -= 1

    def turn(self) -> "_Turn":
        """Wait in line, then hold the lane: `async with`. Cancelling the wait leaves the line
        unharmed."""
        return _Turn(self, self._lock)


class _Turn:
    """One pass through the lane."""

    __slots__ = ("_lane", "_lock")

    def __init__(self, lane: SessionLane, lock: anyio.Lock) -> None:
        self._lane = lane
        self._lock = lock

    async def __aenter__(self) -> None:
        self._lane.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._lane.waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class SessionLanes:
    """The lanes of a core, by session id. A lane that nobody uses is forgotten."""

    def __init__(self) -> None:
        self._lanes: WeakValueDictionary[str, SessionLane] = WeakValueDictionary()

    def lane(self, session_id: str) -> SessionLane:
        lane = self._lanes.get(session_id)
        if lane is None:
            lane = SessionLane()
            self._lanes[session_id] = lane
        return lane
