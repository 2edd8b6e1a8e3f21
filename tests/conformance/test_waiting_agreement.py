"""Queues and inputs of the memory store and the SQLite store, side by side.

A machine plays random histories of work, inputs, claims, leases and commits to both at once and
compares every answer, every error and, after each step, what both show to be waiting.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from conformance.side_by_side import (
    SESSIONS,
    Pair,
    Side,
    owner_numbers,
    rarely,
    recent,
    ttls,
)
from conformance.two_stores import HISTORIES, TwoStores
from lash_runtime.model.canonical import canonical_hash
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.ports.commit import GraphUnchanged, RuntimeCommit
from lash_runtime.ports.queued_work import (
    DeliveryPolicy,
    MergeGroup,
    MergeKey,
    ProcessWakeDelivery,
    ProcessWakePayload,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
    QueuedWorkPayload,
    RefreshToolCatalog,
    ResetSession,
    SessionCommandPayload,
    SlotPolicy,
)
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.turn_inputs import (
    ActiveTurnIngress,
    InputIdTarget,
    NextTurnIngress,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    SourceKeyTarget,
    TurnInputCheckpointBoundary,
    TurnInputIngress,
)
from lash_runtime.ports.turn_ledger import RequiredWiring, StoredTurnOptions, TurnAcceptance

TTL_MS = 3_000
TURNS = ("t1", "t2", "t1:agent-frame:1")
INPUT_IDS = ("i1", "i2", "i3", "i4", "i5", "i6")
KEYS = ("k1", "k2")

WAKE = ProcessWakePayload(
    wake=ProcessWakeDelivery(
        wake_id="w",
        target_session_id="one",
        target_scope_id="root",
        process_id="p",
        sequence=1,
        dedupe_key="d",
        input={"text": "\u2028", "list": [None, 1.5]},
        created_at_ms=1,
    )
)
COMMANDS: tuple[QueuedWorkPayload, ...] = (
    SessionCommandPayload(command=RefreshToolCatalog(reason="asked")),
    SessionCommandPayload(command=ResetSession(reason="asked")),
)
payloads: st.SearchStrategy[tuple[QueuedWorkPayload, ...]] = st.sampled_from(
    (
        *[(WAKE,)] * 6,
        (WAKE, WAKE),
        COMMANDS[:1],
        COMMANDS[1:],
        COMMANDS,
        (),
        (WAKE, *COMMANDS),
    )
)
merge_keys: st.SearchStrategy[MergeKey] = st.sampled_from(
    ("never", "never", "payload_default", MergeGroup(group="g"))
)
ingresses: st.SearchStrategy[TurnInputIngress] = st.one_of(
    st.just(NextTurnIngress()),
    st.builds(
        ActiveTurnIngress,
        turn_id=st.sampled_from(TURNS),
        min_boundary=st.sampled_from(TurnInputCheckpointBoundary),
    ),
)
targets: st.SearchStrategy[PendingTurnInputCancelTarget] = st.one_of(
    st.builds(InputIdTarget, value=st.sampled_from(INPUT_IDS)),
    st.builds(SourceKeyTarget, value=st.sampled_from(KEYS)),
)
few = st.sampled_from((64, 64, 64, 2, 1, 0))
session_ids = st.sampled_from(("one",) * 5 + ("two",))
"""What happens in one session has more to do with each other."""

bursts = st.integers(1, 3)
mostly_current = st.sampled_from((None,) * 6 + (0, 1))
"""`None` is the fence of whoever holds the lane, or of one who takes it now."""

then = st.sampled_from(("keep", "keep", "renew", "abandon", "commit", "commit", "commit later"))
"""What the claimant does next. A random history would rarely come back to a claim in time."""


@dataclass(frozen=True, slots=True)
class Both:
    """One thing as each of the two stores knows it."""

    memory: Any
    sqlite: Any


class WaitingAgreement(TwoStores):
    """Work and inputs, from their enqueueing to the commit that completes them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Both] = []
        self.work: list[Both] = []
        self.inputs: list[Both] = []
        self.free_work: dict[str, int] = dict.fromkeys(SESSIONS, 0)
        self.free_inputs: dict[str, int] = dict.fromkeys(SESSIONS, 0)

    def on(self, side: Side, things: Both) -> Any:
        return things.memory if side is self.memory else things.sqlite

    def keep(self, claims: list[Both], call: Callable[[Side], Awaitable[Any]]) -> bool:
        """Make a claim on both, and remember it if there was one."""
        memory, sqlite = self.both(call)
        if memory is not None:
            claims.append(Both(memory, sqlite))
        return memory is not None

    def go_on(self, claims: list[Both], then: str, pair: Pair) -> None:
        claim = claims[-1]
        if then in ("renew", "abandon"):
            self.renew_or_abandon_it(claim, then, 1_000)
        elif then != "keep":
            if then == "commit later":
                self.clock.advance(1)
            work, inputs = ([claim], []) if claims is self.work else ([], [claim])
            self.commit_it(pair, work, inputs)

    def renew_or_abandon_it(self, claim: Both, how: str, ttl: int) -> None:
        def call(side: Side) -> Awaitable[Any]:
            store, held = side.stores["one"], self.on(side, claim)
            if isinstance(held, QueuedWorkClaim):
                if how == "renew":
                    return store.renew_queued_work_claim(held, ttl)
                return store.abandon_queued_work_claim(held)
            if how == "renew":
                return store.renew_turn_input_claim(held, ttl)
            return store.abandon_turn_input_claim(held)

        self.both(call)

    def commit_it(
        self,
        pair: Pair,
        work: list[Both],
        inputs: list[Both],
        *,
        partly: bool = False,
        interrupted: str | None = None,
        release: bool = False,
    ) -> None:
        session_id = pair.memory.session_id

        def call(side: Side) -> Awaitable[Any]:
            fence = self.fence(side, pair)
            batches = [self.on(side, claim).completion() for claim in work]
            said = [self.on(side, claim).completion() for claim in inputs]
            if partly:
                batches = [replace(each, batch_ids=each.batch_ids[1:]) for each in batches]
                said = [replace(each, input_ids=each.input_ids[1:]) for each in said]
            return side.stores[session_id].commit_runtime_state(
                RuntimeCommit(
                    session_id=session_id,
                    expected_head_revision=None,
                    session_execution_lease=fence,
                    config=PersistedSessionConfig(),
                    agent_frames=(),
                    current_agent_frame_id="",
                    graph=GraphUnchanged(leaf_node_id=None),
                    checkpoint=HydratedSessionCheckpoint(),
                    completed_queue_claims=tuple(batches),
                    completed_turn_input_claims=tuple(said),
                    interrupted_turn_input_turn_id=interrupted,
                    release_session_execution_lease=fence if release else None,
                )
            )

        self.both(call)

    @rule(
        session_id=session_ids,
        payloads=payloads,
        delivery=st.sampled_from(DeliveryPolicy),
        slot=st.sampled_from((SlotPolicy.JOIN, SlotPolicy.JOIN, SlotPolicy.EXCLUSIVE)),
        merge=merge_keys,
        key=st.none() | st.sampled_from(KEYS),
        in_ms=st.sampled_from((None, None, None, 0, 1_000)),
        times=bursts,
    )
    def enqueue_work(
        self,
        session_id: str,
        payloads: tuple[QueuedWorkPayload, ...],
        delivery: DeliveryPolicy,
        slot: SlotPolicy,
        merge: MergeKey,
        key: str | None,
        in_ms: int | None,
        times: int,
    ) -> None:
        draft = QueuedWorkBatchDraft(
            session_id=session_id,
            payloads=payloads,
            delivery_policy=delivery,
            slot_policy=slot,
            merge_key=merge,
            source_key=key,
            available_at_ms=0 if in_ms is None else self.clock.timestamp_ms() + in_ms,
        )
        for _ in range(times):
            memory, sqlite = self.both(lambda side: side.stores["one"].enqueue_queued_work(draft))
            if memory is not None:
                self.batches.append(Both(memory.batch_id, sqlite.batch_id))

    @precondition(lambda self: self.free_work["one"])
    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=mostly_current,
        how=st.sampled_from(("ready", "ready", "command", "ids")),
        boundary=st.sampled_from((*QueuedWorkClaimBoundary, QueuedWorkClaimBoundary.IDLE)),
        ttl=ttls,
        most=few,
        first=st.integers(0, 5),
        then=then,
    )
    def claim_work(
        self,
        session_id: str,
        owner: int,
        ago: int | None,
        how: str,
        boundary: QueuedWorkClaimBoundary,
        ttl: int,
        most: int,
        first: int,
        then: str,
    ) -> None:
        pair = self.pair(session_id, owner, ago)
        asked = self.batches[first:][:most]

        def call(side: Side) -> Awaitable[Any]:
            store, fence, who = side.stores["two"], self.fence(side, pair), self.owners[owner]
            if how == "command":
                return store.claim_leading_ready_session_command(session_id, fence, who, ttl)
            if how == "ids":
                names = [self.on(side, batch) for batch in asked]
                return store.claim_ready_queued_work_by_batch_ids(
                    session_id, fence, who, boundary, ttl, names
                )
            return store.claim_ready_queued_work(session_id, fence, who, boundary, ttl, most)

        if self.keep(self.work, call):
            self.go_on(self.work, then, pair)

    @rule(
        session_id=session_ids,
        ingress=ingresses,
        text=st.sampled_from(("hello", "hello", "other \U0001f9ed")),
        key=st.none() | st.sampled_from(KEYS),
        first=st.integers(0, len(INPUT_IDS) - 1),
        times=bursts,
        named=st.booleans(),
    )
    def submit(
        self,
        session_id: str,
        ingress: TurnInputIngress,
        text: str,
        key: str | None,
        first: int,
        times: int,
        named: bool,
    ) -> None:
        draft = PendingTurnInputDraft(
            session_id=session_id, ingress=ingress, input=TurnInput.text(text), source_key=key
        )
        for input_id in INPUT_IDS[first : first + times]:
            draft = replace(draft, input_id=input_id if named else None)
            self.both(lambda side, d=draft: side.stores["one"].enqueue_pending_turn_input(d))

    @precondition(lambda self: self.free_inputs["one"])
    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=mostly_current,
        how=st.sampled_from(("next", "active", "one")),
        turn_id=st.sampled_from(TURNS),
        checkpoint=st.sampled_from(CheckpointKind),
        input_id=st.sampled_from(INPUT_IDS),
        ttl=ttls,
        most=few,
        then=then,
    )
    def claim_inputs(
        self,
        session_id: str,
        owner: int,
        ago: int | None,
        how: str,
        turn_id: str,
        checkpoint: CheckpointKind,
        input_id: str,
        ttl: int,
        most: int,
        then: str,
    ) -> None:
        pair = self.pair(session_id, owner, ago)

        def call(side: Side) -> Awaitable[Any]:
            store, fence, who = side.stores["two"], self.fence(side, pair), self.owners[owner]
            if how == "next":
                return store.claim_next_turn_inputs(session_id, fence, who, ttl, most)
            if how == "active":
                return store.claim_active_turn_inputs(
                    session_id, fence, who, turn_id, checkpoint, ttl, most
                )
            return store.claim_turn_input(session_id, fence, input_id)

        if self.keep(self.inputs, call):
            self.go_on(self.inputs, then, pair)

    @precondition(lambda self: self.work or self.inputs)
    @rule(
        ago=recent,
        ttl=ttls,
        how=st.sampled_from(("renew", "abandon")),
        of=st.sampled_from(("work", "inputs")),
    )
    def renew_or_abandon(self, ago: int, ttl: int, how: str, of: str) -> None:
        claims = self.work if of == "work" else self.inputs
        if claims:
            self.renew_or_abandon_it(claims[max(-1 - ago, -len(claims))], how, ttl)

    @rule(
        session_id=session_ids,
        asked=st.lists(targets, min_size=1, max_size=3),
        number=st.integers(0, 5),
        how=st.sampled_from(("work", "one", "many", "suffix")),
    )
    def cancel(
        self,
        session_id: str,
        asked: list[PendingTurnInputCancelTarget],
        number: int,
        how: str,
    ) -> None:
        batch = self.batches[number] if number < len(self.batches) else Both("none", "none")

        def call(side: Side) -> Awaitable[Any]:
            store = side.stores["one"]
            if how == "work":
                return store.cancel_queued_work_batch(session_id, self.on(side, batch))
            if how == "one":
                return store.cancel_pending_turn_input(session_id, asked[0].value)
            if how == "many":
                return store.cancel_pending_turn_inputs(session_id, asked)
            return store.cancel_pending_turn_input_suffix(session_id, asked[0])

        self.both(call)

    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=mostly_current,
        resumable=st.none() | st.sampled_from(TURNS),
        wait=st.booleans(),
    )
    def defer_orphans(
        self, session_id: str, owner: int, ago: int | None, resumable: str | None, wait: bool
    ) -> None:
        if wait:
            self.clock.advance(30)
        pair = self.pair(session_id, owner, ago)
        self.both(
            lambda side: side.stores["one"].defer_orphaned_active_turn_inputs(
                session_id, self.fence(side, pair), resumable
            )
        )

    @precondition(lambda self: self.work or self.inputs)
    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=mostly_current,
        work=st.lists(st.integers(0, 1), max_size=2),
        inputs=st.lists(st.integers(0, 1), max_size=2),
        partly=rarely,
        interrupted=st.none() | st.sampled_from(TURNS),
        release=st.booleans(),
    )
    def commit(
        self,
        session_id: str,
        owner: int,
        ago: int | None,
        work: list[int],
        inputs: list[int],
        partly: bool,
        interrupted: str | None,
        release: bool,
    ) -> None:
        pair = self.pair(session_id, owner, ago)
        self.commit_it(
            pair,
            self.some_of(self.work, work),
            self.some_of(self.inputs, inputs),
            partly=partly,
            interrupted=interrupted,
            release=release,
        )

    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        now=rarely,
        how=st.sampled_from(("clear", "vacuum")),
    )
    def tidy(self, session_id: str, owner: int, now: bool, how: str) -> None:
        """Starting over cancels what waits; vacuum frees the keys of what is over."""
        if not now:
            return
        if how == "vacuum":
            self.both(lambda side: side.stores[session_id].vacuum())
            return
        said = TurnInput.text("start over")
        acceptance = TurnAcceptance(
            session_id=session_id,
            turn_id="t9",
            input=said,
            options=StoredTurnOptions(),
            required_wiring=RequiredWiring(protocol="p"),
            content_hash=canonical_hash(said),
            owner=self.owners[owner],
            lease_ttl_ms=TTL_MS,
            replace_session=True,
        )
        self.remember(*self.both(lambda side: side.stores[session_id].accept_turn(acceptance)))

    @invariant()
    def the_same_waits(self) -> None:
        if not self.sqlite.stores:
            return
        for session_id in SESSIONS:
            (_, work, inputs, _), _ = self.both(lambda side, s=session_id: self.waiting(side, s))
            self.free_work[session_id] = len(work)
            self.free_inputs[session_id] = len(inputs)

    async def waiting(self, side: Side, session_id: str) -> list[Any]:
        store = side.stores[session_id]
        return [
            await store.list_queued_work(session_id),
            await store.list_pending_queued_work(session_id),
            await store.list_pending_turn_inputs(session_id),
            await store.load_head_stamp(),
        ]

    @staticmethod
    def some_of(claims: list[Both], numbers: list[int]) -> list[Both]:
        return [claims[max(-1 - ago, -len(claims))] for ago in numbers if claims]


TestWaitingAgreement = WaitingAgreement.TestCase
TestWaitingAgreement.settings = settings(HISTORIES, max_examples=60)
