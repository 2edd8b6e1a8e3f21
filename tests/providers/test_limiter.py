"""How many calls and tokens one process allows itself."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.model.llm import ImageBlock, LlmAttachment, LlmMessage, LlmRole, ToolCallBlock
from lash_runtime.ports.provider import ProviderRateLimitPolicy
from lash_runtime.providers import RateLimiter
from lash_runtime.providers.limiter import token_estimate
from lash_runtime.testing import ManualClock, RecordingClock
from providers.calls import a_request

pytestmark = pytest.mark.anyio


async def pass_through(limiter: RateLimiter, text: str = "hello") -> None:
    async with limiter.admitted(a_request(text)):
        pass


async def test_exactly_the_capacity_is_admitted_and_the_next_waits_for_the_window() -> None:
    """A fixed window from the first call on."""
    clock = RecordingClock()
    limiter = RateLimiter(
        ProviderRateLimitPolicy(requests_per_window=2, request_window_ms=1_000), clock
    )
    for _ in range(5):
        await pass_through(limiter)
    assert clock.sleeps == [1, 1]


async def test_a_request_larger_than_the_window_takes_one_whole_window() -> None:
    """It must neither wait for ever nor take two."""
    clock = RecordingClock()
    limiter = RateLimiter(
        ProviderRateLimitPolicy(tokens_per_window=10, token_window_ms=1_000), clock
    )
    await pass_through(limiter, "x" * 4_000)
    await pass_through(limiter, "x" * 4_000)
    await pass_through(limiter)
    assert clock.sleeps == [1, 1]


async def test_waiting_for_one_window_charges_the_other_only_once() -> None:
    """Two windows, one admission."""
    clock = RecordingClock()
    limiter = RateLimiter(
        ProviderRateLimitPolicy(
            requests_per_window=4,
            request_window_ms=100_000,
            tokens_per_window=1,
            token_window_ms=1_000,
        ),
        clock,
    )
    for _ in range(4):
        await pass_through(limiter)
    assert clock.sleeps == [1, 1, 1]


async def test_who_came_first_is_admitted_first() -> None:
    """A small request must not overtake a large one for ever."""
    clock = ManualClock()
    limiter = RateLimiter(
        ProviderRateLimitPolicy(requests_per_window=1, request_window_ms=1_000), clock
    )
    order: list[int] = []

    async def call(number: int) -> None:
        await pass_through(limiter)
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(call, number)
            await checkpoint()
        for _ in range(3):
            await clock.wait_for_sleepers()
            clock.advance(1)
    assert order == [0, 1, 2, 3]


async def test_no_more_calls_run_at_once_than_allowed() -> None:
    """And the next begins when one ends."""
    limiter = RateLimiter(ProviderRateLimitPolicy(max_concurrency=2), ManualClock())
    running = most = 0
    release = anyio.Event()

    async def call() -> None:
        nonlocal running, most
        async with limiter.admitted(a_request()):
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
        while running < 2:
            await checkpoint()
        release.set()
    assert (most, running) == (2, 0)


async def test_a_new_policy_holds_for_the_next_admission() -> None:
    """Limits are widened while a program runs."""
    clock = RecordingClock()
    limiter = RateLimiter(ProviderRateLimitPolicy(requests_per_window=1), clock)
    await pass_through(limiter)
    limiter.configure(ProviderRateLimitPolicy())
    await pass_through(limiter)
    assert clock.sleeps == []


async def test_cancelled_in_line_takes_nothing() -> None:
    """The window still has its place for the next."""
    clock = ManualClock()
    limiter = RateLimiter(
        ProviderRateLimitPolicy(requests_per_window=1, request_window_ms=1_000), clock
    )
    await pass_through(limiter)
    async with anyio.create_task_group() as group:
        group.start_soon(pass_through, limiter)
        await clock.wait_for_sleepers()
        group.cancel_scope.cancel()
    clock.advance(1)
    with anyio.fail_after(5):
        await pass_through(limiter)


def test_a_second_event_loop_is_refused() -> None:
    """Locks of two loops would be silently useless."""
    limiter = RateLimiter(ProviderRateLimitPolicy(max_concurrency=1), ManualClock())
    asyncio.run(pass_through(limiter))
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(pass_through(limiter))


def test_tokens_are_estimated_from_bytes() -> None:
    """A quarter of the text, a fixed price for an image, a quarter of a quarter of its bytes."""
    plain = a_request("é" * 200, model="")
    rich = a_request(
        model="",
        messages=(LlmMessage(LlmRole.USER, (ImageBlock(0), ToolCallBlock("c", "t", "x" * 44))),),
        attachments=(LlmAttachment(mime="image/png", data=bytes(400)),),
    )
    assert token_estimate(plain) == 100
    assert token_estimate(rich) == (256 + 44 + 100) // 4
    assert token_estimate(a_request("", model="")) == 1
