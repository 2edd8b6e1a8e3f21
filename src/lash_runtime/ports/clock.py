"""Time, as the library reads it. Nothing else in the library looks at a clock."""

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations, and sleeping."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean anything, and it is never stored."""
        ...

    def timestamp_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def timestamp_rfc3339(self) -> str:
        """The wall time as RFC 3339 in UTC, with milliseconds."""
        ...

    def timestamp_datetime(self) -> datetime:
        """The wall time as an aware datetime in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`; cancellable."""
        ...

    async def sleep_until(self, deadline: float) -> None:
        """Sleep until `now()` reaches `deadline`; returns at once when it has passed."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def timestamp_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def timestamp_rfc3339(self) -> str:
        return rfc3339(self.timestamp_ms())

    def timestamp_datetime(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_until(self, deadline: float) -> None:
        await asyncio.sleep(max(0.0, deadline - self.now()))


def rfc3339(epoch_ms: int) -> str:
    """`epoch_ms` as RFC 3339 in UTC with milliseconds."""
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
