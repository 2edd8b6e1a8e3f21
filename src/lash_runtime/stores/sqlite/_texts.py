"""What the commits of one session store as JSON beside their columns, written out once.

Most commits repeat what the one before had: the head of a session changes with its model and its
frames, the checkpoint with each turn, and a turn makes a commit for every round of tools.

Rule: for the thread that writes. A text says what it was made of, so a transaction that is undone
leaves nothing wrong behind.
"""

import hashlib
from typing import NamedTuple

from ...model.canonical import canonical_json
from ...ports.commit import RuntimeCommit
from ...ports.session_state import BlobRef, SessionCheckpoint, SessionHeadMeta


class StoredCheckpoint(NamedTuple):
    """A manifest with its ref and the text that both are made of."""

    ref: BlobRef
    manifest: SessionCheckpoint
    text: str


class CommitTexts:
    """The latest of each."""

    __slots__ = ("_checkpoint", "_head", "_head_parts")

    def __init__(self) -> None:
        self._head = ""
        self._head_parts: tuple[object, ...] = ()
        self._checkpoint: StoredCheckpoint | None = None

    def head(self, commit: RuntimeCommit) -> str:
        parts = (commit.config, commit.agent_frames, commit.current_agent_frame_id)
        if parts != self._head_parts:
            self._head = SessionHeadMeta(
                session_id=commit.session_id,
                config=commit.config,
                agent_frames=commit.agent_frames,
                current_agent_frame_id=commit.current_agent_frame_id,
            ).model_dump_json()
            self._head_parts = parts
        return self._head

    def checkpoint(self, manifest: SessionCheckpoint) -> StoredCheckpoint:
        known = self._checkpoint
        if known is None or known.manifest != manifest:
            text = canonical_json(manifest)
            known = StoredCheckpoint(hashlib.sha256(text).hexdigest(), manifest, text.decode())
            self._checkpoint = known
        return known
