"""The log of one session: the latest events by position, and who sleeps until there are more.

Rule 1: all of this runs under the store's lock; nothing here takes it.
Rule 2: what a newcomer may still replay (`horizon`) and what is still held for readers who are
already there (`oldest`) differ. Age moves the first, the number of events alone the second.
Rule 3: a reader is known here only while it sleeps, so one that is simply dropped leaves nothing.
"""

import asyncio
from collections import deque
from weakref import WeakSet

from ..ports.observation_events import SessionObservationEvent

Sleepers = dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]]


class SessionLog:
    """The events of one session. `tail` is the last position given out and only ever rises."""

    __slots__ = (
        "_arrivals",
        "_capacity",
        "_events",
        "_max_age_s",
        "_trim_after",
        "closed",
        "highest_revision",
        "horizon",
        "oldest",
        "readers",
        "resting",
        "sleepers",
        "tail",
    )

    def __init__(self, *, floor: int, capacity: int, max_age_s: float) -> None:
        """Positions go on after `floor`, as though all before it had been dropped."""
        self._capacity = capacity
        self._max_age_s = max_age_s
        self._events: deque[SessionObservationEvent] = deque()
        self._arrivals: deque[float] = deque()
        # No event is too old before then, so appending need not look.
        self._trim_after = float("-inf")
        self.tail = floor
        self.highest_revision = 0
        self.horizon = floor + 1
        # The first position still held; one past the tail when none is.
        self.oldest = floor + 1
        self.readers: WeakSet[object] | None = None
        self.sleepers: Sleepers | None = None
        self.resting = False
        self.closed = False

    @property
    def has_readers(self) -> bool:
        return self.readers is not None and len(self.readers) > 0

    def add(self, event: SessionObservationEvent, now: float) -> None:
        """Append the event, which bears the position after the tail."""
        events = self._events
        events.append(event)
        self._arrivals.append(now)
        self.tail += 1
        if event.revision > self.highest_revision:
            self.highest_revision = event.revision
        if len(events) > self._capacity:
            self._drop_surplus()
        if now > self._trim_after:
            self.trim(now)

    def at(self, position: int) -> SessionObservationEvent:
        """The event there, which must lie between `oldest` and `tail`."""
        return self._events[position - self.tail - 1]

    def after(self, position: int) -> list[SessionObservationEvent]:
        """All events after `position`, which must not lie before what is held."""
        events = self._events
        return [events[at] for at in range(position - self.tail, 0)]

    def position_before_revision_above(self, revision: int) -> int:
        """The place before the first replayable event of a later revision, or the tail."""
        if self.highest_revision <= revision:
            return self.tail
        for event in self._events:
            if event.revision > revision and event.position >= self.horizon:
                return event.position - 1
        return self.tail

    def trim(self, now: float) -> None:
        """Apply both bounds. Without readers, what nobody can replay is given up."""
        self._drop_surplus()
        arrivals = self._arrivals
        self._trim_after = now + self._max_age_s
        while self.horizon <= self.tail:
            expires = arrivals[self.horizon - self.oldest] + self._max_age_s
            if now <= expires:
                self._trim_after = expires
                break
            self.horizon += 1
        if not self.has_readers:
            self._drop(self.horizon - self.oldest)

    def add_reader(self, reader: object) -> None:
        if self.readers is None:
            self.readers = WeakSet()
        self.readers.add(reader)

    def drop_reader(self, reader: object) -> None:
        if self.readers is not None:
            self.readers.discard(reader)

    def sleep(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
        """A future of that loop, resolved after the next change. One for each sleeper:
        cancelling a shared one would cancel every other reader."""
        future = loop.create_future()
        sleepers = self.sleepers
        if sleepers is None:
            self.sleepers = {loop: {future}}
        elif loop in sleepers:
            sleepers[loop].add(future)
        else:
            sleepers[loop] = {future}
        return future

    def forget(self, future: "asyncio.Future[None]") -> None:
        """The sleeper left by itself."""
        if self.sleepers is not None:
            self.sleepers.get(future.get_loop(), set()).discard(future)

    def _drop_surplus(self) -> None:
        # One is held even where nothing may be replayed: a reader who is there gets it.
        self._drop(len(self._events) - max(1, self._capacity))
        self.horizon = max(self.horizon, self.tail - self._capacity + 1)

    def _drop(self, count: int) -> None:
        """Drop that many of the oldest events; none for a negative count."""
        for _ in range(count):
            self._events.popleft()
            self._arrivals.popleft()
            self.oldest += 1


def wake(sleepers: Sleepers | None) -> None:
    """Have all sleepers resolved: one callback for each event loop, in its own thread."""
    if not sleepers:
        return
    try:
        running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    for loop, futures in sleepers.items():
        if loop is running:
            loop.call_soon(_resolve, futures)
        else:
            try:
                loop.call_soon_threadsafe(_resolve, futures)
            except RuntimeError:  # that loop is closed, and its readers with it
                continue


def _resolve(futures: set[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
