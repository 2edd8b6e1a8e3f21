"""Two processes on one session: one runs, the other is told so, and takes over from the dead."""

import asyncio
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.conftest import REPORT_TIMEOUT_S
from lash_runtime import LashCore, MessageRole, RuntimeFailure, StopReason
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.testing import GatedProvider, TestProvider, text_response

pytestmark = [pytest.mark.crash, pytest.mark.anyio]

SESSION = "shared"


def hold_the_session(database: Path, report: Connection) -> None:
    """Run a turn whose model never answers; say when it has begun."""
    asyncio.run(_hold(database, report))


async def _hold(database: Path, report: Connection) -> None:
    provider = GatedProvider()
    async with (
        LashCore.open(database, provider=provider, model="m") as core,
        core.session(SESSION) as session,
        session.turn("from the first").turn_id("first").stream() as stream,
    ):
        await provider.entered.wait()
        report.send("running")
        await stream.finish()


def _echo(request: LlmRequest) -> LlmResponse:
    return text_response("here")


async def test_the_second_process_is_refused_and_takes_over_from_a_killed_one(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """Refused before any work, with an error that says "later"; then no wait for the lease."""
    database = tmp_path / "agents.db"
    ours, theirs = processes.Pipe()
    child = processes.Process(target=hold_the_session, args=(database, theirs), daemon=True)
    child.start()
    theirs.close()
    assert await asyncio.to_thread(ours.poll, REPORT_TIMEOUT_S)
    assert ours.recv() == "running"
    ours.close()
    provider = TestProvider(_echo)
    core = LashCore.open(database, provider=provider, model="m")
    async with core, core.session(SESSION) as session:
        with pytest.raises(RuntimeFailure) as refused:
            await session.turn("from the second").turn_id("second").run()
        assert refused.value.code == "session_execution_busy"
        assert refused.value.is_retryable
        assert list(session.read_view().messages) == []

        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.join)

        output = await session.turn("from the second").turn_id("second").run()
        assert output.assistant_message == "here"
        said = [m.text for m in session.read_view().messages if m.role is MessageRole.USER]
        assert said == ["from the first", "from the second"]
        first = await session.turn("from the first").turn_id("first").run()
        assert first.stop_reason is StopReason.INTERRUPTED
