"""What one session stores of images: noted first, then stored, then committed with a turn.

Rule 1: an intent is in the session's manifest before the bytes are anywhere, so that bytes which
no commit ever names can be found.
Rule 2: what is only referred to is noted in the same way, and then looked for: it may have been
stored by another session, which may be deleted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ..model.attachments import AttachmentCreateMeta, AttachmentRef
from ..model.images import image_type
from ..ports.attachments import (
    AttachmentIntent,
    AttachmentManifest,
    AttachmentStore,
    AttachmentStoreError,
    StoredAttachment,
    SweepableAttachmentStore,
    attachment_id_of,
    sha256_uri,
)
from ..ports.clock import Clock
from ..ports.store_errors import StoredSessionDeleted, StoreError
from .faults import SessionIsDeleted

MAX_ATTACHMENT_BYTES: Final = 20 * 1024 * 1024
"""What the large providers take as one image."""


@dataclass(slots=True, kw_only=True)
class SessionAttachments:
    """The attachments of one session, seen by one turn or by the host.

    `manifest` is the session's store; a session without one has nothing to note. What was put
    or adopted here is `pending` until the commit that names it.
    """

    session_id: str
    store: AttachmentStore
    manifest: AttachmentManifest | None
    clock: Clock
    max_bytes: int = MAX_ATTACHMENT_BYTES
    _pending: set[str] = field(default_factory=set, init=False)

    @property
    def pending(self) -> tuple[str, ...]:
        return tuple(sorted(self._pending))

    async def put(
        self, data: bytes, mime: str | None = None, *, label: str | None = None
    ) -> AttachmentRef:
        """Store an image. Without `mime` the type is read from the bytes.

        Raises `AttachmentStoreError`: `invalid` for what is empty, too large or of no type that
        can be carried, `manifest_record_failed` when nothing could be noted, and then nothing
        was stored, or what the store raises.
        """
        if len(data) > self.max_bytes:
            raise AttachmentStoreError(
                "invalid", f"it has {len(data)} bytes; at most {self.max_bytes} are taken"
            )
        try:
            meta = AttachmentCreateMeta(media_type=image_type(data, mime), label=label)
        except ValueError as error:
            raise AttachmentStoreError("invalid", str(error)) from error
        attachment_id = await attachment_id_of(data)
        await self._intend(attachment_id)
        ref = await self.store.put(data, meta)
        if ref.id != attachment_id:
            raise AttachmentStoreError(
                "backend", f"the store named attachment {attachment_id} {ref.id!r}"
            )
        return ref

    async def get(self, attachment: AttachmentRef | str) -> StoredAttachment:
        """The bytes with what is known of them. Raises `AttachmentStoreError`."""
        attachment_id = attachment if isinstance(attachment, str) else attachment.id
        return await self.store.get(attachment_id)

    async def adopt(self, refs: Iterable[AttachmentRef]) -> None:
        """Make what this session is about to refer to its own.

        Raises `AttachmentStoreError("not_found")` for one whose bytes are not stored.
        """
        for ref in refs:
            if ref.id not in self._pending:
                await self._intend(ref.id)
                # A sweep that has decided already may still find the bytes where it put them,
                # and so would we: what is put back first is either here to stay or gone.
                if isinstance(self.store, SweepableAttachmentStore):
                    await self.store.restore(ref.id)
                await self.store.get(ref.id)

    async def take_up(self, since_epoch_ms: int) -> None:
        """Count as pending what this session has noted since then and not committed: a process
        that is gone has stored it for the turn that goes on now. Raises `StoreError`."""
        if self.manifest is not None:
            noted = await self.manifest.list_uncommitted(self.clock.timestamp_ms())
            self._pending.update(
                each.attachment_id for each in noted if each.intent_at_epoch_ms >= since_epoch_ms
            )

    def committed(self, attachment_ids: Iterable[str]) -> None:
        """A commit has named these."""
        self._pending.difference_update(attachment_ids)

    async def _intend(self, attachment_id: str) -> None:
        if self.manifest is not None:
            intent = AttachmentIntent(
                attachment_id=attachment_id,
                session_id=self.session_id,
                canonical_uri=sha256_uri(attachment_id),
                intent_at_epoch_ms=self.clock.timestamp_ms(),
            )
            try:
                await self.manifest.record_intent(intent)
            except StoredSessionDeleted as error:
                raise SessionIsDeleted(self.session_id) from error
            except StoreError as error:
                raise AttachmentStoreError("manifest_record_failed", str(error)) from error
        self._pending.add(attachment_id)
