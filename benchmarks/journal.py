"""What the journal costs: the same turns with it and without it, one after the other in one run."""

import os
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

from lash_runtime import LashSession

from .measure import Row, p50, timed
from .scenes import a_core
from .turns import WARM_UP, calls_of, instant

TURNS = 60
"""Of each kind in each of the alternating blocks."""

BLOCKS = 4

AIM_MS = {0: 2.0, 1: 4.0, 10: 4.0}
"""What a turn of one round with so many calls may cost more, at the median."""


def price(width: int) -> Callable[[Path], Coroutine[None, None, Row]]:
    """A turn with one round of `width` calls of a tool that returns at once; none for 0."""

    async def measure(place: Path) -> Row:
        with_it, without = place / "with.db", place / "without.db"
        async with AsyncExitStack() as opened:

            async def warm(database: Path, *, journal: bool) -> LashSession:
                provider = calls_of("instant", rounds=1, width=width) if width else None
                core = a_core(database, provider, [instant], journal=journal)
                await opened.enter_async_context(core)
                session = await opened.enter_async_context(core.session("bench"))
                for _ in range(WARM_UP):
                    await session.turn("warm up").run()
                return session

            sessions = await warm(with_it, journal=True), await warm(without, journal=False)
            spent: tuple[list[float], list[float]] = ([], [])
            for _ in range(BLOCKS):
                for session, samples in zip(sessions, spent, strict=True):
                    samples += await timed(TURNS, lambda s=session: s.turn("go").run())  # type: ignore[misc]
        more = p50(spent[0]) - p50(spent[1])
        # Closed by now, so that all of it is in the file.
        size, bare = (os.path.getsize(database) for database in (with_it, without))
        return Row(
            measure=f"turn with a round of {width} tool calls: with a journal, and what it adds",
            floor=f"{p50(spent[1]):.2f} ms, without",
            figure=f"{p50(spent[0]):.2f} ms, {more:+.2f} ms and "
            f"{(size - bare) / (WARM_UP + BLOCKS * TURNS):+.0f} bytes on disk",
            target=f"{AIM_MS[width]:.0f} ms more",
            reached=more <= AIM_MS[width],
        )

    return measure
