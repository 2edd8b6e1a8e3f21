"""The signals of a SQLite storage: to its own listeners at once, to those of other processes by
datagrams, and from processes that send none by asking the database.

Rule 1: who does not listen has no socket, and where nobody has one a commit sends nothing.
Rule 2: a socket that was put up is known to every sender a moment later. What was committed in
that moment is found by one more look at its end.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal

from ...ports.signals import SignalFilter, SignalSubscription, StoreSignal
from ..signal_hub import SignalHub
from ..signal_marks import Interest, mark_of
from ._database import Database
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
        self._peers = None if self._folder is None else Peers(self._folder, self._own_stem)
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
        peers = self._peers
        if peers is not None and not peers.present():
            peers = None
        if peers is None and not self._hub.has_listeners:
            return
        marks = dict.fromkeys(map(mark_of, signals))
        self._hub.tell(marks)
        if peers is not None:
            peers.tell(marks)

    def listen(self, wanted: SignalFilter) -> SignalSubscription:
        database = self._scope.database
        database.check_owner()
        interest = Interest(wanted)
        if self._folder is not None:
            self._reach_out(self._folder, database, interest.kinds)
        return self._hub.listen(interest)

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

    def _own_stem(self) -> str | None:
        mailbox = self._mailbox
        return None if mailbox is None else mailbox.stem

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _reach_out(self, folder: SocketFolder, database: Database, kinds: frozenset[bytes]) -> None:
        """See to it that a listener to those kinds hears of other processes."""
        is_known = self._is_known_to_want(folder, kinds)
        if self._mailbox is None:
            self._watch = self._watch or VersionWatch(database, self._hub)
            self._watch.ask()
            return
        self._mailbox.read()
        self._stop_watching()
        if not is_known:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_KNOWN_TO_ALL_S, self._hub.tell_everybody)

    def _is_known_to_want(self, folder: SocketFolder, kinds: frozenset[bytes]) -> bool:
        """Whether senders have known of it for longer than a moment."""
        if self._mailbox is not None:
            try:
                return self._mailbox.wants(kinds)
            except OSError:  # it is not where it was put, and nobody finds it
                self._mailbox.close()
        self._mailbox = Mailbox.open(folder, self._hub)
        if self._mailbox is not None:
            with suppress(OSError):
                self._mailbox.wants(kinds)
        return False
