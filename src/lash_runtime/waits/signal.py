"""How a waiter learns that it should look again. The one place that knows what to wait for.

A signal is a hint, and the book is the truth: a waiter that was woken for nothing looks and waits
on. Waiters of this process are woken at once. Of what other processes write nobody hears, so where
a book is shared each waiter also looks by itself, seldom and ever more seldom.

Rule 1: whoever waits listens first and looks then, so that nothing falls between the two.
Rule 2: signals come from any thread, and waiters may be on any event loop.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import anyio

from ..ports.await_events import AwaitEventKey
from ..ports.cancel import CancelToken, resolve
from ..ports.clock import Clock
from ..ports.execution_scope import session_of

FIRST_PAUSE_S: Final = 0.025
LAST_PAUSE_S: Final = 1.0
"""Between two looks at a book that others write, too: doubled each time, from the first on to the
last; a signal starts over."""


class WaitSignal:
    """The waiters of one book in this process."""

    def __init__(self, *, shared_book: bool) -> None:
        """`shared_book` says that other processes write to the book as well."""
        self._shared_book = shared_book
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = {}

    @contextmanager
    def listening(self, key: AwaitEventKey) -> Iterator["Listener"]:
        """Listen for the wait of `key`, on the running loop."""
        listener = Listener(session_of(key.scope), polls=self._shared_book)
        with self._lock:
            self._listeners.setdefault(key.key_id, set()).add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                others = self._listeners[key.key_id]
                others.discard(listener)
                if not others:
                    del self._listeners[key.key_id]

    def is_heard(self, key_id: str) -> bool:
        """Whether anybody listens for that wait."""
        return key_id in self._listeners

    def ring(self, key_id: str) -> None:
        """That wait may have an answer."""
        with self._lock:
            listeners = tuple(self._listeners.get(key_id, ()))
        for listener in listeners:
            listener.wake()

    def ring_session(self, session_id: str) -> None:
        """Something may have happened to all waits of the session."""
        with self._lock:
            listeners = [
                listener
                for of_key in self._listeners.values()
                for listener in of_key
                if listener.session_id == session_id
            ]
        for listener in listeners:
            listener.wake()

    def ring_all(self) -> None:
        """The book can no longer be read, or nobody knows what has become of it."""
        with self._lock:
            listeners = [listener for of_key in self._listeners.values() for listener in of_key]
        for listener in listeners:
            listener.wake()


class Listener:
    """One waiter, between two looks. Belongs to the loop that it was made on."""

    __slots__ = ("_loop", "_pause_s", "_polls", "_rung", "_woken", "session_id")

    def __init__(self, session_id: str | None, *, polls: bool) -> None:
        self.session_id = session_id
        self._loop = asyncio.get_running_loop()
        self._polls = polls
        self._pause_s = FIRST_PAUSE_S
        self._rung = False
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Have the waiter look again. From any thread."""
        with suppress(RuntimeError):  # its loop is closed, and the waiter gone with it
            self._loop.call_soon_threadsafe(self._ring)

    async def wait(self, cancel: CancelToken, deadline_ms: int | None, clock: Clock) -> None:
        """Return when it is time to look: on a signal, when `cancel` fires, when the deadline is
        there, or when it is time to look by oneself."""
        if not self._rung:
            await self._first_of(cancel, self._seconds(deadline_ms, clock), clock)
        if self._rung:
            self._rung = False
            self._pause_s = FIRST_PAUSE_S
        else:
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)

    def _seconds(self, deadline_ms: int | None, clock: Clock) -> float | None:
        """How long to wait for a signal; `None` for as long as it takes."""
        limits = [self._pause_s] if self._polls else []
        if deadline_ms is not None:
            limits.append((deadline_ms - clock.timestamp_ms()) / 1000)
        return min(limits, default=None)

    async def _first_of(self, cancel: CancelToken, seconds: float | None, clock: Clock) -> None:
        self._woken = woken = self._loop.create_future()
        withdraw = cancel.resolve_on_cancel(woken)
        try:
            if seconds is None:
                await woken
            else:
                await _until(woken, clock.now() + seconds, clock)
        finally:
            self._woken = None
            withdraw()

    def _ring(self) -> None:
        self._rung = True
        if self._woken is not None:
            resolve(self._woken)


async def _until(woken: "asyncio.Future[None]", moment: float, clock: Clock) -> None:
    """Wait for `woken`, no longer than until `moment`, monotonic."""
    failures: list[Exception] = []

    async def sleep() -> None:
        try:
            await clock.sleep_until(moment)
        except Exception as error:
            failures.append(error)  # raised below, where it is not one of a group
        resolve(woken)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        await woken
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]
