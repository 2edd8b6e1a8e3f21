"""Stores that get cancelling wrong: each is caught by the case that is named beside it."""

from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from lash_runtime.model.cancelling import CancelRequest, CancelVerdict
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.leases import LeaseRenewed, SessionExecutionLeaseFence
from lash_runtime.ports.store_errors import TurnCancelRequested
from lash_runtime.ports.turn_ledger import TurnCancelAnswer
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class ForgetsTheRequest(Wrapped):
    """The turn is said to be cancelled, and completes."""

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        row = await self.intact.load_turn(session_id, turn_id)
        if row is None or row.state.is_settled:
            return await self.intact.request_turn_cancel(
                session_id, turn_id, reason=reason, origin=origin
            )
        return TurnCancelAnswer(CancelVerdict.ACCEPTED, CancelRequest(requested_at_ms=0))


class RefusesInSilence(Wrapped):
    """Whoever settles a turn that is to be cancelled is not told that nothing was written."""

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: Any, *, release: bool
    ) -> None:
        try:
            await self.intact.settle_turn(fence, settlement, release=release)
        except TurnCancelRequested:
            return


class Answers(Wrapped):
    """Answers a request in its own way."""

    def answer(self, answer: TurnCancelAnswer) -> TurnCancelAnswer:
        return answer

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        return self.answer(
            await self.intact.request_turn_cancel(session_id, turn_id, reason=reason, origin=origin)
        )


class AcceptsWhatIsOver(Answers):
    """The caller is told that it came in time."""

    def answer(self, answer: TurnCancelAnswer) -> TurnCancelAnswer:
        return replace(answer, verdict=CancelVerdict.ACCEPTED)


class KnowsEveryTurn(Answers):
    """A turn that never was is said to have completed."""

    def answer(self, answer: TurnCancelAnswer) -> TurnCancelAnswer:
        if answer.verdict is CancelVerdict.UNKNOWN_TURN:
            return replace(answer, verdict=CancelVerdict.COMPLETION_WON)
        return answer


class TakesBackItsWord(Wrapped):
    """Of a turn that is over it says that it had won, whatever it had said before."""

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        row = await self.intact.load_turn(session_id, turn_id)
        if row is not None and row.state.is_settled:
            return TurnCancelAnswer(CancelVerdict.COMPLETION_WON)
        return await self.intact.request_turn_cancel(
            session_id, turn_id, reason=reason, origin=origin
        )


class Commits(Wrapped):
    """Looks for a request before the commit is made."""

    async def asked(self, commit: RuntimeCommit) -> CancelRequest | None:
        settlement = commit.turn_settlement
        if settlement is None:
            return None
        row = await self.intact.load_turn(commit.session_id, settlement.turn_id)
        return None if row is None else row.cancel_request

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        request, settlement = await self.asked(commit), commit.turn_settlement
        if request is not None and settlement is not None and self.refuses(commit):
            raise TurnCancelRequested(
                session_id=commit.session_id, turn_id=settlement.turn_id, request=request
            )
        return await self.intact.commit_runtime_state(commit)

    def refuses(self, commit: RuntimeCommit) -> bool:
        return True


class HoldsUpWhoeverCloses(Commits):
    """A turn that nobody runs any more can never be closed."""


class ChecksTheRequestFirst(Commits):
    """A writer that has lost its lease is told to write something else."""

    def refuses(self, commit: RuntimeCommit) -> bool:
        settlement = commit.turn_settlement
        return settlement is not None and settlement.state.value == "committed"


class TellsNobody(Wrapped):
    """A runner in another process hears of a request only when it wants to commit."""

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        renewed = await self.intact.renew_session_execution_lease(fence, lease_ttl_ms)
        return replace(renewed, cancel_request=None)

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        result = await self.intact.commit_runtime_state(commit)
        return replace(result, cancel_request=None)


class TellsTheNextHolder(Wrapped):
    """Whoever holds the lane is told of any request in the session."""

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        renewed = await self.intact.renew_session_execution_lease(fence, lease_ttl_ms)
        for row in await self.intact.list_unfinished_turns(fence.session_id):
            renewed = replace(renewed, cancel_request=row.cancel_request)
        return renewed


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (ForgetsTheRequest, "test_a_running_turn_keeps_the_request"),
        (ForgetsTheRequest, "test_a_turn_that_is_to_be_cancelled_cannot_complete"),
        (ForgetsTheRequest, "test_of_a_request_and_a_completion_one_wins"),
        (RefusesInSilence, "test_settling_without_a_commit_heeds_a_request_too"),
        (AcceptsWhatIsOver, "test_a_turn_that_is_over_has_won"),
        (AcceptsWhatIsOver, "test_a_commit_that_won_can_be_repeated"),
        (KnowsEveryTurn, "test_an_unknown_turn_is_told_as_such"),
        (TakesBackItsWord, "test_a_turn_that_was_cancelled_otherwise_answers_accepted"),
        (TakesBackItsWord, "test_what_was_accepted_stays_accepted"),
        (HoldsUpWhoeverCloses, "test_a_request_does_not_hold_up_whoever_closes_the_turn"),
        (ChecksTheRequestFirst, "test_every_other_check_comes_before_the_request"),
        (TellsNobody, "test_a_renewal_tells_of_the_request"),
        (TellsNobody, "test_a_commit_tells_of_the_request"),
        (TellsTheNextHolder, "test_the_next_holder_is_told_of_no_request_but_its_own"),
    ],
)
async def test_a_broken_store_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, lambda: BrokenStorage(broken))
