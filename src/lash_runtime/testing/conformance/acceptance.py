"""Accepting a turn: its row and its lane are written together, or neither is."""

from dataclasses import replace

import anyio
from anyio.lowlevel import checkpoint

from ...ports.leases import LeaseAcquired, LeaseBusy
from ...ports.storage import Storage
from ...ports.store_errors import (
    HeadRevisionConflict,
    TurnContentConflict,
)
from ...ports.turn_ledger import (
    LaneUnfinished,
    TurnAcceptanceOutcome,
    TurnAccepted,
    TurnKnown,
    TurnRefused,
    TurnState,
)
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    ALICE_AGAIN,
    BOB,
    TTL_MS,
    a_chain,
    a_commit,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_interrupted,
    at_turn,
    everything,
    first,
    hold,
    spent,
)
from ._waiting_samples import a_queued_command, enqueued, some_work
from .graphs import a_read
from .leases import a_dead_owner, a_living_owner, assert_busy


async def a_committed_turn(store: TurnPersistence, turn_id: str = "t1", index: int = 1) -> None:
    """A turn that ran to its end and gave the lane back."""
    turn = await accepted(store, an_acceptance(turn_id))
    fence = turn.lease.fence()
    await store.commit_runtime_state(
        a_commit(
            fence,
            graph=first(*a_chain("a", "b")),
            checkpoint=at_turn(index),
            usage_deltas=(spent("turn", "m", 3),),
            turn_commit=a_stamp(turn_id),
            turn_settlement=as_committed(turn_id),
            release_session_execution_lease=fence,
        )
    )


class AcceptanceConformance(StorageCase):
    """Row and lane come together, or neither comes."""

    async def test_an_accepted_turn_is_stored_and_holds_the_lane(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The words of the user are durable, started, and under the lease that was answered."""
        store = await a_store(storage)
        acceptance = an_acceptance(text="Pack for Oslo \U0001f9ed")
        turn = await accepted(store, acceptance)
        row = turn.row
        assert (row.session_id, row.turn_id, row.state) == ("s", "t1", TurnState.RUNNING)
        assert (row.input, row.content_hash) == (acceptance.input, acceptance.content_hash)
        assert (row.options, row.required_wiring) == (
            acceptance.options,
            acceptance.required_wiring,
        )
        assert (row.fencing_token, row.accepted_at_ms) == (
            turn.lease.fencing_token,
            clock.timestamp_ms(),
        )
        assert (row.turn_index, row.base_revision, row.settled_at_ms) == (1, None, None)
        assert (turn.head, turn.command_leads) == (None, False)
        assert await store.load_turn("s", "t1") == row
        assert list(await store.list_unfinished_turns("s")) == [row]
        await assert_busy(store, turn.lease)

    async def test_acceptance_says_what_the_head_is(self, storage: Storage) -> None:
        """The turn is numbered after the last that was committed, and bound to that head."""
        store = await a_store(storage)
        await a_committed_turn(store, "t1", index=4)
        turn = await accepted(store, an_acceptance("t2"))
        assert turn.head is not None
        assert turn.head == await store.load_head_stamp()
        assert (turn.row.turn_index, turn.row.base_revision) == (5, turn.head.head_revision)
        assert turn.row.seq > 1

    async def test_a_busy_lane_refuses_and_leaves_no_row(self, storage: Storage) -> None:
        """Another owner and another incarnation are refused alike, and told who holds it."""
        store = await a_store(storage)
        lease = await hold(store)
        for owner in (BOB, ALICE_AGAIN):
            outcome = await store.accept_turn(an_acceptance(owner=owner))
            assert outcome == TurnRefused(lease)
        assert await store.load_turn("s", "t1") is None
        assert list(await store.list_unfinished_turns("s")) == []
        await assert_busy(store, lease)

    async def test_a_holder_without_a_turn_is_accepted_under_its_own_lease(
        self, storage: Storage
    ) -> None:
        """Acceptance enters again like any claim of the same incarnation."""
        store = await a_store(storage)
        lease = await hold(store)
        turn = await accepted(store, an_acceptance())
        assert turn.lease.fence() == lease.fence()

    async def test_the_same_turn_again_is_known(self, storage: Storage) -> None:
        """Whoever asks, and whoever holds the lane: the row is answered, nothing is written."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        for owner in (turn.lease.owner, BOB):
            assert await store.accept_turn(an_acceptance(owner=owner)) == TurnKnown(turn.row)
        await assert_busy(store, turn.lease)
        await store.release_session_execution_lease(turn.lease.fence())
        assert await store.accept_turn(an_acceptance(owner=BOB)) == TurnKnown(turn.row)
        taken = await hold(store, owner=BOB)
        assert taken.fencing_token == turn.lease.fencing_token + 1

    async def test_a_settled_turn_is_known_with_its_result(self, storage: Storage) -> None:
        """A caller that comes back attaches to what happened instead of paying again."""
        store = await a_store(storage)
        await a_committed_turn(store)
        outcome = await store.accept_turn(an_acceptance())
        assert isinstance(outcome, TurnKnown)
        assert (outcome.row.state, outcome.row.result) == (
            TurnState.COMMITTED,
            as_committed().result,
        )
        assert list(await store.list_unfinished_turns("s")) == []
        await hold(store, owner=BOB)

    async def test_a_turn_id_has_one_content(self, storage: Storage) -> None:
        """Other words under a known id are a conflict, running or settled, and change nothing."""
        store = await a_store(storage)
        await a_committed_turn(store)
        running = await accepted(store, an_acceptance("t2"))
        before = await everything(store, "s", "t1", "t2")
        for turn_id in ("t1", "t2"):
            error = await raised_by(
                store.accept_turn(an_acceptance(turn_id, "other words")), TurnContentConflict
            )
            assert (error.session_id, error.turn_id) == ("s", turn_id)
        assert await everything(store, "s", "t1", "t2") == before
        await assert_busy(store, running.lease)

    async def test_unfinished_turns_are_handed_over_before_anything_is_accepted(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The next holder gets lane and rows, closes them, and asks again."""
        store = await a_store(storage)
        left = await accepted(store, an_acceptance())
        clock.advance(TTL_MS / 1000)
        outcome = await store.accept_turn(an_acceptance("t2", owner=BOB))
        assert isinstance(outcome, LaneUnfinished)
        assert outcome.rows == (left.row,)
        assert outcome.lease.owner == BOB
        assert outcome.lease.fencing_token == left.lease.fencing_token + 1
        assert outcome.head == await store.load_head_stamp()
        assert await store.load_turn("s", "t2") is None
        await assert_busy(store, outcome.lease, ALICE_AGAIN)
        await store.settle_turn(outcome.lease.fence(), as_interrupted(), release=False)
        turn = await accepted(store, an_acceptance("t2", owner=BOB))
        assert turn.lease.fence() == outcome.lease.fence()
        assert turn.row.seq > left.row.seq

    async def test_a_holder_is_also_handed_what_it_left_itself(self, storage: Storage) -> None:
        """A turn whose commit was lost on the way stands in front of the next one."""
        store = await a_store(storage)
        left = await accepted(store, an_acceptance())
        outcome = await store.accept_turn(an_acceptance("t2"))
        assert isinstance(outcome, LaneUnfinished)
        assert outcome.rows == (left.row,)
        assert outcome.lease.fence() == left.lease.fence()

    async def test_an_observed_dead_holder_is_taken_over(self, storage: Storage) -> None:
        """Acceptance takes the lane with the same proof that a reclaim needs."""
        store = await a_store(storage)
        claimant = a_living_owner()
        lease = await hold(store, owner=a_dead_owner())
        asked = an_acceptance(owner=claimant)
        assert await store.accept_turn(asked) == TurnRefused(lease)
        stale = replace(lease.fence(), fencing_token=lease.fencing_token + 1)
        assert await store.accept_turn(replace(asked, observed_holder=stale)) == TurnRefused(lease)
        turn = await accepted(store, replace(asked, observed_holder=lease.fence()))
        assert turn.lease.fencing_token == lease.fencing_token + 1
        assert turn.row.fencing_token == turn.lease.fencing_token

    async def test_an_observed_living_holder_keeps_the_lane(self, storage: Storage) -> None:
        """Observing somebody proves nothing by itself."""
        store = await a_store(storage)
        for owner in (a_living_owner("holder"), BOB):
            lease = await hold(store, owner=owner)
            outcome = await store.accept_turn(
                an_acceptance(owner=a_living_owner(), observed_holder=lease.fence())
            )
            assert outcome == TurnRefused(lease)
            await store.release_session_execution_lease(lease.fence())
        assert await store.load_turn("s", "t1") is None

    async def test_of_concurrent_turns_one_is_accepted(self, storage: Storage) -> None:
        """Two owners never run on one session, however close they come."""
        store = await a_store(storage)
        outcomes: list[TurnAcceptanceOutcome] = []

        async def ask(name: str) -> None:
            owner = BOB.model_copy(update={"owner_id": name})
            outcomes.append(await store.accept_turn(an_acceptance(f"turn-{name}", owner=owner)))

        async with anyio.create_task_group() as callers:
            for at in range(8):
                callers.start_soon(ask, str(at))
        assert sum(isinstance(outcome, TurnAccepted) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, TurnRefused) for outcome in outcomes) == 7
        assert len(await store.list_unfinished_turns("s")) == 1

    async def test_of_turns_of_one_owner_at_once_one_is_accepted(self, storage: Storage) -> None:
        """The others enter the same lease, are handed the turn that runs, and leave it its lane."""
        store = await a_store(storage)
        outcomes: list[TurnAcceptanceOutcome] = []

        async def ask(at: int) -> None:
            outcomes.append(await store.accept_turn(an_acceptance(f"t{at}")))

        async with anyio.create_task_group() as callers:
            for at in range(8):
                callers.start_soon(ask, at)
        turns = [each for each in outcomes if isinstance(each, TurnAccepted)]
        assert len(turns) == 1
        turn = turns[0]
        for other in outcomes:
            assert other is turn or (
                isinstance(other, LaneUnfinished)
                and other.rows == (turn.row,)
                and other.lease.fence() == turn.lease.fence()
            )
        assert list(await store.list_unfinished_turns("s")) == [turn.row]
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), turn_settlement=as_committed(turn.row.turn_id))
        )

    async def test_a_turn_that_is_submitted_many_times_at_once_is_one(
        self, storage: Storage
    ) -> None:
        """The one that is accepted keeps its lane, whatever the others are told of it."""
        store = await a_store(storage)
        outcomes: list[TurnAcceptanceOutcome] = []

        async def ask() -> None:
            outcomes.append(await store.accept_turn(an_acceptance()))

        async with anyio.create_task_group() as callers:
            for _ in range(8):
                callers.start_soon(ask)
        turns = [each for each in outcomes if isinstance(each, TurnAccepted)]
        assert len(turns) == 1
        turn = turns[0]
        assert [each for each in outcomes if each is not turn] == [TurnKnown(turn.row)] * 7
        assert list(await store.list_unfinished_turns("s")) == [turn.row]
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), turn_settlement=as_committed())
        )

    async def test_acceptance_says_whether_a_command_leads(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """It has to be applied before the turn runs; one that is not due yet, or that stands
        behind work, does not lead."""
        now_ms = clock.timestamp_ms()
        for session_id, drafts, leads in (
            ("nothing waits", [], False),
            ("a command waits", [a_queued_command()], True),
            ("work waits", [some_work()], False),
            ("work stands first", [some_work(), a_queued_command()], False),
            ("not due yet", [a_queued_command(available_at_ms=now_ms + 1)], False),
            ("due now", [a_queued_command(available_at_ms=now_ms)], True),
            ("work is not due yet", [some_work(available_at_ms=2**50), a_queued_command()], True),
        ):
            store = await a_store(storage, session_id)
            await enqueued(store, *(replace(each, session_id=session_id) for each in drafts))
            turn = await accepted(store, an_acceptance(session_id=session_id))
            assert turn.command_leads is leads, session_id

    async def test_a_command_goes_with_the_session_that_is_replaced(self, storage: Storage) -> None:
        """What was asked of the old history is no concern of the new one."""
        store = await a_store(storage)
        await enqueued(store, a_queued_command())
        turn = await accepted(store, an_acceptance(replace_session=True))
        assert not turn.command_leads
        assert list(await store.list_queued_work("s")) == []

    async def test_a_cancelled_acceptance_happened_or_did_not(self, storage: Storage) -> None:
        """However far it had come, there is a row with its lane, or neither."""
        for steps in range(10):
            session_id = f"s{steps}"
            store = await a_store(storage, session_id)
            asked = an_acceptance(session_id=session_id)
            async with anyio.create_task_group() as callers:
                callers.start_soon(store.accept_turn, asked)
                for _ in range(steps):
                    await checkpoint()
                callers.cancel_scope.cancel()
            row = await store.load_turn(session_id, "t1")
            claimed = await store.try_claim_session_execution_lease(session_id, BOB, TTL_MS)
            assert isinstance(claimed, LeaseAcquired if row is None else LeaseBusy)
            if isinstance(claimed, LeaseBusy):
                assert row is not None
                assert row.fencing_token == claimed.holder.fencing_token
                assert await store.accept_turn(asked) == TurnKnown(row)

    async def test_replacing_a_session_empties_it_in_the_same_step(self, storage: Storage) -> None:
        """History and usage are gone; neither the revision nor the lane's counter is reused."""
        store = await a_store(storage)
        await a_committed_turn(store)
        old = await store.load_head_stamp()
        assert old is not None
        turn = await accepted(store, an_acceptance("t2", replace_session=True))
        assert turn.lease.fencing_token == 2
        assert turn.row.turn_index == 1
        assert turn.head == await store.load_head_stamp()
        assert await store.load_node("a") is None
        result = await store.commit_runtime_state(
            a_commit(turn.lease.fence(), graph=first(*a_chain("z")))
        )
        assert result.head_revision > old.head_revision
        read = await a_read(store)
        assert [node.node_id for node in read.nodes] == ["z"]
        assert read.token_ledger == ()

    async def test_a_state_from_before_a_replacement_cannot_be_committed(
        self, storage: Storage
    ) -> None:
        """Whoever read the old session finds that its revision is over."""
        store = await a_store(storage)
        await a_committed_turn(store)
        old = await store.load_head_stamp()
        assert old is not None
        turn = await accepted(store, an_acceptance("t2", replace_session=True))
        await raised_by(
            store.commit_runtime_state(
                a_commit(turn.lease.fence(), expected_head_revision=old.head_revision)
            ),
            HeadRevisionConflict,
        )

    async def test_replacing_discards_what_is_unfinished(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A turn of the old session is over, and says so to whoever asks for it."""
        store = await a_store(storage)
        await accepted(store, an_acceptance())
        clock.advance(TTL_MS / 1000)
        turn = await accepted(store, an_acceptance("t2", owner=BOB, replace_session=True))
        assert list(await store.list_unfinished_turns("s")) == [turn.row]
        discarded = await store.load_turn("s", "t1")
        assert discarded is not None
        assert (discarded.state, discarded.input) == (TurnState.INTERRUPTED, None)

    async def test_a_busy_lane_refuses_a_replacement_too(self, storage: Storage) -> None:
        """Nothing of the session is touched under somebody else's feet."""
        store = await a_store(storage)
        await a_committed_turn(store)
        running = await accepted(store, an_acceptance("t2"))
        before = await everything(store, "s", "t1", "t2", "t3")
        outcome = await store.accept_turn(an_acceptance("t3", owner=BOB, replace_session=True))
        assert outcome == TurnRefused(running.lease)
        assert await everything(store, "s", "t1", "t2", "t3") == before

    async def test_a_known_turn_does_not_replace_its_session(self, storage: Storage) -> None:
        """Asking again after an answer was lost must not throw away what the turn has done."""
        store = await a_store(storage)
        asked = an_acceptance(replace_session=True)
        turn = await accepted(store, asked)
        await store.commit_runtime_state(a_commit(turn.lease.fence()))
        before = await everything(store, "s", "t1")
        assert await store.accept_turn(asked) == TurnKnown(turn.row)
        assert await everything(store, "s", "t1") == before
