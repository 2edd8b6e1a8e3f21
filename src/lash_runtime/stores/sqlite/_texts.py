"""What the commits of one session store as JSON beside their columns, written out once.

Most commits repeat what the one before had: the head of a session changes with its model and its
frames, the checkpoint with each turn, and a turn makes a commit for every round of tools.

Rule 1: for the thread that writes. A text is kept with what it was made of, so a transaction that
is undone leaves nothing wrong behind.
Rule 2: what plugins and protocols put in has to be the same object, for equal is not alike: Python
takes one, true and 1.0 for equal, and JSON does not.
"""

import hashlib
from typing import NamedTuple

from ...model.canonical import canonical_json
from ...model.frames import AgentFrameRecord
from ...ports.commit import RuntimeCommit
from ...ports.session_state import BlobRef, SessionCheckpoint, SessionHeadMeta


class StoredCheckpoint(NamedTuple):
    """A manifest with its ref and the text that both are made of."""

    ref: BlobRef
    manifest: SessionCheckpoint
    text: str


class CommitTexts:
    """The latest of each."""

    __slots__ = ("_checkpoint", "_head", "_head_frames", "_head_plain")

    def __init__(self) -> None:
        self._head = ""
        self._head_plain: tuple[object, ...] = ()
        self._head_frames: tuple[AgentFrameRecord, ...] = ()
        self._checkpoint: StoredCheckpoint | None = None

    def head(self, commit: RuntimeCommit) -> str:
        plain = (commit.config, commit.current_agent_frame_id)
        if commit.agent_frames is not self._head_frames or plain != self._head_plain:
            self._head = SessionHeadMeta(
                session_id=commit.session_id,
                config=commit.config,
                agent_frames=commit.agent_frames,
                current_agent_frame_id=commit.current_agent_frame_id,
            ).model_dump_json()
            self._head_plain, self._head_frames = plain, commit.agent_frames
        return self._head

    def checkpoint(self, manifest: SessionCheckpoint) -> StoredCheckpoint:
        known = self._checkpoint
        if known is None or not _alike(known.manifest, manifest):
            text = canonical_json(manifest)
            known = StoredCheckpoint(hashlib.sha256(text).hexdigest(), manifest, text.decode())
            self._checkpoint = known
        return known


def _alike(one: SessionCheckpoint, other: SessionCheckpoint) -> bool:
    same = one.turn_state.protocol_turn_options is other.turn_state.protocol_turn_options
    return same and one == other
