"""Ending a turn: once, by whoever holds the lane, as the table of turn states allows."""

from dataclasses import replace

from ...model.canonical import canonical_hash
from ...ports.session_state import FullGraph
from ...ports.storage import Storage
from ...ports.store_errors import (
    SessionExecutionLeaseExpired,
    StoreBackendError,
)
from ...ports.turn_ledger import (
    TurnSettlement,
    TurnState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    ALICE_AGAIN,
    BOB,
    ODD_IDS,
    TTL_MS,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    append,
    as_committed,
    as_failed,
    as_interrupted,
    hold,
)
from .leases import assert_busy


class SettlementConformance(StorageCase):
    """A row ends once, by whoever holds the lane, as the table of turn states allows."""

    async def test_a_settled_row_keeps_its_hash_and_loses_its_input(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """What was said is in the history; the row only has to recognise a repetition."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        clock.advance(2)
        await store.settle_turn(turn.lease.fence(), as_failed(), release=False)
        row = await store.load_turn("s", "t1")
        assert row == replace(
            turn.row,
            state=TurnState.FAILED,
            input=None,
            settled_at_ms=clock.timestamp_ms(),
            failure=as_failed().failure,
        )
        assert row.content_hash == canonical_hash(an_acceptance().input)
        assert list(await store.list_unfinished_turns("s")) == []

    async def test_settling_releases_the_lane_only_when_asked(self, storage: Storage) -> None:
        """In the same transaction, so that no turn ends with its lane stuck."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        await store.settle_turn(turn.lease.fence(), as_failed(), release=False)
        await assert_busy(store, turn.lease)
        second = await accepted(store, an_acceptance("t2"))
        await store.settle_turn(second.lease.fence(), as_failed("t2"), release=True)
        await hold(store, owner=BOB)

    async def test_settling_needs_the_live_lease(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A forged fence, and the true one after it lapsed or was taken over, settle nothing."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        forged = replace(fence, lease_token="forged")  # noqa: S106
        await raised_by(
            store.settle_turn(forged, as_failed(), release=True), SessionExecutionLeaseExpired
        )
        clock.advance(TTL_MS / 1000)
        await raised_by(
            store.settle_turn(fence, as_failed(), release=True), SessionExecutionLeaseExpired
        )
        taken = await hold(store, owner=BOB)
        await raised_by(
            store.settle_turn(fence, as_failed(), release=True), SessionExecutionLeaseExpired
        )
        assert await store.load_turn("s", "t1") == turn.row
        await assert_busy(store, taken, ALICE_AGAIN)

    async def test_a_settled_row_never_moves_again(self, storage: Storage) -> None:
        """Settling it once more changes nothing, whatever it would become."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        await store.settle_turn(fence, as_failed(), release=False)
        row = await store.load_turn("s", "t1")
        for settlement in (as_failed(code="other"), as_interrupted(), as_committed()):
            await store.settle_turn(fence, settlement, release=False)
            assert await store.load_turn("s", "t1") == row

    async def test_a_later_lease_can_only_close_a_turn_as_interrupted(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Whether the turn was finished is known to the holder that started it, and to no other."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        clock.advance(TTL_MS / 1000)
        later = (await hold(store, owner=BOB)).fence()
        for settlement in (as_committed(), as_failed()):
            await raised_by(store.settle_turn(later, settlement, release=True), StoreBackendError)
            await raised_by(
                store.commit_runtime_state(a_commit(later, turn_settlement=settlement)),
                StoreBackendError,
            )
        assert await store.load_turn("s", "t1") == turn.row
        assert await store.load_session(FullGraph()) is None
        await store.commit_runtime_state(
            a_commit(later, turn_settlement=as_interrupted(), turn_commit=a_stamp())
        )
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.result) == (TurnState.INTERRUPTED, as_interrupted().result)

    async def test_only_moves_of_the_table_are_made(self, storage: Storage) -> None:
        """A running turn is neither settled as running nor as cancelled before it started."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        for state in (
            TurnState.ACCEPTED,
            TurnState.RUNNING,
            TurnState.WAITING,
            TurnState.CANCELLED,
        ):
            settlement = TurnSettlement(turn_id="t1", state=state)
            await raised_by(
                store.settle_turn(turn.lease.fence(), settlement, release=True), StoreBackendError
            )
        assert await store.load_turn("s", "t1") == turn.row
        await assert_busy(store, turn.lease)

    async def test_a_turn_that_nobody_accepted_cannot_be_settled(self, storage: Storage) -> None:
        """A settlement never makes a row, and a failed one keeps the lane."""
        store = await a_store(storage)
        lease = await hold(store)
        await raised_by(
            store.settle_turn(lease.fence(), as_failed("nobody"), release=True), StoreBackendError
        )
        assert await store.load_turn("s", "nobody") is None
        await assert_busy(store, lease)

    async def test_turns_are_numbered_in_the_order_of_acceptance(self, storage: Storage) -> None:
        """The order of a lane is the order of its rows, whatever their ids are."""
        store = await a_store(storage)
        numbers = []
        for turn_id in ("z", "m", "a"):
            turn = await accepted(store, an_acceptance(turn_id))
            numbers.append(turn.row.seq)
            await store.settle_turn(turn.lease.fence(), as_failed(turn_id), release=True)
        assert numbers == sorted(set(numbers))

    async def test_any_text_can_be_a_turn_id(self, storage: Storage) -> None:
        """A host brings ids of its own; none of them is taken for another."""
        store = await a_store(storage)
        for at, turn_id in enumerate(ODD_IDS):
            turn = await accepted(store, an_acceptance(turn_id, f"words {at}"))
            await store.commit_runtime_state(
                a_commit(
                    turn.lease.fence(),
                    graph=append(a_node(f"n{at}")),
                    turn_settlement=as_committed(turn_id, f"answer {at}"),
                    turn_commit=a_stamp(turn_id),
                )
            )
        for at, turn_id in enumerate(ODD_IDS):
            row = await store.load_turn("s", turn_id)
            assert row is not None
            assert (row.turn_id, row.result) == (turn_id, as_committed(text=f"answer {at}").result)

    async def test_a_turn_is_looked_up_by_session_and_id(self, storage: Storage) -> None:
        """Unknown ids are `None`, and another session's turn is unknown."""
        store = await a_store(storage)
        await accepted(store, an_acceptance())
        assert await store.load_turn("s", "never") is None
        assert await store.load_turn("other", "t1") is None
        assert list(await store.list_unfinished_turns("other")) == []
