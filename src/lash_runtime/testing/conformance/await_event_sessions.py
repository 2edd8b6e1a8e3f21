"""What ends the waits of a whole session: cancelling those that are open, and revoking for good.

Both reach the scopes that name the session, and no others."""

from ...ports.await_events import (
    AlreadyResolved,
    AwaitEventResolver,
    CustomWait,
    ResolveAccepted,
    ResolvedCancelled,
    UnknownOrRevoked,
)
from ..clocks import ManualClock
from ._await_event_case import (
    OF_OTHERS,
    OF_THE_SESSION,
    TURN,
    UNKNOWN,
    YES,
    AwaitEventCase,
    Waiters,
    a_key,
    answer_now,
)

CANCELLED = ResolvedCancelled()
LATER = CustomWait(key="later")


class AwaitEventSessionConformance(AwaitEventCase):
    """Cancelling and revoking by session."""

    async def test_cancelling_a_session_answers_its_open_waits(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Those who wait are woken, and late answers are told."""
        keys = [await a_key(await_events, scope) for scope in OF_THE_SESSION]
        waiting = [await waiters.start(key) for key in keys]
        await await_events.cancel_await_events_for_session("s")
        assert [await waiter.answer() for waiter in waiting] == [CANCELLED] * len(keys)
        for key in keys:
            outcome = await await_events.resolve_await_event(key, YES)
            assert outcome == AlreadyResolved(CANCELLED)

    async def test_cancelling_a_session_reaches_waits_whose_waiter_has_gone(
        self, await_events: AwaitEventResolver, waiters: Waiters, clock: ManualClock
    ) -> None:
        """A wait is open although its process is not there just now."""
        key = await a_key(await_events)
        await (await waiters.start(key)).interrupt()
        await await_events.cancel_await_events_for_session("s")
        assert await answer_now(await_events, key, clock) == CANCELLED

    async def test_cancelling_a_session_reaches_nothing_else(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Neither other sessions nor scopes without one, not even of the same name."""
        keys = [await a_key(await_events, scope) for scope in OF_OTHERS]
        waiting = [await waiters.start(key) for key in keys]
        await await_events.cancel_await_events_for_session("s")
        await waiters.settle()
        assert all(waiter.waits for waiter in waiting)
        for key in keys:
            assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()

    async def test_cancelling_a_session_changes_no_answer(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """What was answered was not open."""
        key = await a_key(await_events)
        await await_events.resolve_await_event(key, YES)
        await await_events.cancel_await_events_for_session("s")
        assert await answer_now(await_events, key, clock) == YES

    async def test_a_cancelled_session_waits_again(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Cancelling twice is cancelling once. Keys that nobody had waited for are as good as
        new ones."""
        early = await a_key(await_events)
        await await_events.cancel_await_events_for_session("s")
        await await_events.cancel_await_events_for_session("s")
        for key in (early, await a_key(await_events, wait=LATER)):
            waiter = await waiters.start(key)
            assert waiter.waits
            assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
            assert await waiter.answer() == YES

    async def test_revoking_a_session_ends_its_waits(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Those who wait are told, at once."""
        keys = [await a_key(await_events, scope) for scope in OF_THE_SESSION]
        waiting = [await waiters.start(key) for key in keys]
        await await_events.revoke_await_events_for_session("s")
        assert [await waiter.error_code() for waiter in waiting] == [UNKNOWN] * len(keys)

    async def test_the_keys_of_a_revoked_session_are_unknown(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """Whether or not somebody had answered or waited."""
        fresh = await a_key(await_events)
        answered = await a_key(await_events, wait=LATER)
        await await_events.resolve_await_event(answered, YES)
        await await_events.revoke_await_events_for_session("s")
        for key in (fresh, answered):
            assert await await_events.resolve_await_event(key, YES) == UnknownOrRevoked()
            assert await answer_now(await_events, key, clock) == UNKNOWN

    async def test_a_revoked_session_stays_revoked(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """Later keys can be made, and are as dead as those of before."""
        before = await a_key(await_events)
        await await_events.revoke_await_events_for_session("s")
        await await_events.revoke_await_events_for_session("s")
        for scope in OF_THE_SESSION:
            key = await a_key(await_events, scope, LATER)
            assert await await_events.resolve_await_event(key, YES) == UnknownOrRevoked()
            assert await answer_now(await_events, key, clock) == UNKNOWN
        assert await a_key(await_events) == before

    async def test_revoking_a_session_reaches_nothing_else(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Neither other sessions nor scopes without one, not even of the same name."""
        keys = [await a_key(await_events, scope) for scope in OF_OTHERS]
        waiting = [await waiters.start(key) for key in keys]
        await await_events.revoke_await_events_for_session("s")
        await waiters.settle()
        assert all(waiter.waits for waiter in waiting)
        for key, waiter in zip(keys, waiting, strict=True):
            assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
            assert await waiter.answer() == YES

    async def test_a_revocation_names_a_generation(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """What uses the id of a deleted session afterwards has waits of its own."""
        old, new = [
            await await_events.await_event_key(TURN, LATER, generation) for generation in (1, 2)
        ]
        assert old.key_id != new.key_id
        waiter = await waiters.start(new)
        await await_events.revoke_await_events_for_session("s", 1)
        await waiters.settle()
        assert waiter.waits
        assert await await_events.resolve_await_event(old, YES) == UnknownOrRevoked()
        assert await await_events.resolve_await_event(new, YES) == ResolveAccepted()
        assert await waiter.answer() == YES

    async def test_a_late_revocation_does_not_undo_a_later_one(
        self, await_events: AwaitEventResolver
    ) -> None:
        """Generations are revoked upwards."""
        key = await await_events.await_event_key(TURN, LATER, 2)
        await await_events.revoke_await_events_for_session("s", 2)
        await await_events.revoke_await_events_for_session("s", 1)
        assert await await_events.resolve_await_event(key, YES) == UnknownOrRevoked()
