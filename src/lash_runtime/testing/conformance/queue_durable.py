"""What waits in a storage that outlives its process: found again, and shared by several handles."""

import anyio

from ...ports.persistence import RuntimePersistence
from ...ports.store_errors import QueuedWorkClaimExpired, TurnInputClaimExpired
from ._case import StorageCase
from ._raises import raised_by
from ._samples import BOB, a_commit, a_store, hold
from ._waiting_samples import (
    a_queued_command,
    a_wake,
    all_work,
    claimed_inputs,
    claimed_work,
    enqueued,
    for_next_turn,
    for_turn,
    ids,
    next_inputs,
    next_work,
    pending_inputs,
    pending_work,
    some_work,
    steering,
    submitted,
)
from .durable import DurableStorageConformance, OpenStorage


class DurableQueueConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place."""

    open_storage = DurableStorageConformance.open_storage

    async def test_what_waits_is_there_after_opening_again(self, open_storage: OpenStorage) -> None:
        """Held or not, over or not, and with its numbers going on."""
        storage = await open_storage()
        store = await a_store(storage)
        lease = await hold(store)
        await enqueued(store, some_work(key="k"), some_work(a_wake(2)), a_queued_command())
        await submitted(store, for_next_turn(key="k"), for_turn(), for_next_turn("gone", key="g"))
        work = await claimed_work(store, lease)
        inputs = await claimed_inputs(store, lease, most=1)
        await store.cancel_pending_turn_input("s", (await pending_inputs(store))[-1])
        waits = await _all_that_waits(store)
        await storage.aclose()

        store = await a_store(await open_storage())
        assert await _all_that_waits(store) == waits
        assert (await store.enqueue_queued_work(some_work(key="k"))) == work.batches[0]
        again = await store.enqueue_pending_turn_input(for_next_turn("gone", key="g"))
        assert again.enqueue_seq > inputs.inputs[0].enqueue_seq
        assert await _all_that_waits(store) == waits
        await store.commit_runtime_state(
            a_commit(
                lease.fence(),
                completed_queue_claims=(work.completion(),),
                completed_turn_input_claims=(inputs.completion(),),
            )
        )
        (batch,) = await enqueued(store, some_work(key="k"))
        assert batch.enqueue_seq > max(each.enqueue_seq for each in work.batches)

    async def test_what_a_dead_holder_claimed_is_free_for_the_next(
        self, open_storage: OpenStorage
    ) -> None:
        """Through any handle; the first one's claims are told to be over."""
        here, there = await a_store(await open_storage()), await a_store(await open_storage())
        await enqueued(here, some_work())
        await submitted(here, for_next_turn(), for_turn())
        lost = await hold(here)
        work, inputs = await claimed_work(here, lost), await claimed_inputs(here, lost)
        await steering(here, lost)
        await there.release_session_execution_lease(lost.fence())
        lease = await hold(there, owner=BOB)
        await raised_by(here.renew_queued_work_claim(work, 1_000), QueuedWorkClaimExpired)
        await raised_by(here.renew_turn_input_claim(inputs, 1_000), TurnInputClaimExpired)
        assert ids(await next_work(there, lease)) == ids(work)
        assert ids(await next_inputs(there, lease)) == ids(inputs)
        assert await there.defer_orphaned_active_turn_inputs("s", lease.fence()) == 1
        assert len(await pending_inputs(here)) == 1

    async def test_no_work_is_claimed_through_two_handles(self, open_storage: OpenStorage) -> None:
        """Two processes that race for a line share it between them."""
        handles = [await a_store(await open_storage()) for _ in range(2)]
        lease = await hold(handles[0])
        batches = await enqueued(handles[0], *(some_work(a_wake(at)) for at in range(16)))
        names = await submitted(handles[0], *(for_next_turn(f"words {at}") for at in range(16)))
        work: list[str] = []
        inputs: list[str] = []

        async def take(store: RuntimePersistence) -> None:
            work.extend(ids(await next_work(store, lease)))
            inputs.extend(ids(await next_inputs(store, lease, most=1)))

        async with anyio.create_task_group() as tasks:
            for at in range(20):
                tasks.start_soon(take, handles[at % 2])
        assert sorted(work) == sorted(batch.batch_id for batch in batches)
        assert sorted(inputs) == sorted(names)

    async def test_a_key_is_one_through_two_handles(self, open_storage: OpenStorage) -> None:
        """A delivery that two processes receive is enqueued once."""
        handles = [await a_store(await open_storage()) for _ in range(2)]

        async def deliver(store: RuntimePersistence) -> None:
            await store.enqueue_queued_work(some_work(key="k"))
            await store.enqueue_pending_turn_input(for_next_turn(key="k"))

        async with anyio.create_task_group() as tasks:
            for at in range(12):
                tasks.start_soon(deliver, handles[at % 2])
        one, other = [await _all_that_waits(store) for store in handles]
        assert one == other
        assert [len(each) for each in one] == [1, 1, 1]


async def _all_that_waits(store: RuntimePersistence) -> list[list[str]]:
    return [await all_work(store), await pending_work(store), await pending_inputs(store)]
