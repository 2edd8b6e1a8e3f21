"""The one atomic write: what it checks, in which order, and that it happens whole or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Final

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...model.frames import AgentFrameAssignment, AgentFrameRecord, FrameStatus
from ...model.policy import ModelSpec
from ...model.session_meta import PersistedSessionConfig
from ...ports.attachments import AttachmentIntent
from ...ports.claims import QueuedWorkCompletion, TurnInputCompletion
from ...ports.commit import RuntimeCommit
from ...ports.leases import LeaseAcquired, SessionExecutionLeaseFence
from ...ports.storage import Storage
from ...ports.store_errors import (
    HeadRevisionConflict,
    QueuedWorkClaimExpired,
    RuntimeTurnCommitConflict,
    SessionBindingMismatch,
    SessionExecutionLeaseExpired,
    StoreBackendError,
    StoreError,
    TurnInputClaimExpired,
)
from ...ports.turn_ledger import TurnState
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
    FAR_FUTURE_MS,
    TIMESTAMP,
    TTL_MS,
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    append,
    as_committed,
    everything,
    first,
    hold,
    spent,
)
from .graphs import a_read

GONE: Final = "a token that nobody holds"

Spoil = Callable[[RuntimeCommit], RuntimeCommit]
"""Makes one thing wrong with a commit."""


def _other_session(commit: RuntimeCommit) -> RuntimeCommit:
    return replace(commit, session_id="other")


def _other_content(commit: RuntimeCommit) -> RuntimeCommit:
    return replace(commit, turn_commit=a_stamp("t1", "other content"))


def _no_lease(commit: RuntimeCommit) -> RuntimeCommit:
    return replace(commit, session_execution_lease=None)


def _old_revision(commit: RuntimeCommit) -> RuntimeCommit:
    return replace(commit, expected_head_revision=41)


def _lost_queue_claim(commit: RuntimeCommit) -> RuntimeCommit:
    claim = QueuedWorkCompletion(
        session_id="s",
        claim_id="qwc:1",
        lease_token=GONE,
        batch_ids=("b1",),
    )
    return replace(commit, completed_queue_claims=(claim,))


def _lost_input_claim(commit: RuntimeCommit) -> RuntimeCommit:
    claim = TurnInputCompletion(
        session_id="s",
        claim_id="tic:1",
        lease_token=GONE,
        input_ids=("i1",),
    )
    return replace(commit, completed_turn_input_claims=(claim,))


CHECKS: Final[Mapping[type[StoreError], Spoil]] = {
    SessionBindingMismatch: _other_session,
    RuntimeTurnCommitConflict: _other_content,
    SessionExecutionLeaseExpired: _no_lease,
    HeadRevisionConflict: _old_revision,
    QueuedWorkClaimExpired: _lost_queue_claim,
    TurnInputClaimExpired: _lost_input_claim,
}
"""What a commit is checked for, in the order that decides which error wins."""


async def _stamped(store: TurnPersistence) -> SessionExecutionLeaseFence:
    """A session of one stamped commit, whose lane is still held."""
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(
        a_commit(fence, graph=first(*a_chain("a", "b")), turn_commit=a_stamp())
    )
    return fence


class CommitOrderConformance(StorageCase):
    """Which error wins is part of the contract: callers react to each in another way."""

    async def test_each_check_refuses_a_commit_alone(self, storage: Storage) -> None:
        """Every violation is found, and leaves all as it was."""
        store = await a_store(storage)
        fence = await _stamped(store)
        before = await everything(store)
        for error, spoil in CHECKS.items():
            commit = spoil(a_commit(fence, graph=append(a_node("c", "b"))))
            await raised_by(store.commit_runtime_state(commit), error)
            assert await everything(store) == before, error

    async def test_of_two_violations_the_earlier_check_answers(self, storage: Storage) -> None:
        """Binding, stamp, lease, revision, queue claims, input claims: each before the next."""
        store = await a_store(storage)
        fence = await _stamped(store)
        before = await everything(store)
        for (earlier, spoil_first), (_, spoil_second) in combinations(CHECKS.items(), 2):
            commit = spoil_second(spoil_first(a_commit(fence, graph=append(a_node("c", "b")))))
            await raised_by(store.commit_runtime_state(commit), earlier)
        assert await everything(store) == before

    async def test_a_refused_first_commit_leaves_no_head(self, storage: Storage) -> None:
        """A session that was never committed stays that way."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        for spoil in (_other_session, _no_lease, _old_revision, _lost_queue_claim):
            await raised_by(store.commit_runtime_state(spoil(a_commit(fence))), _error_of(spoil))
        assert await store.load_head_stamp() is None

    async def test_a_repeated_stamp_is_asked_no_other_question(self, storage: Storage) -> None:
        """A turn that did commit must not be refused because its lease or claims are over."""
        store = await a_store(storage)
        await _stamped(store)
        before = await everything(store)
        commit = a_commit(None, graph=append(a_node("c", "b")), turn_commit=a_stamp())
        for spoil in (_old_revision, _lost_queue_claim, _lost_input_claim):
            commit = spoil(commit)
        assert (await store.commit_runtime_state(commit)).replayed
        assert await everything(store) == before


def _error_of(spoil: Spoil) -> type[StoreError]:
    return next(error for error, known in CHECKS.items() if known is spoil)


class CommitConformance(StorageCase):
    """Everything in a commit moves together."""

    async def test_each_commit_raises_the_revision_by_one(self, storage: Storage) -> None:
        """The first is 1, and the answer, the head and the stamp say the same."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        for revision in (1, 2, 3):
            result = await store.commit_runtime_state(a_commit(fence))
            stamp = await store.load_head_stamp()
            assert stamp == (await a_read(store)).stamp()
            assert (result.head_revision, stamp.head_revision) == (revision, revision)
            assert stamp.checkpoint_ref == result.checkpoint_ref
            assert not result.replayed

    async def test_a_wrong_revision_is_refused_with_the_actual_one(self, storage: Storage) -> None:
        """Without a head the actual revision is 0; the right one passes; `None` never asks."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        error = await raised_by(
            store.commit_runtime_state(a_commit(fence, expected_head_revision=1)),
            HeadRevisionConflict,
        )
        assert (error.expected, error.actual) == (1, 0)
        await store.commit_runtime_state(a_commit(fence, expected_head_revision=0))
        error = await raised_by(
            store.commit_runtime_state(a_commit(fence, expected_head_revision=0)),
            HeadRevisionConflict,
        )
        assert (error.expected, error.actual) == (0, 1)
        await store.commit_runtime_state(a_commit(fence, expected_head_revision=1))
        result = await store.commit_runtime_state(a_commit(fence))
        assert result.head_revision == 3

    async def test_only_the_live_lease_backs_a_commit(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """None, a forged token, another owner, a stale counter, another session, a lapsed one."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        elsewhere = (await hold(store, "other")).fence()
        wrong = (
            None,
            replace(fence, lease_token="forged"),  # noqa: S106
            replace(fence, owner=BOB),
            replace(fence, fencing_token=fence.fencing_token + 1),
            replace(fence, session_id="other"),
            elsewhere,
        )
        for forged in wrong:
            await raised_by(
                store.commit_runtime_state(a_commit(forged)), SessionExecutionLeaseExpired
            )
        clock.advance(TTL_MS / 1000)
        await raised_by(store.commit_runtime_state(a_commit(fence)), SessionExecutionLeaseExpired)
        assert await store.load_head_stamp() is None

    async def test_a_fenced_out_writer_cannot_commit(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """An owner that slept through its lease wakes up to a new holder and writes nothing."""
        store = await a_store(storage)
        sleeper = (await hold(store)).fence()
        clock.advance(TTL_MS / 1000)
        holder = (await hold(store, owner=BOB)).fence()
        await raised_by(store.commit_runtime_state(a_commit(sleeper)), SessionExecutionLeaseExpired)
        assert (await store.commit_runtime_state(a_commit(holder))).head_revision == 1

    async def test_a_commit_may_give_the_lane_back(self, storage: Storage) -> None:
        """The release is part of the transaction: the next owner need not wait."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, release_session_execution_lease=fence))
        outcome = await store.try_claim_session_execution_lease("s", BOB, TTL_MS)
        assert isinstance(outcome, LeaseAcquired)

    async def test_a_release_that_does_not_match_does_not_fail_a_commit(
        self, storage: Storage
    ) -> None:
        """The commit stands, and the lane stays with its holder."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        stale = replace(fence, fencing_token=fence.fencing_token - 1)
        await store.commit_runtime_state(a_commit(fence, release_session_execution_lease=stale))
        assert (await store.commit_runtime_state(a_commit(fence))).head_revision == 2

    async def test_a_repeated_stamp_answers_the_stored_result(self, storage: Storage) -> None:
        """Also after later commits: what the turn's own commit answered, marked as replayed."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        commit = a_commit(fence, graph=first(*a_chain("a")), turn_commit=a_stamp())
        result = await store.commit_runtime_state(commit)
        await store.commit_runtime_state(a_commit(fence, graph=append(a_node("b", "a"))))
        before = await everything(store)
        replay = await store.commit_runtime_state(commit)
        assert replay == replace(result, replayed=True)
        assert await everything(store) == before

    async def test_a_replay_still_gives_the_lane_back(self, storage: Storage) -> None:
        """The release is the one thing that a repeated stamp writes."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        commit = a_commit(fence, turn_commit=a_stamp(), release_session_execution_lease=fence)
        await store.commit_runtime_state(replace(commit, release_session_execution_lease=None))
        assert (await store.commit_runtime_state(commit)).replayed
        await hold(store, owner=BOB)

    async def test_a_stamp_with_other_content_conflicts(self, storage: Storage) -> None:
        """One turn has one content; the stamp of another session is as wrong."""
        store = await a_store(storage)
        fence = await _stamped(store)
        for stamp in (a_stamp("t1", "other"), a_stamp("t2", session_id="other")):
            error = await raised_by(
                store.commit_runtime_state(a_commit(fence, turn_commit=stamp)),
                RuntimeTurnCommitConflict,
            )
            assert error.turn_id == stamp.turn_id

    async def test_usage_adds_up_by_source_and_model(self, storage: Storage) -> None:
        """First-seen order, one entry each, and none that stands for no tokens."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        deltas = (
            (spent("turn", "m1", 5), spent("child", "m1", 3)),
            (spent("turn", "m1", 2), spent("turn", "m2", 1), spent("idle", "m1", 0)),
            (),
        )
        for delta in deltas:
            await store.commit_runtime_state(a_commit(fence, usage_deltas=delta))
        assert (await a_read(store)).token_ledger == (
            spent("turn", "m1", 7),
            spent("child", "m1", 3),
            spent("turn", "m2", 1),
        )

    async def test_configuration_and_frames_come_back_as_committed(self, storage: Storage) -> None:
        """The head holds the last of each, whatever words a frame gives as its reason."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        config = PersistedSessionConfig(
            provider_id="scripted", model=ModelSpec(id="gpt-5.4", variant="high")
        )
        frames = tuple(
            AgentFrameRecord(
                frame_id=f"f{at}",
                session_id="s",
                previous_frame_id=f"f{at - 1}" if at else None,
                status=FrameStatus.ACTIVE if at else FrameStatus.SUPERSEDED,
                reason="because of a whim",
                created_at=TIMESTAMP,
                assignment=AgentFrameAssignment(plugin_options={"depth": at}),
            )
            for at in (0, 1)
        )
        await store.commit_runtime_state(a_commit(fence))
        await store.commit_runtime_state(
            a_commit(fence, config=config, agent_frames=frames, current_agent_frame_id="f1")
        )
        read = await a_read(store)
        assert (read.session_id, read.config) == ("s", config)
        assert (read.agent_frames, read.current_agent_frame_id) == (frames, "f1")

    async def test_a_turn_is_settled_by_its_commit(self, storage: Storage) -> None:
        """History and row say the same at every instant."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        settlement = as_committed()
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), turn_settlement=settlement, turn_commit=a_stamp())
        )
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.result) == (TurnState.COMMITTED, settlement.result)
        assert list(await store.list_unfinished_turns("s")) == []

    async def test_a_refused_commit_does_not_settle_its_turn(self, storage: Storage) -> None:
        """The row stays as it was when the history was not written."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        before = await everything(store, "s", "t1")
        await raised_by(
            store.commit_runtime_state(
                a_commit(
                    turn.lease.fence(), expected_head_revision=9, turn_settlement=as_committed()
                )
            ),
            HeadRevisionConflict,
        )
        assert await everything(store, "s", "t1") == before

    async def test_a_commit_that_cannot_settle_its_turn_writes_nothing(
        self, storage: Storage
    ) -> None:
        """Neither a turn that nobody accepted nor one that is over can be settled."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        await store.commit_runtime_state(a_commit(fence, turn_settlement=as_committed()))
        before = await everything(store, "s", "t1")
        for settlement in (as_committed("nobody"), as_committed("t1")):
            commit = a_commit(fence, graph=append(a_node("n2", "n1")), turn_settlement=settlement)
            await raised_by(store.commit_runtime_state(commit), StoreBackendError)
            assert await everything(store, "s", "t1") == before

    @pytest.mark.usefixtures("needs_manifest")
    async def test_a_commit_stamps_the_attachments_it_names(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Unknown ids are ignored; a refused commit stamps nothing."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        for name in ("a", "b"):
            await store.record_intent(
                AttachmentIntent(
                    attachment_id=name,
                    session_id="s",
                    canonical_uri=f"sha256:{name}",
                    intent_at_epoch_ms=clock.timestamp_ms(),
                )
            )
        named = ("a", "unknown")
        await raised_by(
            store.commit_runtime_state(a_commit(None, committed_attachment_ids=named)),
            SessionExecutionLeaseExpired,
        )
        assert len(await store.list_uncommitted(FAR_FUTURE_MS)) == 2
        await store.commit_runtime_state(a_commit(fence, committed_attachment_ids=named))
        waiting = await store.list_uncommitted(FAR_FUTURE_MS)
        assert [entry.attachment_id for entry in waiting] == ["b"]

    async def test_a_cancelled_commit_happened_or_did_not(self, storage: Storage) -> None:
        """However far it had come: its outcome is settled when the caller goes on, and whole."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(a_node("n0"))))
        for steps in range(10):
            before = await a_read(store)
            node = a_node(f"n{steps + 1}", before.leaf_node_id)
            async with anyio.create_task_group() as commits:
                commits.start_soon(store.commit_runtime_state, a_commit(fence, graph=append(node)))
                for _ in range(steps):
                    await checkpoint()
                commits.cancel_scope.cancel()
            after = await a_read(store)
            assert (after.head_revision, after.leaf_node_id, after.nodes) in (
                (before.head_revision, before.leaf_node_id, before.nodes),
                (before.head_revision + 1, node.node_id, (*before.nodes, node)),
            )
            result = await store.commit_runtime_state(a_commit(fence, graph=append(node)))
            assert result.head_revision == after.head_revision + 1
