"""Signals that stay within the process: all that a storage in memory needs, and what any other
backend can do without a way to reach other processes."""

from collections.abc import Callable

from ..ports.signals import SignalFilter, SignalSubscription, StoreSignal
from .signal_hub import SignalHub
from .signal_marks import Interest


def _anybody() -> None:
    """Whoever asks may listen."""


class LocalSignals:
    """The `StoreSignals` of a backend that announces what its own process commits, if that.

    `hears_all` says that there is nobody else. Without it whoever waits looks again and again, so
    it is enough for a backend that announces nothing, too. `check` runs before anybody listens,
    and raises where they may not.
    """

    def __init__(self, *, hears_all: bool = False, check: Callable[[], None] | None = None) -> None:
        self._hears_all = hears_all
        self._check = check or _anybody
        self._hub = SignalHub()

    @property
    def hears_all(self) -> bool:
        return self._hears_all

    def announce(self, signal: StoreSignal) -> None:
        self._hub.announce(signal)

    def listen(self, wanted: SignalFilter) -> SignalSubscription:
        self._check()
        return self._hub.listen(Interest(wanted))

    def end(self) -> None:
        """The storage is closed: end every subscription. New ones may be made later."""
        self._hub.end_all()
