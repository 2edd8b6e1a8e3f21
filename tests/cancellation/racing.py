"""Cancels against completions: `python -m cancellation.racing --help`, run from `tests/`.

Each round runs one turn and cancels it by its id after a number of steps that the seed decides:
from the core that runs it, or from another one on the same database, which knows it from its row
alone. Whatever comes first, there is one verdict, and caller, row and transcript say the same.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lash_runtime import (
    CancelVerdict,
    LashCore,
    LashSession,
    StopReason,
    TurnOutput,
    tool,
)
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.kernel.turn_cancels import ends_cancelled
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.ports.turn_ledger import TurnRow
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import TestProvider, text_response, tool_calls_response

TURN = "the turn"
ANSWER = "done"


@tool
async def look(steps: int) -> str:
    """Take some steps of the event loop."""
    for _ in range(steps):
        await asyncio.sleep(0)
    return "seen"


@dataclass(frozen=True)
class Round:
    """One race: how long the turn takes, and when and from where it is cancelled."""

    rounds_of_tools: int
    steps_of_model: int
    pause_steps: int
    pause_s: float
    too_late: bool
    from_elsewhere: bool

    @classmethod
    def of(cls, dice: random.Random) -> "Round":
        return cls(
            rounds_of_tools=dice.choice((0, 0, 1)),
            steps_of_model=dice.randrange(6),
            pause_steps=max(0, dice.randrange(-10, 40)),
            # Most of a turn over a database is waiting for its thread.
            pause_s=dice.choice((0, 0, dice.random() * 0.006)),
            too_late=dice.random() < 0.1,
            from_elsewhere=dice.random() < 0.5,
        )

    async def answer(self, request: LlmRequest) -> LlmResponse:
        for _ in range(self.steps_of_model):
            await asyncio.sleep(0)
        results = sum(
            block.type == "tool_result" for message in request.messages for block in message.blocks
        )
        if results < self.rounds_of_tools:
            return tool_calls_response((f"call-{results}", "look", {"steps": 2}))
        return text_response(ANSWER)


@dataclass(frozen=True)
class Finish:
    """How a race came out; `was_over` says that the turn had ended before it was cancelled."""

    verdict: CancelVerdict
    was_answered: bool
    was_over: bool

    def __str__(self) -> str:
        late = self.verdict is CancelVerdict.ACCEPTED and self.was_answered
        return f"{self.verdict.value}{' with its answer' if late else ''}"


class Race:
    """Two cores on one storage; a storage in memory has one."""

    def __init__(self, storage: Storage, elsewhere: Storage | None) -> None:
        self._storage = storage
        self._core = _a_core(storage)
        self._other = None if elsewhere is None else _a_core(elsewhere)

    async def __aenter__(self) -> Self:
        await self._core.start()
        if self._other is not None:
            await self._other.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._core.aclose()
        if self._other is not None:
            await self._other.aclose()

    async def run(self, session_id: str, played: Round) -> Finish:
        """Play one round; raises `AssertionError` where two say different things."""
        canceller = self._core
        if played.from_elsewhere and self._other is not None:
            canceller = self._other
        async with self._core.session(session_id) as session:
            builder = session.turn("Pack").turn_id(TURN).provider(TestProvider(played.answer))
            running = asyncio.ensure_future(builder.run())
            for _ in range(played.pause_steps):
                await asyncio.sleep(0)
            if played.pause_s:
                await asyncio.sleep(played.pause_s)
            if played.too_late:
                await asyncio.wait((running,))
            was_over = running.done()
            verdict = await canceller.cancel_turn(session_id, TURN, reason=session_id)
            output = await running
            again = await canceller.cancel_turn(session_id, TURN, reason="again")
            repeated = await builder.run()
            _assert_one_story(played, verdict, output, await self._row(session_id), session)
            # A turn that had no row yet was unknown to everybody but the core that runs it.
            assert again is verdict or verdict is CancelVerdict.UNKNOWN_TURN, (played, again)
            assert repeated.outcome == output.outcome
            assert repeated.assistant_output == output.assistant_output
            assert repeated.cancellation == output.cancellation
        return Finish(verdict, output.assistant_output.safe_text == ANSWER, was_over)

    async def _row(self, session_id: str) -> TurnRow:
        request = SessionStoreCreateRequest(session_id=session_id)
        store = await self._storage.session_stores.open_existing_store(request)
        assert store is not None
        row = await store.load_turn(session_id, TURN)
        assert row is not None
        assert row.state.is_settled
        return row


def _a_core(storage: Storage) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(TestProvider(lambda _: text_response("")))
        .model("m")
        .storage(storage)
        .tools(look)
        .build()
    )


def _assert_one_story(
    played: Round,
    verdict: CancelVerdict,
    output: TurnOutput,
    row: TurnRow,
    session: LashSession,
) -> None:
    cancelled = verdict is CancelVerdict.ACCEPTED
    assert cancelled == (output.stop_reason is StopReason.CANCELLED), (played, verdict, output)
    assert cancelled == ends_cancelled(row.state, row.outcome), (played, verdict, row)
    assert cancelled == (output.cancellation is not None), (played, verdict, output)
    assert cancelled or output.assistant_message == ANSWER, (played, verdict, output)
    if row.cancel_request is not None:
        assert output.cancellation == row.cancel_request, (played, output, row)
    messages = session.read_view().messages
    assert messages[0].text == "Pack"
    assert resume_safe(messages), (played, messages)
    # What had been answered in time is kept, and the result says so.
    said = [message.text for message in messages if message.text == ANSWER]
    assert said == ([ANSWER] if output.assistant_output.safe_text == ANSWER else []), played
    if verdict is CancelVerdict.UNKNOWN_TURN:
        assert played.from_elsewhere, played


def a_race(place: Path | None) -> Race:
    """On a database in `place`, or in memory."""
    if place is None:
        return Race(MemoryStorage(), None)
    storages = [SqliteStorage(place / "a.db", synchronous="normal") for _ in range(2)]
    return Race(*storages)


async def race(place: Path | None, rounds: int, seed: int) -> Counter[str]:
    """Play `rounds`; how often each finish came."""
    dice, finishes = random.Random(seed), Counter[str]()
    async with a_race(place) as racing:
        for number in range(rounds):
            finishes[str(await racing.run(f"race {number}", Round.of(dice)))] += 1
    return finishes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cancellation.racing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="without a database")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        place = None if arguments.memory else Path(directory)
        finishes = asyncio.run(race(place, arguments.rounds, arguments.seed))
    counts = ", ".join(f"{number} {finish}" for finish, number in sorted(finishes.items()))
    sys.stdout.write(f"{counts} in {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main()
