"""A logical cancel: a flag that can be waited for. It is data and interrupts nothing by itself.

Cancelling an asyncio task means interruption; firing a token means "wind down, keep what is
finished". The two are never turned into each other.
"""

import asyncio
import threading
from collections.abc import Callable


class CancelToken:
    """Fires once. Safe to fire from any thread, safe to wait for from any number of tasks."""

    __slots__ = ("_callbacks", "_fired", "_lock", "_reason")

    def __init__(self) -> None:
        self._fired = False
        self._reason: str | None = None
        self._lock = threading.Lock()
        self._callbacks: dict[object, Callable[[], None]] = {}

    @property
    def is_cancelled(self) -> bool:
        return self._fired

    @property
    def reason(self) -> str | None:
        """What the first caller of `cancel` gave as the reason."""
        return self._reason

    def cancel(self, reason: str | None = None) -> None:
        """Fire; a second call changes nothing."""
        with self._lock:
            if self._fired:
                return
            self._fired = True
            self._reason = reason
            callbacks = tuple(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the token fires, in the firing thread; at once if it has fired.

        Returns a function that withdraws the callback.
        """
        key = object()
        with self._lock:
            if not self._fired:
                self._callbacks[key] = callback
                return lambda: self._withdraw(key)
        callback()
        return _nothing

    async def wait(self) -> None:
        """Return once the token has fired; at once if it already has."""
        if self._fired:
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
        """A token that fires with this one and can fire alone."""
        child = CancelToken()
        withdraw = self.on_cancel(lambda: child.cancel(self._reason))
        child.on_cancel(withdraw)
        return child

    def _withdraw(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)


def resolve(future: "asyncio.Future[None]") -> None:
    """Give `future` its result, unless it is done. Call it on the future's own loop."""
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    return None
