"""The signals of a SQLite storage: to its own listeners at once, to those of other processes by
datagrams, and from processes that send none by asking the database.

Rule 1: who does not listen has no socket, and where nobody has one a commit sends nothing.
Rule 2: a socket that was put up is known to every sender a moment later. What was committed in
that moment is found by one more look at its end.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

from ...ports.signals import SignalFilter, SignalSubscription, StoreSignal
from ..signal_hub import SignalHub
from ..signal_marks import mark_of
from ._database import Database
from ._datagrams import datagram_of
from ._mailbox import Mailbox
from ._peers import KNOWN_FOR_S, Peers
from ._scope import StorageScope
from ._socket_folder import SocketFolder
from ._version_watch import VersionWatch

_KNOWN_TO_ALL_S: Final = KNOWN_FOR_S + 0.01
"""Timers may be early by the resolution of their clock."""


class SqliteSignals:
    """The `StoreSignals` of one storage. In memory they reach its own listeners, who are all."""

    __slots__ = ("_folder", "_hub", "_mailbox", "_peers", "_scope", "_timer", "_watch")

    def __init__(self, scope: StorageScope) -> None:
        settings = scope.settings
        self._scope = scope
        self._hub = SignalHub()
        self._folder = None if settings.in_memory else SocketFolder(settings.path)
        self._peers = None if self._folder is None else Peers(self._folder, self._own_path)
        self._mailbox: Mailbox | None = None
        self._watch: VersionWatch | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def hears_all(self) -> Literal[True]:
        return True

    def announce(self, signal: StoreSignal) -> None:
        self.announce_all((signal,))

    def announce_all(self, signals: Sequence[StoreSignal]) -> None:
        """As `announce`, of what was committed together."""
        peers = () if self._peers is None else self._peers.present()
        if not peers and not self._hub.has_listeners:
            return
        marks = dict.fromkeys(map(mark_of, signals))
        self._hub.tell(marks)
        if peers and self._peers is not None:
            self._peers.send(peers, datagram_of(marks))

    def listen(self, wanted: SignalFilter) -> SignalSubscription:
        database = self._scope.database
        database.check_owner()
        if self._folder is not None:
            self._reach_out(self._folder, database)
        return self._hub.listen(wanted)

    def end(self) -> None:
        """The storage is closed: end every subscription, and be gone for other processes."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop_watching()
        if self._mailbox is not None:
            self._mailbox.close()
        self._timer = self._mailbox = None
        self._hub.end_all()

    def abandon(self) -> None:
        """The storage was dropped without being closed."""
        if self._mailbox is not None:
            self._mailbox.abandon()

    def _own_path(self) -> str | None:
        mailbox = self._mailbox
        return None if mailbox is None else mailbox.path

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _reach_out(self, folder: SocketFolder, database: Database) -> None:
        """See to it that the listener who comes next hears of other processes."""
        mailbox = self._mailbox
        if mailbox is not None and not mailbox.is_reachable:
            mailbox.close()
            mailbox = None
        if mailbox is None:
            mailbox = self._mailbox = Mailbox.open(folder, self._hub)
            if mailbox is not None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_KNOWN_TO_ALL_S, self._hub.tell_everybody)
        if mailbox is not None:
            mailbox.read()
            self._stop_watching()
        else:
            self._watch = self._watch or VersionWatch(database, self._hub)
            self._watch.ask()
