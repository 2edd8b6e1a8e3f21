"""Builds commits: a turn's progress, its end, and what a session holds without a turn."""

from dataclasses import replace

from ...kernel.draft import TurnDraft
from ...model.canonical import canonical_hash
from ...model.usage import TokenLedgerEntry
from ...ports.commit import (
    GraphAppend,
    GraphCommitDelta,
    GraphReplaceFull,
    GraphUnchanged,
    RuntimeCommit,
    RuntimeTurnCommitStamp,
)
from ...ports.leases import SessionExecutionLeaseFence
from ...ports.turn_ledger import TurnSettlement
from ..state import RuntimeSessionState


def graph_delta(state: RuntimeSessionState, draft: TurnDraft) -> GraphCommitDelta:
    """An append whenever the store has a head; a replacement only where one was asked for."""
    leaf = draft.graph.leaf_node_id
    if state.graph_replace_required or state.head_revision is None:
        return GraphReplaceFull(nodes=draft.graph.nodes, leaf_node_id=leaf)
    added = draft.uncommitted()
    if added:
        return GraphAppend(nodes=added, leaf_node_id=leaf)
    return GraphUnchanged(leaf_node_id=leaf)


def progress_commit(
    state: RuntimeSessionState, draft: TurnDraft, fence: SessionExecutionLeaseFence
) -> RuntimeCommit:
    """What a turn has finished so far; it settles nothing and keeps the lease."""
    return _commit(state, graph_delta(state, draft), fence)


def settling_commit(
    state: RuntimeSessionState,
    draft: TurnDraft,
    fence: SessionExecutionLeaseFence,
    settlement: TurnSettlement,
    *,
    usage: tuple[TokenLedgerEntry, ...] = (),
    release: bool = True,
) -> RuntimeCommit:
    """The commit that ends a turn: its history, its usage, its row and its lease, together."""
    return replace(
        progress_commit(state, draft, fence),
        usage_deltas=usage,
        turn_commit=RuntimeTurnCommitStamp(
            session_id=state.session_id,
            turn_id=settlement.turn_id,
            turn_commit_hash=_semantic_hash(state, settlement),
        ),
        turn_settlement=settlement,
        interrupted_turn_input_turn_id=settlement.turn_id,
        committed_attachment_ids=_attachment_ids(draft),
        release_session_execution_lease=fence if release else None,
    )


def flushing_commit(state: RuntimeSessionState, fence: SessionExecutionLeaseFence) -> RuntimeCommit:
    """All that the session holds, in place of what was stored; gives the lease back."""
    graph = GraphReplaceFull(nodes=state.graph.nodes, leaf_node_id=state.graph.leaf_node_id)
    return replace(_commit(state, graph, fence), release_session_execution_lease=fence)


def _commit(
    state: RuntimeSessionState, graph: GraphCommitDelta, fence: SessionExecutionLeaseFence
) -> RuntimeCommit:
    return RuntimeCommit(
        session_id=state.session_id,
        expected_head_revision=state.head_revision,
        session_execution_lease=fence,
        config=state.config(),
        agent_frames=state.agent_frames,
        current_agent_frame_id=state.current_agent_frame_id,
        graph=graph,
        checkpoint=state.checkpoint(),
    )


def _semantic_hash(state: RuntimeSessionState, settlement: TurnSettlement) -> str:
    """Equal for a repetition of this very commit, whatever lease or time it is made under."""
    result = settlement.result
    return canonical_hash(
        {
            "session_id": state.session_id,
            "turn_id": settlement.turn_id,
            "turn_index": state.turn_index,
            "state": settlement.state.value,
            "result": None
            if result is None
            else result.model_dump(mode="json", exclude={"execution"}),
            "failure": None
            if settlement.failure is None
            else settlement.failure.model_dump(mode="json"),
        }
    )


def _attachment_ids(draft: TurnDraft) -> tuple[str, ...]:
    """The attachments that this turn's messages refer to."""
    ids = {
        reference.id
        for node in draft.uncommitted()
        if (record := node.conversation) is not None
        for part in record.message.parts
        for reference in part.attachments
    }
    return tuple(sorted(ids))
