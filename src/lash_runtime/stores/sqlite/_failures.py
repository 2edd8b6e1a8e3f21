"""SQLite's errors in the words of the port."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from ...ports.store_errors import StoreBackendError, StoreContended, StoreError

# Primary result codes; the extended ones carry them in their low byte.
_PRIMARY: Final = 0xFF

_CONTENDED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_MEANING: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened: check that its folder exists",
    sqlite3.SQLITE_CORRUPT: "the database is damaged: restore it from a backup",
    sqlite3.SQLITE_FULL: "the disk or the database is full: make room, then try again",
    sqlite3.SQLITE_IOERR: "the disk failed while the database was read or written",
    sqlite3.SQLITE_NOMEM: "there was not enough memory",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_PERM: "access to the database was denied",
    sqlite3.SQLITE_READONLY: "the database is read-only: check the rights of file and folder",
    sqlite3.SQLITE_TOOBIG: "a value is larger than SQLite can store",
}


def store_error(error: sqlite3.Error) -> StoreError:
    """The `StoreError` for `error`, which becomes its cause."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    translated: StoreError
    if primary in _CONTENDED:
        translated = StoreContended("another process kept the database locked for too long")
    else:
        meaning = _MEANING.get(primary, "the database failed") if primary else "the database failed"
        translated = StoreBackendError(f"{meaning} ({error})")
    translated.__cause__ = error
    return translated
