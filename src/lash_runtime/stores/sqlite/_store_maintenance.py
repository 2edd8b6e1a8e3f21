"""The maintenance segment of a session's store."""

from collections.abc import Sequence

from ...ports.persistence import GcReport, VacuumReport
from . import _upkeep
from ._session_database import SessionDatabase


class SqliteStoreMaintenance:
    """`StoreMaintenance` for the session that the store was opened for."""

    __slots__ = ()

    _database: SessionDatabase
    _session_id: str

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        await _upkeep.tombstone(self._database, self._session_id, node_ids)

    async def vacuum(self) -> VacuumReport:
        return await _upkeep.vacuum(self._database, self._session_id)

    async def gc_unreachable(self) -> GcReport:
        return await _upkeep.gc(self._database, self._session_id)
