"""What a claim takes of the queue: the next group of what is ready, and nothing else."""

from dataclasses import replace

import anyio

from ...ports.leases import SessionExecutionLeaseFence
from ...ports.persistence import RuntimePersistence
from ...ports.queued_work import (
    DeliveryPolicy,
    MergeGroup,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
)
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    ALICE,
    BOB,
    TTL_MS,
    a_store,
    hold,
)
from ._waiting_samples import (
    CHECKPOINT,
    IDLE,
    MANY,
    a_queued_command,
    a_wake,
    enqueued,
    forged,
    ids,
    joining,
    next_command,
    next_work,
    pending_work,
    some_work,
)

AFTER_COMMIT = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT


async def assert_group(
    storage: Storage, session_id: str, drafts: list[QueuedWorkBatchDraft], count: int
) -> None:
    """The first claim on a queue of `drafts` takes the first `count` of them."""
    store = await a_store(storage, session_id)
    batches = await enqueued(store, *(replace(draft, session_id=session_id) for draft in drafts))
    claim = await next_work(store, await hold(store, session_id))
    assert ids(claim) == [batch.batch_id for batch in batches[:count]]


class QueueSelectionConformance(StorageCase):
    """A claim takes the next group of what is ready, in order, and nothing else."""

    async def test_nothing_waits_and_nothing_is_claimed(self, storage: Storage) -> None:
        """An empty queue is no error."""
        store = await a_store(storage)
        lease = await hold(store)
        assert await next_work(store, lease) is None
        assert await next_command(store, lease) is None

    async def test_a_claim_says_what_it_took_and_for_whom(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The claimant need not be the holder of the lane; the fence alone is checked."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        lease = await hold(store, owner=ALICE)
        claim = await store.claim_ready_queued_work("s", lease.fence(), BOB, IDLE, 1_000, 1)
        assert claim is not None
        now_ms = clock.timestamp_ms()
        assert claim == QueuedWorkClaim(
            session_id="s",
            claim_id=claim.claim_id,
            owner=BOB,
            lease_token=claim.lease_token,
            fencing_token=1,
            claimed_at_epoch_ms=now_ms,
            expires_at_epoch_ms=now_ms + 1_000,
            batches=(batch,),
        )
        assert claim.claim_id
        assert claim.lease_token

    async def test_claiming_needs_the_live_lease(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A forged fence takes nothing, nor does a true one whose lease is over."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        lease = await hold(store)

        async def all_are_refused(fence: SessionExecutionLeaseFence) -> None:
            lost = SessionExecutionLeaseExpired
            one = [batch.batch_id]
            await raised_by(store.claim_ready_queued_work("s", fence, ALICE, IDLE, TTL_MS, 1), lost)
            await raised_by(
                store.claim_ready_queued_work_by_batch_ids("s", fence, ALICE, IDLE, TTL_MS, one),
                lost,
            )
            await raised_by(
                store.claim_leading_ready_session_command("s", fence, ALICE, TTL_MS), lost
            )

        for fence in forged(lease):
            await all_are_refused(fence)
        clock.advance(TTL_MS / 1000)
        await all_are_refused(lease.fence())
        again = await hold(store)
        await all_are_refused(lease.fence())
        await store.release_session_execution_lease(again.fence())
        await all_are_refused(again.fence())
        assert await pending_work(store) == [batch.batch_id]

    async def test_a_claim_of_none_checks_nothing(self, storage: Storage) -> None:
        """Asking for no batches answers with none, lease or not."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        fence = forged(await hold(store))[0]
        assert await store.claim_ready_queued_work("s", fence, ALICE, IDLE, TTL_MS, 0) is None
        assert (
            await store.claim_ready_queued_work_by_batch_ids("s", fence, ALICE, IDLE, TTL_MS, [])
            is None
        )

    async def test_exclusive_work_is_claimed_alone(self, storage: Storage) -> None:
        """Even where what follows would join."""
        await assert_group(storage, "a", [some_work(), joining(), joining()], 1)
        await assert_group(storage, "b", [some_work(), some_work()], 1)

    async def test_joining_work_takes_along_what_follows(self, storage: Storage) -> None:
        """One turn for all of it."""
        await assert_group(storage, "a", [joining(), joining(), joining()], 3)

    async def test_a_group_ends_where_something_differs(self, storage: Storage) -> None:
        """In its slot, its delivery, its merge key or its class; what comes later waits."""
        group, other = MergeGroup(group="g"), MergeGroup(group="h")
        for at, (behind, count) in enumerate(
            [
                (some_work(), 1),
                (joining(delivery=AFTER_COMMIT), 1),
                (joining("payload_default"), 1),
                (joining(group), 1),
                (a_queued_command(), 1),
            ]
        ):
            await assert_group(storage, f"never{at}", [joining(), behind, joining()], count)
        for at, (behind, count) in enumerate(
            [(joining(group), 3), (joining(other), 1), (joining(), 1)]
        ):
            drafts = [joining(group), behind, joining(group)]
            await assert_group(storage, f"group{at}", drafts, count)

    async def test_a_group_is_cut_at_the_maximum(self, storage: Storage) -> None:
        """The rest is the next group."""
        store = await a_store(storage)
        batches = await enqueued(store, *(joining() for _ in range(5)))
        names = [batch.batch_id for batch in batches]
        lease = await hold(store)
        assert ids(await next_work(store, lease, most=2)) == names[:2]
        assert ids(await next_work(store, lease, most=2)) == names[2:4]
        assert ids(await next_work(store, lease, most=2)) == names[4:]
        assert await next_work(store, lease, most=2) is None

    async def test_commands_and_turn_work_do_not_overtake_each_other(
        self, storage: Storage
    ) -> None:
        """Whatever was enqueued first goes first."""
        store = await a_store(storage)
        lease = await hold(store)
        command, work, last = await enqueued(
            store, a_queued_command(), some_work(), a_queued_command("later")
        )
        assert await next_work(store, lease) is None
        first = await next_command(store, lease)
        assert ids(first) == [command.batch_id]
        assert first is not None
        assert first.exclusive_session_command() is not None
        assert await next_command(store, lease) is None
        assert ids(await next_work(store, lease)) == [work.batch_id]
        assert ids(await next_command(store, lease)) == [last.batch_id]

    async def test_commands_are_claimed_one_at_a_time(self, storage: Storage) -> None:
        """Each is applied and committed on its own, also those that say they would join."""
        store = await a_store(storage)
        lease = await hold(store)
        batches = await enqueued(
            store, a_queued_command("1"), a_queued_command("2"), a_queued_command("3")
        )
        claims = [await next_command(store, lease) for _ in batches]
        assert [ids(claim) for claim in claims] == [[batch.batch_id] for batch in batches]

    async def test_a_checkpoint_admits_only_what_may_come_early(self, storage: Storage) -> None:
        """A head that waits for the end of the turn is waited for; an idle session takes both."""
        store = await a_store(storage)
        lease = await hold(store)
        late, early = await enqueued(store, some_work(delivery=AFTER_COMMIT), some_work())
        assert await next_work(store, lease, CHECKPOINT) is None
        assert ids(await next_work(store, lease, IDLE)) == [late.batch_id]
        assert ids(await next_work(store, lease, CHECKPOINT)) == [early.batch_id]

    async def test_held_batches_are_passed_over(self, storage: Storage) -> None:
        """What is being worked on blocks nothing, at either boundary."""
        store = await a_store(storage)
        lease = await hold(store)
        first, second, third = await enqueued(
            store, some_work(delivery=AFTER_COMMIT), some_work(), some_work()
        )
        assert ids(await next_work(store, lease, IDLE)) == [first.batch_id]
        assert ids(await next_work(store, lease, CHECKPOINT)) == [second.batch_id]
        assert ids(await next_work(store, lease, CHECKPOINT)) == [third.batch_id]

    async def test_any_number_of_held_batches_is_passed_over(self, storage: Storage) -> None:
        """A window that is too small would hide what is behind it."""
        store = await a_store(storage)
        lease = await hold(store)
        *held, last = await enqueued(store, *(some_work(a_wake(at)) for at in range(3 * MANY)))
        for batch in held:
            assert ids(await next_work(store, lease)) == [batch.batch_id]
        assert ids(await next_work(store, lease)) == [last.batch_id]

    async def test_work_for_later_is_passed_over_until_then(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """From the very millisecond on it is ready, in its old place."""
        store = await a_store(storage)
        lease = await hold(store)
        due_ms = clock.timestamp_ms() + 1_000
        later, now, behind = await enqueued(
            store, some_work(available_at_ms=due_ms), some_work(), some_work()
        )
        assert ids(await next_work(store, lease)) == [now.batch_id]
        clock.advance(0.999)
        assert await pending_work(store) == [later.batch_id, behind.batch_id]
        clock.advance(0.001)
        assert ids(await next_work(store, lease)) == [later.batch_id]

    async def test_work_for_later_does_not_break_up_a_group(self, storage: Storage) -> None:
        """Only what is ready counts as following."""
        store = await a_store(storage)
        one, _, two = await enqueued(store, joining(), some_work(available_at_ms=2**60), joining())
        claim = await next_work(store, await hold(store))
        assert ids(claim) == [one.batch_id, two.batch_id]

    async def test_a_claim_by_ids_takes_exactly_the_next_group(self, storage: Storage) -> None:
        """So a caller can take what is next in line, whole and in order."""
        store = await a_store(storage)
        lease = await hold(store)
        names = [batch.batch_id for batch in await enqueued(store, joining(), joining())]
        claim = await store.claim_ready_queued_work_by_batch_ids(
            "s", lease.fence(), ALICE, IDLE, TTL_MS, names
        )
        assert ids(claim) == names
        assert await pending_work(store) == []

    async def test_a_claim_by_ids_never_picks_from_the_middle(self, storage: Storage) -> None:
        """Anything but the next group takes nothing, and leaves everything where it was."""
        store = await a_store(storage)
        lease = await hold(store)
        one, two, other = [
            batch.batch_id for batch in await enqueued(store, joining(), joining(), some_work())
        ]
        for asked in (
            [two],
            [other],
            [two, one],
            [one, other],
            [one, two, other],
            [one, two, "never"],
            ["never"],
            [one, one],
        ):
            claim = await store.claim_ready_queued_work_by_batch_ids(
                "s", lease.fence(), ALICE, IDLE, TTL_MS, asked
            )
            assert claim is None
            assert await pending_work(store) == [one, two, other]
        claim = await store.claim_ready_queued_work_by_batch_ids(
            "s", lease.fence(), ALICE, IDLE, TTL_MS, [one]
        )
        assert ids(claim) == [one]

    async def test_a_claim_by_ids_knows_the_boundary(self, storage: Storage) -> None:
        """Naming a batch does not bring it forward."""
        store = await a_store(storage)
        lease = await hold(store)
        (late,) = await enqueued(store, some_work(delivery=AFTER_COMMIT))
        claim = await store.claim_ready_queued_work_by_batch_ids(
            "s", lease.fence(), ALICE, CHECKPOINT, TTL_MS, [late.batch_id]
        )
        assert claim is None

    async def test_no_batch_is_claimed_twice(self, storage: Storage) -> None:
        """However many ask at once, each batch goes to one of them."""
        store = await a_store(storage)
        again = await a_store(storage)
        lease = await hold(store)
        batches = await enqueued(store, *(some_work(a_wake(at)) for at in range(24)))
        taken: list[str] = []

        async def take(through: RuntimePersistence) -> None:
            taken.extend(ids(await next_work(through, lease)))

        async with anyio.create_task_group() as tasks:
            for at in range(30):
                tasks.start_soon(take, (store, again)[at % 2])
        assert sorted(taken) == sorted(batch.batch_id for batch in batches)
