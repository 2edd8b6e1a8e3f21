"""A copy of a database in a file of its own, made while the database is in use.

The copy is the database as of one instant. It is written beside its target under another name,
flushed to the disk, and only then given the name that was asked for: a file of that name is a
whole backup or it does not exist. It needs no companions; a storage opens it as any other.
"""

import os
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Final

from ...ports.store_errors import StoreBackendError

SLICE_PAGES: Final = 512
"""Pages copied between two looks at whether to stop."""

FLUSHED_SLICES: Final = 4
"""Slices that may be on their way to the disk at a time, 8 megabytes. A commit of somebody else
waits for what stands before it in the line of the disk: behind a gigabyte, half a second."""

_CACHE_KIB: Final = 256
"""Of pages that were copied and are not in the file yet."""


class Stopped(Exception):
    """Somebody asked to stop before the copy was whole."""


def copy(db: sqlite3.Connection, stop: threading.Event, *, target: str) -> int:
    """Copy what `db` sees to the new file `target`; returns the size of the copy in bytes.

    Run it inside a transaction, whose instant the copy shows.
    Raises `StoreBackendError` when `target` exists or cannot be written.
    """
    target = os.path.abspath(target)
    if os.path.lexists(target):
        raise _exists(target)
    try:
        partial = _reserve(Path(target))
        try:
            _fill(db, partial, stop)
            _flush(partial)
            _name(partial, target)
            _flush(Path(target).parent)
        finally:
            Path(partial).unlink(missing_ok=True)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise StoreBackendError(f"the backup {target} cannot be written: {error}") from error
    return os.stat(target).st_size


def _reserve(target: Path) -> str:
    file, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent)
    os.close(file)
    return name


def _name(partial: str, target: str) -> None:
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        os.rename(partial, target)


def _fill(db: sqlite3.Connection, partial: str, stop: threading.Event) -> None:
    # Nobody else knows this file, so its locks are worth nothing and may be dropped by closing it.
    file = os.open(partial, os.O_RDONLY)
    slices = 0

    def look(_status: int, _remaining: int, _total: int) -> None:
        nonlocal slices
        if stop.is_set():
            raise Stopped
        slices += 1
        if slices % FLUSHED_SLICES == 0:
            os.fsync(file)

    copied = sqlite3.connect(partial, isolation_level=None)
    try:
        copied.execute("PRAGMA synchronous = OFF")  # flushed here, and once more when it is whole
        copied.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # A transaction sees its instant from its first read on. Without one the copy would start
        # again whenever somebody commits, and on a busy database never end.
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.backup(copied, pages=SLICE_PAGES, progress=look)
        copied.execute("PRAGMA journal_mode = DELETE")
    finally:
        copied.close()
        os.close(file)
    source: str = db.execute("PRAGMA database_list").fetchone()[2]
    if source:
        os.chmod(partial, os.stat(source).st_mode & 0o777)


def _flush(path: str | Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _exists(target: str) -> StoreBackendError:
    return StoreBackendError(f"{target} exists: a backup never replaces a file")
