"""Removes attachment bytes that no session keeps, and none that any session does.

Bytes are set aside, then it is asked who keeps them, then they go or come back: in this order,
whatever is stored at the same moment is either seen or stored anew. A sweep that is cut off
leaves bytes set aside, which read as before; the next one finds them. Several sweeps may run at
once.
"""

from collections.abc import Sequence
from typing import Final

from ..model.records import dataclass
from ..ports.attachments import (
    AttachmentReferences,
    AttachmentStore,
    AttachmentStoreError,
    SweepableAttachmentStore,
)

BATCH: Final = 100
"""How many attachments are asked about in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentSweepReport:
    """What a sweep did. `examined` were old enough and not known to be kept; of these `removed`
    are gone, and the others somebody turned out to keep."""

    examined: int
    removed: int


async def sweep_attachments(
    references: object,
    store: AttachmentStore,
    *,
    older_than_epoch_ms: int,
    sweep_id: str,
    unmentioned: bool,
) -> AttachmentSweepReport:
    """Remove what was meant to be kept at `older_than_epoch_ms` or before and never was; with
    `unmentioned` also what is that old and no session of `references` mentions.

    `references` is the session store factory. Raises `AttachmentStoreError("sweep_unsupported")`
    unless both can be swept, and `StoreError` or `AttachmentStoreError` at the first failure;
    sweeping again goes on.
    """
    if not isinstance(references, AttachmentReferences):
        raise AttachmentStoreError(
            "sweep_unsupported", "nothing that keeps these sessions can say what they refer to"
        )
    if not isinstance(store, SweepableAttachmentStore):
        raise AttachmentStoreError("sweep_unsupported", f"a {type(store).__name__} cannot be swept")
    found = dict.fromkeys(await references.list_abandoned(older_than_epoch_ms))
    found.update(dict.fromkeys(await store.list_retired()))
    if unmentioned:
        stored = await store.list_stored(older_than_epoch_ms)
        for batch in _batches(stored):
            kept = await references.kept_of(batch, older_than_epoch_ms)
            found.update(dict.fromkeys(name for name in batch if name not in kept))
    removed = 0
    for batch in _batches(list(found)):
        for attachment_id in batch:
            await store.retire(attachment_id, sweep_id)
        gone = await references.forget_abandoned(batch, older_than_epoch_ms)
        for attachment_id in batch:
            if attachment_id in gone:
                await store.discard(attachment_id, sweep_id)
            else:
                await store.restore(attachment_id)
        removed += len(gone)
    return AttachmentSweepReport(examined=len(found), removed=removed)


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[at : at + BATCH] for at in range(0, len(ids), BATCH)]
