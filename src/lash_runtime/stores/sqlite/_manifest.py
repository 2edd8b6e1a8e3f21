"""Which attachments each session means to keep, and which of them it has committed."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry

INTEND: Final = """
    INSERT INTO attachment_manifest (session_id, attachment_id, canonical_uri, intent_at_ms)
    VALUES (?, ?, ?, ?)
        ON CONFLICT (session_id, attachment_id) DO UPDATE
       SET canonical_uri = excluded.canonical_uri, intent_at_ms = excluded.intent_at_ms
     WHERE committed_at_ms IS NULL
"""
COMMIT: Final = """
    UPDATE attachment_manifest SET committed_at_ms = ?
     WHERE session_id = ? AND attachment_id = ? AND committed_at_ms IS NULL
"""
UNCOMMITTED: Final = """
    SELECT attachment_id, canonical_uri, intent_at_ms
      FROM attachment_manifest
     WHERE session_id = ? AND committed_at_ms IS NULL AND intent_at_ms <= ?
     ORDER BY intent_at_ms, attachment_id
"""
FORGET: Final = "DELETE FROM attachment_manifest WHERE session_id = ? AND attachment_id = ?"

_LARGEST: Final = 2**63 - 1


def intend(db: sqlite3.Connection, intent: AttachmentIntent) -> None:
    """Record an intent; a repeated one moves its time while nothing is committed."""
    db.execute(
        INTEND,
        (
            intent.session_id,
            intent.attachment_id,
            intent.canonical_uri,
            intent.intent_at_epoch_ms,
        ),
    )


def commit(
    db: sqlite3.Connection, session_id: str, attachment_ids: Iterable[str], now_ms: int
) -> None:
    """Ids without an intent are passed over."""
    db.executemany(COMMIT, [(now_ms, session_id, name) for name in attachment_ids])


def uncommitted(
    db: sqlite3.Connection, session_id: str, older_than_ms: int
) -> Sequence[AttachmentManifestEntry]:
    """Intents that old or older, oldest first."""
    bound = max(-_LARGEST, min(older_than_ms, _LARGEST))
    return [
        AttachmentManifestEntry(
            attachment_id=attachment_id,
            session_id=session_id,
            canonical_uri=uri,
            intent_at_epoch_ms=intent_at_ms,
            committed_at_epoch_ms=None,
        )
        for attachment_id, uri, intent_at_ms in db.execute(UNCOMMITTED, (session_id, bound))
    ]


def forget(db: sqlite3.Connection, session_id: str, attachment_id: str) -> None:
    db.execute(FORGET, (session_id, attachment_id))
