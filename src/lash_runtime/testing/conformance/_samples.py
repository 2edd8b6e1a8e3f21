"""Short ways to build what the cases hand to a store, and to see all that a store shows."""

from dataclasses import replace
from typing import Any, Final

from ...model.canonical import canonical_hash
from ...model.messages import MessageRole, text_message
from ...model.nodes import ConversationRecord, SessionNodeRecord
from ...model.outcome import StopReason, answered, stopped
from ...model.session_meta import PersistedSessionConfig
from ...model.turn_input import TurnInput
from ...model.usage import TokenLedgerEntry, TokenUsage
from ...ports.commit import (
    GraphAppend,
    GraphReplaceFull,
    RuntimeCommit,
    RuntimeTurnCommitStamp,
)
from ...ports.leases import (
    LeaseAcquired,
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseFence,
)
from ...ports.persistence import RuntimePersistence
from ...ports.session_state import FullGraph, HydratedSessionCheckpoint, PersistedTurnState
from ...ports.storage import SessionStoreCreateRequest, Storage
from ...ports.turn_ledger import (
    RequiredWiring,
    StoredTurnOptions,
    TurnAcceptance,
    TurnAccepted,
    TurnFailure,
    TurnResultRecord,
    TurnSettlement,
    TurnState,
)
from ...ports.turn_persistence import TurnPersistence

TTL_MS = 30_000
FAR_FUTURE_MS = 2**62
TIMESTAMP = "2025-06-15T15:06:40.000Z"

ALICE = LeaseOwnerIdentity(owner_id="alice", incarnation_id="1")
ALICE_AGAIN = LeaseOwnerIdentity(owner_id="alice", incarnation_id="2")
BOB = LeaseOwnerIdentity(owner_id="bob", incarnation_id="1")


ODD_IDS: Final = (
    "../../etc/passwd",
    "/absolute",
    "..",
    " ",
    "",
    "x" * 10_000,
    "a'; DROP TABLE heads; --",
    "%s {} %(id)s",
    "ünï\u0301cødé \U0001f9ed",
    "S",
    "s ",
    "line\nbreak",
)
"""Ids are text, never paths and never patterns."""


async def a_store(storage: Storage, session_id: str = "s") -> RuntimePersistence:
    return await storage.session_stores.create_store(
        SessionStoreCreateRequest(session_id=session_id)
    )


async def hold(
    store: TurnPersistence,
    session_id: str = "s",
    owner: LeaseOwnerIdentity = ALICE,
    ttl_ms: int = TTL_MS,
) -> SessionExecutionLease:
    """Take a lane that must be free."""
    outcome = await store.try_claim_session_execution_lease(session_id, owner, ttl_ms)
    assert isinstance(outcome, LeaseAcquired)
    return outcome.lease


def a_node(
    node_id: str,
    parent: str | None = None,
    text: str = "hello",
    role: MessageRole = MessageRole.USER,
) -> SessionNodeRecord:
    message = text_message(f"m-{node_id}", role, text)
    return SessionNodeRecord(
        node_id=node_id,
        parent_node_id=parent,
        timestamp=TIMESTAMP,
        payload=ConversationRecord.of(message),
    )


def a_chain(*node_ids: str, under: str | None = None) -> tuple[SessionNodeRecord, ...]:
    """Nodes that hang under one another, the first under `under`."""
    nodes = []
    for node_id in node_ids:
        nodes.append(a_node(node_id, under))
        under = node_id
    return tuple(nodes)


def first(*nodes: SessionNodeRecord, leaf: str | None = None) -> GraphReplaceFull:
    """The delta of a first commit; the leaf is the last node unless named."""
    return GraphReplaceFull(
        nodes=nodes, leaf_node_id=leaf or (nodes[-1].node_id if nodes else None)
    )


def append(*nodes: SessionNodeRecord, leaf: str | None = None) -> GraphAppend:
    return GraphAppend(nodes=nodes, leaf_node_id=leaf or nodes[-1].node_id)


def a_commit(
    fence: SessionExecutionLeaseFence | None, *, session_id: str = "s", **changes: Any
) -> RuntimeCommit:
    """A commit of one node that checks no revision; `changes` replace its fields."""
    plain = RuntimeCommit(
        session_id=session_id,
        expected_head_revision=None,
        session_execution_lease=fence,
        config=PersistedSessionConfig(),
        agent_frames=(),
        current_agent_frame_id="",
        graph=append(a_node("n1")),
        checkpoint=HydratedSessionCheckpoint(),
    )
    return replace(plain, **changes)


def at_turn(index: int) -> HydratedSessionCheckpoint:
    """A checkpoint that has only counters."""
    return HydratedSessionCheckpoint(turn_state=PersistedTurnState(turn_index=index))


def a_stamp(
    turn_id: str = "t1", content: str = "c1", session_id: str = "s"
) -> RuntimeTurnCommitStamp:
    return RuntimeTurnCommitStamp(
        session_id=session_id, turn_id=turn_id, turn_commit_hash=canonical_hash(content)
    )


def spent(source: str, model: str, tokens: int) -> TokenLedgerEntry:
    return TokenLedgerEntry(source=source, model=model, usage=TokenUsage(input_tokens=tokens))


def an_acceptance(
    turn_id: str = "t1", text: str = "hello", *, session_id: str = "s", **changes: Any
) -> TurnAcceptance:
    """A turn of Alice's that says `text`; `changes` replace its fields."""
    turn_input = TurnInput.text(text)
    options = StoredTurnOptions()
    plain = TurnAcceptance(
        session_id=session_id,
        turn_id=turn_id,
        input=turn_input,
        options=options,
        required_wiring=RequiredWiring(protocol="standard_protocol", provider_id="scripted"),
        content_hash=canonical_hash(turn_input),
        owner=ALICE,
        lease_ttl_ms=TTL_MS,
    )
    return replace(plain, **changes)


async def accepted(store: TurnPersistence, acceptance: TurnAcceptance) -> TurnAccepted:
    """Accept a turn that nothing stands in the way of."""
    outcome = await store.accept_turn(acceptance)
    assert isinstance(outcome, TurnAccepted)
    return outcome


def as_committed(turn_id: str = "t1", text: str = "fine") -> TurnSettlement:
    return TurnSettlement(
        turn_id=turn_id,
        state=TurnState.COMMITTED,
        result=TurnResultRecord(outcome=answered(text), message_ids=("m-n1",)),
    )


def as_failed(turn_id: str = "t1", code: str = "llm_provider") -> TurnSettlement:
    return TurnSettlement(
        turn_id=turn_id,
        state=TurnState.FAILED,
        failure=TurnFailure(code=code, message="the model is gone"),
    )


def as_interrupted(turn_id: str = "t1") -> TurnSettlement:
    return TurnSettlement(
        turn_id=turn_id,
        state=TurnState.INTERRUPTED,
        result=TurnResultRecord(outcome=stopped(StopReason.INTERRUPTED)),
    )


async def everything(store: TurnPersistence, session_id: str = "s", *turn_ids: str) -> Any:
    """All that a store shows of a session, to compare before and after."""
    return (
        await store.load_session(FullGraph()),
        await store.load_head_stamp(),
        await store.load_session_meta(),
        tuple(await store.list_unfinished_turns(session_id)),
        tuple([await store.load_turn(session_id, turn_id) for turn_id in turn_ids]),
        tuple(await store.list_uncommitted(FAR_FUTURE_MS)),
    )
