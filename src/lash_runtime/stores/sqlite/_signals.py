"""The signals of a SQLite storage, to its own listeners."""

from collections.abc import Sequence

from ...ports.signals import SignalFilter, SignalSubscription, StoreSignal
from ..signal_hub import SignalHub
from ..signal_marks import mark_of
from ._scope import StorageScope


class SqliteSignals:
    """The `StoreSignals` of one storage. Only what is in memory is nobody else's."""

    __slots__ = ("_hub", "_scope")

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope
        self._hub = SignalHub()

    @property
    def hears_all(self) -> bool:
        return self._scope.settings.in_memory

    def announce(self, signal: StoreSignal) -> None:
        self.announce_all((signal,))

    def announce_all(self, signals: Sequence[StoreSignal]) -> None:
        """As `announce`, of what was committed together."""
        if self._hub.has_listeners:
            self._hub.tell(map(mark_of, signals))

    def listen(self, wanted: SignalFilter) -> SignalSubscription:
        self._scope.database.check_owner()
        return self._hub.listen(wanted)

    def end(self) -> None:
        """The storage is closed: end every subscription."""
        self._hub.end_all()
