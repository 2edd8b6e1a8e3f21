"""What a session's head and checkpoint hold, and how they are read."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ..model._value import Value, omitted_when_empty, omitted_when_none
from ..model.frames import AgentFrameRecord
from ..model.nodes import SessionNodeRecord
from ..model.policy import ProtocolTurnOptions
from ..model.records import dataclass
from ..model.session_meta import PersistedSessionConfig
from ..model.tools import ToolState
from ..model.usage import PromptUsage, TokenLedgerEntry, TokenUsage

SESSION_HEAD_META_SCHEMA_VERSION = 1
SESSION_CHECKPOINT_SCHEMA_VERSION = 1

BlobRef = str
"""Lower-case hex SHA-256 of a blob's logical content."""


class PersistedTurnState(Value):
    """Counters of the last turn that reached a commit.

    `token_usage` is what the last turn that has spent tokens has spent: the session's total is in
    its ledger. `last_prompt_usage` is that of the last model call.
    """

    turn_index: int = 0
    token_usage: TokenUsage = TokenUsage.defaults()
    last_prompt_usage: PromptUsage | None = omitted_when_none()
    protocol_turn_options: ProtocolTurnOptions = Field(
        default=ProtocolTurnOptions.defaults(), exclude_if=ProtocolTurnOptions.is_empty
    )


class PluginSessionSnapshot(Value):
    """What plugins keep in a session, by plugin id, opaque to the store."""

    plugins: Mapping[str, Any] = omitted_when_empty({})


@dataclass(frozen=True, slots=True, kw_only=True)
class HydratedSessionCheckpoint:
    """A checkpoint with its components.

    Writing: a component with a payload is stored and gets a new ref; one with a ref and no
    payload is carried forward unchanged; one with neither does not exist.
    """

    turn_state: PersistedTurnState = PersistedTurnState.defaults()
    tool_state_ref: BlobRef | None = None
    tool_state: ToolState | None = None
    plugin_snapshot_ref: BlobRef | None = None
    plugin_snapshot: PluginSessionSnapshot | None = None
    plugin_snapshot_revision: int | None = None
    execution_state_ref: BlobRef | None = None
    execution_state: bytes | None = None


class SessionCheckpoint(Value):
    """The stored manifest of a checkpoint: counters, and a ref for each component."""

    schema_version: int = SESSION_CHECKPOINT_SCHEMA_VERSION
    turn_state: PersistedTurnState = PersistedTurnState.defaults()
    tool_state_ref: BlobRef | None = omitted_when_none()
    plugin_snapshot_ref: BlobRef | None = omitted_when_none()
    plugin_snapshot_revision: int | None = omitted_when_none()
    execution_state_ref: BlobRef | None = omitted_when_none()


class SessionHeadMeta(Value):
    """The JSON of a head row. Revision, leaf and checkpoint ref are columns beside it."""

    schema_version: int = SESSION_HEAD_META_SCHEMA_VERSION
    session_id: str
    config: PersistedSessionConfig = PersistedSessionConfig.defaults()
    agent_frames: tuple[AgentFrameRecord, ...] = ()
    current_agent_frame_id: str = omitted_when_empty("")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStamp:
    """Enough of a head to tell whether a state in memory is still current."""

    head_revision: int
    leaf_node_id: str | None
    checkpoint_ref: BlobRef | None


@dataclass(frozen=True, slots=True)
class FullGraph:
    """Every live node in storage order; the leaf is the head's."""


@dataclass(frozen=True, slots=True)
class ActivePath:
    """The ancestors of `leaf_node_id`, or of the head's leaf when it is `None`, root first.

    A leaf that does not exist gives no nodes and keeps the dangling leaf.
    """

    leaf_node_id: str | None = None


SessionReadScope = FullGraph | ActivePath


def frames_with_state(
    frames: tuple[AgentFrameRecord, ...],
    current_agent_frame_id: str,
    checkpoint: HydratedSessionCheckpoint | None,
) -> tuple[AgentFrameRecord, ...]:
    """The frames as a read gives them: the current one has the checkpoint's execution state."""
    state = None if checkpoint is None else checkpoint.execution_state
    if state is None:
        return frames
    return tuple(
        frame.model_copy(update={"execution_state_snapshot": state})
        if frame.frame_id == current_agent_frame_id
        else frame
        for frame in frames
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistedSessionRead:
    """A session as of one instant: head, nodes, checkpoint and ledger of one read transaction.

    The current one of `agent_frames` has the checkpoint's execution state, as
    `frames_with_state` puts it there.
    """

    session_id: str
    head_revision: int
    config: PersistedSessionConfig
    agent_frames: tuple[AgentFrameRecord, ...]
    current_agent_frame_id: str
    nodes: tuple[SessionNodeRecord, ...]
    leaf_node_id: str | None
    checkpoint_ref: BlobRef | None
    checkpoint: HydratedSessionCheckpoint | None
    token_ledger: tuple[TokenLedgerEntry, ...]

    def stamp(self) -> HeadStamp:
        return HeadStamp(
            head_revision=self.head_revision,
            leaf_node_id=self.leaf_node_id,
            checkpoint_ref=self.checkpoint_ref,
        )
