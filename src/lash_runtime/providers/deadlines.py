"""How long one exchange with an endpoint may take: to begin, between two pieces, and in all.

Rule 1: time is the injected clock's; the HTTP library's own timeouts are off.
Rule 2: one watcher for each exchange and not one timer for each piece, so that a piece of a
stream costs one assignment.
Rule 3: what has been finished wins over a deadline that passes in the same moment.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..ports.clock import Clock

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """An exchange took too long; `limit` says which of its limits it was."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class Deadlines:
    """The limits of one exchange, which may be moved while it runs.

    `silence_s` counts from the latest sign of life: a call of `alive`, or a change of what
    `progress` returns (say, the number of bytes received) since the watcher last looked.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, float] = {}
        self._silence_s: float | None = None
        self._silence = ""
        self._last_sign = clock.now()
        self._progress: Callable[[], object] | None = None
        self._seen: object = None
        self._exceeded: str | None = None
        self._changed: anyio.Event | None = None

    def set(self, limit: str, seconds: float | None) -> None:
        """Allow `seconds` from now until the limit is lifted; `None` sets none."""
        if seconds is None:
            self._limits.pop(limit, None)
        else:
            self._limits[limit] = self._clock.now() + seconds
        self._wake()

    def lift(self, limit: str) -> None:
        self._limits.pop(limit, None)

    def set_silence(
        self, limit: str, seconds: float, progress: Callable[[], object] | None = None
    ) -> None:
        """From now on allow no longer than `seconds` without a sign of life."""
        self._silence, self._silence_s, self._progress = limit, seconds, progress
        self.alive()
        self._wake()

    def alive(self) -> None:
        """Something has arrived."""
        self._last_sign = self._clock.now()
        if self._progress is not None:
            self._seen = self._progress()

    async def hold(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, and stop it when a limit passes.

        Raises `DeadlineExceeded`, or what `work` raises. Cancellation passes through.
        """
        value: list[T] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            try:
                value.append(await work())
            except Exception as error:
                failure = error  # raised outside of the group, which would wrap it
            group.cancel_scope.cancel()
        if value:
            return value[0]
        if self._exceeded is None and failure is not None:
            raise failure
        raise DeadlineExceeded(self._exceeded or "") from failure

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while True:
            limit, due = self._next()
            if due is not None and self._clock.now() >= due:
                if limit == self._silence and self._has_moved():
                    continue
                self._exceeded = limit
                scope.cancel()
                return
            self._changed = anyio.Event()
            async with anyio.create_task_group() as group:
                if due is not None:
                    group.start_soon(self._sleep_until, due, self._changed)
                await self._changed.wait()
                group.cancel_scope.cancel()

    async def _sleep_until(self, due: float, changed: anyio.Event) -> None:
        await self._clock.sleep_until(due)
        changed.set()

    def _next(self) -> tuple[str, float | None]:
        limit, due = min(self._limits.items(), key=lambda item: item[1], default=("", None))
        if self._silence_s is not None:
            silent_at = self._last_sign + self._silence_s
            if due is None or silent_at < due:
                return self._silence, silent_at
        return limit, due

    def _has_moved(self) -> bool:
        if self._progress is None or self._progress() == self._seen:
            return False
        self.alive()
        return True

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
