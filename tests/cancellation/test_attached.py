"""Whoever is attached to a turn may be cancelled at any step of the event loop: nothing happens.

In particular not where the end of the turn, which ends a wait of its own making, comes in the same
step as the cancellation: the one must not swallow the other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cancellation.stepping import AtStep, SteppingLoop
from lash_runtime import AttachedTurn, LashCore, LashSession, TurnActivity
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
        .provider(ScriptedProvider(otherwise=lambda _: Call.text("Coat.", chunk=1), record=False))
        .model("m")
        .storage(MemoryStorage() if memory else SqliteStorage(tmp_path / "a.db"))
        .build()
    )
    async with built as entered:
        yield entered


async def read(attached: AttachedTurn) -> list[TurnActivity]:
    return [activity async for activity in attached]


async def finish(attached: AttachedTurn) -> None:
    assert (await attached.finish()).assistant_message == "Coat."


async def ask_again(session: LashSession) -> None:
    assert (await session.turn("Pack").turn_id("t-1").run()).assistant_message == "Coat."


async def _cancelled_at(
    session: LashSession, step: int, bystander: Callable[[], Awaitable[Any]]
) -> bool:
    """Run a turn, and cancel the bystander at `step`; whether the turn lasted so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    turn = session.turn("Pack").turn_id("t-1").stream()
    waiting = asyncio.ensure_future(bystander())
    asked = False

    def cancel() -> None:
        nonlocal asked
        asked = waiting.cancel()

    with AtStep(loop, step, cancel):
        assert (await turn.finish()).assistant_message == "Coat."
        await asyncio.wait((waiting,))
    assert waiting.cancelled() is asked
    if not asked:
        waiting.result()
    return asked


@pytest.mark.parametrize("bystander", ["reads", "finishes", "asks again", "asks elsewhere"])
async def test_a_bystander_cancelled_at_any_step_does_nothing_to_the_turn(
    core: LashCore, bystander: str
) -> None:
    """Its cancellation reaches it, and reaches nobody else."""
    for step in range(MOST_STEPS):
        async with core.session(f"s-{step}") as session, core.session(f"s-{step}") as other:
            attached: list[AttachedTurn] = []

            async def act(
                session: LashSession = session,
                other: LashSession = other,
                attached: list[AttachedTurn] = attached,
            ) -> None:
                if bystander == "asks again":
                    await ask_again(session)
                elif bystander == "asks elsewhere":
                    await ask_again(other)
                else:
                    attached.append(session.attach("t-1"))
                    await (read if bystander == "reads" else finish)(attached[0])

            reached = await _cancelled_at(session, step, act)
            again = session.attach("t-1")
            assert await read(again) == []
            await finish(again)
            for one in attached:
                await finish(one)
            assert len(session.read_view().messages) == 2
            await session.turn("Next").run()
        left = {task.get_name() for task in asyncio.all_tasks()}
        assert not [name for name in left if name.startswith(("lash-turn", "lash-attached"))]
        if not reached:
            assert step > 2
            return
    pytest.fail("the turn never ended by itself")
