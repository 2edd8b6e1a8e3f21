"""Which attachments one session means to keep, and which of them it has committed."""

from collections.abc import Iterable

from ...model.records import replace
from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry, sha256_uri


class Manifest:
    """The manifest rows of one session."""

    __slots__ = ("_rows", "_session_id")

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._rows: dict[str, AttachmentManifestEntry] = {}

    def intend(self, intent: AttachmentIntent) -> None:
        """Record an intent; a repeated one moves its time while nothing is committed."""
        known = self._rows.get(intent.attachment_id)
        if known is not None and known.committed_at_epoch_ms is not None:
            return
        self._rows[intent.attachment_id] = AttachmentManifestEntry(
            attachment_id=intent.attachment_id,
            session_id=intent.session_id,
            canonical_uri=intent.canonical_uri,
            intent_at_epoch_ms=intent.intent_at_epoch_ms,
            committed_at_epoch_ms=None,
        )

    def commit(self, attachment_ids: Iterable[str], now_ms: int) -> None:
        """Note that the session refers to these, also without an intent: it may have been
        given what another session has stored."""
        for attachment_id in attachment_ids:
            row = self._rows.get(attachment_id) or AttachmentManifestEntry(
                attachment_id=attachment_id,
                session_id=self._session_id,
                canonical_uri=sha256_uri(attachment_id),
                intent_at_epoch_ms=now_ms,
                committed_at_epoch_ms=None,
            )
            if row.committed_at_epoch_ms is None:
                self._rows[attachment_id] = replace(row, committed_at_epoch_ms=now_ms)

    def release_all(self, now_ms: int) -> None:
        """The session refers to nothing any more. Its rows stay as intents of this moment, so
        that a later sweep finds the bytes that nobody else keeps."""
        for attachment_id, row in self._rows.items():
            self._rows[attachment_id] = replace(
                row, intent_at_epoch_ms=now_ms, committed_at_epoch_ms=None
            )

    def keeps(self, attachment_id: str, older_than_ms: int, *, working: bool) -> bool:
        """`working` says that the session has an unfinished turn or a waiting input, which may
        refer to something that was stored long ago and that only a commit will name."""
        row = self._rows.get(attachment_id)
        if row is None:
            return False
        return (
            working
            or row.committed_at_epoch_ms is not None
            or row.intent_at_epoch_ms > older_than_ms
        )

    def ids(self) -> tuple[str, ...]:
        """Everything that the session names, committed or not."""
        return tuple(self._rows)

    def names(self, attachment_id: str) -> bool:
        return attachment_id in self._rows

    def uncommitted(self, older_than_ms: int) -> list[AttachmentManifestEntry]:
        """Intents that old or older, oldest first."""
        waiting = (
            row
            for row in self._rows.values()
            if row.committed_at_epoch_ms is None and row.intent_at_epoch_ms <= older_than_ms
        )
        return sorted(waiting, key=lambda row: (row.intent_at_epoch_ms, row.attachment_id))

    def forget(self, attachment_id: str) -> None:
        self._rows.pop(attachment_id, None)
