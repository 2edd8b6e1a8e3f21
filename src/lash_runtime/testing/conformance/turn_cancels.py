"""Cancelling a turn: the row keeps the request, and the commit that ends the turn heeds it."""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from ...model.cancelling import CancelRequest, CancelVerdict
from ...model.outcome import StopReason, stopped
from ...ports.commit import RuntimeCommitResult
from ...ports.leases import LeaseRenewed
from ...ports.storage import Storage
from ...ports.store_errors import TurnCancelRequested
from ...ports.turn_ledger import (
    TurnAccepted,
    TurnCancelAnswer,
    TurnResultRecord,
    TurnSettlement,
    TurnState,
)
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
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
    everything,
    hold,
)
from .commits import CHECKS
from .graphs import a_read
from .leases import assert_busy


def as_stopped(reason: StopReason, turn_id: str = "t1") -> TurnSettlement:
    """The end of a turn that stopped short, and says so in its history."""
    result = TurnResultRecord(outcome=stopped(reason), message_ids=("m-n1",))
    return TurnSettlement(turn_id=turn_id, state=TurnState.COMMITTED, result=result)


CANCELLED: Final = as_stopped(StopReason.CANCELLED)
COMPLETIONS: Final = (
    as_committed(),
    as_stopped(StopReason.MAX_TURNS),
    as_stopped(StopReason.PROVIDER_ERROR),
)
"""How a turn ends that nobody has cancelled."""


async def ask(
    store: TurnPersistence,
    turn_id: str = "t1",
    *,
    reason: str | None = "too slow",
    origin: str | None = None,
    session_id: str = "s",
) -> TurnCancelAnswer:
    return await store.request_turn_cancel(session_id, turn_id, reason=reason, origin=origin)


async def _raced(
    store: TurnPersistence, turn: TurnAccepted, *, asks_first: bool, pause: int
) -> tuple[TurnCancelAnswer, RuntimeCommitResult | TurnCancelRequested]:
    """Cancel and complete a turn at the same time, the second `pause` steps after the first."""
    session_id = turn.row.session_id
    answers: list[TurnCancelAnswer] = []
    ends: list[RuntimeCommitResult | TurnCancelRequested] = []

    async def cancel() -> None:
        answers.append(await ask(store, session_id=session_id))

    async def complete() -> None:
        commit = a_commit(turn.lease.fence(), session_id=session_id, turn_settlement=as_committed())
        try:
            ends.append(await store.commit_runtime_state(commit))
        except TurnCancelRequested as refused:
            ends.append(refused)

    first, second = (cancel, complete) if asks_first else (complete, cancel)
    async with anyio.create_task_group() as both:
        both.start_soon(first)
        for _ in range(pause):
            await checkpoint()
        both.start_soon(second)
    return answers[0], ends[0]


class TurnCancelConformance(StorageCase):
    """A turn is cancelled or it is completed, and everybody is told the same."""

    async def test_a_running_turn_keeps_the_request(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """When, why and who, with nothing else changed; it takes no lease to ask."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        clock.advance(3)
        request = CancelRequest(
            requested_at_ms=clock.timestamp_ms(), reason="wrong city \U0001f9ed", origin="user 7"
        )
        answer = await ask(store, reason=request.reason, origin=request.origin)
        assert answer == TurnCancelAnswer(CancelVerdict.ACCEPTED, request)
        row = replace(turn.row, cancel_request=request)
        assert await store.load_turn("s", "t1") == row
        assert list(await store.list_unfinished_turns("s")) == [row]
        await assert_busy(store, turn.lease)

    async def test_the_first_request_is_kept(self, storage: Storage, clock: ManualClock) -> None:
        """Asking again is accepted again, and changes nothing."""
        store = await a_store(storage)
        await accepted(store, an_acceptance())
        first = await ask(store, reason=None)
        row = await store.load_turn("s", "t1")
        clock.advance(1)
        assert await ask(store, reason="other", origin="somebody else") == first
        assert first.request == CancelRequest(requested_at_ms=clock.timestamp_ms() - 1_000)
        assert await store.load_turn("s", "t1") == row

    async def test_a_turn_that_is_to_be_cancelled_cannot_complete(self, storage: Storage) -> None:
        """The commit is refused whole and told why, however the turn had ended; cancelled it can
        be committed."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        answer = await ask(store)
        before = await everything(store, "s", "t1")
        for settlement in COMPLETIONS:
            error = await raised_by(
                store.commit_runtime_state(
                    a_commit(fence, turn_settlement=settlement, turn_commit=a_stamp())
                ),
                TurnCancelRequested,
            )
            assert (error.session_id, error.turn_id) == ("s", "t1")
            assert error.request == answer.request
            assert await everything(store, "s", "t1") == before
        await assert_busy(store, turn.lease)
        result = await store.commit_runtime_state(
            a_commit(
                fence,
                turn_settlement=CANCELLED,
                turn_commit=a_stamp(content="cancelled"),
                release_session_execution_lease=fence,
            )
        )
        assert (result.head_revision, result.cancel_request) == (1, None)
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.result) == (TurnState.COMMITTED, CANCELLED.result)
        assert row.cancel_request == answer.request
        assert [node.node_id for node in (await a_read(store)).nodes] == ["n1"]
        await hold(store, owner=BOB)

    async def test_settling_without_a_commit_heeds_a_request_too(self, storage: Storage) -> None:
        """There is no way round it."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        answer = await ask(store)
        row = await store.load_turn("s", "t1")
        for settlement in COMPLETIONS:
            error = await raised_by(
                store.settle_turn(turn.lease.fence(), settlement, release=True),
                TurnCancelRequested,
            )
            assert error.request == answer.request
            assert await store.load_turn("s", "t1") == row
        await assert_busy(store, turn.lease)
        await store.settle_turn(turn.lease.fence(), CANCELLED, release=True)
        cancelled = await store.load_turn("s", "t1")
        assert cancelled is not None
        assert cancelled.result == CANCELLED.result

    async def test_a_request_does_not_hold_up_a_turn_that_failed(self, storage: Storage) -> None:
        """What became of it is told as it was, and the request is still on record."""
        for at, settlement in enumerate((as_failed(), as_interrupted())):
            session_id = f"s{at}"
            store = await a_store(storage, session_id)
            turn = await accepted(store, an_acceptance(session_id=session_id))
            answer = await ask(store, session_id=session_id)
            await store.settle_turn(turn.lease.fence(), settlement, release=True)
            row = await store.load_turn(session_id, "t1")
            assert row is not None
            assert (row.state, row.cancel_request) == (settlement.state, answer.request)

    async def test_a_request_does_not_hold_up_whoever_closes_the_turn(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A turn that nobody runs any more would otherwise keep its session for ever."""
        store = await a_store(storage)
        await accepted(store, an_acceptance())
        answer = await ask(store)
        clock.advance(TTL_MS / 1000)
        later = (await hold(store, owner=BOB)).fence()
        await store.commit_runtime_state(
            a_commit(later, turn_settlement=as_interrupted(), turn_commit=a_stamp())
        )
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.cancel_request) == (TurnState.INTERRUPTED, answer.request)

    async def test_every_other_check_comes_before_the_request(self, storage: Storage) -> None:
        """A commit that could not be made anyway is told that first."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance("t2"))
        fence = turn.lease.fence()
        await store.commit_runtime_state(a_commit(fence, turn_commit=a_stamp()))
        await ask(store, "t2")
        before = await everything(store, "s", "t1", "t2")
        completing = a_commit(
            fence, graph=append(a_node("n2", "n1")), turn_settlement=as_committed("t2")
        )
        await raised_by(store.commit_runtime_state(completing), TurnCancelRequested)
        for error, spoil in CHECKS.items():
            await raised_by(store.commit_runtime_state(spoil(completing)), error)
        assert await everything(store, "s", "t1", "t2") == before

    async def test_a_turn_that_is_over_has_won(self, storage: Storage) -> None:
        """It was finished, or failed, or was closed before anybody asked; nothing changes."""
        ends = (*COMPLETIONS, as_failed(), as_interrupted())
        for at, settlement in enumerate(ends):
            session_id = f"s{at}"
            store = await a_store(storage, session_id)
            turn = await accepted(store, an_acceptance(session_id=session_id))
            await store.settle_turn(turn.lease.fence(), settlement, release=True)
            row = await store.load_turn(session_id, "t1")
            for _ in range(2):
                answer = await ask(store, session_id=session_id)
                assert answer == TurnCancelAnswer(CancelVerdict.COMPLETION_WON)
            assert await store.load_turn(session_id, "t1") == row

    async def test_a_commit_that_won_can_be_repeated(self, storage: Storage) -> None:
        """Its writer did not hear the answer, and finds the one that was given."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        commit = a_commit(turn.lease.fence(), turn_settlement=as_committed(), turn_commit=a_stamp())
        result = await store.commit_runtime_state(commit)
        assert (await ask(store)).verdict is CancelVerdict.COMPLETION_WON
        assert await store.commit_runtime_state(commit) == replace(result, replayed=True)

    async def test_a_turn_that_was_cancelled_otherwise_answers_accepted(
        self, storage: Storage
    ) -> None:
        """Whoever asked wanted it cancelled, and it is; the row needs no request for that."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        await store.settle_turn(turn.lease.fence(), CANCELLED, release=True)
        row = await store.load_turn("s", "t1")
        assert await ask(store) == TurnCancelAnswer(CancelVerdict.ACCEPTED)
        assert await store.load_turn("s", "t1") == row

    async def test_what_was_accepted_stays_accepted(self, storage: Storage) -> None:
        """However the turn has ended: a caller that asks again is not told the opposite."""
        for at, settlement in enumerate((CANCELLED, as_failed(), as_interrupted())):
            session_id = f"s{at}"
            store = await a_store(storage, session_id)
            turn = await accepted(store, an_acceptance(session_id=session_id))
            first = await ask(store, session_id=session_id)
            await store.settle_turn(turn.lease.fence(), settlement, release=True)
            assert await ask(store, reason="again", session_id=session_id) == first

    async def test_an_unknown_turn_is_told_as_such(self, storage: Storage) -> None:
        """Another session's turn is unknown, too, and asking leaves nothing behind."""
        store, other = await a_store(storage), await a_store(storage, "other")
        turn = await accepted(store, an_acceptance())
        unknown = TurnCancelAnswer(CancelVerdict.UNKNOWN_TURN)
        assert await ask(store, "t2") == unknown
        assert await ask(other, "t1", session_id="other") == unknown
        assert await store.load_turn("s", "t1") == turn.row
        assert await store.load_turn("s", "t2") is None
        assert await other.load_turn("other", "t1") is None

    async def test_a_renewal_tells_of_the_request(self, storage: Storage) -> None:
        """So a runner in another process hears of it, once for each renewal."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        assert await store.renew_session_execution_lease(fence, TTL_MS) == LeaseRenewed(turn.lease)
        request = (await ask(store)).request
        for _ in range(2):
            renewed = await store.renew_session_execution_lease(fence, TTL_MS)
            assert renewed == LeaseRenewed(turn.lease, request)
        await store.settle_turn(fence, CANCELLED, release=False)
        assert await store.renew_session_execution_lease(fence, TTL_MS) == LeaseRenewed(turn.lease)

    async def test_a_commit_tells_of_the_request(self, storage: Storage) -> None:
        """While the turn goes on; a repeated commit answers about itself alone."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        commit = a_commit(turn.lease.fence(), turn_commit=a_stamp("t0"))
        request = (await ask(store)).request
        result = await store.commit_runtime_state(commit)
        assert result.cancel_request == request
        repeated = await store.commit_runtime_state(commit)
        assert repeated == replace(result, replayed=True, cancel_request=None)
        await store.settle_turn(turn.lease.fence(), CANCELLED, release=False)
        after = await store.commit_runtime_state(a_commit(turn.lease.fence()))
        assert after.cancel_request is None

    async def test_the_next_holder_is_told_of_no_request_but_its_own(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """What was asked of a turn that somebody else left is no concern of a later one."""
        store = await a_store(storage)
        await accepted(store, an_acceptance())
        await ask(store)
        clock.advance(TTL_MS / 1000)
        taken = await hold(store, owner=BOB)
        renewed = await store.renew_session_execution_lease(taken.fence(), TTL_MS)
        assert renewed == LeaseRenewed(taken)
        result = await store.commit_runtime_state(a_commit(taken.fence()))
        assert result.cancel_request is None

    async def test_of_a_request_and_a_completion_one_wins(self, storage: Storage) -> None:
        """Whichever comes first, the verdict is what the row says."""
        for at, (asks_first, pause) in enumerate(product((True, False), range(4))):
            store = await a_store(storage, f"s{at}")
            turn = await accepted(store, an_acceptance(session_id=f"s{at}"))
            answer, end = await _raced(store, turn, asks_first=asks_first, pause=pause)
            row = await store.load_turn(f"s{at}", "t1")
            assert row is not None
            won = row.state is TurnState.COMMITTED
            assert isinstance(end, RuntimeCommitResult) == won
            verdict = CancelVerdict.COMPLETION_WON if won else CancelVerdict.ACCEPTED
            assert answer.verdict is verdict
            assert (row.cancel_request is None) == won

    async def test_a_request_that_is_cut_off_happened_or_did_not(self, storage: Storage) -> None:
        """However far it had come, the row has it whole or not at all."""
        for steps in range(10):
            session_id = f"s{steps}"
            store = await a_store(storage, session_id)
            turn = await accepted(store, an_acceptance(session_id=session_id))
            async with anyio.create_task_group() as callers:
                callers.start_soon(partial(ask, store, session_id=session_id))
                for _ in range(steps):
                    await checkpoint()
                callers.cancel_scope.cancel()
            row = await store.load_turn(session_id, "t1")
            assert row is not None
            assert replace(row, cancel_request=None) == turn.row
            assert row.cancel_request in (
                None,
                CancelRequest(requested_at_ms=turn.row.accepted_at_ms, reason="too slow"),
            )
