"""Waiting for something that a store holds: nothing is missed, and nothing is needed but time."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from lash_runtime.ports.clock import Clock, SystemClock
from lash_runtime.ports.signals import SignalFilter, SignalKind, StoreSignal
from lash_runtime.ports.waiting import LAST_LOOK_S, SAFETY_LOOK_S, wait_until
from lash_runtime.stores.local_signals import LocalSignals
from lash_runtime.testing import ManualClock, RecordingClock

pytestmark = pytest.mark.anyio

FREE = SignalFilter.of(SignalKind.LANE_FREE, session_id="s")
LANE_FREE = StoreSignal(SignalKind.LANE_FREE, "s")
AT_ONCE_S = 10
"""Until a test gives up on a wait that has lost what it waits for."""


class Row:
    """Something in a store, and how often it was looked at."""

    def __init__(self, *, appears_at_look: int | None = None) -> None:
        self.is_there = False
        self.looks = 0
        self._appears_at_look = appears_at_look

    async def look(self) -> str | None:
        self.looks += 1
        if self.looks == self._appears_at_look:
            self.is_there = True
        return "row" if self.is_there else None


def deaf() -> LocalSignals:
    """Signals of which everyone is lost on the way."""
    signals = LocalSignals(hears_all=True)
    signals.announce = lambda signal: None  # type: ignore[method-assign]
    return signals


@pytest.fixture(params=[ManualClock, SystemClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def test_what_is_there_already_is_not_waited_for(clock: Clock) -> None:
    """Also when its signal was announced before anybody listened."""
    signals, row = LocalSignals(hears_all=True), Row(appears_at_look=1)
    signals.announce(LANE_FREE)
    assert await wait_until(row.look, signals, FREE, clock=clock) == "row"
    assert row.looks == 1


async def test_what_happens_during_a_look_is_not_missed(clock: Clock) -> None:
    """The look saw the state before it, and no other signal will come."""
    signals, row = LocalSignals(hears_all=True), Row()

    async def look() -> str | None:
        seen = await row.look()
        if not row.is_there:
            row.is_there = True
            signals.announce(LANE_FREE)
        return seen

    with anyio.fail_after(AT_ONCE_S):
        assert await wait_until(look, signals, FREE, clock=clock) == "row"
    assert row.looks == 2


async def test_a_signal_ends_a_wait(clock: Clock) -> None:
    """Without any time going by: the manual clock stands still."""
    signals, row = LocalSignals(hears_all=True), Row()
    found: list[str] = []

    async def wait() -> None:
        found.append(await wait_until(row.look, signals, FREE, clock=clock))

    with anyio.fail_after(AT_ONCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            signals.announce(LANE_FREE)
            await anyio.wait_all_tasks_blocked()
            assert (row.looks, found) == (2, [])
            signals.announce(StoreSignal(SignalKind.LANE_FREE, "another"))
            await anyio.wait_all_tasks_blocked()
            assert row.looks == 2
            row.is_there = True
            signals.announce(LANE_FREE)
    assert found == ["row"]


async def test_without_signals_looks_come_ever_more_slowly() -> None:
    """Quickly at first, for most waits are short, and then seldom enough to cost nothing."""
    clock, row = RecordingClock(), Row(appears_at_look=11)
    assert await wait_until(row.look, LocalSignals(), FREE, clock=clock) == "row"
    doubled = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert clock.sleeps == pytest.approx([*doubled, LAST_LOOK_S, LAST_LOOK_S, LAST_LOOK_S])


async def test_a_lost_signal_is_made_up_for() -> None:
    """Nobody waits for ever for a hint."""
    recording, row = RecordingClock(), Row(appears_at_look=4)
    assert await wait_until(row.look, deaf(), FREE, clock=recording) == "row"
    assert recording.sleeps == [SAFETY_LOOK_S] * 3


async def test_at_the_deadline_it_is_looked_at_for_the_last_time() -> None:
    """Not before it, and what has come in the last moment is found."""
    for appears_at_look, expected in ((4, "row"), (None, None)):
        clock, row = RecordingClock(), Row(appears_at_look=appears_at_look)
        until = clock.now() + 2 * SAFETY_LOOK_S + 1
        found = await wait_until(row.look, deaf(), FREE, clock=clock, deadline=until)
        assert found == expected
        assert (row.looks, clock.now()) == (4, until)


async def test_a_deadline_that_has_passed_leaves_one_look(clock: Clock) -> None:
    """Whoever has no time left still wants to know."""
    signals, row = LocalSignals(hears_all=True), Row()
    past = clock.now() - 1
    assert await wait_until(row.look, signals, FREE, clock=clock, deadline=past) is None
    assert row.looks == 1


async def test_a_deadline_ends_a_wait_on_the_clock_of_the_machine() -> None:
    """Which the event loop keeps by itself."""
    clock, row = SystemClock(), Row()
    soon = clock.now() + 0.01
    assert await wait_until(row.look, deaf(), FREE, clock=clock, deadline=soon) is None
    assert row.looks == 2


async def test_anything_false_means_not_yet(clock: Clock) -> None:
    """A look at a list, or one that says yes or no, is as good as one at a row."""
    signals = LocalSignals(hears_all=True)
    answers: list[Any] = [False, 0, [], "", None, True]

    async def look() -> Any:
        signals.announce(LANE_FREE)
        return answers.pop(0)

    with anyio.fail_after(AT_ONCE_S):
        assert await wait_until(look, signals, FREE, clock=clock) is True


def nothing_is_left(signals: LocalSignals, clock: Clock) -> bool:
    sleeping = clock.sleeping if isinstance(clock, ManualClock) else 0
    return not signals._hub.has_listeners and sleeping == 0


@pytest.mark.parametrize("at_look", [1, 2])
async def test_what_a_look_raises_leaves_as_it_is(clock: Clock, at_look: int) -> None:
    """Not in a group, and with nobody left to listen."""
    signals, row = LocalSignals(hears_all=True), Row()

    async def look() -> str | None:
        if row.looks + 1 == at_look:
            raise LookupError("gone")
        signals.announce(LANE_FREE)
        return await row.look()

    with anyio.fail_after(AT_ONCE_S), pytest.raises(LookupError, match="gone"):
        await wait_until(look, signals, FREE, clock=clock)
    assert nothing_is_left(signals, clock)


async def in_a_look(row: Row) -> str | None:
    await row.look()
    await anyio.sleep_forever()
    return None


async def between_looks(row: Row) -> str | None:
    return await row.look()


@pytest.mark.parametrize("look", [in_a_look, between_looks])
@pytest.mark.parametrize("make", [deaf, LocalSignals])
async def test_a_cancelled_wait_leaves_nothing_behind(
    clock: Clock, look: Any, make: Callable[[], LocalSignals]
) -> None:
    """Wherever it was, it ends at once."""
    signals, row = make(), Row()
    with anyio.fail_after(AT_ONCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: wait_until(lambda: look(row), signals, FREE, clock=clock))
            await anyio.wait_all_tasks_blocked()
            assert row.looks >= 1
            assert not nothing_is_left(signals, clock)
            tasks.cancel_scope.cancel()
    assert nothing_is_left(signals, clock)


async def test_when_signals_end_looks_go_on() -> None:
    """What a closed storage says to a look is the look's to raise."""
    clock, signals, row = ManualClock(), LocalSignals(hears_all=True), Row()
    found: list[str] = []

    async def wait() -> None:
        found.append(await wait_until(row.look, signals, FREE, clock=clock))

    with anyio.fail_after(AT_ONCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            signals.end()
            await anyio.wait_all_tasks_blocked()
            assert row.looks == 1, "it did not spin"
            row.is_there = True
            clock.advance(SAFETY_LOOK_S)
    assert (found, row.looks) == (["row"], 2)


def test_a_turn_without_its_session_is_no_filter() -> None:
    """Ids of turns are unique within their session alone."""
    with pytest.raises(ValueError, match="session_id"):
        SignalFilter.of(SignalKind.TURN_SETTLED, turn_id="t1")
