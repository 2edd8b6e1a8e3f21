"""Claims on pending inputs: how long one holds them, and how it is completed."""

from dataclasses import replace

from ...ports.claims import TurnInputCompletion
from ...ports.leases import SessionExecutionLeaseFence
from ...ports.persistence import RuntimePersistence
from ...ports.storage import Storage
from ...ports.store_errors import TurnInputClaimExpired
from ...ports.turn_inputs import (
    InputAlreadyCompleted,
    TurnInputState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import BOB, TTL_MS, a_commit, a_stamp, a_store, everything, hold
from ._waiting_samples import (
    claimed_inputs,
    for_next_turn,
    for_turn,
    ids,
    next_inputs,
    pending_inputs,
    steering,
    submitted,
)


class TurnInputClaimConformance(StorageCase):
    """A claim holds its inputs exactly as long as the lease that backed it lives."""

    async def test_an_input_claim_outlives_its_own_time_while_its_lease_lives(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A turn that takes long keeps what it took, and its commit goes through."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn(), for_turn("t1"))
        claims = (await claimed_inputs(store, lease, ttl_ms=1), await steering(store, lease))
        clock.advance(20)
        await store.renew_session_execution_lease(lease.fence(), TTL_MS)
        clock.advance(20)
        assert await pending_inputs(store) == []
        assert await next_inputs(store, lease) is None
        done = tuple(claim.completion() for claim in claims if claim is not None)
        assert len(done) == 2
        await store.commit_runtime_state(a_commit(lease.fence(), completed_turn_input_claims=done))

    async def test_the_end_of_a_lease_frees_deferred_inputs_at_once(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Released or lapsed: the next holder takes them, under a higher number."""
        store = await a_store(storage)
        (name,) = await submitted(store, for_next_turn())
        lease = await hold(store)
        first = await claimed_inputs(store, lease, ttl_ms=2**40)
        await store.release_session_execution_lease(lease.fence())
        assert await pending_inputs(store) == [name]
        second = await claimed_inputs(store, await hold(store, owner=BOB), ttl_ms=2**40)
        assert ids(second) == [name]
        assert second.fencing_token > first.fencing_token
        assert second.claim_id != first.claim_id
        assert second.lease_token != first.lease_token
        clock.advance(TTL_MS / 1000)
        assert await pending_inputs(store) == [name]

    async def test_an_abandoned_input_waits_as_before(self, storage: Storage) -> None:
        """In its old place: for its turn if it steered one, for the next turn otherwise."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_turn("t1"), for_next_turn(), for_turn("t1"), for_next_turn())
        before = list(await store.list_pending_turn_inputs("s"))
        steer = await steering(store, lease, most=1)
        following = await claimed_inputs(store, lease, most=1)
        assert steer is not None
        await store.abandon_turn_input_claim(steer)
        await store.abandon_turn_input_claim(following)
        assert list(await store.list_pending_turn_inputs("s")) == before
        again = await steering(store, lease, most=1)
        assert again is not None
        assert ids(again) == ids(steer)
        assert again.fencing_token > steer.fencing_token

    async def test_abandoning_a_stale_claim_changes_nothing(self, storage: Storage) -> None:
        """What somebody else took since stays theirs, and what is answered stays answered."""
        store = await a_store(storage)
        lease = await hold(store)
        (name,) = await submitted(store, for_turn("t1"))
        stale = await steering(store, lease)
        assert stale is not None
        await store.abandon_turn_input_claim(stale)
        claim = await steering(store, lease)
        assert claim is not None
        await store.abandon_turn_input_claim(stale)
        forged_token = replace(claim, lease_token="forged")  # noqa: S106
        await store.abandon_turn_input_claim(forged_token)
        assert await pending_inputs(store) == []
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(claim.completion(),))
        )
        await store.abandon_turn_input_claim(claim)
        outcome = await store.cancel_pending_turn_input("s", name)
        assert isinstance(outcome, InputAlreadyCompleted)

    async def test_an_input_renewal_moves_the_expiry_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """It counts from now, also for a claim that is overdue."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn(), for_next_turn())
        claim = await claimed_inputs(store, lease, ttl_ms=1)
        clock.advance(5)
        renewed = await store.renew_turn_input_claim(claim, 1_000)
        assert renewed == replace(claim, expires_at_epoch_ms=clock.timestamp_ms() + 1_000)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(renewed.completion(),))
        )

    async def test_only_an_input_claim_that_owns_everything_is_renewed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Forged, taken over, abandoned or without its lease, it stays lost."""
        store = await a_store(storage)
        await submitted(store, for_next_turn())
        claim = await claimed_inputs(store, await hold(store))
        forged_token = replace(claim, lease_token="forged")  # noqa: S106
        await raised_by(store.renew_turn_input_claim(forged_token, TTL_MS), TurnInputClaimExpired)
        clock.advance(TTL_MS / 1000)
        await raised_by(store.renew_turn_input_claim(claim, TTL_MS), TurnInputClaimExpired)
        taken = await claimed_inputs(store, await hold(store))
        error = await raised_by(store.renew_turn_input_claim(claim, TTL_MS), TurnInputClaimExpired)
        assert (error.session_id, error.claim_id) == ("s", claim.claim_id)
        await store.renew_turn_input_claim(taken, TTL_MS)
        await store.abandon_turn_input_claim(taken)
        await raised_by(store.renew_turn_input_claim(taken, TTL_MS), TurnInputClaimExpired)

    async def test_an_input_completion_names_exactly_what_its_claim_owns(
        self, storage: Storage
    ) -> None:
        """Fewer, more, others or a wrong proof: the whole commit is refused."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn("one", key="a"), for_next_turn("two", key="b"))
        claim = await claimed_inputs(store, lease)
        (other,) = await submitted(store, for_next_turn())
        done = claim.completion()
        for wrong in (
            replace(done, input_ids=done.input_ids[:1]),
            replace(done, input_ids=(*done.input_ids, other)),
            replace(done, input_ids=(done.input_ids[0], other)),
            replace(done, input_ids=()),
            replace(done, claim_id="tic:0:0"),
            replace(done, lease_token="forged"),  # noqa: S106
            replace(done, session_id="other"),
        ):
            await assert_not_completed(store, lease.fence(), wrong)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(done,))
        )
        assert await pending_inputs(store) == [other]
        for draft in (for_next_turn("one", key="a"), for_next_turn("two", key="b")):
            row = await store.enqueue_pending_turn_input(draft)
            assert row.state is TurnInputState.COMPLETED

    async def test_one_lost_input_claim_leaves_the_others_undone(self, storage: Storage) -> None:
        """Everything is checked before anything is written."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn(), for_next_turn())
        good = await claimed_inputs(store, lease, most=1)
        bad = await claimed_inputs(store, lease, most=1)
        await store.abandon_turn_input_claim(bad)
        await raised_by(
            store.commit_runtime_state(
                a_commit(
                    lease.fence(),
                    completed_turn_input_claims=(good.completion(), bad.completion()),
                )
            ),
            TurnInputClaimExpired,
        )
        assert await store.load_head_stamp() is None
        await store.renew_turn_input_claim(good, TTL_MS)
        assert await pending_inputs(store) == ids(bad)

    async def test_an_input_claim_completes_under_its_own_lease_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A stale completion fails, and does not free what the newer claim holds."""
        store = await a_store(storage)
        (name,) = await submitted(store, for_next_turn())
        stale = await claimed_inputs(store, await hold(store), ttl_ms=2**40)
        clock.advance(TTL_MS / 1000)
        lease = await hold(store)
        await assert_not_completed(store, lease.fence(), stale.completion())
        assert await pending_inputs(store) == [name]
        claim = await claimed_inputs(store, lease)
        await assert_not_completed(store, lease.fence(), stale.completion())
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(claim.completion(),))
        )

    async def test_an_input_claim_completes_once(self, storage: Storage) -> None:
        """A second commit that names it is refused; a replay of the first one is answered."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn())
        done = (await claimed_inputs(store, lease)).completion()
        commit = a_commit(
            lease.fence(), completed_turn_input_claims=(done,), turn_commit=a_stamp("t1")
        )
        first = await store.commit_runtime_state(commit)
        assert await store.commit_runtime_state(commit) == replace(first, replayed=True)
        await assert_not_completed(store, lease.fence(), done)


async def assert_not_completed(
    store: RuntimePersistence, fence: SessionExecutionLeaseFence, completion: TurnInputCompletion
) -> None:
    before = await everything(store), await store.list_pending_turn_inputs("s")
    error = await raised_by(
        store.commit_runtime_state(a_commit(fence, completed_turn_input_claims=(completion,))),
        TurnInputClaimExpired,
    )
    assert error.claim_id == completion.claim_id
    assert (await everything(store), await store.list_pending_turn_inputs("s")) == before
