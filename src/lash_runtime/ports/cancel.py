"""A logical cancel: a flag that can be waited for. It is data and interrupts nothing by itself.

Cancelling an asyncio task means interruption; firing a token means "wind down, keep what is
finished". The two are never turned into each other.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import partial


class CancelToken:
    """Fires once. Safe to fire from any thread, safe to wait for from any number of tasks."""

    __slots__ = ("_callbacks", "_fired", "_lock", "_parent", "_reason")

    def __init__(self) -> None:
        self._parent: CancelToken | None = None
        self._fired = False
        self._reason: str | None = None
        self._lock = threading.Lock()
        self._callbacks: dict[object, Callable[[], None]] = {}

    @property
    def is_cancelled(self) -> bool:
        return self._fired or (self._parent is not None and self._parent.is_cancelled)

    @property
    def reason(self) -> str | None:
        """What the first caller of `cancel` gave as the reason."""
        return self._reason if self._fired or self._parent is None else self._parent.reason

    def cancel(self, reason: str | None = None) -> None:
        """Fire; a second call changes nothing."""
        with self._lock:
            if self._fired:
                return
            parent = self._parent
            self._reason = parent.reason if parent is not None and parent.is_cancelled else reason
            self._fired = True
            callbacks = tuple(self._callbacks.values())
            self._callbacks.clear()
            self._let_go_of_parent()
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the token fires, in the firing thread; at once if it has fired.

        Returns a function that withdraws the callback.
        """
        key = object()
        if self._register(key, callback):
            return partial(self._withdraw, key)
        callback()
        return _nothing

    async def wait(self) -> None:
        """Return once the token has fired; at once if it already has."""
        if self.is_cancelled:
            return
        fired = asyncio.get_running_loop().create_future()
        withdraw = self.resolve_on_cancel(fired)
        try:
            await fired
        finally:
            withdraw()

    def resolve_on_cancel(self, future: "asyncio.Future[None]") -> Callable[[], None]:
        """Have `future` resolved by its own loop when the token fires, unless it is done by then.

        Returns a function that withdraws this.
        """
        loop = future.get_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(resolve, future)

        return self.on_cancel(wake)

    def child(self) -> "CancelToken":
        """A token that fires with this one and can fire alone.

        This one knows of it only while something waits for it, so that a token which serves for
        long does not gather those of all the calls that were made under it.
        """
        child = CancelToken()
        child._parent = self
        return child

    def _register(self, key: object, callback: Callable[[], None]) -> bool:
        """Keep `callback` for when the token fires; `False` if it has fired."""
        with self._lock:  # inside which its parent's is taken, and never the other way round
            parent = self._parent
            if self._fired:
                return False
            if parent is not None and not parent._register(self, self.cancel):  # noqa: SLF001 - as below
                return False
            self._callbacks[key] = callback
            return True

    def _withdraw(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
            if not self._callbacks:
                self._let_go_of_parent()

    def _let_go_of_parent(self) -> None:
        if self._parent is not None:
            self._parent._withdraw(self)  # noqa: SLF001 - another of this class


def resolve(future: "asyncio.Future[None]") -> None:
    """Give `future` its result, unless it is done. Call it on the future's own loop."""
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    return None
