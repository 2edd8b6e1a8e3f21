"""One reader of one session's log: a position, and nothing that the publisher has to know.

Rule 1: between taking an event and handing it out nothing is awaited, so a cancelled read has
not moved.
Rule 2: a reader with a backlog never sleeps by itself; it steps aside every few events.
"""

import asyncio
import threading
from types import TracebackType
from typing import Final, Self

from anyio.lowlevel import checkpoint

from ..ports.observation_events import SessionObservationEvent
from ..ports.replay import LiveReplayClosed, SubscriberLagged
from ._log import SessionLog, wake

CHECKPOINT_EVERY: Final = 32
"""Events that a reader takes before it lets other tasks run."""


class InMemorySubscription:
    """The subscription of `InMemoryLiveReplayStore`. Belongs to the event loop that reads it."""

    __slots__ = (
        "__weakref__",
        "_done",
        "_lock",
        "_log",
        "_loop",
        "_next",
        "_parked",
        "_pinned",
        "_reading",
        "_unbroken",
    )

    def __init__(
        self,
        log: SessionLog,
        lock: threading.Lock,
        pinned: list[SessionObservationEvent],
    ) -> None:
        """To be made under `lock`, in the same breath as `pinned` is read."""
        self._log = log
        self._lock = lock
        self._loop: asyncio.AbstractEventLoop | None = None
        # Turned round, so that the next one is taken off the end.
        self._pinned = pinned[::-1]
        self._next = log.tail + 1
        self._parked: asyncio.Future[None] | None = None
        self._reading = False
        self._done = False
        self._unbroken = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionObservationEvent:
        if self._reading:
            raise RuntimeError("this subscription is being read already; make one for each reader")
        self._reading = True
        try:
            if self._unbroken >= CHECKPOINT_EVERY:
                self._unbroken = 0
                await checkpoint()
            while True:
                event = self._take_or_park()
                if event is not None:
                    self._unbroken += 1
                    return event
                assert self._parked is not None
                self._unbroken = 0
                await self._parked
        finally:
            self._reading = False
            if self._parked is not None:
                self._unpark(self._parked)

    async def next_event(self) -> SessionObservationEvent:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise LiveReplayClosed from None

    async def aclose(self) -> None:
        with self._lock:
            self._done = True
            self._pinned.clear()
            self._log.drop_reader(self)
            parked = self._parked
            if parked is not None:
                self._log.forget(parked)
        if parked is not None:
            wake({parked.get_loop(): {parked}})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _take_or_park(self) -> SessionObservationEvent | None:
        """The next event; or `None`, with a future in `_parked` that the next append resolves."""
        with self._lock:
            if self._done:
                raise StopAsyncIteration
            if self._pinned:
                return self._pinned.pop()
            log = self._log
            position = self._next
            if position <= log.tail:
                if position < log.oldest:
                    self._next = log.oldest
                    raise SubscriberLagged(log.oldest - position)
                self._next = position + 1
                return log.at(position)
            if log.closed:
                self._done = True
                raise LiveReplayClosed
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.get_running_loop()
            self._parked = log.sleep(loop)
            return None

    def _unpark(self, parked: "asyncio.Future[None]") -> None:
        self._parked = None
        if parked.cancelled():  # else the publisher has taken it off the list already
            with self._lock:
                self._log.forget(parked)
