"""Attachment bytes in memory, by the hash of their content."""

from collections.abc import Sequence

from ...model.attachments import AttachmentCreateMeta, AttachmentRef
from ...ports.attachments import AttachmentStoreError, StoredAttachment, attachment_id_of
from ...ports.durability import DurabilityTier
from ...ports.store_errors import StoreError
from ._library import Library


class MemoryAttachments:
    """Shared by all sessions of a storage."""

    durability_tier = DurabilityTier.INLINE

    def __init__(self, library: Library) -> None:
        self._library = library
        self._held: dict[str, StoredAttachment] = {}
        self._stored_at_ms: dict[str, int] = {}
        self._retired_by: dict[str, str] = {}

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        """The last metadata given for equal bytes wins."""
        ref = AttachmentRef.of(await attachment_id_of(data), len(data), meta)
        self._check_open()
        self._held[ref.id] = StoredAttachment(meta=ref, data=bytes(data))
        self._stored_at_ms[ref.id] = self._library.now_ms()
        self._retired_by.pop(ref.id, None)
        return ref

    async def get(self, attachment_id: str) -> StoredAttachment:
        self._check_open()
        held = self._held.get(attachment_id)
        if held is None:
            raise AttachmentStoreError("not_found", f"no attachment {attachment_id!r} is stored")
        return held

    async def delete(self, attachment_id: str) -> None:
        self._check_open()
        self.drop(attachment_id)

    async def list_stored(self, older_than_epoch_ms: int) -> Sequence[str]:
        self._check_open()
        stored = self._stored_at_ms.items()
        return [name for name, at_ms in stored if at_ms <= older_than_epoch_ms]

    async def list_retired(self) -> Sequence[str]:
        self._check_open()
        return list(self._retired_by)

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        self._check_open()
        if attachment_id in self._held:
            self._retired_by[attachment_id] = sweep_id

    async def restore(self, attachment_id: str) -> None:
        self._check_open()
        self._retired_by.pop(attachment_id, None)

    async def discard(self, attachment_id: str, sweep_id: str) -> None:
        self._check_open()
        if self._retired_by.get(attachment_id) == sweep_id:
            self.drop(attachment_id)

    def drop(self, attachment_id: str) -> bool:
        """Remove the bytes, in the step of whoever calls; `False` if they were not there."""
        self._stored_at_ms.pop(attachment_id, None)
        self._retired_by.pop(attachment_id, None)
        return self._held.pop(attachment_id, None) is not None

    def _check_open(self) -> None:
        try:
            self._library.check_open()
        except StoreError as error:
            raise AttachmentStoreError("backend", str(error)) from error
