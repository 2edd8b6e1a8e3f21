"""The transaction bodies that move more than one table of a session.

Rule 1: a body is a synchronous function of the connection and may be run again, so what is
random comes from the caller. The time is read inside, once the database is locked.
Rule 2: nothing is undone by hand. A body that raises is rolled back by whoever runs it.
"""

import sqlite3
from collections.abc import Sequence
from typing import assert_never

from ...kernel.session_digest import (
    SessionDigest,
    digest_of,
    first_of_anybody,
    first_of_user,
)
from ...model.cancelling import CancelRequest
from ...ports.commit import (
    GraphAppend,
    GraphCommitDelta,
    GraphReplaceFull,
    GraphUnchanged,
    RuntimeCommit,
    RuntimeCommitResult,
)
from ...ports.journal import AdoptedTurn, JournalWrite
from ...ports.leases import LeaseBusy, LeaseRenewed, SessionExecutionLeaseFence
from ...ports.session_state import (
    ActivePath,
    FullGraph,
    PersistedSessionRead,
    SessionHeadMeta,
    SessionReadScope,
    frames_with_state,
)
from ...ports.store_errors import (
    HeadRevisionConflict,
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
from . import (
    _checkpoints,
    _heads,
    _journal,
    _manifest,
    _nodes,
    _queue,
    _sessions,
    _stamps,
    _turn_inputs,
    _turns,
    _usage,
)
from ._blobs import BuiltinBlobProfile
from ._heads import HeadRow
from ._leases import StoredLane
from ._texts import CommitTexts


def read(
    db: sqlite3.Connection, session_id: str, scope: SessionReadScope
) -> PersistedSessionRead | None:
    head = _heads.load(db, session_id)
    if head is None:
        return None
    row, meta = head
    match scope:
        case FullGraph():
            leaf = row.leaf_node_id
            nodes = _nodes.load_all(db, session_id)
        case ActivePath(leaf_node_id=asked):
            leaf = row.leaf_node_id if asked is None else asked
            nodes = _nodes.load_path(db, session_id, leaf)
        case _:
            assert_never(scope)
    ref = row.checkpoint_ref
    checkpoint = None if ref is None else _checkpoints.load(db, session_id, ref)
    return PersistedSessionRead(
        session_id=session_id,
        head_revision=row.revision,
        config=meta.config,
        agent_frames=frames_with_state(meta.agent_frames, meta.current_agent_frame_id, checkpoint),
        current_agent_frame_id=meta.current_agent_frame_id,
        nodes=nodes,
        leaf_node_id=leaf,
        checkpoint_ref=ref,
        checkpoint=checkpoint,
        token_ledger=_usage.load(db, session_id),
    )


def commit(
    db: sqlite3.Connection,
    session_id: str,
    commit: RuntimeCommit,
    now_ms: int,
    profile: BuiltinBlobProfile,
    texts: CommitTexts,
) -> RuntimeCommitResult:
    if commit.session_id != session_id:
        raise SessionBindingMismatch(
            bound_session_id=session_id, attempted_session_id=commit.session_id
        )
    lane = StoredLane(db, session_id)
    if commit.turn_commit is not None:
        earlier = _stamps.earlier_result(db, session_id, commit.turn_commit)
        if earlier is not None:
            _release(lane, commit)
            return earlier
    lease = lane.require(commit.session_execution_lease, now_ms)
    head = _heads.load_row(db, session_id)
    revision = 0 if head is None else head.revision
    if commit.expected_head_revision not in (None, revision):
        raise HeadRevisionConflict(expected=commit.expected_head_revision, actual=revision)
    for work in commit.completed_queue_claims:
        _queue.check_owned(db, session_id, work, lease.fencing_token)
    for inputs in commit.completed_turn_input_claims:
        _turn_inputs.check_owned(db, session_id, inputs, lease.fencing_token)
    if commit.turn_settlement is not None:
        _turns.settle(
            db,
            session_id,
            commit.turn_settlement,
            fencing_token=lease.fencing_token,
            now_ms=now_ms,
        )
    _apply_graph(db, session_id, commit.graph, now_ms)
    checkpoint = _checkpoints.save(
        db, session_id, commit.checkpoint, commit.agent_frames, profile, texts
    )
    asked = None
    if commit.turn_settlement is None:
        asked = _turns.cancel_request_under(db, session_id, lease.fencing_token)
    result = RuntimeCommitResult(
        head_revision=revision + 1,
        checkpoint_ref=checkpoint.ref,
        manifest=checkpoint.manifest,
        cancel_request=asked,
    )
    _heads.save(
        db,
        session_id,
        HeadRow(
            result.head_revision,
            commit.graph.leaf_node_id,
            checkpoint.ref,
            commit.checkpoint.turn_state.turn_index,
        ),
        texts.head(commit),
    )
    _usage.add(db, session_id, commit.usage_deltas)
    for work in commit.completed_queue_claims:
        _queue.complete(db, session_id, work)
    for inputs in commit.completed_turn_input_claims:
        _turn_inputs.complete(db, session_id, inputs)
    if commit.interrupted_turn_input_turn_id is not None:
        _turn_inputs.defer(db, session_id, commit.interrupted_turn_input_turn_id)
    if commit.committed_attachment_ids:
        _manifest.commit(db, session_id, commit.committed_attachment_ids, now_ms)
    if commit.turn_commit is not None:
        _stamps.save(db, commit.turn_commit, result.head_revision, checkpoint, now_ms)
    _release(lane, commit)
    return result


def accept(
    db: sqlite3.Connection,
    acceptance: TurnAcceptance,
    *,
    policy_json: str | None,
    now_ms: int,
    token: str,
) -> TurnAcceptanceOutcome:
    session_id = acceptance.session_id
    known = _turns.load(db, session_id, acceptance.turn_id)
    if known is not None:
        return acceptance.known_as(known)
    lane = StoredLane(db, session_id)
    owner, ttl_ms, observed = (
        acceptance.owner,
        acceptance.lease_ttl_ms,
        acceptance.observed_holder,
    )
    claimed = lane.claim(owner, now_ms=now_ms, ttl_ms=ttl_ms, token=token)
    if isinstance(claimed, LeaseBusy) and observed is not None:
        claimed = lane.reclaim(owner, observed, now_ms=now_ms, ttl_ms=ttl_ms, token=token)
    if isinstance(claimed, LeaseBusy):
        return TurnRefused(claimed.holder)
    lease = claimed.lease
    start = _start(db, acceptance, lease.fencing_token, policy_json, now_ms)
    if start is None:
        rows = _turns.started(_turns.unfinished(db, session_id))
        head = _heads.load_row(db, session_id)
        stamp = None if head is None else head.stamp()
        return LaneUnfinished(lease=lease, rows=rows, head=stamp)
    leads = _queue.command_leads(db, session_id, lease.fencing_token, now_ms)
    return TurnAccepted(lease=lease, row=start.row, head=start.head, command_leads=leads)


def start(
    db: sqlite3.Connection,
    fence: SessionExecutionLeaseFence,
    acceptance: TurnAcceptance,
    *,
    policy_json: str | None,
    now_ms: int,
) -> TurnStarted | None:
    lease = StoredLane(db, acceptance.session_id).require(fence, now_ms)
    if _turns.load(db, acceptance.session_id, acceptance.turn_id) is not None:
        return None
    return _start(db, acceptance, lease.fencing_token, policy_json, now_ms)


def settle(
    db: sqlite3.Connection,
    fence: SessionExecutionLeaseFence,
    settlement: TurnSettlement,
    *,
    now_ms: int,
    release: bool,
) -> None:
    lane = StoredLane(db, fence.session_id)
    lease = lane.require(fence, now_ms)
    if not _turns.is_settled(db, fence.session_id, settlement.turn_id):
        _turns.settle(
            db,
            fence.session_id,
            settlement,
            fencing_token=lease.fencing_token,
            now_ms=now_ms,
        )
    if release:
        lane.release(fence)


def write_journal(
    db: sqlite3.Connection,
    fence: SessionExecutionLeaseFence,
    turn_id: str,
    writes: Sequence[JournalWrite],
    now_ms: int,
) -> CancelRequest | None:
    lease = StoredLane(db, fence.session_id).require(fence, now_ms)
    asked = _turns.check_running(db, fence.session_id, turn_id, lease.fencing_token)
    _journal.write(db, fence.session_id, turn_id, writes)
    return asked


def adopt(
    db: sqlite3.Connection, fence: SessionExecutionLeaseFence, turn_id: str, now_ms: int
) -> AdoptedTurn:
    session_id = fence.session_id
    lease = StoredLane(db, session_id).require(fence, now_ms)
    row = _turns.adopt(db, session_id, turn_id, lease.fencing_token)
    head = _heads.load_row(db, session_id)
    return AdoptedTurn(
        row=row,
        entries=_journal.load(db, session_id, turn_id),
        head=None if head is None else head.stamp(),
    )


def leave(
    db: sqlite3.Connection, fence: SessionExecutionLeaseFence, turn_id: str, now_ms: int
) -> None:
    lane = StoredLane(db, fence.session_id)
    if lane.is_backed_by(fence, now_ms):
        _turns.leave(db, fence.session_id, turn_id, fence.fencing_token)
        lane.release(fence)


def renew(
    db: sqlite3.Connection, fence: SessionExecutionLeaseFence, *, now_ms: int, ttl_ms: int
) -> LeaseRenewed:
    lease = StoredLane(db, fence.session_id).renew(fence, now_ms=now_ms, ttl_ms=ttl_ms)
    asked = _turns.cancel_request_under(db, fence.session_id, lease.fencing_token)
    return LeaseRenewed(lease, asked)


def tombstone(db: sqlite3.Connection, session_id: str, node_ids: Sequence[str]) -> None:
    """Give nodes up, and show nothing of them in the list of sessions either."""
    gone = digest_of(_nodes.tombstone(db, session_id, node_ids))
    if gone.message_count:
        first = first_of_user(_nodes.live(db, session_id))
        last = first_of_anybody(_nodes.live(db, session_id, newest_first=True))
        _sessions.shrink(db, session_id, gone, first=first, last=last)


def _start(
    db: sqlite3.Connection,
    acceptance: TurnAcceptance,
    fencing_token: int,
    policy_json: str | None,
    now_ms: int,
) -> TurnStarted | None:
    """Start a turn of a new id on the lane that is held; `None` while another is started."""
    session_id = acceptance.session_id
    if acceptance.replace_session:
        _empty(db, session_id, now_ms)
    if _turns.started(_turns.unfinished(db, session_id)):
        return None
    head = _heads.load_row(db, session_id)
    row = _turns.start(
        db,
        acceptance,
        policy_json=policy_json,
        turn_index=1 if head is None else head.turn_index + 1,
        base_revision=None if head is None else head.revision,
        fencing_token=fencing_token,
        now_ms=now_ms,
    )
    _manifest.commit(db, session_id, (ref.id for ref in acceptance.input.attachments()), now_ms)
    return TurnStarted(row=row, head=None if head is None else head.stamp())


def _empty(db: sqlite3.Connection, session_id: str, now_ms: int) -> None:
    """Start over: no history, no usage, nothing waiting or unfinished.

    The head stays and its revision rises, so that whoever knew the old one notices. Turn ids,
    stamps and the lane's counter stay as they are.
    """
    _turns.discard_unfinished(db, session_id, now_ms)
    _manifest.release_all(db, session_id, now_ms)
    _turn_inputs.cancel_waiting(db, session_id)
    _queue.delete_all(db, session_id)
    _nodes.delete_all(db, session_id)
    _sessions.replace(db, session_id, SessionDigest(), now_ms)
    _checkpoints.delete_all(db, session_id)
    _usage.delete_all(db, session_id)
    head = _heads.load(db, session_id)
    if head is not None:
        row, meta = head
        bare = SessionHeadMeta(session_id=session_id, config=meta.config)
        _heads.save(
            db, session_id, HeadRow(row.revision + 1, None, None, 0), bare.model_dump_json()
        )


def _apply_graph(
    db: sqlite3.Connection, session_id: str, delta: GraphCommitDelta, now_ms: int
) -> None:
    """Store the nodes of `delta`, and keep the session's entry in step with them."""
    match delta:
        case GraphUnchanged():
            _sessions.touch(db, session_id, now_ms)
        case GraphAppend(nodes=nodes):
            added = _nodes.append(db, session_id, nodes)
            _sessions.extend(db, session_id, digest_of(added), now_ms)
        case GraphReplaceFull(nodes=nodes):
            whole = _nodes.replace_all(db, session_id, nodes)
            _sessions.replace(db, session_id, digest_of(whole), now_ms)
        case _:
            assert_never(delta)


def _release(lane: StoredLane, commit: RuntimeCommit) -> None:
    if commit.release_session_execution_lease is not None:
        lane.release(commit.release_session_execution_lease)
