"""Durable waits that are kept in this process, and end with it.

One registry serves all that keep none of their own, so that a key which a turn has minted can be
answered through the core. Its secret is drawn anew in each process: keys die with it.
"""

import os

from ..ports.await_events import AwaitEventKey, Resolution
from ..ports.cancel import CancelToken
from ..ports.clock import Clock, SystemClock
from ..ports.execution_scope import ExecutionScope
from ..waits.keeper import AwaitEventKeeper
from ..waits.memory import MemoryWaitBook
from ..waits.signal import WaitSignal


class InlineWaitRegistry:
    """The waits themselves. Safe to share between threads that run an event loop each."""

    __slots__ = ("_over", "book", "signal")

    def __init__(self) -> None:
        self.book = MemoryWaitBook()
        self.signal = WaitSignal(shared_book=False)
        self._over: set[str] = set()

    def forget(self, scope: ExecutionScope) -> None:
        """As `InlineAwaitEvents.forget`."""
        self._over.update(self.book.drop_scope(scope, self.signal.is_heard))

    def left(self, key_id: str) -> None:
        """A waiter has gone, perhaps the last one."""
        if key_id in self._over and not self.signal.is_heard(key_id):
            self._over.discard(key_id)
            self.book.drop(key_id)


class InlineAwaitEvents(AwaitEventKeeper):
    """The resolver of a registry, by `clock`: the one of the process and the machine's own clock,
    unless others are given."""

    def __init__(
        self, *, clock: Clock | None = None, registry: InlineWaitRegistry | None = None
    ) -> None:
        self._registry = registry or _process.registry
        time: Clock = clock or SystemClock()
        super().__init__(self._registry.book, self._registry.signal, lambda: time)

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        try:
            return await super().await_await_event(key, cancel, deadline_ms)
        finally:
            self._registry.left(key.key_id)

    def forget(self, scope: ExecutionScope) -> None:
        """Drop the waits of a scope that is over, each as soon as nobody waits for it any more.
        Their keys are unknown from then on. Nothing else makes a process forget a wait, but for
        the end of its session."""
        self._registry.forget(scope)


class _Process:
    """What this process keeps. A child begins with nothing: what it is told would not reach those
    who wait in its parent."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.registry = InlineWaitRegistry()


_process = _Process()
