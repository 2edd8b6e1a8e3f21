"""Everything that is stored of one session, and how a commit changes it.

Rule 1: a method validates everything before it changes anything, and never awaits. On one event
loop that makes each call a transaction.
Rule 2: a commit costs what it adds. What is stored is immutable, so reads share it.
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import assert_never

from ...kernel.session_digest import SessionDigest, digest_of
from ...model.canonical import canonical_hash
from ...model.frames import AgentFrameRecord
from ...model.records import dataclass, replace
from ...model.session_meta import PersistedSessionConfig, SessionMeta
from ...model.usage import TokenLedgerEntry, merge_ledger
from ...ports.commit import (
    GraphAppend,
    GraphCommitDelta,
    GraphReplaceFull,
    GraphUnchanged,
    RuntimeCommit,
    RuntimeCommitResult,
    RuntimeTurnCommitStamp,
)
from ...ports.leases import LeaseBusy, LeaseRenewed, SessionExecutionLeaseFence
from ...ports.session_state import (
    ActivePath,
    BlobRef,
    FullGraph,
    HeadStamp,
    HydratedSessionCheckpoint,
    PersistedSessionRead,
    SessionReadScope,
    frames_with_state,
)
from ...ports.signals import SignalKind, StoreSignal
from ...ports.store_errors import (
    HeadRevisionConflict,
    RuntimeTurnCommitConflict,
    SessionBindingMismatch,
)
from ...ports.turn_ledger import (
    LaneUnfinished,
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnAccepted,
    TurnRefused,
    TurnSettlement,
    TurnStarted,
)
from ..lane import Lane
from ._checkpoints import Checkpoints, manifest_of
from ._inputs import PendingInputs
from ._manifest import Manifest
from ._nodes import NewNodes, Nodes
from ._turns import TurnRows
from ._work import WorkQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head row. That of an emptied session has no checkpoint."""

    revision: int
    config: PersistedSessionConfig
    agent_frames: tuple[AgentFrameRecord, ...] = ()
    current_agent_frame_id: str = ""
    leaf_node_id: str | None = None
    checkpoint_ref: BlobRef | None = None
    checkpoint: HydratedSessionCheckpoint | None = None


class Numbers:
    """Counts what is enqueued, across all sessions of a storage; no number comes twice."""

    __slots__ = ("inputs", "work")

    def __init__(self) -> None:
        self.inputs = count(1)
        self.work = count(1)


class _BookLane(Lane):
    """The lane of a book, which tells when it becomes free."""

    __slots__ = ("_announce",)

    def __init__(
        self, session_id: str, last_token: int, announce: Callable[[StoreSignal], None]
    ) -> None:
        super().__init__(session_id, last_token)
        self._announce = announce

    def _freed(self) -> None:
        self._announce(StoreSignal(SignalKind.LANE_FREE, self._session_id))


class SessionBook:
    """The rows of one session, as long as it is not deleted: another one begins for its id."""

    __slots__ = (
        "_checkpoints",
        "_head",
        "_ledger",
        "_stamps",
        "attachments",
        "created_at_ms",
        "digest",
        "generation",
        "inputs",
        "lane",
        "meta",
        "nodes",
        "session_id",
        "turns",
        "updated_at_ms",
        "work",
    )

    def __init__(
        self,
        session_id: str,
        numbers: Numbers,
        announce: Callable[[StoreSignal], None],
        *,
        generation: int = 1,
        last_token: int = 0,
    ) -> None:
        """`last_token` is the fencing token of the last lease that anybody held under this id."""
        self.session_id = session_id
        self.generation = generation
        self.meta: SessionMeta | None = None
        self.created_at_ms = 0
        self.updated_at_ms = 0
        self.digest = SessionDigest()
        self.lane = _BookLane(session_id, last_token, announce)
        self.turns = TurnRows(session_id, generation, announce)
        self.work = WorkQueue(session_id, self.lane, numbers.work)
        self.inputs = PendingInputs(session_id, self.lane, numbers.inputs)
        self.attachments = Manifest(session_id)
        self.nodes = Nodes(session_id)
        self._head: Head | None = None
        self._checkpoints = Checkpoints()
        self._ledger: tuple[TokenLedgerEntry, ...] = ()
        self._stamps: dict[str, tuple[str, RuntimeCommitResult]] = {}

    @property
    def exists(self) -> bool:
        """Whether the session was created; a lease alone does not create one."""
        return self.meta is not None

    def create(self, meta: SessionMeta, now_ms: int) -> None:
        self.meta = meta
        self.created_at_ms = self.updated_at_ms = now_ms

    def head_stamp(self) -> HeadStamp | None:
        head = self._head
        if head is None:
            return None
        return HeadStamp(
            head_revision=head.revision,
            leaf_node_id=head.leaf_node_id,
            checkpoint_ref=head.checkpoint_ref,
        )

    def read(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        head = self._head
        if head is None:
            return None
        match scope:
            case FullGraph():
                leaf = head.leaf_node_id
                nodes = self.nodes.live()
            case ActivePath(leaf_node_id=asked):
                leaf = head.leaf_node_id if asked is None else asked
                nodes = self.nodes.path_to(leaf)
            case _:
                assert_never(scope)
        return PersistedSessionRead(
            session_id=self.session_id,
            head_revision=head.revision,
            config=head.config,
            agent_frames=frames_with_state(
                head.agent_frames, head.current_agent_frame_id, head.checkpoint
            ),
            current_agent_frame_id=head.current_agent_frame_id,
            nodes=nodes,
            leaf_node_id=leaf,
            checkpoint_ref=head.checkpoint_ref,
            checkpoint=head.checkpoint,
            token_ledger=self._ledger,
        )

    def commit(self, commit: RuntimeCommit, now_ms: int) -> RuntimeCommitResult:
        if commit.session_id != self.session_id:
            raise SessionBindingMismatch(
                bound_session_id=self.session_id, attempted_session_id=commit.session_id
            )
        earlier = self._earlier_result(commit.turn_commit)
        if earlier is not None:
            self._release_lane(commit)
            return replace(earlier, replayed=True)
        lease = self.lane.require(commit.session_execution_lease, now_ms)
        expected = commit.expected_head_revision
        if expected is not None and expected != self._head_revision:
            raise HeadRevisionConflict(expected=expected, actual=self._head_revision)
        for work in commit.completed_queue_claims:
            self.work.check_owned(work, lease.fencing_token)
        for inputs in commit.completed_turn_input_claims:
            self.inputs.check_owned(inputs, lease.fencing_token)
        settled = None
        if commit.turn_settlement is not None:
            settled = self.turns.settled(commit.turn_settlement, lease.fencing_token, now_ms)
        nodes = self._new_nodes(commit.graph)
        checkpoint = self._checkpoints.resolve(commit.checkpoint)
        manifest = manifest_of(checkpoint)
        result = RuntimeCommitResult(
            head_revision=self._head_revision + 1,
            checkpoint_ref=canonical_hash(manifest),
            manifest=manifest,
        )

        # Everything is checked: from here on nothing raises.
        added = digest_of(nodes.values())
        if isinstance(commit.graph, GraphReplaceFull):
            self.nodes.clear()
            self.digest = added
        else:
            self.digest = self.digest.followed_by(added)
        self.nodes.add(nodes)
        self.updated_at_ms = now_ms
        self._head = Head(
            revision=result.head_revision,
            config=commit.config,
            agent_frames=tuple(map(_record_of, commit.agent_frames)),
            current_agent_frame_id=commit.current_agent_frame_id,
            leaf_node_id=commit.graph.leaf_node_id,
            checkpoint_ref=result.checkpoint_ref,
            checkpoint=checkpoint,
        )
        self._checkpoints.keep(checkpoint, commit.agent_frames)
        if commit.usage_deltas:
            self._ledger = merge_ledger((*self._ledger, *commit.usage_deltas))
        if settled is not None:
            self.turns.put(settled)
        for work in commit.completed_queue_claims:
            self.work.complete(work)
        for inputs in commit.completed_turn_input_claims:
            self.inputs.complete(inputs)
        if commit.interrupted_turn_input_turn_id is not None:
            self.inputs.defer_unaccepted(commit.interrupted_turn_input_turn_id)
        self.attachments.commit(commit.committed_attachment_ids, now_ms)
        if commit.turn_commit is not None:
            stamp = commit.turn_commit
            self._stamps[stamp.turn_id] = (stamp.turn_commit_hash, result)
        self._release_lane(commit)
        if settled is not None:
            return result
        return replace(result, cancel_request=self.turns.cancel_request_under(lease.fencing_token))

    def accept(
        self, acceptance: TurnAcceptance, *, now_ms: int, token: str
    ) -> TurnAcceptanceOutcome:
        known = self.turns.get(acceptance.turn_id)
        if known is not None:
            return acceptance.known_as(known)
        owner, ttl_ms, observed = (
            acceptance.owner,
            acceptance.lease_ttl_ms,
            acceptance.observed_holder,
        )
        claimed = self.lane.claim(owner, now_ms=now_ms, ttl_ms=ttl_ms, token=token)
        if isinstance(claimed, LeaseBusy) and observed is not None:
            claimed = self.lane.reclaim(owner, observed, now_ms=now_ms, ttl_ms=ttl_ms, token=token)
        if isinstance(claimed, LeaseBusy):
            return TurnRefused(claimed.holder)
        lease = claimed.lease
        start = self._start(acceptance, lease.fencing_token, now_ms)
        if start is None:
            rows = self.turns.started()
            return LaneUnfinished(lease=lease, rows=rows, head=self.head_stamp())
        leads = self.work.command_leads(now_ms)
        return TurnAccepted(lease=lease, row=start.row, head=start.head, command_leads=leads)

    def start(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance, now_ms: int
    ) -> TurnStarted | None:
        lease = self.lane.require(fence, now_ms)
        if self.turns.get(acceptance.turn_id) is not None:
            return None
        return self._start(acceptance, lease.fencing_token, now_ms)

    def tombstone(self, node_ids: Iterable[str]) -> None:
        """Give nodes up, and show nothing of them in the list of sessions either."""
        self.nodes.tombstone(node_ids)
        self.digest = digest_of(self.nodes.live())

    def settle(
        self,
        fence: SessionExecutionLeaseFence,
        settlement: TurnSettlement,
        *,
        now_ms: int,
        release: bool,
    ) -> None:
        lease = self.lane.require(fence, now_ms)
        row = self.turns.get(settlement.turn_id)
        if row is None or not row.state.is_settled:
            self.turns.put(self.turns.settled(settlement, lease.fencing_token, now_ms))
        if release:
            self.lane.release(fence)

    def _start(
        self, acceptance: TurnAcceptance, fencing_token: int, now_ms: int
    ) -> TurnStarted | None:
        """Start a turn of a new id on the lane that is held; `None` while another is started."""
        if acceptance.replace_session:
            self._empty(now_ms)
        if self.turns.started():
            return None
        head = self.head_stamp()
        row = self.turns.start(
            acceptance,
            turn_index=self._turn_index + 1,
            base_revision=None if head is None else head.head_revision,
            fencing_token=fencing_token,
            now_ms=now_ms,
        )
        self.attachments.commit((ref.id for ref in acceptance.input.attachments()), now_ms)
        return TurnStarted(row=row, head=head)

    def renew(self, fence: SessionExecutionLeaseFence, *, now_ms: int, ttl_ms: int) -> LeaseRenewed:
        lease = self.lane.renew(fence, now_ms=now_ms, ttl_ms=ttl_ms)
        return LeaseRenewed(lease, self.turns.cancel_request_under(lease.fencing_token))

    def _empty(self, now_ms: int) -> None:
        """Start over: no history, no usage, nothing unfinished, nothing that waits.

        The head stays and its revision rises, so that whoever knew the old one notices. Turn
        ids, stamps and the lane's counter stay as they are.
        """
        self.turns.discard_unfinished(now_ms)
        self.attachments.release_all(now_ms)
        self.work.clear()
        self.inputs.clear()
        self.nodes.clear()
        self.digest = SessionDigest()
        self.updated_at_ms = now_ms
        self._checkpoints = Checkpoints()
        self._ledger = ()
        if self._head is not None:
            self._head = Head(revision=self._head.revision + 1, config=self._head.config)

    @property
    def _head_revision(self) -> int:
        """0 without a head."""
        return 0 if self._head is None else self._head.revision

    @property
    def _turn_index(self) -> int:
        """Number of the last turn that reached a commit."""
        checkpoint = None if self._head is None else self._head.checkpoint
        return 0 if checkpoint is None else checkpoint.turn_state.turn_index

    def _earlier_result(self, stamp: RuntimeTurnCommitStamp | None) -> RuntimeCommitResult | None:
        if stamp is None:
            return None
        content, result = self._stamps.get(stamp.turn_id, (stamp.turn_commit_hash, None))
        if stamp.session_id != self.session_id or content != stamp.turn_commit_hash:
            raise RuntimeTurnCommitConflict(session_id=self.session_id, turn_id=stamp.turn_id)
        return result

    def _new_nodes(self, delta: GraphCommitDelta) -> NewNodes:
        """What `delta` adds to the nodes that it leaves in place."""
        match delta:
            case GraphUnchanged():
                return {}
            case GraphAppend(nodes=nodes):
                return self.nodes.new_among(nodes)
            case GraphReplaceFull(nodes=nodes):
                return self.nodes.new_without_others(nodes)

    def _release_lane(self, commit: RuntimeCommit) -> None:
        if commit.release_session_execution_lease is not None:
            self.lane.release(commit.release_session_execution_lease)


def _record_of(frame: AgentFrameRecord) -> AgentFrameRecord:
    """What is stored of a frame: the state of an execution is in the checkpoint."""
    if frame.execution_state_snapshot is None:
        return frame
    return frame.model_copy(update={"execution_state_snapshot": None})
