"""How connections to one database are opened.

The file is only ever touched through SQLite: closing any other descriptor of it would drop the
locks that this process holds. That a file is not a database is therefore SQLite's to say.
"""

import sqlite3
import time
from pathlib import Path
from typing import Final, Literal

from ...model.records import dataclass
from ...ports.store_errors import StoreSchemaUnsupported
from ._migrations import CURRENT, Schema, Standing, prepare, standing, version_of
from ._outbox import WritingConnection

MEMORY: Final = ":memory:"

Synchronous = Literal["full", "normal"]

_PAGE_BYTES: Final = 4096
"""Of a new database. A commit of a turn writes a little into a dozen pages, and whole pages go to
the disk: with twice the size a turn takes a tenth longer, and the file is a tenth smaller."""

_CACHE_KIB: Final = 2000
_LOOKING_CACHE_KIB: Final = 500
_WAL_KEPT_BYTES: Final = 4 * 1024 * 1024
_LOOKING_TIMEOUT_MS: Final = 1000
_RETRY_FIRST_S: Final = 0.001
_RETRY_LAST_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """`path` is absolute, or `:memory:`."""

    path: str
    synchronous: Synchronous
    busy_timeout_ms: int
    schema: Schema = CURRENT

    @property
    def in_memory(self) -> bool:
        return self.path == MEMORY


def open_writer(settings: ConnectionSettings) -> sqlite3.Connection:
    """The connection that writes; makes the tables of a new database, and moves an old one on."""
    db = _connect(settings, WritingConnection)
    try:
        found = standing(db, settings.path, settings.schema)
        if found is Standing.EMPTY:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            # Free pages can then be given back a few at a time, while others write.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if not settings.in_memory:
            _enter_wal(db, settings.busy_timeout_ms)
            db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        if found is not Standing.CURRENT:
            prepare(db, settings.path, settings.schema)
    except Exception:
        db.close()
        raise
    return db


def open_reader(settings: ConnectionSettings) -> sqlite3.Connection:
    """A connection that cannot write. Opened after the writer, so that the tables are there."""
    db = _connect(settings)
    db.execute("PRAGMA query_only = ON")
    return db


def open_read_only(path: str) -> sqlite3.Connection:
    """A connection for whoever only looks: it makes no file and changes none.

    Raises `StoreSchemaUnsupported` unless the database is of this version.
    """
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        db.execute(f"PRAGMA busy_timeout = {_LOOKING_TIMEOUT_MS}")
        db.execute(f"PRAGMA cache_size = -{_LOOKING_CACHE_KIB}")
        found = standing(db, path, CURRENT)
        if found is not Standing.CURRENT:
            raise StoreSchemaUnsupported(
                database=path,
                found=version_of(db),
                supported=CURRENT.version,
                hint="open a storage on it first, which makes or moves on its tables",
            )
    except Exception:
        db.close()
        raise
    return db


def _connect(
    settings: ConnectionSettings, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    db = sqlite3.connect(
        settings.path, isolation_level=None, check_same_thread=False, factory=factory
    )
    try:
        db.execute(f"PRAGMA busy_timeout = {settings.busy_timeout_ms}")
        db.execute(f"PRAGMA synchronous = {settings.synchronous}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except Exception:
        db.close()
        raise
    return db


def _enter_wal(db: sqlite3.Connection, budget_ms: int) -> None:
    """Switch to the write-ahead log. SQLite does not wait for a lock here, so we do."""
    deadline = time.monotonic() + budget_ms / 1000
    pause = _RETRY_FIRST_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, _RETRY_LAST_S)
        else:
            return
