"""A turn runs in one process and is cancelled by its id from another."""

import asyncio
import os
import random
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from crash.conftest import REPORT_TIMEOUT_S, start
from lash_runtime import (
    CancelVerdict,
    LashCore,
    LeaseTimings,
    StopReason,
    TurnOutput,
)
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import GatedProvider, TestProvider, text_response

pytestmark = [pytest.mark.crash, pytest.mark.anyio]

SESSION = "shared"
RENEWS_OFTEN = LeaseTimings(ttl_ms=30_000, renew_interval_ms=20)
"""What a host sets that wants to hear soon of what others have asked."""


def a_core(database: Path, provider: Any, timings: LeaseTimings = RENEWS_OFTEN) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(provider)
        .model("m")
        .storage(SqliteStorage(database, synchronous="normal"))
        .lease_timings(timings)
        .build()
    )


def told(output: TurnOutput) -> tuple[Any, ...]:
    request = output.cancellation
    asked = None if request is None else (request.reason, request.origin)
    return (output.stop_reason, asked, [message.text for message in output.state.messages])


async def hears(pipe: Connection) -> Any:
    assert await asyncio.to_thread(pipe.poll, REPORT_TIMEOUT_S), "the other process said nothing"
    return pipe.recv()


def hold(database: Path, timings: LeaseTimings, parent: Connection) -> None:
    """Run a turn whose model never answers; say when it has begun, and how it ended."""
    asyncio.run(_hold(database, timings, parent))


async def _hold(database: Path, timings: LeaseTimings, parent: Connection) -> None:
    provider = GatedProvider()
    async with a_core(database, provider, timings) as core, core.session(SESSION) as session:
        async with session.turn("Pack").turn_id("t-1").stream() as stream:
            await provider.entered.wait()
            parent.send("running")
            result = await stream.finish()
        parent.send(told(TurnOutput(result, ())))


async def test_a_turn_in_another_process_is_cancelled_by_its_id(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """The stop button is in another process than the model call, and works."""
    database = tmp_path / "agents.db"
    child, pipe = start(processes, hold, (database, RENEWS_OFTEN))
    assert await hears(pipe) == "running"
    async with a_core(database, GatedProvider()) as core:
        verdict = await core.cancel_turn(SESSION, "t-1", reason="wrong city", origin="parent")
        assert verdict is CancelVerdict.ACCEPTED
        cancelled = (StopReason.CANCELLED, ("wrong city", "parent"), ["Pack"])
        assert await hears(pipe) == cancelled
        await asyncio.to_thread(child.join)
        assert child.exitcode == 0
        async with core.session(SESSION) as session:
            again = await session.turn("Pack").turn_id("t-1").run()
            assert told(again) == cancelled
        assert await core.cancel_turn(SESSION, "t-1") is CancelVerdict.ACCEPTED
    pipe.close()


async def test_a_turn_whose_process_dies_before_it_hears_of_it_is_finished_as_cancelled(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """Nobody was there to cancel it, and its session must not wait for them. The verdict stays, and
    whoever finishes the turn heeds it."""
    database = tmp_path / "agents.db"
    # It renews its lease every ten seconds, so it is not stopped while it holds the database.
    child, pipe = start(processes, hold, (database, LeaseTimings()))
    assert await hears(pipe) == "running"
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    async with a_core(database, TestProvider(lambda _: text_response("here"))) as core:
        assert await core.cancel_turn(SESSION, "t-1") is CancelVerdict.ACCEPTED
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.join)
        async with core.session(SESSION) as session:
            left = await session.turn("Pack").turn_id("t-1").run()
            assert left.stop_reason is StopReason.CANCELLED
            assert left.cancellation is not None
            assert (await session.turn("And now?").run()).assistant_message == "here"
        assert await core.cancel_turn(SESSION, "t-1") is CancelVerdict.ACCEPTED
    pipe.close()


# --- at the same instant ------------------------------------------------------------------------

ROUNDS = 60
LONGEST_MS = 12


def run_on_demand(database: Path, seed: int, parent: Connection) -> None:
    """Run a turn in a session of its own each time that the parent says so."""
    asyncio.run(_run_on_demand(database, seed, parent))


async def _run_on_demand(database: Path, seed: int, parent: Connection) -> None:
    dice = random.Random(seed)

    async def answer(request: LlmRequest) -> LlmResponse:
        await asyncio.sleep(dice.random() * LONGEST_MS / 2000)
        return text_response("done")

    async with a_core(database, TestProvider(answer)) as core:
        for number in range(ROUNDS):
            async with core.session(f"s{number}") as session:
                turn = session.turn("Pack").turn_id("t")
                await asyncio.to_thread(parent.recv)
                parent.send(told(await turn.run()))


async def test_two_processes_agree_on_what_became_of_a_turn(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """One completes it while the other cancels it: the same verdict in both, whoever was first."""
    database, dice = tmp_path / "agents.db", random.Random(1)
    async with a_core(database, GatedProvider()) as core:
        child, pipe = start(processes, run_on_demand, (database, 2))
        for number in range(ROUNDS):
            pipe.send("go")
            await asyncio.sleep(dice.random() * LONGEST_MS / 1000)
            too_late = number % 10 == 9
            report = await hears(pipe) if too_late else None
            verdict = await core.cancel_turn(f"s{number}", "t", reason="race")
            assert not too_late or verdict is CancelVerdict.COMPLETION_WON
            reason, asked, said = report or await hears(pipe)
            cancelled = verdict is CancelVerdict.ACCEPTED
            assert cancelled == (reason is StopReason.CANCELLED)
            assert cancelled == (asked == ("race", None))
            assert said in (["Pack", "done"], ["Pack"] if cancelled else [])
            if verdict is not CancelVerdict.UNKNOWN_TURN:
                assert await core.cancel_turn(f"s{number}", "t") is verdict
        await asyncio.to_thread(child.join)
        assert child.exitcode == 0
        pipe.close()
