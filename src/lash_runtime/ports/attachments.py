"""Where attachment bytes live, and the manifest that says which session refers to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..model.attachments import AttachmentCreateMeta, AttachmentRef
from .durability import DurabilityTier


class AttachmentStoreError(Exception):
    """What an attachment store raises. `code` is one of `not_found`, `io`, `missing_meta`,
    `metadata_decode`, `manifest_record_failed`, `backend`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttachment:
    meta: AttachmentRef
    data: bytes


class AttachmentStore(Protocol):
    """Content-addressed bytes, shared by all sessions of a deployment."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        """Store `data` under the SHA-256 of its bytes; equal bytes get the equal id."""
        ...

    async def get(self, attachment_id: str) -> StoredAttachment:
        """Raises `AttachmentStoreError("not_found")` for an id it does not hold."""
        ...

    async def delete(self, attachment_id: str) -> None:
        """Remove the bytes for every session; an unknown or malformed id is a no-op."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentIntent:
    """Written before the bytes, so that an abandoned upload can be found again."""

    attachment_id: str
    session_id: str
    canonical_uri: str
    intent_at_epoch_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentManifestEntry:
    attachment_id: str
    session_id: str
    canonical_uri: str
    intent_at_epoch_ms: int
    committed_at_epoch_ms: int | None


class AttachmentManifest(Protocol):
    """Which attachments a session means to keep, and which it has committed."""

    async def record_intent(self, intent: AttachmentIntent) -> None: ...

    async def commit_refs(self, session_id: str, attachment_ids: Sequence[str]) -> None: ...

    async def list_uncommitted(
        self, older_than_epoch_ms: int
    ) -> Sequence[AttachmentManifestEntry]: ...

    async def forget(self, attachment_id: str) -> None: ...
