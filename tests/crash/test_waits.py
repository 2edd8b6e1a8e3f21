"""Waits between processes: one waits, another answers, and death decides nothing."""

import asyncio
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crash.conftest import REPORT_TIMEOUT_S, start
from lash_runtime import (
    AlreadyResolved,
    CancelToken,
    LashCore,
    ResolveAccepted,
    ResolvedOk,
    ResolveOutcome,
    UnknownOrRevoked,
)
from lash_runtime.ports.await_events import AwaitEventResolver, CustomWait
from lash_runtime.ports.effects import EffectControllerError, TurnScope, await_events_of
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = [pytest.mark.crash, pytest.mark.anyio]

ROUNDS = 20
SCOPE = TurnScope(session_id="orders", turn_id="turn-1")


def a_core(database: Path) -> LashCore:
    provider = ScriptedProvider(otherwise=lambda request: Call.text("yes"))
    return LashCore.open(database, provider=provider, model="m")


def waits_of(core: LashCore) -> AwaitEventResolver:
    return await_events_of(core.effect_host())


def wait_for_the_payment(database: Path, report: Connection) -> None:
    """Make the key, tell it once it is being waited for, and then tell the answer."""
    asyncio.run(_wait(database, report))


async def _wait(database: Path, report: Connection) -> None:
    async with a_core(database) as core, core.session("orders"):
        waits = waits_of(core)
        key = await waits.await_event_key(SCOPE, CustomWait(key="payment"))
        answers: list[Any] = []

        async def wait() -> None:
            try:
                answers.append(await waits.await_await_event(key, CancelToken(), None))
            except EffectControllerError as error:
                answers.append(error.code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await checkpoint()
            # Writes are made in the order in which they are asked for.
            await waits.cancel_await_events_for_session("nobody")
            report.send(key.model_dump_json())
        report.send(answers[0])


class Child:
    """A process of its own, and what it has said."""

    def __init__(self, processes: ForkServerContext, work: Any, *args: object) -> None:
        self._process, self._pipe = start(processes, work, args)

    async def hears(self) -> Any:
        assert await asyncio.to_thread(self._pipe.poll, REPORT_TIMEOUT_S), "it said nothing"
        return self._pipe.recv()

    def says_nothing(self) -> bool:
        return not self._pipe.poll()

    async def kill(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.join)
        self._pipe.close()

    async def ends(self) -> None:
        await asyncio.to_thread(self._process.join, REPORT_TIMEOUT_S)
        assert self._process.exitcode == 0
        self._pipe.close()


async def test_another_process_answers_who_waits(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """By the text of the key, and the answer arrives without anybody asking again."""
    database = tmp_path / "agents.db"
    child = Child(processes, wait_for_the_payment, database)
    key = await child.hears()
    async with a_core(database) as core:
        assert await core.completions().complete(key, {"cents": 100}) == ResolveAccepted()
        assert await child.hears() == ResolvedOk(payload={"cents": 100})
        await child.ends()


async def test_a_wait_outlives_the_process_that_waited(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """Killed while it waits, answered while nobody is there, and found by the next process, which
    gets the same key."""
    database = tmp_path / "agents.db"
    first = Child(processes, wait_for_the_payment, database)
    key = await first.hears()
    assert first.says_nothing()
    await first.kill()
    async with a_core(database) as core:
        assert await core.completions().complete(key, "paid") == ResolveAccepted()
    second = Child(processes, wait_for_the_payment, database)
    assert await second.hears() == key
    assert await second.hears() == ResolvedOk(payload="paid")
    await second.ends()
    async with a_core(database) as core:
        told = await core.completions().complete(key, "paid twice")
        assert told == AlreadyResolved(ResolvedOk(payload="paid"))


async def test_a_wait_is_still_open_after_its_process_was_killed(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """Death cancels nothing: the next one waits on, and hears the answer."""
    database = tmp_path / "agents.db"
    for _ in range(2):
        killed = Child(processes, wait_for_the_payment, database)
        key = await killed.hears()
        await killed.kill()
    last = Child(processes, wait_for_the_payment, database)
    assert await last.hears() == key
    async with a_core(database) as core:
        assert await core.completions().complete(key, 1) == ResolveAccepted()
    assert await last.hears() == ResolvedOk(payload=1)
    await last.ends()


async def test_deleting_a_session_ends_the_waits_of_other_processes(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """And the key that they gave out is worth nothing to whatever uses the id then."""
    database = tmp_path / "agents.db"
    child = Child(processes, wait_for_the_payment, database)
    key = await child.hears()
    async with a_core(database) as core:
        await core.delete_session("orders")
        assert await child.hears() == "await_event_unknown_or_revoked"
        await child.ends()
        async with core.session("orders"):
            assert await core.completions().complete(key) == UnknownOrRevoked()


# --- at the same instant ------------------------------------------------------------------------


def answer_all(
    database: Path, name: str, keys: list[str], barrier: Barrier, report: Connection
) -> None:
    """Answer each key at the same instant as everybody else at the barrier."""
    report.send(asyncio.run(_answer_all(database, name, keys, barrier)))


async def _answer_all(
    database: Path, name: str, keys: list[str], barrier: Barrier
) -> list[ResolveOutcome]:
    outcomes = []
    async with a_core(database) as core:
        for key in keys:
            # On the loop itself, which has nothing else to do.
            barrier.wait(REPORT_TIMEOUT_S)
            outcomes.append(await core.completions().complete(key, name))
    return outcomes


async def test_of_two_processes_that_answer_at_once_one_is_accepted(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """And the other is told what the first has said, which is what whoever waits will hear."""
    database = tmp_path / "agents.db"
    async with a_core(database) as core:
        waits = waits_of(core)
        keys = [
            await waits.await_event_key(SCOPE, CustomWait(key=f"round {number}"))
            for number in range(ROUNDS)
        ]
        texts = [key.model_dump_json() for key in keys]
        barrier = processes.Barrier(2)
        children = {
            name: Child(processes, answer_all, database, name, texts, barrier) for name in "ab"
        }
        outcomes = {name: await child.hears() for name, child in children.items()}
        for child in children.values():
            await child.ends()
        for number, key in enumerate(keys):
            told = {name: said[number] for name, said in outcomes.items()}
            [accepted] = [name for name, outcome in told.items() if outcome == ResolveAccepted()]
            [refused] = told.keys() - {accepted}
            assert told[refused] == AlreadyResolved(ResolvedOk(payload=accepted))
            answer = await waits.await_await_event(key, CancelToken(), None)
            assert answer == ResolvedOk(payload=accepted)
