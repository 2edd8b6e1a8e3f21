"""What a storage that outlives its process must also do: be opened again, and by two at once."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress

import anyio
import pytest

from ...ports.leases import LeaseAcquired, LeaseOwnerIdentity, SessionExecutionLease
from ...ports.session_catalogue import SessionQuery
from ...ports.storage import Storage
from ...ports.store_errors import HeadRevisionConflict, StoredSessionDeleted
from ...ports.turn_ledger import LaneUnfinished, TurnAccepted, TurnKnown, TurnRefused
from ..clocks import ManualClock
from ..ids import FixedIdSource
from ._case import Part, StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
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
from .attachments import PNG
from .checkpoints import FULL
from .deletion import a_full_session, every_call
from .leases import assert_busy

OpenStorage = Callable[[], Awaitable[Storage]]
"""Opens one more storage over the same place; the case closes what it opened."""


class DurableStorageConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place."""

    @pytest.fixture
    async def open_storage(
        self, storage_factory: Callable[[], Storage], clock: ManualClock
    ) -> AsyncIterator[OpenStorage]:
        async with AsyncExitStack() as opened:
            count = 0

            async def open_one() -> Storage:
                nonlocal count
                count += 1
                storage = storage_factory()
                storage.bind(clock=clock, ids=FixedIdSource(count))
                await storage.open()
                opened.push_async_callback(storage.aclose)
                return storage

            yield open_one

    async def test_what_was_deleted_stays_so(self, open_storage: OpenStorage) -> None:
        """After opening again the id is free, and its counters go on from where they were."""
        storage = await open_storage()
        lease = await a_full_session(storage)
        await storage.session_stores.delete_session("s")
        await storage.aclose()
        storage = await open_storage()
        assert (await storage.session_stores.list_sessions(SessionQuery())).sessions == ()
        again = await a_full_session(storage)
        row = await (await a_store(storage)).load_turn("s", "t2")
        assert row is not None
        assert row.generation == 2
        assert again.fencing_token > lease.fencing_token

    async def test_a_deletion_is_felt_through_every_handle(
        self, open_storage: OpenStorage, disclaimed: Collection[Part]
    ) -> None:
        """The other storage may be that of another process: it is refused by its next call."""
        here, there = await open_storage(), await open_storage()
        lease = await a_full_session(here)
        store = await a_store(here)
        await there.session_stores.delete_session("s")
        await a_full_session(there)
        for call in every_call(store, lease, disclaimed).values():
            await raised_by(call(), StoredSessionDeleted)
        row = await (await a_store(here)).load_turn("s", "t2")
        assert row is not None
        assert row.generation == 2

    async def test_deleting_and_beginning_through_many_handles_at_once(
        self, open_storage: OpenStorage
    ) -> None:
        """Each deletion that found a session ended one generation, and the next began from
        nothing; nobody is shown a session that is half of each."""
        handles = [await open_storage() for _ in range(2)]
        ended: list[bool] = []

        async def begin(storage: Storage, number: int) -> None:
            with suppress(StoredSessionDeleted):
                store = await a_store(storage)
                outcome = await store.accept_turn(an_acceptance(f"t{number}"))
                if isinstance(outcome, TurnAccepted):
                    assert outcome.row.seq == 1
                    await store.commit_runtime_state(a_commit(outcome.lease.fence()))

        async def end(storage: Storage) -> None:
            ended.append((await storage.session_stores.delete_session("s")).existed)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                for storage in handles:
                    tasks.start_soon(begin, storage, number)
                    tasks.start_soon(end, storage)
        await end(handles[0])
        last = await accepted(await a_store(handles[1]), an_acceptance())
        assert last.row.generation == 1 + sum(ended)
        assert (last.row.seq, last.head) == (1, None)

    async def test_everything_is_there_after_opening_again(self, open_storage: OpenStorage) -> None:
        """History, checkpoint, usage, rows, metadata and manifest, exactly as they were."""
        storage = await open_storage()
        store = await a_store(storage)
        done = await accepted(store, an_acceptance())
        await store.commit_runtime_state(
            a_commit(
                done.lease.fence(),
                graph=first(*a_chain("a", "b")),
                checkpoint=FULL,
                usage_deltas=(spent("turn", "m", 3),),
                turn_settlement=as_committed(),
                turn_commit=a_stamp(),
            )
        )
        await accepted(store, an_acceptance("t2", "in the middle of it"))
        image = await storage.attachments.put(b"an image", PNG)
        before = await everything(store, "s", "t1", "t2")
        await storage.aclose()

        reopened = await open_storage()
        again = await a_store(reopened)
        assert await everything(again, "s", "t1", "t2") == before
        assert (await reopened.attachments.get(image.id)).data == b"an image"

    async def test_a_lease_outlives_its_storage(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """A holder that closed or died without releasing is waited for, and then fenced out."""
        storage = await open_storage()
        lease = await hold(await a_store(storage))
        await storage.aclose()
        store = await a_store(await open_storage())
        await assert_busy(store, lease)
        clock.advance(TTL_MS / 1000)
        assert (await hold(store, owner=BOB)).fencing_token == lease.fencing_token + 1

    async def test_a_lost_turn_is_found_by_the_next_process(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Accepted means stored: the row is handed to whoever takes the lane next."""
        storage = await open_storage()
        lost = await accepted(await a_store(storage), an_acceptance())
        await storage.aclose()
        clock.advance(TTL_MS / 1000)
        store = await a_store(await open_storage())
        outcome = await store.accept_turn(an_acceptance("t2", owner=BOB))
        assert isinstance(outcome, LaneUnfinished)
        assert outcome.rows == (lost.row,)

    async def test_a_committed_turn_is_known_to_the_next_process(
        self, open_storage: OpenStorage
    ) -> None:
        """Both the row and the stamp answer a repetition after a restart."""
        storage = await open_storage()
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        commit = a_commit(turn.lease.fence(), turn_settlement=as_committed(), turn_commit=a_stamp())
        result = await store.commit_runtime_state(commit)
        await storage.aclose()
        again = await a_store(await open_storage())
        replay = await again.commit_runtime_state(commit)
        assert (replay.head_revision, replay.replayed) == (result.head_revision, True)
        assert isinstance(await again.accept_turn(an_acceptance()), TurnKnown)

    async def test_two_storages_share_one_lane(self, open_storage: OpenStorage) -> None:
        """Of concurrent first claims, half through each, exactly one wins."""
        stores = [await a_store(await open_storage()) for _ in range(2)]
        won: list[SessionExecutionLease] = []

        async def claim(at: int) -> None:
            owner = LeaseOwnerIdentity(owner_id=f"owner-{at}", incarnation_id="1")
            outcome = await stores[at % 2].try_claim_session_execution_lease("s", owner, TTL_MS)
            if isinstance(outcome, LeaseAcquired):
                won.append(outcome.lease)

        async with anyio.create_task_group() as claims:
            for at in range(8):
                claims.start_soon(claim, at)
        assert [lease.fencing_token for lease in won] == [1]

    async def test_a_turn_of_one_storage_keeps_the_other_out(
        self, open_storage: OpenStorage
    ) -> None:
        """The second is refused before any work, and runs once the first is done."""
        one, two = [await a_store(await open_storage()) for _ in range(2)]
        turn = await accepted(one, an_acceptance())
        asked = an_acceptance("t2", owner=BOB)
        assert await two.accept_turn(asked) == TurnRefused(turn.lease)
        fence = turn.lease.fence()
        await one.commit_runtime_state(
            a_commit(fence, turn_settlement=as_committed(), release_session_execution_lease=fence)
        )
        second = await accepted(two, asked)
        assert second.head == await one.load_head_stamp() is not None

    async def test_a_completed_write_is_seen_by_every_storage(
        self, open_storage: OpenStorage
    ) -> None:
        """A read that begins after a write has been answered never shows the state before it."""
        one, two = [await a_store(await open_storage()) for _ in range(2)]
        fence = (await hold(one)).fence()
        await one.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a"))))
        for at, node_id in enumerate("bcdef"):
            parent = "abcdef"[at]
            await one.commit_runtime_state(a_commit(fence, graph=append(a_node(node_id, parent))))
            assert await everything(two) == await everything(one)

    async def test_of_two_writers_on_one_revision_one_wins(self, open_storage: OpenStorage) -> None:
        """Even under one fence, a head that moved meanwhile is noticed."""
        one, two = [await a_store(await open_storage()) for _ in range(2)]
        fence = (await hold(one)).fence()
        await one.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a"))))
        left = a_commit(fence, expected_head_revision=1, graph=append(a_node("l", "a")))
        right = a_commit(fence, expected_head_revision=1, graph=append(a_node("r", "a")))
        await two.commit_runtime_state(right)
        await raised_by(one.commit_runtime_state(left), HeadRevisionConflict)
        assert await one.load_node("l") is None
