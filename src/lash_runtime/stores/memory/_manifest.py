"""Which attachments one session means to keep, and which of them it has committed."""

from collections.abc import Iterable
from dataclasses import replace

from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry


class Manifest:
    """The manifest rows of one session."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
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
        for attachment_id in attachment_ids:
            row = self._rows.get(attachment_id)
            if row is not None and row.committed_at_epoch_ms is None:
                self._rows[attachment_id] = replace(row, committed_at_epoch_ms=now_ms)

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
