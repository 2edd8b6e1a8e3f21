"""What watching costs: one consumer of a stream, and a thousand observers of one session."""

import asyncio
import time
from collections import deque
from pathlib import Path

import anyio

from lash_runtime import LashSession
from lash_runtime.model.llm import LlmRequest
from lash_runtime.testing import Call, ScriptedProvider, stream_text, text_response

from .measure import Row
from .scenes import a_core


def _streams(deltas: int) -> ScriptedProvider:
    """A model that streams `deltas` pieces of one character."""
    text = "x" * deltas
    call = Call(result=text_response(text), stream=stream_text(text, chunk=1))

    def reply(request: LlmRequest) -> Call:
        return call

    return ScriptedProvider(otherwise=reply, record=False)


async def deltas_to_one_consumer(place: Path) -> Row:
    deltas, best = 50_000, 0.0
    async with (
        a_core(place / "deltas.db", _streams(deltas)) as core,
        core.session("bench") as session,
    ):
        for _ in range(3):
            started = time.perf_counter()
            seen = 0
            async with session.turn("go").stream() as stream:
                async for _ in stream:
                    seen += 1
            assert seen > deltas
            best = max(best, deltas / (time.perf_counter() - started))
    return Row(
        measure="streamed deltas per second to one consumer",
        floor=f"{await _queue_rate() / 1e6:.1f} M",
        figure=f"{best / 1000:.0f} k",
        target="60 k",
        reached=best >= 60_000,
    )


async def _queue_rate() -> float:
    """Items per second through a deque, with a turn of the loop for every 64."""
    queue: deque[int] = deque()
    items, taken = 500_000, 0
    started = time.perf_counter()
    for number in range(items):
        queue.append(number)
        if len(queue) == 64:
            await asyncio.sleep(0)
            while queue:
                queue.popleft()
                taken += 1
    return taken / (time.perf_counter() - started)


async def thousand_observers(place: Path) -> Row:
    observers, deltas = 1_000, 400
    async with (
        a_core(place / "observers.db", _streams(deltas)) as core,
        core.session("bench") as session,
    ):
        alone = await _turn_s(session)
        watched = await _watched_turn_s(session, observers)
    each = (watched - alone) / (observers * deltas) * 1e6
    return Row(
        measure="one delivery with 1,000 observers",
        floor=f"{_slice_us():.2f} µs",
        figure=f"{each:.2f} µs",
        target="4 µs",
        reached=each <= 4,
    )


async def _turn_s(session: LashSession) -> float:
    started = time.perf_counter()
    await session.turn("go").run()
    return time.perf_counter() - started


async def _watched_turn_s(session: LashSession, observers: int) -> float:
    """Seconds until a turn is over and every observer has seen its commit."""
    ready = 0
    all_ready = anyio.Event()

    async def observe() -> None:
        nonlocal ready
        observable = session.observe()
        stream = observable.subscribe_from_cursor(observable.current_observation().cursor)
        async with stream:
            ready += 1
            if ready == observers:
                all_ready.set()
            async for event in stream:
                if event.payload.type == "committed":
                    return

    async with anyio.create_task_group() as watching:
        for _ in range(observers):
            watching.start_soon(observe)
        await all_ready.wait()
        started = time.perf_counter()
        await session.turn("go").run()
    return time.perf_counter() - started


def _slice_us() -> float:
    """Microseconds to take one item after another from a list by position."""
    items = list(range(400))
    started = time.perf_counter()
    for _ in range(1_000):
        for position in range(len(items)):
            items[position]
    return (time.perf_counter() - started) / (1_000 * len(items)) * 1e6
