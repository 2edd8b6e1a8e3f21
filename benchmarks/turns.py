"""What a turn costs: plain, with a long history behind it, and with tools."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from lash_runtime import LashSession, tool
from lash_runtime.kernel.projection import ChatProjection
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.testing import ScriptedProvider, text_response, tool_calls_response

from .floors import raw_commit_ms, raw_turn_ms
from .measure import Row, p50, timed
from .scenes import a_core

WARM_UP = 20


@asynccontextmanager
async def _warm_session(database: Path, **parts: Any) -> AsyncIterator[LashSession]:
    async with a_core(database, **parts) as core, core.session("bench") as session:
        for _ in range(WARM_UP):
            await session.turn("warm up").run()
        yield session


async def text_turn(place: Path) -> Row:
    async with _warm_session(place / "text.db") as session:
        ms = p50(await timed(400, lambda: session.turn("And tomorrow?").run()))
    return Row(
        measure="text turn on one persisted session, p50",
        floor=f"{raw_turn_ms(place / 'raw.db'):.2f} ms",
        figure=f"{ms:.2f} ms",
        target="2 ms",
        reached=ms <= 2,
    )


async def history(place: Path) -> Row:
    """Turns 10, 2,000 and 5,000 of one session, without the time that the request takes."""
    figures: dict[int, float] = {}
    async with a_core(place / "history.db") as core, core.session("long") as session:
        done = 0
        for length in (10, 2_000, 5_000):
            while done < length:
                await session.turn("And tomorrow?").run()
                done += 1
            with _request_building() as building:
                samples = await timed(60, lambda: session.turn("And tomorrow?").run())
            done += len(samples)
            figures[length] = p50(
                [total - part for total, part in zip(samples, building, strict=True)]
            )
    worst = max(figures[2_000], figures[5_000]) / figures[10]
    return Row(
        measure="turn 2,000 and 5,000 against turn 10, request building apart",
        floor="flat",
        figure=f"{figures[2_000] / figures[10]:.2f} and {figures[5_000] / figures[10]:.2f} times",
        target="1.3 times",
        reached=worst <= 1.3,
    )


@contextmanager
def _request_building() -> Iterator[list[float]]:
    """Milliseconds that rendering the transcript took, one entry for each model call."""
    spent: list[float] = []
    render = ChatProjection.render

    def timed_render(self: ChatProjection, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        rendered = render(self, *args, **kwargs)
        spent.append((time.perf_counter() - started) * 1000)
        return rendered

    ChatProjection.render = timed_render  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        ChatProjection.render = render  # type: ignore[method-assign]


@tool
async def instant(number: int) -> int:
    """Return at once."""
    return number


@tool
async def ten_ms(number: int) -> int:
    """Take ten milliseconds."""
    await asyncio.sleep(0.010)
    return number


def calls_of(name: str, *, rounds: int, width: int) -> ScriptedProvider:
    """A model that asks for `width` calls in each of `rounds` rounds, then answers."""

    def reply(request: LlmRequest) -> LlmResponse:
        done = 0
        for message in reversed(request.messages):
            if message.role == "user" and message.blocks[0].type == "text":
                break
            done += message.role == "assistant"
        if done >= rounds:
            return text_response("done")
        calls = [(f"c{done}.{at}", name, {"number": at}) for at in range(width)]
        return tool_calls_response(*calls)

    return ScriptedProvider(otherwise=reply, record=False)


async def sequential_tools(place: Path) -> Row:
    """Five rounds of one call each: what a round adds to a turn, its progress commit included. A
    journal, which takes the place of that commit, is measured by itself."""
    provider = calls_of("instant", rounds=5, width=1)
    parts = {"provider": provider, "tools": [instant], "journal": False}
    async with _warm_session(place / "seq.db", **parts) as session:
        with_tools = p50(await timed(100, lambda: session.turn("go").run()))
    async with _warm_session(place / "plain.db", journal=False) as session:
        plain = p50(await timed(100, lambda: session.turn("go").run()))
    ms = (with_tools - plain) / 5
    return Row(
        measure="tool call, 5 in sequence, each, progress committed after each",
        floor=f"{raw_commit_ms(place / 'rawseq.db'):.2f} ms, one commit",
        figure=f"{ms:.2f} ms",
        target="1 ms",
        reached=ms <= 1,
    )


async def parallel_tools(place: Path) -> Row:
    async def plain_gather() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(asyncio.sleep(0.010))

    floor = p50(await timed(50, plain_gather)) - 10 + raw_turn_ms(place / "rawpar.db")
    provider = calls_of("ten_ms", rounds=1, width=10)
    async with _warm_session(place / "par.db", provider=provider, tools=[ten_ms]) as session:
        over = p50(await timed(60, lambda: session.turn("go").run())) - 10
    return Row(
        measure="10 parallel tools of 10 ms, over the sleep",
        floor=f"{floor:.1f} ms",
        figure=f"{over:.1f} ms",
        target="5 ms",
        reached=over <= 5,
    )
