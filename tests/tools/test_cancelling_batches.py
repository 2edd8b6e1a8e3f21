"""What becomes of tool calls when the turn is cancelled, or its task is."""

import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest

from lash_runtime.model.tool_results import CompletedToolCall, ToolCallOutput
from lash_runtime.model.tools import SafeRetry
from lash_runtime.ports.tools import ToolContext
from lash_runtime.testing import ManualClock
from lash_runtime.tools import ToolError, batch_tool, tool
from tools.dispatching import Batches, RecordingController, calls

pytestmark = pytest.mark.anyio

CUT_OFF = ToolCallOutput.cancelled("tool call cancelled")


class Hanging:
    """A tool that does not return by itself. `begun` and `ended` follow it."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.ended = False

    @tool
    async def hang(self) -> None:
        """Hang."""
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.ended = True


async def cancelled_once(
    begun: Callable[[], Awaitable[object]],
    batches: Batches,
    clock: ManualClock,
    *wanted: tuple[str, dict[str, object]],
    grace: bool = True,
) -> tuple[CompletedToolCall, ...]:
    """Run the calls, cancel the turn when `begun` returns, and let the grace pass."""
    results: list[tuple[CompletedToolCall, ...]] = []

    async def run() -> None:
        results.append(await batches.run(*calls(*wanted)))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await begun()
        batches.cancel.cancel("enough")
        if grace:
            await clock.wait_for_sleepers()
            clock.advance(0.05)
    return results[0]


async def test_a_running_call_is_cut_off_after_the_grace() -> None:
    """A cancelled turn must come back promptly, and its history must be closed."""
    hanging, clock = Hanging(), ManualClock()
    batches = Batches(hanging.hang, clock=clock)

    (completed,) = await cancelled_once(hanging.begun.wait, batches, clock, ("hang", {}))

    assert completed.output == CUT_OFF
    assert completed.duration_ms == 0
    assert completed.model_return.text == "[Tool execution cancelled]\ntool call cancelled"
    assert hanging.ended, "a tool that was cut off has ended before the batch returns"
    assert batches.shown == ["started c0", "completed c0"]


async def test_a_call_that_returns_within_the_grace_keeps_its_result() -> None:
    """What is finished is kept."""
    begun, clock = anyio.Event(), ManualClock()

    @tool
    async def search(context: ToolContext) -> str:
        """Search until told to stop."""
        begun.set()
        await context.cancellation_token.wait()
        return f"two of three: {context.cancellation_token.reason}"

    batches = Batches(search, clock=clock)
    (completed,) = await cancelled_once(begun.wait, batches, clock, ("search", {}), grace=False)

    assert completed.output == ToolCallOutput.success("two of three: enough")


async def test_a_call_that_finished_before_keeps_its_result() -> None:
    """Its sibling alone is cut off."""
    hanging, clock = Hanging(), ManualClock()

    @tool
    async def quick() -> str:
        """Be quick."""
        return "done"

    batches = Batches(hanging.hang, quick, clock=clock)

    async def quick_is_done() -> None:
        await hanging.begun.wait()
        while "completed c1" not in batches.shown:
            await anyio.lowlevel.checkpoint()

    results = await cancelled_once(quick_is_done, batches, clock, ("hang", {}), ("quick", {}))

    assert [result.output for result in results] == [CUT_OFF, ToolCallOutput.success("done")]


async def test_calls_that_have_not_begun_do_not_begin() -> None:
    """They are closed all the same, with a start and an end."""
    hanging, clock = Hanging(), ManualClock()
    made: list[str] = []

    @tool(scheduling="serial")
    async def later() -> None:
        """Run last."""
        made.append("later")

    batches = Batches(hanging.hang, later, clock=clock)
    results = await cancelled_once(
        hanging.begun.wait, batches, clock, ("later", {}), ("hang", {}), ("nope", {})
    )

    assert [result.output.outcome.status for result in results] == [
        "cancelled",
        "cancelled",
        "failure",
    ]
    assert made == []
    assert sorted(batches.shown) == sorted(
        f"{what} c{index}" for what in ("started", "completed") for index in range(3)
    )


async def test_a_turn_that_was_cancelled_before_makes_no_effect_at_all() -> None:
    """The controller is not asked for what will not be done."""
    controller = RecordingController()
    hanging = Hanging()
    batches = Batches(hanging.hang, controller=controller)
    batches.cancel.cancel()

    (completed,) = await batches.run(*calls(("hang", {})))

    assert completed.output == CUT_OFF
    assert controller.envelopes == []


async def test_a_wait_between_attempts_ends_at_once() -> None:
    """Nothing runs that would need a grace."""
    clock = ManualClock()

    @tool(retry=SafeRetry(max_attempts=2, base_delay_ms=60_000))
    async def fail() -> None:
        """Fail."""
        raise ToolError("down", retryable=True)

    batches = Batches(fail, clock=clock)
    (completed,) = await cancelled_once(
        clock.wait_for_sleepers, batches, clock, ("fail", {}), grace=False
    )

    assert completed.output == CUT_OFF
    assert clock.sleeping == 0


async def test_a_sync_tool_is_left_behind_in_its_thread() -> None:
    """A thread cannot be stopped, and the turn does not wait for it. Its token tells it."""
    begun, release, told = threading.Event(), threading.Event(), threading.Event()
    clock = ManualClock()

    @tool
    def block(context: ToolContext) -> None:
        """Block the thread."""
        begun.set()
        release.wait()
        if context.cancellation_token.is_cancelled:
            told.set()

    async def is_blocking() -> None:
        await anyio.to_thread.run_sync(begun.wait)

    batches = Batches(block, clock=clock)
    try:
        (completed,) = await cancelled_once(is_blocking, batches, clock, ("block", {}))
    finally:
        release.set()

    assert completed.output == CUT_OFF
    assert await anyio.to_thread.run_sync(told.wait, 10)


async def test_a_controller_without_concurrency_is_cut_off_the_same_way() -> None:
    """The grace belongs to the tool's work, not to the schedule."""
    hanging, clock = Hanging(), ManualClock()
    batches = Batches(hanging.hang, controller=RecordingController(concurrent=False), clock=clock)

    results = await cancelled_once(hanging.begun.wait, batches, clock, ("hang", {}), ("hang", {}))

    assert [result.output for result in results] == [CUT_OFF, CUT_OFF]
    assert hanging.ended


async def test_cancelling_the_task_passes_through_once_every_tool_has_ended() -> None:
    """No tool outlives the turn that called it."""
    first, second = Hanging(), Hanging()
    batches = Batches(first.hang, tool(name="other")(second.hang))
    returned = []

    async with anyio.create_task_group() as group:

        async def run() -> None:
            try:
                returned.append(await batches.run(*calls(("hang", {}), ("other", {}))))
            finally:
                returned.append((first.ended, second.ended))

        group.start_soon(run)
        await first.begun.wait()
        await second.begun.wait()
        group.cancel_scope.cancel()

    assert returned == [(True, True)]


async def test_children_of_a_batch_are_closed_before_it_is() -> None:
    """A child that never ends in the log would look as if it still ran."""
    hanging, clock = Hanging(), ManualClock()
    batches = Batches(batch_tool(), hanging.hang, clock=clock)
    results: list[tuple[CompletedToolCall, ...]] = []

    async def run() -> None:
        wanted = [{"tool": "hang", "parameters": {}}, {"tool": "hang", "parameters": {}}]
        results.append(await batches.run(*calls(("batch", {"tool_calls": wanted}))))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await hanging.begun.wait()
        batches.cancel.cancel()
        await clock.wait_for_sleepers(3)  # one grace each for the batch and its two children
        clock.advance(0.05)

    assert hanging.ended
    assert batches.shown[:3] == ["started c0", "started c0 > c0:00", "started c0 > c0:01"]
    assert sorted(batches.shown[3:5]) == ["completed c0 > c0:00", "completed c0 > c0:01"]
    assert batches.shown[5:] == ["completed c0"]
