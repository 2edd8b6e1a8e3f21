"""The one atomic write of a turn: everything that must move together, and nothing else."""

from collections.abc import Sequence
from typing import Literal

from ..model.cancelling import CancelRequest
from ..model.frames import AgentFrameRecord
from ..model.nodes import SessionNodeRecord
from ..model.records import dataclass
from ..model.session_meta import PersistedSessionConfig
from ..model.usage import TokenLedgerEntry
from .claims import QueuedWorkCompletion, TurnInputCompletion
from .leases import SessionExecutionLeaseCompletion, SessionExecutionLeaseFence
from .session_state import BlobRef, HydratedSessionCheckpoint, SessionCheckpoint
from .turn_ledger import TurnSettlement


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphUnchanged:
    """Only the leaf moves."""

    leaf_node_id: str | None
    kind: Literal["unchanged"] = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphAppend:
    """Add `nodes` in order, then set the leaf.

    An id that exists with the same content is a no-op; with other content it is an error.
    """

    nodes: Sequence[SessionNodeRecord]
    leaf_node_id: str | None
    kind: Literal["append"] = "append"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReplaceFull:
    """Drop every node, write these in order, set the leaf."""

    nodes: Sequence[SessionNodeRecord]
    leaf_node_id: str | None
    kind: Literal["replace_full"] = "replace_full"


GraphCommitDelta = GraphUnchanged | GraphAppend | GraphReplaceFull


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeTurnCommitStamp:
    """Makes a commit repeatable: the same turn with the same hash gets the stored result."""

    session_id: str
    turn_id: str
    turn_commit_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCommit:
    """One commit of a session's head.

    `expected_head_revision` of `None` does not check (a first commit, a fresh open).
    `session_execution_lease` is required unless the stamp makes this a replay.
    """

    session_id: str
    expected_head_revision: int | None
    session_execution_lease: SessionExecutionLeaseFence | None
    config: PersistedSessionConfig
    agent_frames: tuple[AgentFrameRecord, ...]
    current_agent_frame_id: str
    graph: GraphCommitDelta
    checkpoint: HydratedSessionCheckpoint
    usage_deltas: tuple[TokenLedgerEntry, ...] = ()
    turn_commit: RuntimeTurnCommitStamp | None = None
    turn_settlement: TurnSettlement | None = None
    completed_queue_claims: tuple[QueuedWorkCompletion, ...] = ()
    completed_turn_input_claims: tuple[TurnInputCompletion, ...] = ()
    interrupted_turn_input_turn_id: str | None = None
    committed_attachment_ids: tuple[str, ...] = ()
    release_session_execution_lease: SessionExecutionLeaseCompletion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCommitResult:
    """What the head is now. `replayed` says that an earlier commit of this turn answered.

    `cancel_request` is what was asked of the turn that runs under the lease of the commit, unless
    it was this commit that settled the turn.
    """

    head_revision: int
    checkpoint_ref: BlobRef
    manifest: SessionCheckpoint
    replayed: bool = False
    cancel_request: CancelRequest | None = None
