"""Where attachment bytes live, and the manifest that says which session refers to them.

Bytes are shared by all sessions; who keeps them is noted by session. Three rules make it safe to
remove any, also while others store the same bytes at that moment, in another process:

Rule 1: whoever stores bytes records an intent first, and stores them after that.
Rule 2: a sweep sets bytes aside before it looks who keeps them. A `put` that found them in place
had recorded its intent by then, and is seen; one that comes later stores them anew.
Rule 3: bytes that are set aside can still be read, so a sweep that dies has broken nothing.
"""

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from anyio import to_thread

from ..model.attachments import AttachmentCreateMeta, AttachmentRef, attachment_id
from ..model.records import dataclass
from .durability import DurabilityTier

OFF_LOOP_BYTES: Final = 64 * 1024
"""Hashing more than this would be felt on the event loop."""


class AttachmentStoreError(Exception):
    """What an attachment store raises. `code` is one of `not_found`, `io`, `missing_meta`,
    `metadata_decode`, `manifest_record_failed`, `backend`, or `invalid` for bytes that are
    refused before they reach a store."""

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


class Attachments(Protocol):
    """The images of one session, as tools and hosts put and read them."""

    async def put(
        self, data: bytes, mime: str | None = None, *, label: str | None = None
    ) -> AttachmentRef:
        """Store an image. Without `mime` the type is read from the bytes; `label` is a name
        that stays with it. Not swept while the session has a turn that may still show it."""
        ...

    async def get(self, attachment: AttachmentRef | str) -> StoredAttachment:
        """The bytes of a reference or of an id."""
        ...


@runtime_checkable
class SweepableAttachmentStore(AttachmentStore, Protocol):
    """An attachment store that a sweep can clean without losing what is stored meanwhile.

    `sweep_id` names the sweep that set bytes aside. Bytes are set aside by one sweep at a time,
    the last to ask for them, and only that one can discard them. For all methods an id that the
    store does not hold is a no-op.
    """

    async def list_stored(self, older_than_epoch_ms: int) -> Sequence[str]:
        """The ids of bytes that were last put at that moment or before, set aside or not."""
        ...

    async def list_retired(self) -> Sequence[str]:
        """The ids of bytes that are set aside, by whichever sweep."""
        ...

    async def retire(self, attachment_id: str, sweep_id: str) -> None:
        """Set the bytes aside. They can be read as before; a `put` stores them anew."""
        ...

    async def restore(self, attachment_id: str) -> None:
        """Put back what is set aside, unless it was stored anew."""
        ...

    async def discard(self, attachment_id: str, sweep_id: str) -> None:
        """Remove what this sweep has set aside; what was stored anew stays."""
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

    async def record_intent(self, intent: AttachmentIntent) -> None:
        """Insert the intent, or move the time of one that is not committed."""
        ...

    async def commit_refs(self, session_id: str, attachment_ids: Sequence[str]) -> None:
        """Note that the session refers to these, whether it had recorded an intent or not."""
        ...

    async def list_uncommitted(self, older_than_epoch_ms: int) -> Sequence[AttachmentManifestEntry]:
        """Intents of that moment or before that were never committed, the oldest first."""
        ...

    async def forget(self, attachment_id: str) -> None: ...


class NoopAttachmentManifest:
    """The manifest of a store that keeps none; a base for the stores of such a backend.

    Nothing is noted, so nothing can be swept. Bytes stay until somebody deletes them by hand.
    """

    async def record_intent(self, intent: AttachmentIntent) -> None:
        """Note nothing."""

    async def commit_refs(self, session_id: str, attachment_ids: Sequence[str]) -> None:
        """Note nothing."""

    async def list_uncommitted(self, older_than_epoch_ms: int) -> Sequence[AttachmentManifestEntry]:
        """Nothing is uncommitted, for nothing was noted."""
        return ()

    async def forget(self, attachment_id: str) -> None:
        """There is nothing to forget."""


@runtime_checkable
class AttachmentReferences(Protocol):
    """The manifests of all sessions of a storage together; its session store factory has it.

    A session keeps an attachment that it has committed, that it means to keep since later than
    the moment asked about, or that it meant to keep at any time while one of its turns is
    unfinished or an input waits for one.
    """

    async def list_abandoned(self, older_than_epoch_ms: int) -> Sequence[str]:
        """The ids that some session meant to keep once and that no session keeps."""
        ...

    async def kept_of(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        """Those of the ids that some session keeps."""
        ...

    async def forget_abandoned(
        self, attachment_ids: Sequence[str], older_than_epoch_ms: int
    ) -> frozenset[str]:
        """Drop every session's intent to keep those of the ids that no session keeps, and
        return these; one transaction."""
        ...


def sha256_uri(attachment_id: str) -> str:
    """The canonical URI of an attachment, wherever it is stored."""
    return f"sha256:{attachment_id}"


async def attachment_id_of(data: bytes) -> str:
    """The id of these bytes; much is hashed in a thread."""
    if len(data) > OFF_LOOP_BYTES:
        return await to_thread.run_sync(attachment_id, data)
    return attachment_id(data)
