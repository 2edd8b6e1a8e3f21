"""Tasks inside one call: over before it returns, whatever happens meanwhile."""

import asyncio

import anyio
import pytest

from lash_runtime.runtime.children import Child, ended, stopped
from lash_runtime.runtime.verdict import Err, Ok

pytestmark = pytest.mark.anyio


async def soon(value: str) -> str:
    await asyncio.sleep(0)
    return value


class Stubborn:
    """Work that takes several cancellations before it gives in."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.refused = 0
        self.is_over = False

    async def run(self) -> None:
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.refused += 1
                    if self.refused > self.refusals:
                        raise
        finally:
            self.is_over = True


async def test_what_the_work_returns_and_raises_are_verdicts() -> None:
    async def fail() -> None:
        raise ValueError("no")

    good, bad = Child(soon("yes"), name="good"), Child(fail(), name="bad")
    await ended(good, bad)
    assert good.verdict == Ok("yes")
    assert isinstance(bad.verdict, Err)
    assert str(bad.verdict.error) == "no"


async def test_work_that_cancels_itself_leaves_no_verdict_and_disturbs_nobody() -> None:
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    child, other = Child(cancel_itself(), name="child"), Child(soon("yes"), name="other")
    await ended(child, other)
    assert child.is_over
    assert child.verdict is None
    assert other.verdict == Ok("yes")


async def test_then_is_called_however_the_work_ends() -> None:
    called: list[str] = []

    async def fail() -> None:
        raise ValueError

    good = Child(soon("yes"), name="good", then=lambda: called.append("good"))
    bad = Child(fail(), name="bad", then=lambda: called.append("bad"))
    endless = Child(asyncio.sleep(60), name="endless", then=lambda: called.append("endless"))
    await ended(good, bad)
    await stopped(endless)
    await asyncio.sleep(0)
    assert sorted(called) == ["bad", "endless", "good"]


async def test_what_swallows_a_cancellation_is_cancelled_again() -> None:
    work = Stubborn(refusals=3)
    child = Child(work.run(), name="stubborn")
    await asyncio.sleep(0)
    await stopped(child)
    assert child.is_over
    assert work.refused == 4


async def test_stopping_before_the_start_runs_nothing_that_waits() -> None:
    steps: list[str] = []

    async def work() -> None:
        steps.append("first")
        await asyncio.sleep(0)
        steps.append("second")

    child = Child(work(), name="work")
    await stopped(child)
    assert child.is_over
    assert "second" not in steps


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_wait_stops_the_work_and_goes_on_its_way_after_it(times: int) -> None:
    work = Stubborn(refusals=5)

    async def wait() -> None:
        await ended(Child(work.run(), name="stubborn"))

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    for _ in range(times):
        waiting.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.is_over


async def test_a_cancelled_scope_around_the_wait_ends_there() -> None:
    work = Stubborn(refusals=2)
    with anyio.move_on_after(0.01) as scope:
        await ended(Child(work.run(), name="stubborn"))
    assert scope.cancelled_caught
    assert work.is_over


async def test_work_that_is_trusted_is_cancelled_once() -> None:
    work = Stubborn(refusals=0)
    child = Child(work.run(), name="work", insistent=False)
    await asyncio.sleep(0)
    await stopped(child)
    assert child.is_over
    assert child.verdict is None
    assert work.refused == 1


async def test_trusted_work_that_is_stopped_before_its_start_is_never_begun() -> None:
    """And nothing warns of a coroutine that was not awaited."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)

    child = Child(work(), name="work", insistent=False)
    await stopped(child)
    assert child.is_over
    assert begun == []


async def test_no_task_is_left_behind() -> None:
    before = asyncio.all_tasks()
    await stopped(*(Child(asyncio.sleep(60), name=f"work-{at}") for at in range(5)))
    assert asyncio.all_tasks() == before
