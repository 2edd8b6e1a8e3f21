"""The signals of one storage within its process: who listens, and how they are woken.

Rule 1: telling may happen on any thread, waiting on the listener's event loop. All that both
touch is touched under one lock, under which nothing waits and nobody's code runs.
Rule 2: a listener is a flag and, while it waits, a future. However much it is told, that is one
wake-up.
Rule 3: the collector may end a subscription in the middle of anything here, so it only leaves a
note; whoever comes next acts on it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self
from warnings import warn

from ..ports.cancel import resolve
from ..ports.signals import StoreSignal
from .signal_marks import Interest, SignalMark, mark_of

_Parked = asyncio.Future[None]


class _Listener:
    """What the hub keeps of a subscription. All of it is read and changed under the hub's lock."""

    __slots__ = ("closed", "interest", "parked", "told")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.told = False
        self.closed = False
        self.parked: _Parked | None = None

    def tell(self) -> _Parked | None:
        """The future to be resolved, if somebody waits."""
        self.told = True
        return self._unpark()

    def end(self) -> _Parked | None:
        self.closed = True
        return self._unpark()

    def _unpark(self) -> _Parked | None:
        parked, self.parked = self.parked, None
        return parked


class SignalHub:
    """Tells the listeners of one storage. Everything but their waiting is safe from any thread."""

    __slots__ = ("_forgotten", "_listeners", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[bytes | None, set[_Listener]] = {}
        """By the mark of their session; under `None` those who listen to all of them."""
        self._forgotten: deque[_Listener] = deque()

    @property
    def has_listeners(self) -> bool:
        if self._forgotten:
            with self._lock:
                self._release_forgotten()
        return bool(self._listeners)

    def listen(self, interest: Interest) -> "HubSubscription":
        listener = _Listener(interest)
        with self._lock:
            self._release_forgotten()
            self._listeners.setdefault(interest.session, set()).add(listener)
        return HubSubscription(self, listener)

    def announce(self, signal: StoreSignal) -> None:
        """Tell those who want to hear of it."""
        if self._listeners:
            self.tell((mark_of(signal),))

    def tell(self, marks: Iterable[SignalMark]) -> None:
        """Tell those who want to hear of any of them."""
        with self._lock:
            self._release_forgotten()
            woken = [
                listener.tell()
                for mark in marks
                for among in (self._listeners.get(mark.session), self._listeners.get(None))
                if among is not None
                for listener in among
                if listener.interest.matches(mark)
            ]
        _wake(woken)

    def tell_everybody(self) -> None:
        """Something was missed: have everybody look."""
        with self._lock:
            self._release_forgotten()
            woken = [listener.tell() for among in self._listeners.values() for listener in among]
        _wake(woken)

    def end_all(self) -> None:
        """End every subscription, as its own `close` would."""
        with self._lock:
            self._forgotten.clear()
            woken = [listener.end() for among in self._listeners.values() for listener in among]
            self._listeners.clear()
        _wake(woken)

    def take(self, listener: _Listener) -> bool:
        with self._lock:
            told, listener.told = listener.told, False
            return told and not listener.closed

    def park(self, listener: _Listener) -> _Parked | None:
        """A future that is resolved when there is something to answer; `None` when there is."""
        with self._lock:
            if listener.told or listener.closed:
                return None
            listener.parked = asyncio.get_running_loop().create_future()
            return listener.parked

    def unpark(self, listener: _Listener) -> None:
        with self._lock:
            listener.parked = None

    def end(self, listener: _Listener) -> None:
        with self._lock:
            woken = listener.end()
            self._remove(listener)
        _wake((woken,))

    def forget(self, listener: _Listener) -> None:
        """As `end`, from wherever the collector happens to run."""
        self._forgotten.append(listener)

    def _release_forgotten(self) -> None:
        while self._forgotten:
            self._remove(self._forgotten.popleft())

    def _remove(self, listener: _Listener) -> None:
        session = listener.interest.session
        among = self._listeners.get(session)
        if among is not None:
            among.discard(listener)
            if not among:
                del self._listeners[session]


class HubSubscription:
    """The subscription of a hub."""

    __slots__ = ("__weakref__", "_hub", "_listener", "_waiting")

    def __init__(self, hub: SignalHub, listener: _Listener) -> None:
        self._hub = hub
        self._listener = listener
        self._waiting = False

    def take(self) -> bool:
        return self._hub.take(self._listener)

    async def wait(self) -> bool:
        if self._waiting:
            raise RuntimeError("somebody waits on this subscription already: make one for each")
        self._waiting = True
        try:
            while (parked := self._hub.park(self._listener)) is not None:
                await parked
            return self._hub.take(self._listener)
        finally:
            self._waiting = False
            self._hub.unpark(self._listener)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        if not await self.wait():
            raise StopAsyncIteration

    def close(self) -> None:
        if not self._listener.closed:
            self._hub.end(self._listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._listener.closed:
            self._hub.forget(self._listener)
            warn(
                "a subscription to signals was never closed: use it as `with`, or call close()",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )


def _wake(woken: Iterable[_Parked | None]) -> None:
    """Resolve the futures, each on its own loop, with one callback for all of a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Parked]] = {}
    for parked in woken:
        if parked is not None:
            by_loop.setdefault(parked.get_loop(), []).append(parked)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures)
        except RuntimeError:  # that loop is closed, and its listeners with it
            continue


def _resolve(futures: list[_Parked]) -> None:
    for parked in futures:
        resolve(parked)
