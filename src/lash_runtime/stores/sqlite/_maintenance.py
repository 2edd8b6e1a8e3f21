"""What an operator does to a whole database while it is in use.

Nothing here keeps a turn waiting: what takes long reads a snapshot aside, and what writes does so
in small transactions of its own. Every call may be cancelled and repeated.
"""

import os
import sqlite3
from datetime import timedelta
from functools import partial
from typing import Final

from ...ports.persistence import GcReport, VacuumReport
from . import _backup, _check, _deletion, _inspection, _upkeep
from ._check import Problem
from ._inspection import DatabaseInfo
from ._scope import StorageScope
from ._upkeep import PruneReport

SLICE_PAGES: Final = 64
"""Free pages that one transaction gives back: a quarter of a megabyte, some 15 milliseconds."""


class SqliteMaintenance:
    """Upkeep of the database of an open storage, over all its sessions."""

    __slots__ = ("_scope",)

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope

    async def info(self) -> DatabaseInfo:
        """How large the database is and what is in it."""
        path = self._scope.settings.path
        return await self._scope.database.aside(partial(_inspection.info, path=path))

    async def check(self) -> tuple[Problem, ...]:
        """Read the whole database and name everything that is wrong with it."""
        return await self._scope.database.aside(_check.check)

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Copy the database, as it is now, to the new file `target`; returns its size in bytes.

        Turns go on meanwhile, and what they write grows the write-ahead log until the copy is
        done. Raises `StoreBackendError` when `target` exists or cannot be written.
        Cancellation: no file is left.
        """
        copy = partial(_backup.copy, target=os.fspath(target))
        return await self._scope.database.aside(copy)

    async def vacuum(self) -> VacuumReport:
        """Remove the tombstoned nodes of all sessions, inputs that are cancelled or done, and what
        a deletion has left that was cut off. The last is not counted."""
        await _deletion.finish(self._scope.database, self._scope.clock)
        return await _upkeep.vacuum(self._scope.database)

    async def gc_unreachable(self) -> GcReport:
        """Remove blobs that no head and no frame refers to, of all sessions, and bytes of artifacts
        that no key leads to.

        Raises `StoreBackendError`, and removes nothing, where a head's checkpoint is missing or
        cannot be read.
        """
        return await _upkeep.gc(self._scope.database)

    async def prune_turns(self, keep: timedelta) -> PruneReport:
        """Forget turns that ended longer than `keep` ago, and answers to waits that are as old and
        that no unfinished turn may still come for. The transcript stays.

        From then on nobody can attach to their results, and a turn submitted again under such
        an id is a new one.
        """
        until_ms = self._scope.clock.timestamp_ms() - keep // timedelta(milliseconds=1)
        return await _upkeep.prune_turns(self._scope.database, until_ms)

    async def compact(self) -> int:
        """Give free pages back to the file system; returns how many bytes smaller the file is."""
        before = await self.info()
        while await self._scope.database.write(release_pages, alone=True):
            pass
        return max(0, before.file_bytes - (await self.info()).file_bytes)


def release_pages(db: sqlite3.Connection) -> bool:
    """Whether there is more to release, and a way to do it."""
    before = _free_pages(db)
    for _ in range(min(before, SLICE_PAGES)):
        # `sqlite3` takes one step of a statement without columns, and each step releases one page.
        db.execute("PRAGMA incremental_vacuum(1)")
    return 0 < _free_pages(db) < before


def _free_pages(db: sqlite3.Connection) -> int:
    pages: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return pages
