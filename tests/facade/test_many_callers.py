"""Many callers at once, each doing as it likes: whatever they do, the sessions stay whole."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from facade.places import Place, a_core, running
from lash_runtime import (
    CancelToken,
    EmbedError,
    LashCore,
    LashSession,
    MessageRole,
    PartKind,
    SessionStillInUse,
    TurnOutcome,
    tool,
)
from lash_runtime.model.llm import LlmRequest
from lash_runtime.testing import Call, ScriptedProvider, text_response, tool_calls_response

pytestmark = pytest.mark.anyio

SESSIONS = ("a", "b", "c")
CALLERS = 6
VISITS = 6


@tool
async def pause(turns: int) -> str:
    """Give the loop some turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return "paused"


@tool
def work(turns: int) -> str:
    """Work in a thread."""
    return f"worked {turns}"


class Storm:
    """Seeded callers over one core. `outcomes` holds what each acknowledged turn came to."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.outcomes: dict[str, dict[str, TurnOutcome]] = {name: {} for name in SESSIONS}
        self._calls = 0
        self._awaited: tuple[int, anyio.Event] | None = None

    async def reached(self, calls: int) -> None:
        """Return when the model has been called that often."""
        self._awaited = (calls, anyio.Event())
        await self._awaited[1].wait()

    def answer(self, request: LlmRequest) -> Call:
        self._calls += 1
        if self._awaited is not None and self._calls == self._awaited[0]:
            self._awaited[1].set()
        dice = self._dice
        kind = dice.random()
        if kind < 0.3:
            calls = [
                (f"c{n}", dice.choice(("pause", "work", "no_such")), {"turns": dice.randint(0, 20)})
                for n in range(dice.randint(1, 3))
            ]
            return Call(result=tool_calls_response(*calls))
        if kind < 0.35:
            return Call(result=ConnectionError("gone"))
        if kind < 0.4:
            return Call(result=text_response(""))
        return Call.text("x" * dice.randint(1, 150), chunk=dice.choice((1, 3, 9)))

    async def caller(self, core: LashCore, name: str) -> None:
        for visit in range(VISITS):
            async with visiting(core, self._dice.choice(SESSIONS)) as session:
                for number in range(self._dice.randint(1, 3)):
                    await self._say(session, f"{name}-{visit}-{number}")

    async def _say(self, session: LashSession, words: str) -> None:
        match self._dice.randrange(5):
            case 0:
                await self._turn(session, words)
            case 1:
                saying = asyncio.ensure_future(self._turn(session, words))
                await self._some_steps()
                saying.cancel()
                await asyncio.wait([saying])
                if not saying.cancelled():
                    saying.result()
            case 2:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as both:
                        both.start_soon(self._cancel_soon, scope)
                        both.start_soon(self._turn, session, words)
            case 3:
                session.cancel_running_turns()
                await self._turn(session, words)
            case _:
                async with session.clone() as clone, anyio.create_task_group() as both:
                    both.start_soon(self._turn, session, words)
                    both.start_soon(self._turn, clone, words + "'")

    async def _turn(self, session: LashSession, words: str) -> None:
        turn = session.turn(words).turn_id(words).max_turns(4)
        outcomes = self.outcomes[session.session_id]
        match self._dice.randrange(3):
            case 0:
                outcomes[words] = (await turn.run()).outcome
            case 1:
                async with turn.stream() as stream:
                    async for _ in stream:
                        if self._dice.random() < 0.1:
                            break
                    if self._dice.random() < 0.5:
                        outcomes[words] = (await stream.finish()).outcome
            case _:
                token = CancelToken()
                async with anyio.create_task_group() as both:
                    both.start_soon(self._cancel_soon, token)
                    outcomes[words] = (await turn.cancel(token).run()).outcome

    async def _cancel_soon(self, what: CancelToken | anyio.CancelScope) -> None:
        await self._some_steps()
        what.cancel()

    async def _some_steps(self) -> None:
        for _ in range(self._dice.randint(0, 60)):
            await asyncio.sleep(0)


@asynccontextmanager
async def visiting(core: LashCore, name: str) -> AsyncIterator[LashSession]:
    """A session that is closed as soon as the turns that were cancelled in it are over."""
    session = await core.session(name).open()
    try:
        yield session
    finally:
        while not session.closed:
            try:
                await session.close()
            except SessionStillInUse:
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(4))
async def test_sessions_stay_whole_whatever_their_callers_do(place: Place, seed: int) -> None:
    """No caller is refused in its own core, no acknowledged turn is lost or doubled, every call
    has its result, and a turn that is asked for again ends as it ended the first time."""
    storm = Storm(seed)
    provider = ScriptedProvider(otherwise=storm.answer, record=False)
    async with a_core(place, provider, pause, work) as core, anyio.create_task_group() as callers:
        for number in range(CALLERS):
            callers.start_soon(storm.caller, core, f"caller{number}")

    assert sum(map(len, storm.outcomes.values())) > CALLERS
    await _assert_whole(place, storm)


@pytest.mark.parametrize("seed", range(4, 8))
async def test_sessions_stay_whole_when_the_core_is_closed_under_its_callers(
    place: Place, seed: int
) -> None:
    """A shutdown in the middle of everything: whoever was not answered is told so, and the next
    core finds what was acknowledged, with every other history closed."""
    storm = Storm(seed)
    provider = ScriptedProvider(otherwise=storm.answer, record=False)
    codes: set[str] = set()

    async def caller(name: str) -> None:
        try:
            await storm.caller(core, name)
        except* EmbedError as errors:
            codes.update(_codes(errors))

    async with a_core(place, provider, pause, work) as core:
        async with anyio.create_task_group() as callers:
            for number in range(CALLERS):
                callers.start_soon(caller, f"caller{number}")
            await storm.reached(15)
            await core.aclose()

    assert codes
    assert codes <= {"turn_interrupted", "session_closed", "core_closed"}
    await _assert_whole(place, storm)


def _codes(error: BaseException) -> set[str]:
    if isinstance(error, BaseExceptionGroup):
        return set().union(*map(_codes, error.exceptions))
    return {error.code} if isinstance(error, EmbedError) else {type(error).__name__}


async def _assert_whole(place: Place, storm: Storm) -> None:
    """Another core finds every acknowledged turn once, and gives its outcome again."""
    silent = ScriptedProvider()
    async with running(place.builder(silent, pause, work).recover(False).build()) as core:
        for name, outcomes in storm.outcomes.items():
            async with core.session(name) as session:
                questions = _questions_of_a_closed_history(session)
                assert len(questions) == len(set(questions))
                assert set(outcomes) <= set(questions)
                for words, outcome in outcomes.items():
                    again = await session.turn(words).turn_id(words).max_turns(4).run()
                    assert again.outcome == outcome
    assert silent.calls == 0


def _questions_of_a_closed_history(session: LashSession) -> list[str]:
    """What the users said; fails where something was said while a call had no result yet."""
    questions: list[str] = []
    unanswered: set[str | None] = set()
    for message in session.read_view().messages:
        for part in message.parts:
            match part.kind:
                case PartKind.TOOL_CALL:
                    unanswered.add(part.tool_call_id)
                case PartKind.TOOL_RESULT:
                    unanswered.remove(part.tool_call_id)
                case PartKind.TEXT if message.role is MessageRole.USER:
                    assert unanswered == set()
                    questions.append(part.content)
    assert unanswered == set()
    return questions
