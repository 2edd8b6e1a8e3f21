"""What a claim takes of the inputs: those meant for its turn, oldest first."""

from dataclasses import replace

import anyio

from ...model.checkpoints import CheckpointKind
from ...ports.leases import SessionExecutionLeaseFence
from ...ports.persistence import RuntimePersistence
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired
from ...ports.turn_inputs import (
    ActiveTurnClaim,
    NextTurnClaim,
    TurnInputCheckpointBoundary,
    TurnInputClaim,
    TurnInputState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import ALICE, BOB, TTL_MS, a_commit, a_store, hold
from ._waiting_samples import (
    MANY,
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

AFTER_WORK = CheckpointKind.AFTER_WORK
BEFORE_COMPLETION = CheckpointKind.BEFORE_COMPLETION
ONLY_AT_THE_END = TurnInputCheckpointBoundary.BEFORE_COMPLETION


class TurnInputSelectionConformance(StorageCase):
    """A claim takes what is meant for that turn, oldest first, and passes over the rest."""

    async def test_nothing_waits_and_no_input_is_claimed(self, storage: Storage) -> None:
        """That is no error, for any of the claims."""
        store = await a_store(storage)
        lease = await hold(store)
        assert await next_inputs(store, lease) is None
        assert await steering(store, lease) is None
        assert await store.claim_turn_input("s", lease.fence(), "never") is None

    async def test_an_input_claim_says_what_it_took_and_for_whom(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The claimant need not be the holder of the lane; the fence alone is checked."""
        store = await a_store(storage)
        lease = await hold(store, owner=ALICE)
        fence = lease.fence()
        await submitted(store, for_next_turn(), for_turn("t1"))
        waiting, steer = await store.list_pending_turn_inputs("s")
        following = await store.claim_next_turn_inputs("s", fence, BOB, 1_000, MANY)
        active = await store.claim_active_turn_inputs(
            "s", fence, BOB, "t1", AFTER_WORK, 1_000, MANY
        )
        now_ms = clock.timestamp_ms()
        for claim, mode, row in (
            (following, NextTurnClaim(), waiting),
            (
                active,
                ActiveTurnClaim(turn_id="t1", checkpoint=AFTER_WORK),
                replace(steer, state=TurnInputState.ACCEPTED),
            ),
        ):
            assert claim is not None
            assert claim == TurnInputClaim(
                session_id="s",
                claim_id=claim.claim_id,
                owner=BOB,
                lease_token=claim.lease_token,
                fencing_token=1,
                claimed_at_epoch_ms=now_ms,
                expires_at_epoch_ms=now_ms + 1_000,
                mode=mode,
                inputs=(row,),
            )
            assert claim.lease_token
        assert following is not None
        assert active is not None
        assert following.claim_id != active.claim_id

    async def test_claiming_inputs_needs_the_live_lease(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A forged fence takes and moves nothing, nor does a true one whose lease is over."""
        store = await a_store(storage)
        names = await submitted(store, for_next_turn(), for_turn("t1"))
        lease = await hold(store)

        async def all_are_refused(fence: SessionExecutionLeaseFence) -> None:
            lost = SessionExecutionLeaseExpired
            at = AFTER_WORK
            await raised_by(store.claim_next_turn_inputs("s", fence, ALICE, TTL_MS, 1), lost)
            await raised_by(
                store.claim_active_turn_inputs("s", fence, ALICE, "t1", at, TTL_MS, 1), lost
            )
            await raised_by(store.claim_turn_input("s", fence, names[0]), lost)
            await raised_by(store.defer_orphaned_active_turn_inputs("s", fence), lost)

        for fence in forged(lease):
            await all_are_refused(fence)
        clock.advance(TTL_MS / 1000)
        await all_are_refused(lease.fence())
        await hold(store, owner=BOB)
        await all_are_refused(lease.fence())
        assert await pending_inputs(store) == names

    async def test_a_claim_of_no_inputs_checks_nothing(self, storage: Storage) -> None:
        """Asking for none answers with none, lease or not."""
        store = await a_store(storage)
        await submitted(store, for_next_turn(), for_turn("t1"))
        fence = forged(await hold(store))[0]
        assert await store.claim_next_turn_inputs("s", fence, ALICE, TTL_MS, 0) is None
        assert (
            await store.claim_active_turn_inputs("s", fence, ALICE, "t1", AFTER_WORK, TTL_MS, 0)
            is None
        )

    async def test_the_next_turn_takes_the_oldest_of_its_inputs(self, storage: Storage) -> None:
        """Up to the maximum, in order, and without a change of their state."""
        store = await a_store(storage)
        lease = await hold(store)
        names = await submitted(store, *(for_next_turn(f"words {at}") for at in range(5)))
        claim = await claimed_inputs(store, lease, most=3)
        assert ids(claim) == names[:3]
        assert {row.state for row in claim.inputs} == {TurnInputState.DEFERRED_NEXT_TURN}
        assert await pending_inputs(store) == names[3:]
        assert ids(await next_inputs(store, lease, most=3)) == names[3:]
        assert await next_inputs(store, lease, most=3) is None

    async def test_a_turn_takes_what_steers_it(self, storage: Storage) -> None:
        """Its own inputs alone, oldest first up to the maximum, and they count as accepted."""
        store = await a_store(storage)
        lease = await hold(store)
        one, _, _, two, three = await submitted(
            store,
            for_turn("t1"),
            for_turn("t2"),
            for_next_turn(),
            for_turn("t1"),
            for_turn("t1"),
        )
        claim = await steering(store, lease, most=2)
        assert claim is not None
        assert ids(claim) == [one, two]
        assert {row.state for row in claim.inputs} == {TurnInputState.ACCEPTED}
        assert ids(await steering(store, lease)) == [three]
        assert len(await pending_inputs(store)) == 2

    async def test_turn_ids_are_compared_whole(self, storage: Storage) -> None:
        """A turn whose id begins like another's, or looks like a pattern, gets nothing of it."""
        store = await a_store(storage)
        lease = await hold(store)
        names = await submitted(
            store, for_turn("t1:agent-frame:1"), for_turn("T1"), for_turn("t1 "), for_turn("%")
        )
        for turn_id in ("t1", "t_", "t%", ""):
            assert await steering(store, lease, turn_id=turn_id) is None
        assert ids(await steering(store, lease, turn_id="%")) == names[3:]

    async def test_a_boundary_decides_at_which_checkpoint_an_input_joins(
        self, storage: Storage
    ) -> None:
        """Some may come after any work, some only when the turn is about to end."""
        store = await a_store(storage)
        lease = await hold(store)
        late, early = await submitted(store, for_turn(boundary=ONLY_AT_THE_END), for_turn())
        assert ids(await steering(store, lease, AFTER_WORK)) == [early]
        assert await steering(store, lease, AFTER_WORK) is None
        (again,) = await submitted(store, for_turn())
        assert ids(await steering(store, lease, BEFORE_COMPLETION)) == [late, again]

    async def test_leftovers_of_other_turns_hide_nothing(self, storage: Storage) -> None:
        """However many there are in front."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, *(for_turn(f"old{at}") for at in range(2 * MANY)))
        names = await submitted(store, for_turn("t1"), for_next_turn())
        assert ids(await steering(store, lease, most=1)) == names[:1]
        assert ids(await next_inputs(store, lease, most=1)) == names[1:]

    async def test_one_input_can_be_claimed_by_its_id(self, storage: Storage) -> None:
        """Wherever it stands; the claim is the lease's own, and lasts as long."""
        store = await a_store(storage)
        lease = await hold(store)
        first, wanted, last = await submitted(
            store, for_next_turn(), for_next_turn(), for_next_turn()
        )
        claim = await store.claim_turn_input("s", lease.fence(), wanted)
        assert claim is not None
        assert ids(claim) == [wanted]
        assert (claim.owner, claim.mode) == (lease.owner, NextTurnClaim())
        assert claim.expires_at_epoch_ms == lease.expires_at_epoch_ms
        assert await pending_inputs(store) == [first, last]
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(claim.completion(),))
        )

    async def test_only_a_deferred_input_is_claimed_by_its_id(self, storage: Storage) -> None:
        """Not one that steers a turn, is held, is over, or belongs to another session."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(
            store,
            for_next_turn(input_id="held"),
            for_turn(input_id="steers"),
            for_next_turn(input_id="gone"),
            for_next_turn(input_id="theirs", session_id="other"),
        )
        await claimed_inputs(store, lease, most=1)
        await store.cancel_pending_turn_input("s", "gone")
        for name in ("held", "steers", "gone", "theirs", "never"):
            assert await store.claim_turn_input("s", lease.fence(), name) is None

    async def test_no_input_is_claimed_twice(self, storage: Storage) -> None:
        """However many ask at once, and in whatever way."""
        store, again = await a_store(storage), await a_store(storage)
        lease = await hold(store)
        names = await submitted(store, *(for_next_turn(f"words {at}") for at in range(16)))
        taken: list[str] = []

        async def take(through: RuntimePersistence, name: str) -> None:
            taken.extend(ids(await through.claim_turn_input("s", lease.fence(), name)))
            taken.extend(ids(await next_inputs(through, lease, most=1)))

        async with anyio.create_task_group() as tasks:
            for at, name in enumerate(names):
                tasks.start_soon(take, (store, again)[at % 2], name)
        assert sorted(taken) == sorted(names)

    async def test_inputs_of_sessions_are_apart(self, storage: Storage) -> None:
        """Any store of the storage serves the session that a call names, and that alone."""
        store = await a_store(storage)
        (ours,) = await submitted(store, for_next_turn())
        (theirs,) = await submitted(store, for_next_turn(session_id="other"))
        assert ids(await claimed_inputs(store, await hold(store, "other"))) == [theirs]
        assert await pending_inputs(store) == [ours]
