"""Inputs whose turn is over: which of them go to the next turn, and which never do."""

from dataclasses import replace

from ...kernel.queue_rules import ORPHAN_GRACE_MS
from ...model.turn_input import TurnInput
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired
from ...ports.turn_inputs import (
    InputAlreadyCancelled,
    InputAlreadyCompleted,
    NextTurnIngress,
    TurnInputCheckpointBoundary,
    TurnInputState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import BOB, TTL_MS, a_commit, a_store, hold
from ._waiting_samples import (
    claimed_inputs,
    for_next_turn,
    for_turn,
    forged,
    ids,
    next_inputs,
    pending_inputs,
    steering,
    submitted,
)

ONLY_AT_THE_END = TurnInputCheckpointBoundary.BEFORE_COMPLETION


class TurnInputDeferralConformance(StorageCase):
    """What was meant for a turn that is over goes to the next one; nothing is lost or doubled."""

    async def test_a_commit_defers_what_its_turn_did_not_take(self, storage: Storage) -> None:
        """In its old place, and the next turn finds it."""
        store = await a_store(storage)
        lease = await hold(store)
        steer, following = await submitted(store, for_turn("t1"), for_next_turn())
        await store.commit_runtime_state(
            a_commit(lease.fence(), interrupted_turn_input_turn_id="t1")
        )
        row, _ = await store.list_pending_turn_inputs("s")
        assert row.input_id == steer
        assert (row.state, row.ingress) == (TurnInputState.DEFERRED_NEXT_TURN, NextTurnIngress())
        assert await steering(store, lease) is None
        assert ids(await next_inputs(store, lease)) == [steer, following]

    async def test_a_commit_defers_for_its_own_turn_alone(self, storage: Storage) -> None:
        """Not for other turns, nor for frames that continue it; nor in other sessions."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_turn("t2"), for_turn("t1:agent-frame:1"))
        await submitted(store, for_turn("t1", session_id="other"))
        before = list(await store.list_pending_turn_inputs("s"))
        theirs = list(await store.list_pending_turn_inputs("other"))
        await store.commit_runtime_state(
            a_commit(lease.fence(), interrupted_turn_input_turn_id="t1")
        )
        assert list(await store.list_pending_turn_inputs("s")) == before
        assert list(await store.list_pending_turn_inputs("other")) == theirs

    async def test_what_the_turn_accepted_is_answered_and_not_deferred(
        self, storage: Storage
    ) -> None:
        """The model has seen it; sent again it would be said twice."""
        store = await a_store(storage)
        lease = await hold(store)
        accepted, late = await submitted(store, for_turn("t1"), for_turn("t1"))
        claim = await steering(store, lease, most=1)
        assert claim is not None
        await store.commit_runtime_state(
            a_commit(
                lease.fence(),
                completed_turn_input_claims=(claim.completion(),),
                interrupted_turn_input_turn_id="t1",
            )
        )
        assert await pending_inputs(store) == [late]
        outcome = await store.cancel_pending_turn_input("s", accepted)
        assert isinstance(outcome, InputAlreadyCompleted)

    async def test_deferral_leaves_alone_what_is_not_pending(self, storage: Storage) -> None:
        """Cancelled stays cancelled, and an accepted input whose claim stands stays claimed."""
        store = await a_store(storage)
        lease = await hold(store)
        held, gone = await submitted(store, for_turn("t1"), for_turn("t1"))
        claim = await steering(store, lease, most=1)
        assert ids(claim) == [held]
        await store.cancel_pending_turn_input("s", gone)
        await store.commit_runtime_state(
            a_commit(lease.fence(), interrupted_turn_input_turn_id="t1")
        )
        assert await pending_inputs(store) == []
        outcome = await store.cancel_pending_turn_input("s", gone)
        assert isinstance(outcome, InputAlreadyCancelled)
        assert claim is not None
        await store.renew_turn_input_claim(claim, TTL_MS)

    async def test_a_refused_commit_defers_nothing(self, storage: Storage) -> None:
        """It wrote nothing at all."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_turn("t1"))
        before = list(await store.list_pending_turn_inputs("s"))
        await raised_by(
            store.commit_runtime_state(
                a_commit(forged(lease)[0], interrupted_turn_input_turn_id="t1")
            ),
            SessionExecutionLeaseExpired,
        )
        assert list(await store.list_pending_turn_inputs("s")) == before

    async def test_a_deferred_input_keeps_what_was_said(self, storage: Storage) -> None:
        """Its words and its number; only where it goes has changed."""
        store = await a_store(storage)
        lease = await hold(store)
        said = TurnInput.of("one", "two").with_turn_id("trace")
        await submitted(store, for_turn("t1", said=said, key="k"))
        (before,) = await store.list_pending_turn_inputs("s")
        await store.commit_runtime_state(
            a_commit(lease.fence(), interrupted_turn_input_turn_id="t1")
        )
        (after,) = await store.list_pending_turn_inputs("s")
        assert after == replace(
            before, state=TurnInputState.DEFERRED_NEXT_TURN, ingress=NextTurnIngress()
        )

    async def test_orphans_go_to_the_next_turn(self, storage: Storage, clock: ManualClock) -> None:
        """What a dead turn accepted, and what waits too long for one that never came."""
        store = await a_store(storage)
        lease = await hold(store)
        accepted, forgotten, following = await submitted(
            store, for_turn("t1"), for_turn("t2"), for_next_turn()
        )
        await steering(store, lease)
        clock.advance(ORPHAN_GRACE_MS / 1000)
        lease = await hold(store, owner=BOB)
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 2
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 0
        rows = await store.list_pending_turn_inputs("s")
        assert {row.state for row in rows} == {TurnInputState.DEFERRED_NEXT_TURN}
        assert {row.ingress for row in rows} == {NextTurnIngress()}
        claim = await claimed_inputs(store, lease)
        assert ids(claim) == [accepted, forgotten, following]

    async def test_what_a_living_turn_accepted_is_no_orphan(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """However long ago: its lease lives."""
        store = await a_store(storage)
        lease = await hold(store, ttl_ms=10 * ORPHAN_GRACE_MS)
        await submitted(store, for_turn("t1"))
        claim = await steering(store, lease, ttl_ms=1)
        clock.advance(2 * ORPHAN_GRACE_MS / 1000)
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 0
        assert claim is not None
        await store.renew_turn_input_claim(claim, TTL_MS)

    async def test_a_young_input_may_wait_for_its_turn(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A host may speak to a turn that it is about to start; one lease's time is granted."""
        store = await a_store(storage)
        (name,) = await submitted(store, for_turn("t1"))
        clock.advance((ORPHAN_GRACE_MS - 1) / 1000)
        lease = await hold(store)
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 0
        clock.advance(0.001)
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 1
        assert await pending_inputs(store) == [name]

    async def test_a_turn_that_goes_on_keeps_its_inputs(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """So do the frames that continue it; a turn that is merely called alike does not."""
        store = await a_store(storage)
        lease = await hold(store)
        mine, frame, alike, accepted = await submitted(
            store,
            for_turn("t1"),
            for_turn("t1:agent-frame:2"),
            for_turn("t10"),
            for_turn("t1", boundary=ONLY_AT_THE_END),
        )
        claim = await steering(store, lease, most=1)
        assert ids(claim) == [mine]
        clock.advance(ORPHAN_GRACE_MS / 1000)
        lease = await hold(store, owner=BOB)
        count = await store.defer_orphaned_active_turn_inputs("s", lease.fence(), "t1")
        assert count == 1
        assert ids(await next_inputs(store, lease)) == [alike]
        assert await pending_inputs(store) == [frame, accepted]

    async def test_orphans_are_looked_for_in_one_session(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The fence is that of the session; others have their own drains."""
        store = await a_store(storage)
        await submitted(store, for_turn("t1", session_id="other"))
        before = list(await store.list_pending_turn_inputs("other"))
        clock.advance(ORPHAN_GRACE_MS / 1000)
        lease = await hold(store)
        assert await store.defer_orphaned_active_turn_inputs("s", lease.fence()) == 0
        assert list(await store.list_pending_turn_inputs("other")) == before
