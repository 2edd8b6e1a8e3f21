"""Attachments as files in a folder, for bytes that shall not swell the database.

Any number of stores, in one process or in many, may work on one root at the same time. What
`put` has returned is on the disk.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from anyio import to_thread
from pydantic import ValidationError

from ..model.attachments import AttachmentCreateMeta, AttachmentRef, attachment_id
from ..ports.attachments import AttachmentStoreError, StoredAttachment
from ..ports.clock import Clock, SystemClock
from ..ports.durability import DurabilityTier
from ._layout import AttachmentFiles, is_id

T = TypeVar("T")

STAGED_MS: Final = 24 * 60 * 60 * 1000
"""A file that is still half-written after a day belongs to a process that is gone."""

_NS_PER_MS: Final = 1_000_000


class FileAttachmentStore:
    """Keeps attachments below the folder `root`, which is made when it is first needed.

    The root belongs to one deployment: a sweep of another one would find its files mentioned
    by none of its sessions. Errors of the system have the code `io` and name the path.
    Cancellation: a call that was cut off has happened or it has not, and can be repeated.
    """

    durability_tier = DurabilityTier.DURABLE

    def __init__(self, root: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self._files = AttachmentFiles(Path(root).absolute())
        self._clock = clock or SystemClock()
        self._tidied = False

    @property
    def root(self) -> Path:
        return self._files.root

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        """The last metadata given for equal bytes wins."""
        return await self._in_thread(self._put, data, meta, self._clock.timestamp_ms())

    async def get(self, attachment_id: str) -> StoredAttachment:
        """Raises `missing_meta` for bytes about which nothing is known, `metadata_decode` where
        that cannot be read, and `io` for bytes that are not as long as they were."""
        if not is_id(attachment_id):
            raise _not_found(attachment_id)
        return await self._in_thread(self._get, attachment_id)

    async def delete(self, attachment_id: str) -> None:
        if is_id(attachment_id):
            await self._in_thread(self._files.delete, attachment_id)

    async def list_stored(self, older_than_epoch_ms: int) -> Sequence[str]:
        return await self._in_thread(
            lambda: sorted(set(self._files.stored(older_than_epoch_ms * _NS_PER_MS)))
        )

    async def list_retired(self) -> Sequence[str]:
        return await self._in_thread(lambda: sorted(set(self._files.retired())))

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        if is_id(attachment_id):
            await self._in_thread(self._files.retire, attachment_id, sweep_id)

    async def restore(self, attachment_id: str) -> None:
        if is_id(attachment_id):
            await self._in_thread(self._files.restore, attachment_id)

    async def discard(self, attachment_id: str, sweep_id: str) -> None:
        if is_id(attachment_id):
            await self._in_thread(self._files.discard, attachment_id, sweep_id)

    def _put(self, data: bytes, meta: AttachmentCreateMeta, now_ms: int) -> AttachmentRef:
        if not self._tidied:
            self._tidied = True
            self._files.tidy((now_ms - STAGED_MS) * _NS_PER_MS)
        ref = AttachmentRef.of(attachment_id(data), len(data), meta)
        self._files.write(ref.id, data, ref.model_dump_json(indent=2), now_ms * _NS_PER_MS)
        return ref

    def _get(self, attachment_id: str) -> StoredAttachment:
        data, sidecar = self._files.read(attachment_id)
        if data is None:
            raise _not_found(attachment_id)
        if sidecar is None:
            raise AttachmentStoreError(
                "missing_meta", f"attachment {attachment_id} has bytes and no {attachment_id}.json"
            )
        try:
            meta = AttachmentRef.model_validate_json(sidecar)
        except ValidationError as error:
            raise AttachmentStoreError(
                "metadata_decode", f"{attachment_id}.json cannot be read: {error}"
            ) from error
        if meta.byte_len != len(data):
            raise AttachmentStoreError(
                "io",
                f"attachment {attachment_id} has {len(data)} of its {meta.byte_len} bytes: "
                "its file was damaged",
            )
        return StoredAttachment(meta=meta, data=data)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        try:
            return await to_thread.run_sync(partial(call, *args))
        except (OSError, UnicodeError) as error:
            raise AttachmentStoreError("io", f"below {self.root}: {error}") from error


def _not_found(attachment_id: str) -> AttachmentStoreError:
    return AttachmentStoreError("not_found", f"no attachment {attachment_id!r} is stored")
