"""Whole turns on a real model: the library from the facade down to a socket."""

from pathlib import Path

import pytest

from lash_runtime import LashCore, tool
from lash_runtime.testing.local_model import LocalModel

pytestmark = [pytest.mark.wire, pytest.mark.anyio]

asked: list[str] = []


@tool
async def weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return "rain"


async def test_a_turn_with_a_tool_is_kept_and_continued(model: LocalModel, tmp_path: Path) -> None:
    """The model calls a Python function, reads its result, and the session goes on from there."""
    asked.clear()
    core = LashCore.open(
        tmp_path / "agents.db", provider=model.provider(), model=model.name, tools=[weather]
    )
    async with core:
        async with core.session("wire") as session:
            output = await session.turn("weather in Oslo").max_turns(3).run()
            assert [call.tool for call in output.tool_calls][:1] == ["weather"]
            assert asked
            assert output.usage.total > 0
            kept = len(session.read_view().messages)
        async with core.session("wire") as session:
            assert len(session.read_view().messages) == kept


async def test_a_question_too_long_for_the_model_ends_the_turn_with_its_reason(
    model: LocalModel, tmp_path: Path
) -> None:
    """The server's refusal becomes an outcome, and the session can still be used."""
    core = LashCore.open(tmp_path / "agents.db", provider=model.provider(), model=model.name)
    async with core, core.session("wire") as session:
        output = await session.turn("word " * 3000).run()
        assert output.stop_reason == "provider_error"
        assert not output.is_success
