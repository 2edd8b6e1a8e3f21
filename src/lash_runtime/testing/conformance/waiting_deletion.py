"""Deleting a session for which something waits."""

from collections.abc import Awaitable, Callable, Mapping

from ...model.checkpoints import CheckpointKind
from ...ports.leases import SessionExecutionLease
from ...ports.persistence import RuntimePersistence
from ...ports.queued_work import QueuedWorkClaim
from ...ports.storage import Storage
from ...ports.store_errors import (
    QueuedWorkClaimExpired,
    StoredSessionDeleted,
    TurnInputClaimExpired,
)
from ...ports.turn_inputs import InputIdTarget, TurnInputClaim
from ._case import StorageCase
from ._raises import raised_by
from ._samples import TTL_MS, a_commit, a_store, hold
from ._waiting_samples import (
    IDLE,
    MANY,
    a_queued_command,
    claimed_inputs,
    claimed_work,
    enqueued,
    for_next_turn,
    for_turn,
    ids,
    next_command,
    next_inputs,
    next_work,
    some_work,
    submitted,
)


def every_waiting_call(
    store: RuntimePersistence,
    lease: SessionExecutionLease,
    work: QueuedWorkClaim,
    inputs: TurnInputClaim,
) -> Mapping[str, Callable[[], Awaitable[object]]]:
    """Each method on what waits, asked by somebody who believes in its lease and claims."""
    fence, owner = lease.fence(), lease.owner
    target = InputIdTarget(value=ids(inputs)[0])
    return {
        "enqueue work": lambda: store.enqueue_queued_work(some_work()),
        "list work": lambda: store.list_queued_work("s"),
        "list pending work": lambda: store.list_pending_queued_work("s"),
        "claim command": lambda: next_command(store, lease),
        "claim work": lambda: next_work(store, lease),
        "claim by ids": lambda: store.claim_ready_queued_work_by_batch_ids(
            "s", fence, owner, IDLE, TTL_MS, ids(work)
        ),
        "renew work": lambda: store.renew_queued_work_claim(work, TTL_MS),
        "abandon work": lambda: store.abandon_queued_work_claim(work),
        "cancel work": lambda: store.cancel_queued_work_batch("s", ids(work)[0]),
        "enqueue input": lambda: store.enqueue_pending_turn_input(for_next_turn()),
        "list inputs": lambda: store.list_pending_turn_inputs("s"),
        "claim inputs": lambda: next_inputs(store, lease),
        "claim an input": lambda: store.claim_turn_input("s", fence, ids(inputs)[0]),
        "claim steering": lambda: store.claim_active_turn_inputs(
            "s", fence, owner, "t1", CheckpointKind.AFTER_WORK, TTL_MS, MANY
        ),
        "renew inputs": lambda: store.renew_turn_input_claim(inputs, TTL_MS),
        "abandon inputs": lambda: store.abandon_turn_input_claim(inputs),
        "defer orphans": lambda: store.defer_orphaned_active_turn_inputs("s", fence),
        "cancel an input": lambda: store.cancel_pending_turn_input("s", ids(inputs)[0]),
        "cancel inputs": lambda: store.cancel_pending_turn_inputs("s", [target]),
        "cancel a suffix": lambda: store.cancel_pending_turn_input_suffix("s", target),
    }


class WaitingDeletionConformance(StorageCase):
    """What waits for a session goes with it, and so does the right to any of it."""

    async def test_what_waits_goes_with_its_session(self, storage: Storage) -> None:
        """Work, commands and inputs, claimed or not; what waits for another session stays."""
        store = await a_store(storage)
        other = await a_store(storage, "other")
        await enqueued(store, a_queued_command(), some_work(key="k"), some_work())
        await submitted(store, for_next_turn(key="k"), for_turn(), for_next_turn("more"))
        await enqueued(other, some_work(session_id="other"))
        await submitted(other, for_next_turn(session_id="other"))
        lease = await hold(store)
        await next_command(store, lease)
        await claimed_inputs(store, lease, most=1)
        await storage.session_stores.delete_session("s")
        again = await a_store(storage)
        assert list(await again.list_queued_work("s")) == []
        assert list(await again.list_pending_turn_inputs("s")) == []
        held = await hold(again)
        assert await next_command(again, held) is None
        assert await next_work(again, held) is None
        assert await next_inputs(again, held) is None
        assert len(await other.list_queued_work("other")) == 1
        assert len(await other.list_pending_turn_inputs("other")) == 1

    async def test_source_keys_are_free_afterwards(self, storage: Storage) -> None:
        """The same key names something new, also with other content."""
        store = await a_store(storage)
        await enqueued(store, some_work(key="k"))
        await submitted(store, for_next_turn("one", key="k"))
        await storage.session_stores.delete_session("s")
        again = await a_store(storage)
        (batch,) = await enqueued(again, some_work(key="k"))
        await submitted(again, for_next_turn("two", key="k"))
        assert [row.batch_id for row in await again.list_queued_work("s")] == [batch.batch_id]
        (waiting,) = await again.list_pending_turn_inputs("s")
        assert waiting.input == for_next_turn("two").input

    async def test_a_store_of_a_deleted_session_moves_nothing_that_waits(
        self, storage: Storage
    ) -> None:
        """Neither while the id is free nor when it is in use again."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        await submitted(store, for_next_turn())
        lease = await hold(store)
        work, inputs = await claimed_work(store, lease), await claimed_inputs(store, lease)
        await storage.session_stores.delete_session("s")
        for call in every_waiting_call(store, lease, work, inputs).values():
            await raised_by(call(), StoredSessionDeleted)
        again = await a_store(storage)
        await enqueued(again, some_work())
        await submitted(again, for_next_turn())
        before = await again.list_queued_work("s"), await again.list_pending_turn_inputs("s")
        for call in every_waiting_call(store, lease, work, inputs).values():
            await raised_by(call(), StoredSessionDeleted)
        assert (
            await again.list_queued_work("s"),
            await again.list_pending_turn_inputs("s"),
        ) == before

    async def test_a_claim_of_a_deleted_session_completes_nothing(self, storage: Storage) -> None:
        """Its generation is over, whichever store it is presented through."""
        store = await a_store(storage)
        await enqueued(store, some_work())
        await submitted(store, for_next_turn())
        lease = await hold(store)
        work, inputs = await claimed_work(store, lease), await claimed_inputs(store, lease)
        await storage.session_stores.delete_session("s")
        again = await a_store(storage)
        await enqueued(again, some_work())
        await submitted(again, for_next_turn())
        held = await hold(again)
        await raised_by(
            again.commit_runtime_state(
                a_commit(held.fence(), completed_queue_claims=(work.completion(),))
            ),
            QueuedWorkClaimExpired,
        )
        await raised_by(
            again.commit_runtime_state(
                a_commit(held.fence(), completed_turn_input_claims=(inputs.completion(),))
            ),
            TurnInputClaimExpired,
        )
        assert len(await again.list_pending_queued_work("s")) == 1
        assert len(await again.list_pending_turn_inputs("s")) == 1
