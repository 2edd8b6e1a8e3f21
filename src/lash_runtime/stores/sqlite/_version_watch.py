"""Hearing of other processes without their help: SQLite says whether others have committed.

It says so to each connection, of every connection but that one. The one that writes is asked:
what was committed through it was announced in detail already.

Rule 1: nothing is asked while nobody listens.
Rule 2: what it says is only that something changed, so everybody looks.
Rule 3: questions come quickly after a change or a new listener, and ever more slowly after that.
They pace a look at another process and no record, so they go by the machine's time.
"""

import asyncio
import sqlite3
from typing import Final

from ..signal_hub import SignalHub
from ._database import Database

FIRST_PAUSE_S: Final = 0.025
LAST_PAUSE_S: Final = 1.0


class VersionWatch:
    """Asks one database. All of it runs on the loop of the database."""

    __slots__ = ("_asking", "_database", "_hub", "_pause_s", "_stopped", "_timer", "_version")

    def __init__(self, database: Database, hub: SignalHub) -> None:
        self._database = database
        self._hub = hub
        self._version: int | None = None
        self._pause_s = FIRST_PAUSE_S
        self._timer: asyncio.TimerHandle | None = None
        self._asking = False
        self._stopped = False

    def ask(self) -> None:
        """A listener has come, or it is time. The first answer of all tells everybody."""
        self._pause_s = FIRST_PAUSE_S
        self._ask()

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _ask(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._asking:
            self._asking = True
            self._database.ask(_version, self._answered)

    def _answered(self, version: int | None) -> None:
        self._asking = False
        if self._stopped:
            return
        if version not in (None, self._version):
            self._version = version
            self._pause_s = FIRST_PAUSE_S
            self._hub.tell_everybody()
        pause, self._pause_s = self._pause_s, min(2 * self._pause_s, LAST_PAUSE_S)
        if self._hub.has_listeners:
            self._timer = asyncio.get_running_loop().call_later(pause, self._ask)


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA data_version").fetchone()[0]
    return version
