"""Which blobs a session still needs: what its head and its agent frames refer to."""

import sqlite3

from ...model.records import dataclass
from ...ports.session_state import BlobRef
from ...ports.store_errors import StoreBackendError
from . import _heads
from ._blobs import stored
from ._checkpoints import LOAD_MANIFEST, decode_manifest


@dataclass(frozen=True, slots=True)
class Reach:
    """`roots` are the refs that are followed, `wanted` the blobs that they lead to."""

    roots: frozenset[BlobRef]
    wanted: frozenset[BlobRef]
    stored: frozenset[BlobRef]

    @property
    def garbage(self) -> frozenset[BlobRef]:
        return self.stored - self.wanted

    @property
    def missing(self) -> frozenset[BlobRef]:
        return self.wanted - self.stored


def reach(db: sqlite3.Connection, session_id: str) -> Reach:
    """Raises `StoreBackendError` where the manifest that a head names is missing or unreadable."""
    roots: set[BlobRef] = set()
    wanted: set[BlobRef | None] = set()
    head = _heads.load(db, session_id)
    if head is not None:
        row, meta = head
        wanted |= {frame.execution_state_ref for frame in meta.agent_frames}
        roots |= {ref for ref in wanted if ref is not None}
        if row.checkpoint_ref is not None:
            roots.add(row.checkpoint_ref)
            found = db.execute(LOAD_MANIFEST, (session_id, row.checkpoint_ref)).fetchone()
            if found is None:
                raise StoreBackendError(
                    f"the checkpoint {row.checkpoint_ref!r} of session {session_id!r} is missing"
                )
            manifest = decode_manifest(found[0])
            wanted |= {
                manifest.tool_state_ref,
                manifest.plugin_snapshot_ref,
                manifest.execution_state_ref,
            }
    return Reach(
        frozenset(roots),
        frozenset(ref for ref in wanted if ref is not None),
        frozenset(stored(db, session_id)),
    )
