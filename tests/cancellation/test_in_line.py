"""A caller that is cancelled just as its turn begins: there is no turn, or a cancelled one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cancellation.stepping import AtStep, SteppingLoop
from lash_runtime import LashCore, StopReason
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

MOST_STEPS = 2_000
"""More than any turn of this file takes; reaching it means that a turn never ended."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SteppingLoop}


@pytest.fixture(params=["memory", "sqlite"])
async def core(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LashCore]:
    memory = request.param == "memory"
    built = (
        LashCore.standard_builder()
        .provider(ScriptedProvider(otherwise=lambda _: Call.text("yes", chunk=1), record=False))
        .model("m")
        .storage(MemoryStorage() if memory else SqliteStorage(tmp_path / "a.db"))
        .build()
    )
    async with built as entered:
        yield entered


@pytest.mark.parametrize("before", [0, 1], ids=["alone", "behind another"])
async def test_a_caller_cancelled_at_any_step_of_the_line_never_interrupts(
    core: LashCore, before: int
) -> None:
    """Nothing of the turn is stored, or it is stored as what it is: cancelled by its caller."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    for step in range(MOST_STEPS):
        async with core.session(f"s-{step}") as session:
            turn = session.turn("Pack").turn_id("t-1")
            others = [asyncio.ensure_future(session.turn("First").run()) for _ in range(before)]
            caller = asyncio.ensure_future(turn.run())
            with AtStep(loop, step, caller.cancel) as cancelling:
                await asyncio.wait((caller, *others))
            said = [message.text for message in session.read_view().messages]
            again = await turn.run()
            unanswered = said[-1:] == ["Pack"]
            assert again.stop_reason is (StopReason.CANCELLED if unanswered else None)
            assert all(other.result().is_success for other in others)
        if not cancelling.reached:
            return
    pytest.fail("the turn never ended by itself")
