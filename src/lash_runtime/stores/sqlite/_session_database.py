"""The database as one incarnation of one session may use it.

Every call looks first, in its own transaction, whether the session is still the one that the
store was opened for. A store whose session was deleted can neither read nor write, however many
sessions have had its id since.
"""

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from . import _sessions
from ._scope import StorageScope

T = TypeVar("T")


class SessionDatabase:
    """Raises `StoredSessionDeleted` from every call once the session is gone."""

    __slots__ = ("_generation", "_scope", "_session_id")

    def __init__(self, scope: StorageScope, session_id: str, generation: int) -> None:
        self._scope = scope
        self._session_id = session_id
        self._generation = generation

    async def write(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
    ) -> T:
        """As `Database.write`."""
        return await self._scope.database.write(partial(self._fenced, body), size, alone=alone)

    async def read(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """As `Database.read`."""
        return await self._scope.database.read(partial(self._fenced, body))

    async def aside(self, body: Callable[[sqlite3.Connection, threading.Event], T]) -> T:
        """As `Database.aside`."""

        def fenced(db: sqlite3.Connection, stop: threading.Event) -> T:
            return self._fenced(lambda own: body(own, stop), db)

        return await self._scope.database.aside(fenced)

    def _fenced(self, body: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        _sessions.require_live(db, self._session_id, self._generation)
        return body(db)
