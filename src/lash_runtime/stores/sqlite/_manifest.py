"""Which attachments each session means to keep, and which of them it has committed."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry, sha256_uri

INTEND: Final = """
    INSERT INTO attachment_manifest (session_id, attachment_id, canonical_uri, intent_at_ms)
    VALUES (?, ?, ?, ?)
        ON CONFLICT (session_id, attachment_id) DO UPDATE
       SET canonical_uri = excluded.canonical_uri, intent_at_ms = excluded.intent_at_ms
     WHERE committed_at_ms IS NULL
"""
COMMIT: Final = """
    INSERT INTO attachment_manifest
           (session_id, attachment_id, canonical_uri, intent_at_ms, committed_at_ms)
    VALUES (:session_id, :attachment_id, :canonical_uri, :now_ms, :now_ms)
        ON CONFLICT (session_id, attachment_id) DO UPDATE
       SET committed_at_ms = excluded.committed_at_ms
     WHERE committed_at_ms IS NULL
"""
RELEASE: Final = """
    UPDATE attachment_manifest SET intent_at_ms = ?, committed_at_ms = NULL WHERE session_id = ?
"""
UNCOMMITTED: Final = """
    SELECT attachment_id, canonical_uri, intent_at_ms
      FROM attachment_manifest
     WHERE session_id = ? AND committed_at_ms IS NULL AND intent_at_ms <= ?
     ORDER BY intent_at_ms, attachment_id
"""
FORGET: Final = "DELETE FROM attachment_manifest WHERE session_id = ? AND attachment_id = ?"

AGED: Final = """
    SELECT DISTINCT attachment_id
      FROM attachment_manifest
     WHERE committed_at_ms IS NULL AND intent_at_ms <= ?
"""
# An unfinished turn or a waiting input may refer to something that was stored long ago and that
# only a commit will name.
KEPT_OF: Final = """
    SELECT value
      FROM json_each(:ids)
     WHERE EXISTS (
           SELECT 1
             FROM attachment_manifest AS m
            WHERE m.attachment_id = value
              AND (   m.committed_at_ms IS NOT NULL
                   OR m.intent_at_ms > :until_ms
                   OR EXISTS (SELECT 1 FROM turns AS t
                               WHERE t.session_id = m.session_id AND t.settled_at_ms IS NULL)
                   OR EXISTS (SELECT 1 FROM pending_turn_inputs AS i
                               WHERE i.session_id = m.session_id
                                 AND i.state NOT IN ('cancelled', 'completed'))))
"""
FORGET_EVERYWHERE: Final = """
    DELETE FROM attachment_manifest
     WHERE attachment_id IN (SELECT value FROM json_each(:ids))
"""

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
    """Note that the session refers to these, also without an intent: it may have been given
    what another session has stored."""
    db.executemany(
        COMMIT,
        [
            {
                "session_id": session_id,
                "attachment_id": attachment_id,
                "canonical_uri": sha256_uri(attachment_id),
                "now_ms": now_ms,
            }
            for attachment_id in attachment_ids
        ],
    )


def release_all(db: sqlite3.Connection, session_id: str, now_ms: int) -> None:
    """The session refers to nothing any more. Its rows stay as intents of this moment, so that
    a later sweep finds the bytes that nobody else keeps."""
    db.execute(RELEASE, (now_ms, session_id))


def uncommitted(
    db: sqlite3.Connection, session_id: str, older_than_ms: int
) -> Sequence[AttachmentManifestEntry]:
    """Intents that old or older, oldest first."""
    return [
        AttachmentManifestEntry(
            attachment_id=attachment_id,
            session_id=session_id,
            canonical_uri=uri,
            intent_at_epoch_ms=intent_at_ms,
            committed_at_epoch_ms=None,
        )
        for attachment_id, uri, intent_at_ms in db.execute(
            UNCOMMITTED, (session_id, _bounded(older_than_ms))
        )
    ]


def forget(db: sqlite3.Connection, session_id: str, attachment_id: str) -> None:
    db.execute(FORGET, (session_id, attachment_id))


def abandoned(db: sqlite3.Connection, older_than_ms: int) -> Sequence[str]:
    """What no session keeps, although one meant to."""
    aged = [name for (name,) in db.execute(AGED, (_bounded(older_than_ms),))]
    kept = kept_of(db, aged, older_than_ms)
    return [name for name in aged if name not in kept]


def kept_of(
    db: sqlite3.Connection, attachment_ids: Sequence[str], older_than_ms: int
) -> frozenset[str]:
    asked = {"ids": json.dumps(list(attachment_ids)), "until_ms": _bounded(older_than_ms)}
    return frozenset(attachment_id for (attachment_id,) in db.execute(KEPT_OF, asked))


def forget_abandoned(
    db: sqlite3.Connection, attachment_ids: Sequence[str], older_than_ms: int
) -> frozenset[str]:
    gone = frozenset(attachment_ids) - kept_of(db, attachment_ids, older_than_ms)
    db.execute(FORGET_EVERYWHERE, {"ids": json.dumps(sorted(gone))})
    return gone


def _bounded(at_ms: int) -> int:
    """Beyond what the database can count to there are still only all or none."""
    return max(-_LARGEST, min(at_ms, _LARGEST))
