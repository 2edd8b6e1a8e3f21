"""What is left in memory by work that is over."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from facade.places import Place, a_core
from lash_runtime import tool
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio


@tool(timeout_ms=60_000)
async def look(place: str) -> str:
    """Look at a place."""
    return f"nothing at {place}"


@contextmanager
def _left_to_the_collector() -> Iterator[Counter[str]]:
    """Counts what of this library only the collector could free, once the block is over."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(item) for item in gc.garbage]
        found.update(k.__qualname__ for k in kinds if k.__module__.startswith("lash_runtime"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_turn_leaves_nothing_to_the_collector(tmp_path: Path) -> None:
    """What is done with goes at once: a thousand turns in flight are enough to look through."""
    script = [Call.tool("a", "look", {"place": "home"}), Call.text("Nothing there.")]
    model = ScriptedProvider([*script, *script], record=False)
    place = Place("sqlite", tmp_path / "agents.db")
    async with a_core(place, model, look) as core, core.session("s") as session:
        await session.turn("and here?").run()
        with _left_to_the_collector() as left:
            await session.turn("and there?").run()

    assert left == {}
