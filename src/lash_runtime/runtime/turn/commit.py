"""Builds commits: a turn's progress, its end, and what a session holds without a turn."""

from collections.abc import Iterator, Sequence
from typing import Any

from ...kernel.draft import TurnDraft
from ...model.canonical import canonical_hash
from ...model.messages import Message, Part
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
    state: RuntimeSessionState,
    draft: TurnDraft,
    fence: SessionExecutionLeaseFence,
    *,
    stored: tuple[str, ...] = (),
) -> RuntimeCommit:
    """What a turn has finished so far; it settles nothing and keeps the lease.

    `stored` are the ids of what the turn has put into the attachment store.
    """
    return _commit(state, graph_delta(state, draft), fence, stored)


def settling_commit(
    state: RuntimeSessionState,
    draft: TurnDraft,
    fence: SessionExecutionLeaseFence,
    settlement: TurnSettlement,
    *,
    messages: Sequence[Message],
    usage: tuple[TokenLedgerEntry, ...] = (),
    stored: tuple[str, ...] = (),
    release: bool = True,
) -> RuntimeCommit:
    """The commit that ends a turn: its history, its usage, its row and its lease, together.

    `messages` are those of the turn; its stamp covers what they say.
    """
    return _commit(
        state,
        graph_delta(state, draft),
        fence,
        stored,
        usage_deltas=usage,
        turn_commit=RuntimeTurnCommitStamp(
            session_id=state.session_id,
            turn_id=settlement.turn_id,
            turn_commit_hash=_semantic_hash(state, settlement, messages),
        ),
        turn_settlement=settlement,
        interrupted_turn_input_turn_id=settlement.turn_id,
        release_session_execution_lease=fence if release else None,
    )


def commit_of_state(
    state: RuntimeSessionState, known: RuntimeSessionState, fence: SessionExecutionLeaseFence
) -> RuntimeCommit:
    """What a session holds that no turn has committed; gives the lease back.

    `state` has grown from `known`, which the store has. Explicit content goes in place of what
    was stored. Of a healed graph only the leaf moves.
    """
    leaf = state.graph.leaf_node_id
    added = state.graph.nodes[len(known.graph.nodes) :]
    graph: GraphCommitDelta = GraphUnchanged(leaf_node_id=leaf)
    if known.graph_replace_required or known.head_revision is None:
        graph = GraphReplaceFull(nodes=state.graph.nodes, leaf_node_id=leaf)
    elif added:
        graph = GraphAppend(nodes=added, leaf_node_id=leaf)
    return _commit(state, graph, fence, release_session_execution_lease=fence)


def _commit(
    state: RuntimeSessionState,
    graph: GraphCommitDelta,
    fence: SessionExecutionLeaseFence,
    stored: tuple[str, ...] = (),
    **more: Any,
) -> RuntimeCommit:
    """The commit of `state` with that graph; `more` is what else it carries, field by field."""
    return RuntimeCommit(
        session_id=state.session_id,
        expected_head_revision=state.head_revision,
        session_execution_lease=fence,
        config=state.config(),
        agent_frames=state.agent_frames,
        current_agent_frame_id=state.current_agent_frame_id,
        graph=graph,
        checkpoint=state.checkpoint(),
        committed_attachment_ids=tuple(sorted({*stored, *_attachment_ids(graph)})),
        **more,
    )


def _semantic_hash(
    state: RuntimeSessionState, settlement: TurnSettlement, messages: Sequence[Message]
) -> str:
    """Equal for a repetition of this very commit, whatever lease or time it is made under."""
    result = settlement.result
    return canonical_hash(
        {
            "session_id": state.session_id,
            "turn_id": settlement.turn_id,
            "turn_index": state.turn_index,
            "config": state.config().model_dump(mode="json"),
            "messages": [
                [message.role, [_content(part) for part in message.parts]] for message in messages
            ],
            "state": settlement.state.value,
            "result": None
            if result is None
            else result.model_dump(mode="json", exclude={"execution"}),
            "failure": None
            if settlement.failure is None
            else settlement.failure.model_dump(mode="json"),
        }
    )


def _content(part: Part) -> list[object]:
    return [
        part.kind,
        part.content,
        part.tool_call_id,
        part.tool_name,
        [reference.id for reference in part.attachments],
    ]


def _attachment_ids(graph: GraphCommitDelta) -> Iterator[str]:
    """The attachments that the messages of a commit refer to."""
    if isinstance(graph, GraphUnchanged):
        return
    for node in graph.nodes:
        if (record := node.conversation) is not None:
            for part in record.message.parts:
                yield from (reference.id for reference in part.attachments)
