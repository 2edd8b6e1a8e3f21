"""The memory store and the SQLite store side by side: the same calls, the same answers.

A machine plays random histories of leases, turns, commits and time to both at once and compares
every answer, every error and, after each step, what both show of their sessions.
"""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from conformance.side_by_side import (
    ATTACHMENTS,
    ENDS,
    NODE_IDS,
    SESSIONS,
    TIMESTAMP,
    TURN_IDS,
    Side,
    components,
    current_or_recent,
    deltas,
    owner_numbers,
    rarely,
    recent,
    session_ids,
    the_meta,
    ttls,
    turn_ids,
    usage,
)
from conformance.small_calls import SmallCallStorage
from conformance.two_stores import HISTORIES, TwoStores
from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.model.canonical import canonical_hash
from lash_runtime.model.outcome import StopReason, stopped
from lash_runtime.model.session_meta import PersistedSessionConfig, SessionMeta
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.model.usage import TokenLedgerEntry
from lash_runtime.ports.attachments import AttachmentIntent
from lash_runtime.ports.commit import (
    GraphCommitDelta,
    RuntimeCommit,
    RuntimeCommitResult,
    RuntimeTurnCommitStamp,
)
from lash_runtime.ports.session_state import (
    ActivePath,
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedTurnState,
)
from lash_runtime.ports.storage import Storage
from lash_runtime.ports.turn_ledger import (
    RequiredWiring,
    StoredTurnOptions,
    TurnAcceptance,
    TurnFailure,
    TurnResultRecord,
    TurnSettlement,
    TurnState,
)
from lash_runtime.stores.memory import MemoryStorage

CANCELLED = {"t1", "t3"}
"""The turns that end as cancelled when they are committed."""


class Agreement(TwoStores):
    """Leases, turns, commits, attachments and upkeep."""

    shortest_acceptance_ms = 0

    def __init__(self) -> None:
        super().__init__()
        self.revisions: dict[str, int] = dict.fromkeys(SESSIONS, 0)
        self.unfinished: dict[str, list[str]] = {session_id: [] for session_id in SESSIONS}
        self.execution_refs: list[str] = []

    def teardown(self) -> None:
        try:
            for session_id in self.sqlite.stores:
                self.both(lambda side, s=session_id: self.all_of(side, s))
                for leaf in (None, *NODE_IDS):
                    scope = ActivePath(leaf)
                    self.both(lambda side, s=session_id, p=scope: side.stores[s].load_session(p))
        finally:
            super().teardown()

    @rule(session_id=session_ids, owner=owner_numbers, ttl=ttls)
    def claim(self, session_id: str, owner: int, ttl: int) -> None:
        self.remember(
            *self.both(
                lambda side: side.stores[session_id].try_claim_session_execution_lease(
                    session_id, self.owners[owner], ttl
                )
            )
        )

    @precondition(lambda self: self.fences)
    @rule(session_id=session_ids, owner=owner_numbers, ttl=ttls, ago=recent)
    def reclaim(self, session_id: str, owner: int, ttl: int, ago: int) -> None:
        self.remember(
            *self.both(
                lambda side: side.stores[session_id].reclaim_session_execution_lease(
                    session_id, self.owners[owner], self.fence(side, ago), ttl
                )
            )
        )

    @precondition(lambda self: self.fences)
    @rule(ttl=ttls, ago=recent)
    def renew(self, ttl: int, ago: int) -> None:
        self.both(
            lambda side: side.stores["one"].renew_session_execution_lease(
                self.fence(side, ago), ttl
            )
        )

    @rule(
        session_id=session_ids,
        turn_id=turn_ids,
        text=st.sampled_from(("hello",) * 5 + ("other",)),
        owner=owner_numbers,
        ttl=ttls,
        ago=st.none() | recent,
        replace_session=rarely,
    )
    def accept(
        self,
        session_id: str,
        turn_id: str,
        text: str,
        owner: int,
        ttl: int,
        ago: int | None,
        replace_session: bool,
    ) -> None:
        said = TurnInput.text(text)
        observed = ago is not None and bool(self.fences)

        def call(side: Side) -> Awaitable[Any]:
            return side.stores[session_id].accept_turn(
                TurnAcceptance(
                    session_id=session_id,
                    turn_id=turn_id,
                    input=said,
                    options=StoredTurnOptions(max_turns=3, plugin_inputs={"notes": {"a": [1]}}),
                    required_wiring=RequiredWiring(protocol="p", tool_names=("weather",)),
                    content_hash=canonical_hash(said),
                    owner=self.owners[owner],
                    lease_ttl_ms=max(ttl, self.shortest_acceptance_ms),
                    observed_holder=self.fence(side, ago or 0) if observed else None,
                    replace_session=replace_session,
                )
            )

        self.remember(*self.both(call))

    @rule(
        session_id=session_ids,
        turn_id=turn_ids,
        owner=owner_numbers,
        ago=current_or_recent,
        replace_session=rarely,
    )
    def start(
        self, session_id: str, turn_id: str, owner: int, ago: int | None, replace_session: bool
    ) -> None:
        pair = self.pair(session_id, owner, ago)
        said = TurnInput.text("hello")

        def call(side: Side) -> Awaitable[Any]:
            return side.stores[session_id].start_turn(
                self.fence(side, pair),
                TurnAcceptance(
                    session_id=session_id,
                    turn_id=turn_id,
                    input=said,
                    options=StoredTurnOptions(),
                    required_wiring=RequiredWiring(protocol="p"),
                    content_hash=canonical_hash(said),
                    owner=self.owners[owner],
                    lease_ttl_ms=0,
                    replace_session=replace_session,
                ),
            )

        self.both(call)

    @precondition(lambda self: any(self.unfinished.values()))
    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=current_or_recent,
        number=st.integers(0, 2),
        state=st.sampled_from((*TurnState, *ENDS, *ENDS)),
        release=st.booleans(),
    )
    def settle(
        self,
        session_id: str,
        owner: int,
        ago: int | None,
        number: int,
        state: TurnState,
        release: bool,
    ) -> None:
        pair = self.pair(session_id, owner, ago)
        settlement = self.a_settlement(self.a_turn(session_id, number), state)
        self.both(
            lambda side: side.stores["two"].settle_turn(
                self.fence(side, pair), settlement, release=release
            )
        )

    @rule(
        session_id=session_ids,
        turn_id=turn_ids,
        number=st.none() | st.integers(0, 2),
        reason=st.none() | st.just("wrong city \U0001f9ed"),
    )
    def request_cancel(
        self, session_id: str, turn_id: str, number: int | None, reason: str | None
    ) -> None:
        asked = turn_id if number is None else self.a_turn(session_id, number)
        self.both(
            lambda side: side.stores["two"].request_turn_cancel(
                session_id, asked, reason=reason, origin="a test"
            )
        )

    @rule(
        session_id=session_ids,
        owner=owner_numbers,
        ago=current_or_recent,
        foreign=rarely,
        behind=st.sampled_from((0, 0, None, 0, 0, 1, 0)),
        graph=deltas,
        held=components,
        carried=st.sampled_from((None, None, 0, 1)),
        spent=usage,
        stamp=st.none() | st.tuples(turn_ids, st.sampled_from(("c1", "c1", "c2"))),
        settled=st.none() | st.tuples(st.integers(0, 2), st.sampled_from(ENDS)),
        attachments=st.lists(st.sampled_from(ATTACHMENTS), max_size=2),
        turn_index=st.integers(0, 3),
        release=st.booleans(),
    )
    def commit(
        self,
        session_id: str,
        owner: int,
        ago: int | None,
        foreign: bool,
        behind: int | None,
        graph: GraphCommitDelta,
        held: dict[str, Any],
        carried: int | None,
        spent: tuple[TokenLedgerEntry, ...],
        stamp: tuple[str, str] | None,
        settled: tuple[int, TurnState] | None,
        attachments: list[str],
        turn_index: int,
        release: bool,
    ) -> None:
        pair = self.pair(session_id, owner, ago)
        session_id = pair.memory.session_id
        store_of = SESSIONS[1 - SESSIONS.index(session_id)] if foreign else session_id
        settlement = None
        if settled is not None and self.unfinished[session_id]:
            settlement = self.a_settlement(self.a_turn(session_id, settled[0]), settled[1])
        checkpoint = HydratedSessionCheckpoint(
            turn_state=PersistedTurnState(turn_index=turn_index), **held
        )
        if carried is not None and self.execution_refs:
            ref = self.execution_refs[max(-1 - carried, -len(self.execution_refs))]
            checkpoint = replace(checkpoint, execution_state=None, execution_state_ref=ref)

        def call(side: Side) -> Awaitable[Any]:
            fence = self.fence(side, pair)
            return side.stores[store_of].commit_runtime_state(
                RuntimeCommit(
                    session_id=session_id,
                    expected_head_revision=(
                        None if behind is None else self.revisions[session_id] - behind
                    ),
                    session_execution_lease=fence,
                    config=PersistedSessionConfig(provider_id="scripted"),
                    agent_frames=(),
                    current_agent_frame_id="",
                    graph=graph,
                    checkpoint=checkpoint,
                    usage_deltas=spent,
                    turn_commit=None
                    if stamp is None
                    else RuntimeTurnCommitStamp(
                        session_id=session_id, turn_id=stamp[0], turn_commit_hash=stamp[1]
                    ),
                    turn_settlement=settlement,
                    committed_attachment_ids=tuple(attachments),
                    release_session_execution_lease=fence if release else None,
                )
            )

        result, _ = self.both(call)
        if isinstance(result, RuntimeCommitResult) and result.manifest.execution_state_ref:
            self.execution_refs.append(result.manifest.execution_state_ref)

    @rule(
        session_id=session_ids,
        attachment_id=st.sampled_from(ATTACHMENTS),
        what=st.sampled_from(("intend", "intend", "keep", "forget")),
    )
    def keep_track_of_an_attachment(self, session_id: str, attachment_id: str, what: str) -> None:
        intent = AttachmentIntent(
            attachment_id=attachment_id,
            session_id=session_id,
            canonical_uri=f"sha256:{attachment_id}",
            intent_at_epoch_ms=self.clock.timestamp_ms(),
        )

        def call(side: Side) -> Awaitable[Any]:
            store = side.stores[session_id]
            if what == "intend":
                return store.record_intent(intent)
            if what == "keep":
                return store.commit_refs(session_id, (attachment_id,))
            return store.forget(attachment_id)

        self.both(call)

    @rule(
        session_id=session_ids,
        node_ids=st.lists(st.sampled_from(NODE_IDS), max_size=2),
        vacuum=st.booleans(),
    )
    def tidy(self, session_id: str, node_ids: list[str], vacuum: bool) -> None:
        async def call(side: Side) -> Any:
            store: Any = side.stores[session_id]
            await store.tombstone_nodes(node_ids)
            await store.gc_unreachable()  # what it counts is the store's own affair
            return await store.vacuum() if vacuum else None

        self.both(call)

    @rule(session_id=session_ids, name=st.sampled_from(("", "Oslo \U0001f9ed")))
    def rename(self, session_id: str, name: str) -> None:
        meta = SessionMeta(session_id=session_id, session_name=name, created_at=TIMESTAMP)
        self.both(lambda side: side.stores[session_id].save_session_meta(meta))

    @rule(
        data=st.sampled_from((b"", b"one", b"two")),
        label=st.none() | st.just("label"),
        delete=st.booleans(),
    )
    def attach(self, data: bytes, label: str | None, delete: bool) -> None:
        meta = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG), label=label)
        ref, _ = self.both(lambda side: side.storage.attachments.put(data, meta))
        if delete:
            self.both(lambda side: side.storage.attachments.delete(ref.id))
        self.both(lambda side: side.storage.attachments.get(ref.id))

    @rule(
        env_ref=st.sampled_from(("one", "two")),
        content=st.sampled_from((b"", b"one", b"x" * 5_000)),
    )
    def keep_an_environment(self, env_ref: str, content: bytes) -> None:
        async def call(side: Side) -> Any:
            envs = side.storage.process_env_store
            before = await envs.get_process_execution_env(env_ref)
            await envs.put_process_execution_env(env_ref, content)
            return before

        self.both(call)

    @invariant()
    def sessions_look_the_same(self) -> None:
        if not self.sqlite.stores:
            return
        for session_id in SESSIONS:
            (read, unfinished), _ = self.both(lambda side, s=session_id: self.glance(side, s))
            self.revisions[session_id] = read.head_revision if read else 0
            self.unfinished[session_id] = [row.turn_id for row in unfinished]

    async def glance(self, side: Side, session_id: str) -> list[Any]:
        store = side.stores[session_id]
        return [
            await store.load_session(FullGraph()),
            await store.list_unfinished_turns(session_id),
        ]

    async def all_of(self, side: Side, session_id: str) -> list[Any]:
        store = side.stores[session_id]
        return [
            await store.load_head_stamp(),
            await the_meta(store),
            [await store.load_node(node_id) for node_id in NODE_IDS],
            [await store.load_turn(session_id, turn_id) for turn_id in TURN_IDS],
            await store.list_uncommitted(self.clock.timestamp_ms() - 1_000),
            await store.list_uncommitted(self.clock.timestamp_ms()),
        ]

    def a_turn(self, session_id: str, number: int) -> str:
        """An unfinished turn of the session while it has one; else one of the known ids."""
        unfinished = self.unfinished[session_id]
        return unfinished[number % len(unfinished)] if unfinished else TURN_IDS[number]

    def a_settlement(self, turn_id: str, state: TurnState) -> TurnSettlement:
        if state is TurnState.FAILED:
            failure = TurnFailure(code="llm_provider", message="gone")
            return TurnSettlement(turn_id=turn_id, state=state, failure=failure)
        reason = StopReason.CANCELLED if turn_id in CANCELLED else StopReason.INTERRUPTED
        result = TurnResultRecord(outcome=stopped(reason), message_ids=("m-n1",))
        return TurnSettlement(turn_id=turn_id, state=state, result=result)


class SmallCallsAgreement(Agreement):
    """The same, while one of the two accepts its turns by small calls."""

    shortest_acceptance_ms = 1
    """A lease that is over as soon as it begins cannot carry a second call."""

    def a_memory_storage(self) -> Storage:
        return SmallCallStorage(MemoryStorage())  # type: ignore[return-value]


TestAgreement = Agreement.TestCase
TestAgreement.settings = HISTORIES
TestSmallCallsAgreement = SmallCallsAgreement.TestCase
TestSmallCallsAgreement.settings = HISTORIES
