"""Turns that are cut off when their core is closed, and what is left of them."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from facade.graphs import the_store
from facade.places import Place, running
from lash_runtime import (
    LashCore,
    LashCoreBuilder,
    LashSession,
    RuntimeFailure,
    SessionBuilder,
    TurnBuilder,
    TurnInput,
    TurnOutput,
    tool,
)
from lash_runtime.model.activity import RuntimeDiagnostic, TurnActivity
from lash_runtime.model.llm import LlmRequest, LlmResponse, ToolCallBlock
from lash_runtime.ports.journal import JournalStore
from lash_runtime.ports.turn_ledger import TurnRow
from lash_runtime.testing import (
    Call,
    ScriptedProvider,
    text_response,
    tool_call_response,
    tool_calls_response,
    usage,
)

SAID: Final = (
    tool_calls_response(
        ("a", "look", {"at": "sky"}),
        ("b", "look", {"at": "sea"}),
        text="Let me see.",
        usage=usage(input=5, output=2),
    ),
    tool_call_response("c", "pay", {"to": "me"}, usage=usage(input=7, output=3)),
    text_response("Done.", usage=usage(input=9, output=1)),
)
WHOLE: Final = [
    "user: Go",
    "assistant: Let me see.",
    'assistant [tool_call]: {"at": "sky"}',
    'assistant [tool_call]: {"at": "sea"}',
    "user [tool_result]: sky seen",
    "user [tool_result]: sea seen",
    'assistant [tool_call]: {"to": "me"}',
    "user [tool_result]: me paid",
    "assistant: Done.",
]


class Agent(ScriptedProvider):
    """Answers the n-th round of a turn with the n-th of `said`, however often it is asked.

    It stops for ever in the round `hangs`, once it has set `entered`.
    """

    def __init__(
        self,
        said: Sequence[LlmResponse] = SAID,
        *,
        hangs: int | None = None,
        kind: str = "scripted",
    ) -> None:
        super().__init__(otherwise=self._answer, kind=kind)
        self.rounds: list[int] = []
        self.entered = anyio.Event()
        self._said = said
        self._hangs = hangs

    def _answer(self, request: LlmRequest) -> Call:
        return Call(result=self._said[round_of(request)])

    async def complete(self, request: LlmRequest) -> LlmResponse:
        self.rounds.append(round_of(request))
        if self.rounds[-1] == self._hangs:
            self.entered.set()
            await anyio.sleep_forever()
        return await super().complete(request)


def round_of(request: LlmRequest) -> int:
    """How many rounds of tools the turn has had."""
    rounds = 0
    for message in request.messages:
        if any(isinstance(block, ToolCallBlock) for block in message.blocks):
            rounds += 1
        elif message.role == "user" and any(block.type == "text" for block in message.blocks):
            rounds = 0
    return rounds


class Shop:
    """Tools that keep what they did, and hang at `hangs` once they have set `entered`, until
    `release` is set."""

    def __init__(self, *hangs: str) -> None:
        self.did: list[str] = []
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self._hangs = hangs

    async def _do(self, what: str) -> None:
        self.did.append(what)
        if what in self._hangs:
            self.entered.set()
            await self.release.wait()

    @tool(on_unknown="rerun")
    async def look(self, at: str) -> str:
        """Look."""
        await self._do(at)
        return f"{at} seen"

    @tool(on_unknown="rerun", scheduling="serial")
    async def pay(self, to: str) -> str:
        """Pay."""
        await self._do(to)
        return f"{to} paid"

    def builder(self, place: Place, provider: Any) -> LashCoreBuilder:
        return place.builder(provider, self.look, self.pay).recover(False)


Cut = Callable[[Place], Awaitable[None]]
Change = Callable[[Any], Any]


def unchanged(builder: Any) -> Any:
    return builder


@asynccontextmanager
async def about_to_close(
    core: LashCore,
    said: TurnInput | str = "Go",
    turn_id: str = "t",
    *,
    opened: Callable[[SessionBuilder], Awaitable[LashSession]] = SessionBuilder.open,
    turn: Callable[[TurnBuilder], TurnBuilder] = unchanged,
) -> AsyncIterator[LashSession]:
    """A turn that runs when its core is closed, at the end of the block."""
    async with running(core):
        session = await opened(core.session("s"))
        stream = turn(session.turn(said).turn_id(turn_id)).stream()
        yield session
    with pytest.raises(RuntimeFailure) as raised:
        await stream.finish()
    assert raised.value.code == "turn_interrupted"


async def cut_off_in_round(place: Place, at: int) -> None:
    """The core is closed while the model is asked for the `at`-th time."""
    agent = Agent(hangs=at)
    async with about_to_close(Shop().builder(place, agent).build()):
        await agent.entered.wait()


async def cut_off_in_tool(place: Place, at: str) -> None:
    """The core is closed while a tool works."""
    shop = Shop(at)
    async with about_to_close(shop.builder(place, Agent()).build()):
        await shop.entered.wait()


def cut_in(at: int | str) -> Any:
    async def cut(place: Place) -> None:
        if isinstance(at, int):
            await cut_off_in_round(place, at)
        else:
            await cut_off_in_tool(place, at)

    return pytest.param(cut, id=f"round {at}" if isinstance(at, int) else f"tool {at}")


CUTS: Final = [cut_in(at) for at in (0, "sky", "sea", 1, "me", 2)]


async def row_of(place: Place, turn_id: str = "t") -> TurnRow:
    async with the_store(place) as store:
        row = await store.load_turn("s", turn_id)
    assert row is not None
    return row


async def is_retired(place: Place, turn_id: str = "t") -> bool:
    """Whether nothing is left of the turn's journal."""
    async with the_store(place) as store:
        assert isinstance(store, JournalStore)
        return not await store.load_journal("s", turn_id)


async def left_of(place: Place) -> Any:
    """All that a turn has left, to compare it with another run of it."""
    core = Shop().builder(place, Agent()).build()
    async with running(core), core.session("s") as session:
        view = session.read_view()
        messages = list(view.messages)
        report = session.usage_report()
    row = await row_of(place)
    assert row.result is not None
    result = row.result.model_dump(exclude={"execution", "calls"})
    calls = [(call.call_id, call.status) for call in row.result.calls]
    return messages, report, view.turn_index, view.token_usage, result, calls, row.turn_index


def of_the_turn(output: TurnOutput) -> list[list[tuple[str, str | None]]]:
    """What a sink saw, but for ids, times and the restart. Calls of a round come in any order."""
    shown = [
        (activity.event.type, getattr(activity.event, "call_id", None))
        for activity in output.activities
        if not is_restart(activity)
    ]
    return [
        sorted(group) if of_tools else list(group)
        for of_tools, group in itertools.groupby(shown, lambda each: each[0].startswith("tool_"))
    ]


def is_restart(activity: TurnActivity) -> bool:
    event = activity.event
    return isinstance(event, RuntimeDiagnostic) and event.kind == "turn_restarted"


async def run_whole(place: Place) -> TurnOutput:
    core = Shop().builder(place, Agent()).build()
    async with running(core), core.session("s") as session:
        return await session.turn("Go").turn_id("t").run()
