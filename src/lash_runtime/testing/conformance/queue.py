"""Queued work: what enqueueing stores, what is listed, and what can still be cancelled."""

from dataclasses import replace

import anyio

from ...model.canonical import canonical_json
from ...ports.queued_work import (
    DeliveryPolicy,
    MergeGroup,
    MergeKey,
    QueuedWorkBatch,
    QueuedWorkItem,
    SlotPolicy,
)
from ...ports.storage import Storage
from ...ports.store_errors import StoreBackendError
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
    ODD_IDS,
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    hold,
)
from ._waiting_samples import (
    a_command,
    a_queued_command,
    a_wake,
    all_work,
    claimed_work,
    enqueued,
    ids,
    joining,
    next_work,
    pending_work,
    some_work,
)


class QueueConformance(StorageCase):
    """What is enqueued stays as it is and where it is until it is done or cancelled."""

    async def test_a_batch_is_kept_as_it_was_enqueued(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The answer is the stored batch, with ids, number and time of the store."""
        store = await a_store(storage)
        batch = await store.enqueue_queued_work(
            some_work(
                a_wake(1),
                a_wake(2),
                delivery=DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT,
                slot=SlotPolicy.JOIN,
                merge=MergeGroup(group="g"),
                key="k",
                available_at_ms=7,
            )
        )
        assert batch.batch_id
        assert batch == QueuedWorkBatch(
            batch_id=batch.batch_id,
            session_id="s",
            enqueue_seq=batch.enqueue_seq,
            source_key="k",
            delivery_policy=DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT,
            slot_policy=SlotPolicy.JOIN,
            merge_key=MergeGroup(group="g"),
            available_at_ms=7,
            enqueued_at_ms=clock.timestamp_ms(),
            items=(
                QueuedWorkItem(item_id=f"{batch.batch_id}:item:0", payload=a_wake(1)),
                QueuedWorkItem(item_id=f"{batch.batch_id}:item:1", payload=a_wake(2)),
            ),
        )
        assert list(await store.list_queued_work("s")) == [batch]
        assert list(await store.list_pending_queued_work("s")) == [batch]

    async def test_every_payload_and_merge_key_reads_back(self, storage: Storage) -> None:
        """What a process says may be any JSON, and numbers keep their kind."""
        store = await a_store(storage)
        merges: tuple[MergeKey, ...] = ("never", "payload_default", MergeGroup(group="never"))
        drafts = [joining(merge) for merge in merges]
        drafts += [a_queued_command("tab\t \u2028 \U0001f9ed"), some_work(a_wake(2**40))]
        await enqueued(store, *drafts)
        read = await store.list_queued_work("s")
        assert [batch.merge_key for batch in read][:3] == list(merges)
        for batch, draft in zip(read, drafts, strict=True):
            payloads = [item.payload for item in batch.items]
            assert [canonical_json(payload) for payload in payloads] == [
                canonical_json(payload) for payload in draft.payloads
            ]

    async def test_batches_are_listed_in_the_order_of_enqueueing(self, storage: Storage) -> None:
        """Whatever their class, their policy and the time from which they may be claimed."""
        store = await a_store(storage)
        batches = await enqueued(
            store,
            some_work(available_at_ms=2**40),
            a_queued_command(),
            joining(),
            some_work(a_wake(9), key="a"),
        )
        assert list(await store.list_queued_work("s")) == batches
        numbers = [batch.enqueue_seq for batch in batches]
        assert numbers == sorted(set(numbers))

    async def test_a_known_source_key_answers_the_stored_batch(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A repeated delivery is one delivery, whatever the second one carries."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work(a_wake(1), key="k"))
        clock.advance(1)
        again = await store.enqueue_queued_work(
            some_work(a_wake(2), key="k", slot=SlotPolicy.JOIN, available_at_ms=5)
        )
        assert again == batch
        assert list(await store.list_queued_work("s")) == [batch]

    async def test_a_key_is_remembered_while_its_batch_is_claimed(self, storage: Storage) -> None:
        """What is being worked on is not enqueued a second time."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work(key="k"))
        await claimed_work(store, await hold(store))
        assert await store.enqueue_queued_work(some_work(a_wake(2), key="k")) == batch

    async def test_a_source_key_is_free_once_its_batch_is_gone(self, storage: Storage) -> None:
        """Completed or cancelled, the key names something new the next time."""
        store = await a_store(storage)
        lease = await hold(store)
        (done,) = await enqueued(store, some_work(key="k"))
        claim = await claimed_work(store, lease)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_queue_claims=(claim.completion(),))
        )
        (cancelled,) = await enqueued(store, some_work(key="k"))
        await store.cancel_queued_work_batch("s", cancelled.batch_id)
        (third,) = await enqueued(store, some_work(a_wake(3), key="k"))
        assert len({done.batch_id, cancelled.batch_id, third.batch_id}) == 3
        assert list(await store.list_queued_work("s")) == [third]

    async def test_batches_without_a_key_are_all_different(self, storage: Storage) -> None:
        """Equal work without a key is work to be done as often as it was asked for."""
        store = await a_store(storage)
        batches = await enqueued(store, some_work(), some_work(), some_work())
        assert len({batch.batch_id for batch in batches}) == 3
        assert list(await store.list_queued_work("s")) == batches

    async def test_no_number_comes_twice(self, storage: Storage) -> None:
        """A number that came again after the queue ran dry would repeat the ids of claims."""
        store = await a_store(storage)
        seen: list[int] = []
        for _ in range(3):
            (batch,) = await enqueued(store, some_work())
            seen.append(batch.enqueue_seq)
            assert await store.cancel_queued_work_batch("s", batch.batch_id) == batch
        assert seen == sorted(set(seen))

    async def test_a_batch_of_no_class_is_refused(self, storage: Storage) -> None:
        """Empty or mixed it could never be claimed, and would block what is behind it."""
        store = await a_store(storage)
        for draft in (
            replace(some_work(), payloads=()),
            some_work(a_wake(), a_command()),
            some_work(a_command(), a_wake(), key="k"),
        ):
            await raised_by(store.enqueue_queued_work(draft), StoreBackendError)
        assert await all_work(store) == []
        (batch,) = await enqueued(store, some_work(key="k"))
        assert await all_work(store) == [batch.batch_id]

    async def test_enqueueing_needs_no_lease(self, storage: Storage) -> None:
        """Work arrives while a turn of another owner runs."""
        store = await a_store(storage)
        await hold(store, owner=BOB)
        (batch,) = await enqueued(store, some_work())
        assert await pending_work(store) == [batch.batch_id]

    async def test_claimed_batches_stay_listed_and_are_not_pending(self, storage: Storage) -> None:
        """Who waits for a batch to be done must still see it while it is worked on."""
        store = await a_store(storage)
        first, second = await enqueued(store, some_work(), some_work())
        await claimed_work(store, await hold(store))
        assert list(await store.list_queued_work("s")) == [first, second]
        assert list(await store.list_pending_queued_work("s")) == [second]

    async def test_work_for_later_is_pending_all_along(self, storage: Storage) -> None:
        """It is not ready, but it waits."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work(available_at_ms=2**40))
        assert await pending_work(store) == [batch.batch_id]

    async def test_a_batch_that_nobody_works_on_can_be_cancelled(self, storage: Storage) -> None:
        """It is returned once, and is gone from every list."""
        store = await a_store(storage)
        first, second = await enqueued(store, some_work(), some_work())
        assert await store.cancel_queued_work_batch("s", first.batch_id) == first
        assert await store.cancel_queued_work_batch("s", first.batch_id) is None
        assert list(await store.list_queued_work("s")) == [second]

    async def test_what_is_unknown_cannot_be_cancelled(self, storage: Storage) -> None:
        """Neither an id that never was nor one of another session."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        assert await store.cancel_queued_work_batch("s", "never") is None
        assert await store.cancel_queued_work_batch("other", batch.batch_id) is None
        assert await pending_work(store) == [batch.batch_id]

    async def test_a_held_batch_cannot_be_cancelled(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """As long as its claimant's lease lives, also after the claim's own time is up."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        lease = await hold(store)
        await claimed_work(store, lease, ttl_ms=1)
        assert await store.cancel_queued_work_batch("s", batch.batch_id) is None
        clock.advance(1)
        assert await store.cancel_queued_work_batch("s", batch.batch_id) is None
        assert await all_work(store) == [batch.batch_id]
        await store.release_session_execution_lease(lease.fence())
        assert await store.cancel_queued_work_batch("s", batch.batch_id) == batch

    async def test_sessions_have_queues_of_their_own(self, storage: Storage) -> None:
        """Any store of the storage serves the session that a call names, and that alone."""
        store = await a_store(storage)
        await a_store(storage, "other")
        (ours,) = await enqueued(store, some_work(key="k"))
        (theirs,) = await enqueued(store, some_work(key="k", session_id="other"))
        assert ours.batch_id != theirs.batch_id
        assert await all_work(store) == [ours.batch_id]
        assert await all_work(store, "other") == [theirs.batch_id]
        lease = await hold(store, "other")
        assert ids(await next_work(store, lease)) == [theirs.batch_id]
        assert await pending_work(store) == [ours.batch_id]

    async def test_two_opens_of_one_session_see_one_queue(self, storage: Storage) -> None:
        """What the one enqueues the other may claim at once."""
        store, again = await a_store(storage), await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        assert ids(await claimed_work(again, await hold(again))) == [batch.batch_id]
        assert await pending_work(store) == []

    async def test_many_enqueue_at_once(self, storage: Storage) -> None:
        """Nothing is lost or numbered alike, and one key is one batch however many race."""
        store = await a_store(storage)
        answers: list[QueuedWorkBatch] = []

        async def enqueue(number: int) -> None:
            answers.append(await store.enqueue_queued_work(some_work(a_wake(number))))
            answers.append(await store.enqueue_queued_work(some_work(a_wake(number), key="k")))

        async with anyio.create_task_group() as tasks:
            for number in range(16):
                tasks.start_soon(enqueue, number)
        listed = list(await store.list_queued_work("s"))
        assert len(listed) == 17
        assert {batch.batch_id for batch in answers} == {batch.batch_id for batch in listed}
        assert len({batch.enqueue_seq for batch in listed}) == 17

    async def test_any_text_can_be_a_source_key(self, storage: Storage) -> None:
        """No key is taken for another, for a pattern or for nothing."""
        store = await a_store(storage)
        batches = await enqueued(
            store, *(some_work(a_wake(at), key=key) for at, key in enumerate(ODD_IDS))
        )
        assert len({batch.batch_id for batch in batches}) == len(ODD_IDS)
        again = await enqueued(store, *(some_work(key=key) for key in ODD_IDS))
        assert again == batches

    async def test_replacing_a_session_empties_its_queue(self, storage: Storage) -> None:
        """What was meant for the old history is not done to the new one."""
        store = await a_store(storage)
        await enqueued(store, some_work(key="k"), a_queued_command())
        (theirs,) = await enqueued(store, some_work(session_id="other"))
        lease = await hold(store)
        await claimed_work(store, lease)
        await store.release_session_execution_lease(lease.fence())
        await accepted(store, an_acceptance(replace_session=True))
        assert await all_work(store) == []
        assert await all_work(store, "other") == [theirs.batch_id]
        (batch,) = await enqueued(store, some_work(a_wake(2), key="k"))
        assert await all_work(store) == [batch.batch_id]

    async def test_a_refused_replacement_leaves_the_queue(self, storage: Storage) -> None:
        """A busy lane refuses, and then nothing has happened."""
        store = await a_store(storage)
        (batch,) = await enqueued(store, some_work())
        await hold(store, owner=BOB)
        await store.accept_turn(an_acceptance(replace_session=True))
        assert await all_work(store) == [batch.batch_id]
