"""Claims on queued work: how long one protects its batches, and how it is completed."""

from dataclasses import replace

from ...ports.claims import QueuedWorkCompletion
from ...ports.leases import SessionExecutionLeaseFence
from ...ports.persistence import RuntimePersistence
from ...ports.queued_work import (
    DeliveryPolicy,
)
from ...ports.storage import Storage
from ...ports.store_errors import QueuedWorkClaimExpired
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
    TTL_MS,
    a_commit,
    a_stamp,
    a_store,
    everything,
    hold,
)
from ._waiting_samples import (
    all_work,
    claimed_work,
    enqueued,
    joining,
    next_work,
    pending_work,
    some_work,
)

AFTER_COMMIT = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT


class QueueClaimConformance(StorageCase):
    """A claim protects its batches exactly as long as the lease that backed it lives."""

    async def test_a_claim_outlives_its_own_time_while_its_lease_lives(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A turn that takes long does not lose its work to a timer."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        lease = await hold(store)
        claim = await claimed_work(store, lease, ttl_ms=1)
        clock.advance(20)
        await store.renew_session_execution_lease(lease.fence(), TTL_MS)
        clock.advance(20)
        assert await pending_work(store) == []
        assert await next_work(store, lease) is None
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(claim.completion(),))
        )
        assert await all_work(store) == []
        assert batch.batch_id in claim.completion().batch_ids

    async def test_the_end_of_a_lease_frees_its_claims_at_once(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Released, lapsed or taken over: nothing stays stuck until some later time."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        lease = await hold(store)
        first = await claimed_work(store, lease, ttl_ms=2**40)
        await store.release_session_execution_lease(lease.fence())
        assert await pending_work(store) == [batch.batch_id]

        lease = await hold(store, owner=BOB)
        second = await claimed_work(store, lease, ttl_ms=2**40)
        assert second.batches == first.batches
        assert second.fencing_token > first.fencing_token
        assert second.claim_id != first.claim_id
        assert second.lease_token != first.lease_token
        assert await pending_work(store) == []
        clock.advance(TTL_MS / 1000)
        assert await pending_work(store) == [batch.batch_id]

        third = await claimed_work(store, await hold(store), ttl_ms=2**40)
        assert third.fencing_token > second.fencing_token

    async def test_entering_a_lane_again_keeps_its_claims(self, storage: Storage) -> None:
        """It is the same lease, so what it claimed is still its own."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        await claimed_work(store, await hold(store))
        lease = await hold(store)
        assert await pending_work(store) == []
        assert await next_work(store, lease) is None

    async def test_the_next_lease_of_the_same_owner_is_another(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """After a lapse somebody else may have worked on it, so the owner claims anew."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        claim = await claimed_work(store, await hold(store), ttl_ms=2**40)
        clock.advance(TTL_MS / 1000)
        lease = await hold(store)
        assert await pending_work(store) == [batch.batch_id]
        again = await claimed_work(store, lease)
        assert again.claim_id != claim.claim_id

    async def test_an_abandoned_claim_gives_its_batches_back(self, storage: Storage) -> None:
        """At once and in their old place; the next claim has a higher number."""
        store = await a_store(storage)
        first, second = await enqueued(store, some_work(), some_work())
        lease = await hold(store)
        claim = await claimed_work(store, lease)
        await store.abandon_queued_work_claim(claim)
        assert list(await store.list_pending_queued_work("s")) == [first, second]
        again = await claimed_work(store, lease)
        assert again.batches == (first,)
        assert again.fencing_token > claim.fencing_token

    async def test_abandoning_what_is_not_owned_changes_nothing(self, storage: Storage) -> None:
        """Twice, after completion, with a wrong token, or after another took the batch."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        lease = await hold(store)
        stale = await claimed_work(store, lease)
        await store.abandon_queued_work_claim(stale)
        await store.abandon_queued_work_claim(stale)
        claim = await claimed_work(store, lease)
        await store.abandon_queued_work_claim(stale)
        forged_token = replace(claim, lease_token="forged")  # noqa: S106
        await store.abandon_queued_work_claim(forged_token)
        assert await pending_work(store) == []
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(claim.completion(),))
        )
        await store.abandon_queued_work_claim(claim)
        assert await all_work(store) == []

    async def test_a_work_renewal_moves_the_expiry_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """It counts from now, also for a claim that is overdue."""
        store = await a_store(storage)
        await enqueued(store, joining(), joining())
        lease = await hold(store)
        claim = await claimed_work(store, lease, ttl_ms=1)
        clock.advance(5)
        renewed = await store.renew_queued_work_claim(claim, 1_000)
        assert renewed == replace(claim, expires_at_epoch_ms=clock.timestamp_ms() + 1_000)
        assert await pending_work(store) == []
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(renewed.completion(),))
        )

    async def test_only_a_claim_that_owns_everything_is_renewed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Forged, abandoned, taken over, completed or without its lease, it stays lost."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        lease = await hold(store)
        claim = await claimed_work(store, lease)
        forged_token = replace(claim, lease_token="forged")  # noqa: S106
        await raised_by(store.renew_queued_work_claim(forged_token, TTL_MS), QueuedWorkClaimExpired)
        clock.advance(TTL_MS / 1000)
        await raised_by(store.renew_queued_work_claim(claim, TTL_MS), QueuedWorkClaimExpired)
        lease = await hold(store)
        await raised_by(store.renew_queued_work_claim(claim, TTL_MS), QueuedWorkClaimExpired)
        taken = await claimed_work(store, lease)
        error = await raised_by(
            store.renew_queued_work_claim(claim, TTL_MS), QueuedWorkClaimExpired
        )
        assert (error.session_id, error.claim_id) == ("s", claim.claim_id)
        await store.renew_queued_work_claim(taken, TTL_MS)
        await store.abandon_queued_work_claim(taken)
        await raised_by(store.renew_queued_work_claim(taken, TTL_MS), QueuedWorkClaimExpired)

    async def test_completing_removes_the_claimed_batches_alone(self, storage: Storage) -> None:
        """In the very commit of what they led to."""
        store = await a_store(storage)
        *_, held, waiting = await enqueued(store, joining(), joining(), some_work(), some_work())
        lease = await hold(store)
        claim = await claimed_work(store, lease)
        await claimed_work(store, lease)
        result = await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(claim.completion(),))
        )
        assert result.head_revision == 1
        assert await all_work(store) == [held.batch_id, waiting.batch_id]
        assert await pending_work(store) == [waiting.batch_id]

    async def test_a_completion_names_exactly_what_its_claim_owns(self, storage: Storage) -> None:
        """Fewer, more, others or a wrong proof: the whole commit is refused."""
        store = await a_store(storage)
        await enqueued(store, joining(), joining())
        (other,) = await enqueued(store, some_work())
        lease = await hold(store)
        claim = await claimed_work(store, lease)
        done = claim.completion()
        before = await everything(store), await store.list_queued_work("s")
        for wrong in (
            replace(done, batch_ids=done.batch_ids[:1]),
            replace(done, batch_ids=(*done.batch_ids, other.batch_id)),
            replace(done, batch_ids=(done.batch_ids[0], other.batch_id)),
            replace(done, batch_ids=()),
            replace(done, claim_id="qwc:0:0"),
            replace(done, lease_token="forged"),  # noqa: S106
            replace(done, session_id="other"),
        ):
            error = await raised_by(
                store.commit_runtime_state(
                    a_commit(lease.fence(), completed_queue_claims=(wrong,))
                ),
                QueuedWorkClaimExpired,
            )
            assert error.claim_id == wrong.claim_id
            assert (await everything(store), await store.list_queued_work("s")) == before
        await store.commit_runtime_state(a_commit(lease.fence(), completed_queue_claims=(done,)))
        assert await all_work(store) == [other.batch_id]

    async def test_one_bad_completion_leaves_the_good_ones_undone(self, storage: Storage) -> None:
        """Everything is checked before anything is written."""
        store = await a_store(storage)
        first, second = await enqueued(store, some_work(), some_work())
        lease = await hold(store)
        good, bad = await claimed_work(store, lease), await claimed_work(store, lease)
        await store.abandon_queued_work_claim(bad)
        await raised_by(
            store.commit_runtime_state(
                a_commit(
                    lease.fence(), completed_queue_claims=(good.completion(), bad.completion())
                )
            ),
            QueuedWorkClaimExpired,
        )
        assert await all_work(store) == [first.batch_id, second.batch_id]
        assert await pending_work(store) == [second.batch_id]
        assert await store.load_head_stamp() is None
        await store.renew_queued_work_claim(good, TTL_MS)

    async def test_a_claim_completes_under_its_own_lease_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """What an earlier holder claimed was free for anybody since, taken or not."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        stale = await claimed_work(store, await hold(store), ttl_ms=2**40)
        clock.advance(TTL_MS / 1000)
        lease = await hold(store)
        await assert_not_completed(store, lease.fence(), stale.completion())
        assert await pending_work(store) == [batch.batch_id]
        claim = await claimed_work(store, lease)
        await assert_not_completed(store, lease.fence(), stale.completion())
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(claim.completion(),))
        )
        assert await all_work(store) == []

    async def test_a_claim_completes_once(self, storage: Storage) -> None:
        """A second commit that names it is refused; a replay of the first one is answered."""
        store = await a_store(storage)
        await enqueued(store, some_work(key="k"))
        lease = await hold(store)
        done = (await claimed_work(store, lease)).completion()
        commit = a_commit(lease.fence(), completed_queue_claims=(done,), turn_commit=a_stamp("t1"))
        first = await store.commit_runtime_state(commit)
        (again,) = await enqueued(store, some_work(key="k"))
        assert await store.commit_runtime_state(commit) == replace(first, replayed=True)
        await assert_not_completed(store, lease.fence(), done)
        assert await pending_work(store) == [again.batch_id]


async def assert_not_completed(
    store: RuntimePersistence, fence: SessionExecutionLeaseFence, completion: QueuedWorkCompletion
) -> None:
    before = await everything(store), await store.list_queued_work("s")
    await raised_by(
        store.commit_runtime_state(a_commit(fence, completed_queue_claims=(completion,))),
        QueuedWorkClaimExpired,
    )
    assert (await everything(store), await store.list_queued_work("s")) == before
