"""Two processes on one session: one runs, the other is told so, and takes over from the dead.

Either the second comes while the first is at it, or both come at the same instant.
"""

import asyncio
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from crash.conftest import REPORT_TIMEOUT_S, start
from facade.places import Place
from lash_runtime import MessageRole, RuntimeFailure, StopReason
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.testing import GatedProvider, TestProvider, text_response

pytestmark = [pytest.mark.crash, pytest.mark.anyio]

SESSION = "shared"


def hold_the_session(kind: str, database: Path, report: Connection) -> None:
    """Run a turn whose model never answers; say when it has begun."""
    asyncio.run(_hold(Place(kind, database), report))


async def _hold(place: Place, report: Connection) -> None:
    provider = GatedProvider()
    async with (
        place.builder(provider).build() as core,
        core.session(SESSION) as session,
        session.turn("from the first").turn_id("first").stream() as stream,
    ):
        await provider.entered.wait()
        report.send("running")
        await stream.finish()


def _echo(request: LlmRequest) -> LlmResponse:
    return text_response("here")


@pytest.mark.parametrize("kind", ["sqlite", "inline"])
async def test_the_second_process_is_refused_and_takes_over_from_a_killed_one(
    processes: ForkServerContext, tmp_path: Path, kind: str
) -> None:
    """Refused before any work, with an error that says "later"; then no wait for the lease. What
    the first has begun is finished by the second, or closed where it is not on record."""
    place = Place(kind, tmp_path / "agents.db")
    child, ours = start(processes, hold_the_session, (kind, place.database))
    assert await asyncio.to_thread(ours.poll, REPORT_TIMEOUT_S)
    assert ours.recv() == "running"
    ours.close()
    provider = TestProvider(_echo)
    core = place.builder(provider).build()
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
        if kind == "sqlite":
            assert first.assistant_message == "here"
        else:
            assert first.stop_reason is StopReason.INTERRUPTED


# --- at the same instant ------------------------------------------------------------------------

ROUNDS = 10


def contend(
    kind: str, database: Path, name: str, rounds: list[str], barrier: Barrier, parent: Connection
) -> None:
    """In each session of `rounds`, start a turn at the same instant as everybody else at the
    barrier, and again if it was refused. The model answers when the parent says so."""
    asyncio.run(_contend(Place(kind, database), name, rounds, barrier, parent))


async def _contend(
    place: Place, name: str, rounds: list[str], barrier: Barrier, parent: Connection
) -> None:
    async def answer(request: LlmRequest) -> LlmResponse:
        parent.send(("holds", name))
        await asyncio.to_thread(parent.recv)
        return text_response(f"to {name}")

    async with place.builder(TestProvider(answer)).build() as core:
        for session_id in rounds:
            async with core.session(session_id) as session:
                turn = session.turn(f"from {name}").turn_id(name)
                # On the loop itself, which has nothing else to do, so that no thread is between
                # the barrier and the turn.
                barrier.wait(REPORT_TIMEOUT_S)
                try:
                    output = await turn.run()
                except RuntimeFailure as error:
                    seen = len(session.read_view().messages)
                    parent.send(("refused", name, error.code, error.is_retryable, seen))
                    await asyncio.to_thread(parent.recv)
                    output = await turn.run()
                said = [m.text for m in session.read_view().messages]
                parent.send(("ran", name, output.assistant_message, said))


class Contenders:
    """The two processes, and what each has said last."""

    def __init__(self, processes: ForkServerContext, place: Place, rounds: list[str]) -> None:
        # Held, for its semaphores are unlinked with it.
        self._barrier = processes.Barrier(2)
        self._started: dict[str, tuple[ForkServerProcess, Connection]] = {
            name: start(
                processes, contend, (place.kind, place.database, name, rounds, self._barrier)
            )
            for name in ("a", "b")
        }

    def hears(self, name: str) -> tuple[Any, ...]:
        _, pipe = self._started[name]
        assert pipe.poll(REPORT_TIMEOUT_S), f"{name} said nothing"
        said: tuple[Any, ...] = pipe.recv()
        return said

    def go_on(self, name: str) -> None:
        self._started[name][1].send("go on")

    def holder_and_refused(self) -> tuple[str, str]:
        """Who got the session; the other was told so, and that it may come again."""
        said = {name: self.hears(name) for name in self._started}
        assert sorted(what for what, *_ in said.values()) == ["holds", "refused"]
        [holder] = [name for name, (what, *_) in said.items() if what == "holds"]
        [refused] = said.keys() - {holder}
        assert said[refused] == ("refused", refused, "session_execution_busy", True, 0)
        return holder, refused

    def runs_its_turn(self, name: str, *, finishes: bool = False) -> list[str]:
        """Let the one that was refused come again; the transcript as it sees it then. It
        `finishes` the turn of the other one first."""
        self.go_on(name)
        if finishes:
            assert self.hears(name) == ("holds", name)
            self.go_on(name)
        assert self.hears(name) == ("holds", name)
        self.go_on(name)
        what, _, answer, said = self.hears(name)
        assert (what, answer) == ("ran", f"to {name}")
        return said  # type: ignore[no-any-return]

    def kill(self, name: str) -> None:
        child, _ = self._started[name]
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()

    def join(self) -> None:
        for child, pipe in self._started.values():
            child.join(REPORT_TIMEOUT_S)
            assert child.exitcode in {0, -signal.SIGKILL}
            pipe.close()


def test_of_two_processes_at_the_same_instant_exactly_one_runs(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """The other is refused before its model is called, and runs once the first is done."""
    rounds = [f"session-{number}" for number in range(ROUNDS)]
    contenders = Contenders(processes, Place("sqlite", tmp_path / "agents.db"), rounds)
    for _ in rounds:
        holder, refused = contenders.holder_and_refused()
        contenders.go_on(holder)
        first = [f"from {holder}", f"to {holder}"]
        assert contenders.hears(holder) == ("ran", holder, f"to {holder}", first)
        said = contenders.runs_its_turn(refused)
        assert said == [*first, f"from {refused}", f"to {refused}"]
    contenders.join()


@pytest.mark.parametrize("kind", ["sqlite", "inline"])
async def test_of_two_processes_at_the_same_instant_the_other_takes_over_from_the_killed(
    processes: ForkServerContext, tmp_path: Path, kind: str
) -> None:
    """It need not wait for the lease, and finds the words that the first had been told."""
    for number in range(ROUNDS // 2):
        place = Place(kind, tmp_path / f"{number}.db")
        contenders = Contenders(processes, place, [SESSION])
        holder, refused = contenders.holder_and_refused()
        contenders.kill(holder)
        finishes = kind == "sqlite"
        said = await asyncio.to_thread(contenders.runs_its_turn, refused, finishes=finishes)
        answer = [f"to {refused}"]
        assert said == [
            f"from {holder}",
            *(answer if finishes else []),
            f"from {refused}",
            *answer,
        ]
        contenders.join()
        async with (
            place.builder(TestProvider(_echo)).build() as core,
            core.session(SESSION) as session,
        ):
            first = await session.turn(f"from {holder}").turn_id(holder).run()
            if finishes:
                assert first.assistant_message == f"to {refused}"
            else:
                assert first.stop_reason is StopReason.INTERRUPTED
            kept = await session.turn(f"from {refused}").turn_id(refused).run()
            assert kept.assistant_message == f"to {refused}"
