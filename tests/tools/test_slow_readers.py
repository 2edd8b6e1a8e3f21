"""Many calls at once, and a reader that is behind all of them."""

import anyio
import pytest

from lash_runtime import LashCore, tool
from lash_runtime.runtime.turn.channel import CAPACITY
from lash_runtime.testing import Call, ScriptedProvider, tool_calls_response

pytestmark = pytest.mark.anyio

CALLS = CAPACITY + 10


async def test_calls_that_all_wait_for_one_reader_go_on_when_it_reads() -> None:
    """Each of them waits in a task of its own; none may be forgotten."""
    begun = [0]
    many_begun = anyio.Event()

    @tool
    async def count(number: int) -> int:
        """Count."""
        begun[0] += 1
        if begun[0] == CAPACITY // 2:
            many_begun.set()
        return number

    wanted = [(f"c{number}", "count", {"number": number}) for number in range(CALLS)]
    provider = ScriptedProvider([tool_calls_response(*wanted), Call.text("Counted.")])
    core = LashCore.standard_builder().provider(provider).model("scripted").tools(count).build()

    async with core, core.session("s") as session, session.turn("Count.").stream() as stream:
        await many_begun.wait()
        seen = [activity.event.type async for activity in stream]
        result = await stream.finish()

    assert result.is_success
    assert seen.count("tool_call_started") == CALLS
    assert seen.count("tool_call_completed") == CALLS
