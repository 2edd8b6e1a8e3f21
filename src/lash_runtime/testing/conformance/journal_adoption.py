"""Taking a turn over: with all that is on record of it, by whoever has the lane."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...ports.journal import JournalWrite
from ...ports.leases import LeaseAcquired, LeaseOwnerIdentity
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired, StoreBackendError
from ...ports.turn_ledger import LaneUnfinished, TurnState
from ..clocks import ManualClock
from ._case import StorageCase
from ._journal_samples import (
    POLICY,
    JournalCase,
    a_journal,
    a_journaled_turn,
    a_turn_with,
    begun,
    done,
    entries,
    recorded,
    reserved,
    taken_over,
)
from ._raises import raised_by
from ._samples import (
    ALICE_AGAIN,
    BOB,
    TTL_MS,
    a_commit,
    a_stamp,
    accepted,
    an_acceptance,
    as_committed,
    as_failed,
    hold,
)
from .durable import DurableStorageConformance, OpenStorage
from .leases import assert_busy


class JournalAdoptionConformance(JournalCase):
    """Who goes on with a turn, and how it is told that processes die of it."""

    async def test_the_next_holder_adopts_a_turn_with_its_journal(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Row, journal and head are of one instant, and the turn is the adopter's from then on."""
        store = await a_journal(journaling)
        left = await a_turn_with(store, recorded("model"), reserved("b"), reserved("a"))
        await store.commit_runtime_state(a_commit(left.lease.fence()))
        clock.advance(TTL_MS / 1000)
        outcome = await store.accept_turn(a_journaled_turn("t2", owner=BOB))
        assert isinstance(outcome, LaneUnfinished)
        assert outcome.rows == (left.row,)
        fence = outcome.lease.fence()
        adopted = await store.adopt_turn(fence, "t1")
        assert adopted.row == replace(
            left.row, fencing_token=fence.fencing_token, attempt=2, deaths=1
        )
        assert await store.load_turn("s", "t1") == adopted.row
        assert list(adopted.entries) == [done("model"), begun("b"), begun("a")]
        assert adopted.head is not None
        assert adopted.head == await store.load_head_stamp()
        await store.write_journal(fence, "t1", [recorded("a")])
        await store.commit_runtime_state(
            a_commit(fence, turn_settlement=as_committed(), turn_commit=a_stamp())
        )
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.result) == (TurnState.COMMITTED, as_committed().result)

    async def test_a_turn_without_a_head_is_adopted_without_one(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """The first turn of a session has nothing but its words."""
        store = await a_journal(journaling)
        await accepted(store, a_journaled_turn())
        adopted = await store.adopt_turn(await taken_over(store, clock), "t1")
        assert (adopted.head, adopted.entries) == (None, ())

    async def test_a_holder_can_adopt_what_it_left_itself(self, journaling: Storage) -> None:
        """One whose commit was lost on the way still has the lease, and goes on."""
        store = await a_journal(journaling)
        left = await a_turn_with(store, reserved("a"))
        adopted = await store.adopt_turn(left.lease.fence(), "t1")
        assert (adopted.row.attempt, adopted.row.fencing_token) == (2, left.row.fencing_token)
        await store.write_journal(left.lease.fence(), "t1", [reserved("a")])
        assert await entries(store) == [begun("a", runs=2)]

    async def test_whoever_was_adopted_from_writes_no_more(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """A process that was only slow must not add to what another goes on with."""
        store = await a_journal(journaling)
        left = await a_turn_with(store, reserved("a"))
        fence = await taken_over(store, clock)
        await store.adopt_turn(fence, "t1")
        await raised_by(
            store.write_journal(left.lease.fence(), "t1", [recorded("a")]),
            SessionExecutionLeaseExpired,
        )
        await raised_by(
            store.settle_turn(left.lease.fence(), as_failed(), release=True),
            SessionExecutionLeaseExpired,
        )
        assert await entries(store) == [begun("a")]
        await store.write_journal(fence, "t1", [recorded("a", "mine")])
        assert await entries(store) == [done("a", outcome="mine")]

    async def test_deaths_at_one_point_are_counted(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """A turn that kills every process is told by that; one that gets on is not."""
        store = await a_journal(journaling)
        await a_turn_with(store, recorded("a"))
        counts = []
        for life in range(6):
            owner = (BOB, ALICE_AGAIN)[life % 2]
            fence = await taken_over(store, clock, owner)
            row = (await store.adopt_turn(fence, "t1")).row
            counts.append((row.attempt, row.deaths))
            writes: dict[int, Sequence[JournalWrite]] = {
                0: [reserved("b")],  # begun, which gets nobody on
                2: [recorded("b")],
                3: [recorded("b"), recorded("a")],  # recorded before
            }
            await store.write_journal(fence, "t1", writes.get(life, ()))
        assert counts == [(2, 1), (3, 2), (4, 3), (5, 1), (6, 2), (7, 3)]

    async def test_a_turn_that_was_left_has_nobody_who_died(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Closing a process is no sign that the turn is at fault, wherever it has got to."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a"))
        await store.leave_turn(turn.lease.fence(), "t1")
        counts = []
        for life in range(6):
            lease = await hold(store, owner=(BOB, ALICE_AGAIN)[life % 2])
            fence = lease.fence()
            row = (await store.adopt_turn(fence, "t1")).row
            counts.append((row.attempt, row.deaths))
            if life == 1:
                await store.write_journal(fence, "t1", [recorded("b")])
            if life in (2, 3):
                clock.advance(TTL_MS / 1000)
            else:
                await store.leave_turn(fence, "t1")
                left = await store.load_turn("s", "t1")
                assert left is not None
                assert (left.state, left.deaths) == (TurnState.RUNNING, row.deaths)
        assert counts == [(2, 0), (3, 0), (4, 0), (5, 1), (6, 2), (7, 2)]

    async def test_leaving_gives_the_lane_back_and_keeps_the_turn(
        self, journaling: Storage
    ) -> None:
        """The next to use the session finds lane and turn at once."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        await store.leave_turn(turn.lease.fence(), "t1")
        assert list(await store.list_unfinished_turns("s")) == [turn.row]
        outcome = await store.accept_turn(a_journaled_turn("t2", owner=BOB))
        assert isinstance(outcome, LaneUnfinished)
        assert outcome.lease.fencing_token == turn.lease.fencing_token + 1
        adopted = await store.adopt_turn(outcome.lease.fence(), "t1")
        assert list(adopted.entries) == [begun("a")]

    async def test_leaving_needs_the_live_lease(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Who does not hold the lane frees nothing and vouches for nobody. It is no error: there
        is nothing left to leave."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        fence = turn.lease.fence()
        await store.leave_turn(replace(fence, lease_token="forged"), "t1")  # noqa: S106
        await assert_busy(store, turn.lease)
        clock.advance(TTL_MS / 1000)
        await store.leave_turn(fence, "t1")
        taken = await hold(store, owner=BOB)
        await store.leave_turn(fence, "t1")
        await assert_busy(store, taken, ALICE_AGAIN)
        assert (await store.adopt_turn(taken.fence(), "t1")).row.deaths == 1

    async def test_leaving_a_turn_that_is_over_changes_nothing_about_it(
        self, journaling: Storage
    ) -> None:
        """The lane is given back all the same, also for a turn that nobody knows."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        await store.settle_turn(turn.lease.fence(), as_failed(), release=False)
        row = await store.load_turn("s", "t1")
        await store.leave_turn(turn.lease.fence(), "t1")
        assert await store.load_turn("s", "t1") == row
        lease = await hold(store, owner=BOB)
        await store.leave_turn(lease.fence(), "never")
        assert await store.load_turn("s", "never") is None
        await hold(store, owner=ALICE_AGAIN)

    async def test_adopting_needs_the_live_lease(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Whoever does not hold the lane gets no turn, and counts as no attempt."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        fence = turn.lease.fence()
        forged = replace(fence, lease_token="forged")  # noqa: S106
        await raised_by(store.adopt_turn(forged, "t1"), SessionExecutionLeaseExpired)
        clock.advance(TTL_MS / 1000)
        await raised_by(store.adopt_turn(fence, "t1"), SessionExecutionLeaseExpired)
        await hold(store, owner=BOB)
        await raised_by(store.adopt_turn(fence, "t1"), SessionExecutionLeaseExpired)
        assert await store.load_turn("s", "t1") == turn.row

    async def test_only_a_started_turn_with_a_journal_can_be_adopted(
        self, journaling: Storage
    ) -> None:
        """Not one that is unknown, over, or never journaled; the lane stays with its holder."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        await store.settle_turn(turn.lease.fence(), as_failed(), release=False)
        plain = await accepted(store, an_acceptance("t2"))
        fence = plain.lease.fence()
        rows = [await store.load_turn("s", turn_id) for turn_id in ("t1", "t2")]
        for turn_id in ("never", "t1", "t2"):
            await raised_by(store.adopt_turn(fence, turn_id), StoreBackendError)
        assert [await store.load_turn("s", turn_id) for turn_id in ("t1", "t2")] == rows
        await assert_busy(store, plain.lease)

    async def test_a_cancelled_adoption_happened_or_did_not(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """However far it had come, the row says so, and the turn can be adopted again."""
        store = await a_journal(journaling)
        await a_turn_with(store, reserved("a"))
        attempt = 1
        for steps in range(10):
            fence = await taken_over(store, clock, (BOB, ALICE_AGAIN)[steps % 2])
            async with anyio.create_task_group() as callers:
                callers.start_soon(store.adopt_turn, fence, "t1")
                for _ in range(steps):
                    await checkpoint()
                callers.cancel_scope.cancel()
            row = await store.load_turn("s", "t1")
            assert row is not None
            happened = row.attempt > attempt
            assert row.attempt == attempt + happened
            assert (row.fencing_token == fence.fencing_token) is happened
            attempt = row.attempt


class DurableJournalConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place."""

    open_storage = DurableStorageConformance.open_storage

    @pytest.mark.usefixtures("needs_journal")
    async def test_a_journal_is_there_after_opening_again(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """What was written is what the next process goes on with."""
        storage = await open_storage()
        turn = await a_turn_with(await a_journal(storage), recorded("a"), reserved("nap", 1_000))
        await storage.aclose()
        store = await a_journal(await open_storage())
        assert await entries(store) == [done("a"), begun("nap", due_at_ms=1_000)]
        assert await store.load_turn("s", "t1") == turn.row
        adopted = await store.adopt_turn(await taken_over(store, clock), "t1")
        assert list(adopted.entries) == [done("a"), begun("nap", due_at_ms=1_000)]
        assert adopted.row.policy == POLICY

    @pytest.mark.usefixtures("needs_journal")
    async def test_of_two_processes_one_adopts(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """The one that got the lane; the other is refused, and the turn has one more attempt."""
        stores = [await a_journal(await open_storage()) for _ in range(2)]
        await a_turn_with(stores[0], reserved("a"))
        clock.advance(TTL_MS / 1000)
        adopted: list[int] = []

        async def race(at: int) -> None:
            owner = LeaseOwnerIdentity(owner_id=f"owner-{at}", incarnation_id="1")
            store = stores[at % 2]
            claimed = await store.try_claim_session_execution_lease("s", owner, TTL_MS)
            if isinstance(claimed, LeaseAcquired):
                adopted.append((await store.adopt_turn(claimed.lease.fence(), "t1")).row.attempt)

        async with anyio.create_task_group() as tasks:
            for at in range(8):
                tasks.start_soon(race, at)
        assert adopted == [2]
