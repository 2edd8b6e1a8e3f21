"""The limits of one exchange, on a clock that the test moves."""

from functools import partial

import anyio
import pytest

from lash_runtime.providers.deadlines import DeadlineExceeded, Deadlines
from lash_runtime.testing import ManualClock

pytestmark = pytest.mark.anyio


async def exceeded(deadlines: Deadlines) -> str:
    """Which limit stops a work that never ends."""
    with pytest.raises(DeadlineExceeded) as caught:
        await deadlines.hold(anyio.sleep_forever)
    return caught.value.limit


async def test_the_nearest_limit_stops_the_work() -> None:
    """And says which it was."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    deadlines.set("far", 100)
    deadlines.set("near", 10)
    limits: list[str] = []

    async def watch() -> None:
        limits.append(await exceeded(deadlines))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await clock.wait_for_sleepers()
        clock.advance(10)
    assert limits == ["near"]


async def test_a_lifted_limit_does_not_hold() -> None:
    """The headers have come; from then on only silence counts."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    deadlines.set("start", 10)
    deadlines.lift("start")
    done = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(deadlines.hold, done.wait)
        clock.advance(1_000)
        done.set()


async def test_signs_of_life_put_silence_off() -> None:
    """Measured from the latest, and by progress that nobody reports."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    received = 0
    deadlines.set_silence("silence", 10, lambda: received)
    stopped = anyio.Event()

    async def watch() -> None:
        assert await exceeded(deadlines) == "silence"
        stopped.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await clock.wait_for_sleepers()
        clock.advance(9)
        deadlines.alive()
        clock.advance(9)
        received = 1
        await clock.wait_for_sleepers()
        clock.advance(1)  # ten seconds after the report, but there was progress
        await clock.wait_for_sleepers()
        assert not stopped.is_set()
        clock.advance(10)


async def test_a_sooner_limit_set_later_is_noticed() -> None:
    """The watcher sleeps towards the old one by then."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    deadlines.set("far", 1_000)
    limits: list[str] = []

    async def watch() -> None:
        limits.append(await exceeded(deadlines))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await clock.wait_for_sleepers()
        deadlines.set("near", 5)
        await clock.wait_for_sleepers()
        clock.advance(5)
    assert limits == ["near"]


async def test_errors_and_values_come_out_as_they_are() -> None:
    """No group around them, and nobody left behind."""
    clock = ManualClock()

    async def fail() -> None:
        raise LookupError("x")

    async def answer(value: int) -> int:
        return value

    with pytest.raises(LookupError):
        await Deadlines(clock).hold(fail)
    deadlines = Deadlines(clock)
    deadlines.set("limit", 5)
    assert await deadlines.hold(partial(answer, 3)) == 3
    assert clock.sleeping == 0


async def test_cancellation_passes_through() -> None:
    """It is the caller's, not a deadline's."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    deadlines.set("limit", 5)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await deadlines.hold(anyio.sleep_forever)
    assert scope.cancelled_caught
    assert clock.sleeping == 0
