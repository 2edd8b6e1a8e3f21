"""How to wait for something that a store holds.

Rule 1: listen first, then look, then wait: what happens between the look and the wait is heard.
Rule 2: signals only say when to look. With none at all the wait still ends, by looking again.
Rule 3: nothing is looked at more than once at a time, and nothing outlives the call.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, overload

import anyio

from .clock import Clock, SystemClock
from .signals import SignalFilter, SignalSubscription, StoreSignals

T = TypeVar("T")

FIRST_LOOK_S: Final = 0.025
LAST_LOOK_S: Final = 2.0
"""Without signals: how long until the second look, doubled after each one up to this."""

SAFETY_LOOK_S: Final = 5.0
"""With signals: how long until a look that nobody has asked for."""


@overload
async def wait_until(
    check: Callable[[], Awaitable[T | None]],
    signals: StoreSignals,
    wanted: SignalFilter,
    *,
    clock: Clock,
    deadline: None = None,
) -> T: ...


@overload
async def wait_until(
    check: Callable[[], Awaitable[T | None]],
    signals: StoreSignals,
    wanted: SignalFilter,
    *,
    clock: Clock,
    deadline: float | None,
) -> T | None: ...


async def wait_until(
    check: Callable[[], Awaitable[T | None]],
    signals: StoreSignals,
    wanted: SignalFilter,
    *,
    clock: Clock,
    deadline: float | None = None,
) -> T | None:
    """Look with `check` until it answers something, and return that; anything false means not yet.

    Looks once before it waits, again on each signal that is `wanted`, and from time to time in
    case that one got lost. `deadline` is a time of `clock.now()`; there it looks for the last
    time, and returns what it sees. What has no signal, as a lease that lapses, has to be waited
    for by the deadline.

    Raises what `check` raises.
    Cancellation: `check` is cancelled with its caller, and nothing is left behind.
    """
    with signals.listen(wanted) as subscription:
        pause = FIRST_LOOK_S
        while True:
            subscription.take()  # whatever was told by now, this look sees
            answer = await check()
            now = clock.now()
            if answer or (deadline is not None and deadline <= now):
                return answer
            if signals.hears_all:
                until = now + SAFETY_LOOK_S
            else:
                until, pause = now + pause, min(2 * pause, LAST_LOOK_S)
            if deadline is not None:
                until = min(until, deadline)
            await _told_or(until, subscription, clock)


async def _told_or(until: float, subscription: SignalSubscription, clock: Clock) -> None:
    """Return when there is something to look at, and by `until` at the latest."""
    if isinstance(clock, SystemClock):
        # The event loop keeps that time too, at a fifth of what a task to wait in costs.
        with anyio.move_on_after(until - clock.now()):
            if not await subscription.wait():
                await clock.sleep_until(until)
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_end_at, until, clock, tasks.cancel_scope)
        if not await subscription.wait():
            await clock.sleep_until(until)
        tasks.cancel_scope.cancel()


async def _end_at(until: float, clock: Clock, scope: anyio.CancelScope) -> None:
    await clock.sleep_until(until)
    scope.cancel()
