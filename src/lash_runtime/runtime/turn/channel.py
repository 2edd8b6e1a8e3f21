"""The line between a turn and the one reader of its stream.

Bounded: a turn whose reader is slow waits for it. A reader that takes one activity at a time
costs nothing beyond it as long as there is one: neither side gives up the loop while it can go
on, and each wakes the other once for a whole run of activities.
"""

import asyncio
from collections import deque
from typing import Final

from ...model.activity import TurnActivity

CAPACITY: Final = 64
"""Activities that may wait for the reader before the turn waits."""


class ActivityChannel:
    """A sink for the turn and a source for the reader. One reader at a time."""

    def __init__(self) -> None:
        self._waiting: deque[TurnActivity] = deque()
        self._writers: list[asyncio.Future[None]] = []
        self._reader: asyncio.Future[None] | None = None
        self._ended = False
        self._discarding = False

    async def emit(self, activity: TurnActivity) -> None:
        """Hand over one activity, waiting while the reader is a whole capacity behind.

        Calls that run side by side emit from several tasks, each of which waits for itself.
        """
        if self._discarding:
            return
        self._waiting.append(activity)
        _wake(self._reader)
        while len(self._waiting) >= CAPACITY:
            room = asyncio.get_running_loop().create_future()
            self._writers.append(room)
            await room

    async def receive(self) -> TurnActivity | None:
        """The next activity, or `None` once the turn has ended and all were taken.

        Being cancelled here loses nothing. Raises `RuntimeError` when another task is reading.
        """
        while not self._waiting:
            if self._ended or self._discarding:
                return None
            if self._reader is not None and not self._reader.done():
                raise RuntimeError("another task is already reading this turn's stream")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        activity = self._waiting.popleft()
        # Half empty, not one place free: otherwise the two would take turns for every activity.
        if len(self._waiting) <= CAPACITY // 2:
            self._let_writers_go_on()
        return activity

    def end(self) -> None:
        """The turn is over; the reader gets what is left."""
        self._ended = True
        _wake(self._reader)

    def discard(self) -> None:
        """The reader is gone: drop what waits and what still comes, and hold nobody up."""
        self._discarding = True
        self._waiting.clear()
        _wake(self._reader)
        self._let_writers_go_on()

    def _let_writers_go_on(self) -> None:
        for room in self._writers:
            _wake(room)
        self._writers.clear()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
