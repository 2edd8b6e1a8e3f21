"""How a wait ends without an answer from outside: by its token, by its deadline. And how not: a
waiter that goes away, for whatever reason, has decided nothing."""

import anyio
import pytest

from ...ports.await_events import (
    AlreadyResolved,
    AwaitEventResolver,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedTimeout,
)
from ...ports.cancel import CancelToken
from ..clocks import ManualClock
from ._await_event_case import (
    ENDS_WITHIN_S,
    YES,
    AwaitEventCase,
    Waiters,
    a_key,
    answer_now,
)

CANCELLED = ResolvedCancelled()
TIMEOUT = ResolvedTimeout()


def fired() -> CancelToken:
    token = CancelToken()
    token.cancel()
    return token


class AwaitEventEndConformance(AwaitEventCase):
    """Tokens, deadlines, interruptions."""

    async def test_a_token_that_fires_is_an_answer(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Whoever answers later is told that nobody wants to know any more."""
        key = await a_key(await_events)
        waiter = await waiters.start(key)
        assert waiter.waits
        waiter.cancel.cancel()
        assert await waiter.answer() == CANCELLED
        assert await await_events.resolve_await_event(key, YES) == AlreadyResolved(CANCELLED)

    async def test_a_token_of_one_waiter_ends_the_wait_for_all(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """There is one wait, however many wait for it."""
        key = await a_key(await_events)
        one, other = [await waiters.start(key) for _ in range(2)]
        one.cancel.cancel()
        assert [await one.answer(), await other.answer()] == [CANCELLED] * 2

    async def test_a_token_that_has_fired_before_is_an_answer(
        self, await_events: AwaitEventResolver
    ) -> None:
        """The turn was cancelled before it came to wait."""
        key = await a_key(await_events)
        with anyio.move_on_after(ENDS_WITHIN_S):
            assert await await_events.await_await_event(key, fired(), None) == CANCELLED
        assert await await_events.resolve_await_event(key, YES) == AlreadyResolved(CANCELLED)

    async def test_an_answer_counts_more_than_a_token_that_has_fired(
        self, await_events: AwaitEventResolver
    ) -> None:
        """It was there first, and somebody may have paid for it."""
        key = await a_key(await_events)
        await await_events.resolve_await_event(key, YES)
        assert await await_events.await_await_event(key, fired(), None) == YES

    async def test_an_answer_counts_more_than_a_token_that_fires_after_it(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Also when the waiter hears of both at once."""
        key = await a_key(await_events)
        waiter = await waiters.start(key)
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
        waiter.cancel.cancel()
        assert await waiter.answer() == YES
        assert await await_events.resolve_await_event(key, YES) == AlreadyResolved(YES)

    async def test_a_deadline_that_passes_is_an_answer(
        self, await_events: AwaitEventResolver, waiters: Waiters, clock: ManualClock
    ) -> None:
        """Not before its time, and whoever answers later is told."""
        key = await a_key(await_events)
        waiter = await waiters.start(key, deadline_ms=clock.timestamp_ms() + 60_000)
        clock.advance(59.9)
        await waiters.settle()
        assert waiter.waits
        clock.advance(0.1)
        assert await waiter.answer() == TIMEOUT
        assert await await_events.resolve_await_event(key, YES) == AlreadyResolved(TIMEOUT)

    async def test_a_deadline_that_has_passed_before_is_an_answer(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """Nobody waits for what is over."""
        key = await a_key(await_events)
        assert await answer_now(await_events, key, clock) == TIMEOUT
        assert await await_events.resolve_await_event(key, YES) == AlreadyResolved(TIMEOUT)

    async def test_an_answer_counts_more_than_a_deadline_that_has_passed(
        self, await_events: AwaitEventResolver, waiters: Waiters, clock: ManualClock
    ) -> None:
        """A deadline is for whoever waits; an answer that is there is not thrown away."""
        key = await a_key(await_events)
        waiter = await waiters.start(key, deadline_ms=clock.timestamp_ms() + 1_000)
        await waiter.interrupt()
        clock.advance(2)
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
        assert await answer_now(await_events, key, clock) == YES

    @pytest.mark.parametrize("later_ms", [None, 1_000, 600_000])
    async def test_the_first_wait_says_which_deadline_holds(
        self,
        await_events: AwaitEventResolver,
        waiters: Waiters,
        clock: ManualClock,
        later_ms: int | None,
    ) -> None:
        """Whoever comes back after a restart does not start the time anew, nor end it."""
        key = await a_key(await_events)
        start_ms = clock.timestamp_ms()
        first = await waiters.start(key, deadline_ms=start_ms + 60_000)
        await first.interrupt()
        clock.advance(30)
        again = await waiters.start(key, deadline_ms=later_ms and clock.timestamp_ms() + later_ms)
        clock.advance(29)
        await waiters.settle()
        assert again.waits
        clock.advance(1)
        assert await again.answer() == TIMEOUT

    async def test_a_wait_without_a_deadline_stays_without(
        self, await_events: AwaitEventResolver, waiters: Waiters, clock: ManualClock
    ) -> None:
        """The first wait has said so."""
        key = await a_key(await_events)
        await (await waiters.start(key)).interrupt()
        again = await waiters.start(key, deadline_ms=clock.timestamp_ms() + 1_000)
        clock.advance(1_000_000)
        await waiters.settle()
        assert again.waits
        await await_events.resolve_await_event(key, YES)
        assert await again.answer() == YES

    async def test_an_interrupted_waiter_leaves_the_wait_pending(
        self, await_events: AwaitEventResolver, waiters: Waiters, clock: ManualClock
    ) -> None:
        """A worker that stops, loses its lease or is deployed anew has not cancelled anything."""
        key = await a_key(await_events)
        await (await waiters.start(key)).interrupt()
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
        assert await answer_now(await_events, key, clock) == YES

    async def test_a_token_that_fires_after_an_interruption_answers_nothing(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Nobody waits by that token any more."""
        key = await a_key(await_events)
        waiter = await waiters.start(key)
        await waiter.interrupt()
        waiter.cancel.cancel()
        await waiters.settle()
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()

    async def test_an_interrupted_waiter_does_not_end_the_wait_of_others(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """They wait on, and the next one joins them."""
        key = await a_key(await_events)
        stays, goes = [await waiters.start(key) for _ in range(2)]
        await goes.interrupt()
        comes = await waiters.start(key)
        assert stays.waits
        await await_events.resolve_await_event(key, YES)
        assert [await stays.answer(), await comes.answer()] == [YES, YES]
