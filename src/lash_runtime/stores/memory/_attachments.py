"""Attachment bytes in memory, by the hash of their content."""

import hashlib

from anyio import to_thread

from ...model.attachments import AttachmentCreateMeta, AttachmentRef
from ...ports.attachments import AttachmentStoreError, StoredAttachment
from ...ports.durability import DurabilityTier
from ...ports.store_errors import StoreBackendError
from ._library import Library

OFF_LOOP_BYTES = 64 * 1024
"""Hashing more than this would be felt on the event loop."""


class MemoryAttachments:
    """Shared by all sessions of a storage."""

    durability_tier = DurabilityTier.INLINE

    def __init__(self, library: Library) -> None:
        self._library = library
        self._held: dict[str, StoredAttachment] = {}

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        """The last metadata given for equal bytes wins."""
        if len(data) > OFF_LOOP_BYTES:
            attachment_id = await to_thread.run_sync(_digest, data)
        else:
            attachment_id = _digest(data)
        ref = AttachmentRef(
            id=attachment_id,
            byte_len=len(data),
            media_type=meta.media_type,
            width=meta.width,
            height=meta.height,
            label=meta.label,
        )
        self._check_open()
        self._held[attachment_id] = StoredAttachment(meta=ref, data=bytes(data))
        return ref

    async def get(self, attachment_id: str) -> StoredAttachment:
        self._check_open()
        held = self._held.get(attachment_id)
        if held is None:
            raise AttachmentStoreError("not_found", f"no attachment {attachment_id!r} is stored")
        return held

    async def delete(self, attachment_id: str) -> None:
        self._check_open()
        self._held.pop(attachment_id, None)

    def _check_open(self) -> None:
        try:
            self._library.check_open()
        except StoreBackendError as error:
            raise AttachmentStoreError("backend", str(error)) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
