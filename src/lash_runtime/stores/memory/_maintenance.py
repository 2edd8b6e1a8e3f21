"""The maintenance segment of a session's store in memory."""

from collections.abc import Sequence

from ...ports.persistence import GcReport, VacuumReport
from ._library import SessionLibrary


class MemoryMaintenance:
    """The `StoreMaintenance` of the session that a store was opened for."""

    _library: SessionLibrary
    _session_id: str

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        self._library.book(self._session_id).tombstone(node_ids)

    async def vacuum(self) -> VacuumReport:
        book = self._library.book(self._session_id)
        return VacuumReport(
            removed_node_count=book.nodes.vacuum(),
            removed_pending_turn_input_tombstone_count=book.inputs.vacuum(),
        )

    async def gc_unreachable(self) -> GcReport:
        """Counts nothing: a commit drops what it supersedes, so there is nothing to collect."""
        self._library.book(self._session_id)
        return GcReport(root_count=0, retained_blob_count=0, deleted_blob_count=0)
