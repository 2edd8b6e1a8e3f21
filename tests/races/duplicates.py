"""The same turn submitted many times at once, in one process or in several: it is run once.

Every caller of a turn does as it likes: it runs it, streams it or attaches to it, through whichever
handle and at whichever moment, and may be cancelled at any. What they are told is gathered by turn,
and has to agree.
"""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from lash_runtime import (
    LashCore,
    LashSession,
    MessageRole,
    RuntimeFailure,
    StopReason,
    TurnResult,
)
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.ports.storage import Storage
from lash_runtime.testing import TestProvider, text_response

SESSION: Final = "shared"
HANDLES: Final = 3
AT_ONCE: Final = 3
"""Turns of one process that are under way at the same time."""


@dataclass
class Told:
    """What became of each turn, as one process knows it."""

    answers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By turn: what its callers were told. One of them, however many there were."""
    calls: Counter[str] = field(default_factory=Counter)
    """By turn: how often a model was called for it."""
    submissions: int = 0
    cancelled: int = 0
    refused: int = 0
    """Callers that were told that the session is busy, and came again."""


class Crowd:
    """Callers of one process. Each turn has one at least that stays until it is told."""

    def __init__(self, storage: Storage, name: str, seed: int) -> None:
        self.told = Told()
        self._storage = storage
        self._name = name
        self._dice = random.Random(f"{name} {seed}")
        self._handles: list[LashSession] = []

    async def submit(self, turns: list[str], callers: int, *, impatient: float) -> None:
        """Have each turn submitted by `callers`, of which `impatient` are cancelled on the way."""
        builder = LashCore.standard_builder().provider(TestProvider(self._answer)).model("m")
        async with builder.storage(self._storage).build() as core:
            self._handles = [await core.session(SESSION).open() for _ in range(HANDLES)]
            places = asyncio.Semaphore(AT_ONCE)

            async def all_of(turn_id: str) -> None:
                async with places:
                    staying = self._dice.randrange(callers)
                    await asyncio.gather(
                        *(
                            self._caller(turn_id, number == staying, impatient)
                            for number in range(callers)
                        )
                    )

            await asyncio.gather(*(all_of(turn_id) for turn_id in turns))
            for handle in self._handles:
                await handle.close()

    async def _answer(self, request: LlmRequest) -> LlmResponse:
        block = request.messages[-1].blocks[0]
        assert block.type == "text"
        self.told.calls[block.text] += 1
        if self._dice.random() < 0.5:
            await asyncio.sleep(self._dice.random() * 0.003)
        return text_response(f"{block.text} by {self._name}")

    async def _caller(self, turn_id: str, staying: bool, impatient: float) -> None:
        await self._some_steps()
        if staying or self._dice.random() >= impatient:
            await self._ask(turn_id)
            return
        asking = asyncio.ensure_future(self._ask(turn_id))
        await self._some_steps()
        self.told.cancelled += asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()

    async def _ask(self, turn_id: str) -> None:
        """Come again until the turn is known: who attaches may have come too early, and who is
        refused may come later."""
        while True:
            self.told.submissions += 1
            try:
                result = await self._once(turn_id)
            except RuntimeFailure as error:
                if error.code not in {"unknown_turn", "session_execution_busy"}:
                    raise
                self.told.refused += error.code == "session_execution_busy"
                await asyncio.sleep(0.001)
                continue
            self.told.answers[turn_id].add(_said(result))
            return

    async def _once(self, turn_id: str) -> TurnResult:
        handle = self._dice.choice(self._handles)
        turn = handle.turn(turn_id).turn_id(turn_id)
        match self._dice.randrange(4):
            case 0:
                async with handle.attach(turn_id) as attached:
                    async for _ in attached:
                        pass
                    return await attached.finish()
            case 1:
                async with turn.stream() as stream:
                    async for _ in stream:
                        pass
                    return await stream.finish()
            case _:
                return (await turn.run()).result

    async def _some_steps(self) -> None:
        for _ in range(self._dice.randrange(40)):
            await asyncio.sleep(0)


async def transcript(storage: Storage) -> list[str]:
    """What the users have said, in order."""
    builder = LashCore.standard_builder().provider(TestProvider()).model("m")
    async with builder.storage(storage).build() as core, core.session(SESSION) as session:
        said = session.read_view().messages
        return [message.text for message in said if message.role is MessageRole.USER]


def faults(turns: list[str], said: list[str], crowds: list[Told]) -> list[str]:
    """Whatever is wrong with what the processes were told; nothing if all is well."""
    found = []
    for turn_id in turns:
        answers = set().union(*(told.answers[turn_id] for told in crowds))
        calls = sum(told.calls[turn_id] for told in crowds)
        if len(answers) != 1:
            found.append(f"{turn_id}: its callers were told {sorted(answers)}")
        if calls > 1 or (calls == 0 and answers != {_CANCELLED}):
            found.append(f"{turn_id}: its model was called {calls} times for {sorted(answers)}")
        if said.count(turn_id) != 1:
            found.append(f"{turn_id}: said {said.count(turn_id)} times")
    return found


_CANCELLED: Final = StopReason.CANCELLED.value


def _said(result: TurnResult) -> str:
    return result.assistant_message or str(result.stop_reason and result.stop_reason.value)


def take_part(
    database: Path,
    name: str,
    turns: list[str],
    callers: int,
    impatient: float,
    seed: int,
    report: Connection,
) -> None:
    """Submit every turn, as the other process does; send what was told."""
    from lash_runtime.stores.sqlite import SqliteStorage

    crowd = Crowd(SqliteStorage(database), name, seed)
    asyncio.run(crowd.submit(turns, callers, impatient=impatient))
    told = crowd.told
    report.send((dict(told.answers), told.calls, told.submissions, told.cancelled, told.refused))


def told_by(report: tuple[dict[str, set[str]], Counter[str], int, int, int]) -> Told:
    answers, *rest = report
    return Told(defaultdict(set, answers), *rest)
