"""Clocks under a test's control: one that stands still until moved, one that never waits."""

import heapq
from datetime import UTC, datetime, timedelta

import anyio
from anyio.lowlevel import checkpoint

from ..ports.clock import rfc3339

DEFAULT_START_MS = 1_750_000_000_000


class _TestTime:
    """Monotonic and wall time that move together and only when told."""

    def __init__(self, start_ms: int = DEFAULT_START_MS) -> None:
        self._start_ms = start_ms
        self._elapsed_s = 0.0

    def now(self) -> float:
        return self._elapsed_s

    def timestamp_ms(self) -> int:
        return self._start_ms + round(self._elapsed_s * 1000)

    def timestamp_rfc3339(self) -> str:
        return rfc3339(self.timestamp_ms())

    def timestamp_datetime(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=self.timestamp_ms())


class ManualClock(_TestTime):
    """Time moves by `advance` alone; a sleeper parks until its moment has been passed."""

    def __init__(self, start_ms: int = DEFAULT_START_MS) -> None:
        super().__init__(start_ms)
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._arrivals = 0
        self._arrived: anyio.Event | None = None

    @property
    def sleeping(self) -> int:
        """How many sleepers are parked."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._elapsed_s + seconds)

    async def sleep_until(self, deadline: float) -> None:
        if deadline <= self._elapsed_s:
            await checkpoint()
            return
        # The arrival number keeps equal deadlines in order; events themselves do not compare.
        self._arrivals += 1
        sleeper = (deadline, self._arrivals, anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:  # cancelled before its time
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move time forward and wake, in order, those whose moment has come."""
        self._elapsed_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            heapq.heappop(self._sleepers)[2].set()

    async def wait_for_sleepers(self, count: int = 1) -> None:
        """Return once at least `count` sleepers are parked."""
        while len(self._sleepers) < count:
            if self._arrived is None:
                self._arrived = anyio.Event()
            await self._arrived.wait()


class RecordingClock(_TestTime):
    """Sleeping returns at once and moves time on; `sleeps` holds every duration asked for."""

    def __init__(self, start_ms: int = DEFAULT_START_MS) -> None:
        super().__init__(start_ms)
        self.sleeps: list[float] = []

    @property
    def slept(self) -> float:
        """Seconds slept in all."""
        return sum(self.sleeps)

    def advance(self, seconds: float) -> None:
        """Move time on without a sleep."""
        self._elapsed_s += seconds

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.sleeps.append(seconds)
            self._elapsed_s += seconds
        await checkpoint()

    async def sleep_until(self, deadline: float) -> None:
        await self.sleep(deadline - self._elapsed_s)
