"""Removes what one session meant to keep and never did, for a store that is its alone.

Where several sessions share their bytes, `core.attachments.sweep` is what asks all of them.
"""

from ..model.records import dataclass
from ..ports.attachments import AttachmentManifest, AttachmentStore, AttachmentStoreError
from ..ports.store_errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentReclamationReport:
    """How many intents were old enough, and how many of them are gone with their bytes."""

    scanned_intent_count: int
    reclaimed_count: int


async def reclaim_orphaned_attachments(
    manifest: AttachmentManifest, store: AttachmentStore, *, older_than_epoch_ms: int
) -> AttachmentReclamationReport:
    """Delete the bytes of intents of that moment or before that no commit has named.

    The bytes in `store` must be those of the one session whose manifest this is: nobody else is
    asked, and whoever shares them loses them. Choose a moment before the longest turn began.

    Raises `AttachmentStoreError` at the first failure, with the code `backend` where the manifest
    failed. What is done stays done; bytes that went while their intent could not be forgotten
    are no error the next time. Cancellation: the same.
    """
    try:
        aged = await manifest.list_uncommitted(older_than_epoch_ms)
    except StoreError as error:
        raise _of_manifest(error) from error
    for entry in aged:
        # In this order: an intent without bytes is found again, bytes without one are not.
        await store.delete(entry.attachment_id)
        try:
            await manifest.forget(entry.attachment_id)
        except StoreError as error:
            raise _of_manifest(error) from error
    return AttachmentReclamationReport(scanned_intent_count=len(aged), reclaimed_count=len(aged))


def _of_manifest(error: StoreError) -> AttachmentStoreError:
    return AttachmentStoreError("backend", f"the manifest of attachments failed: {error}")
