"""One turn with everything in it that a journal has to keep, and the lives that it takes.

The model asks for two rounds of tools: three side by side, one of each answer to the question what
is to be done about a call of which nobody knows how it ended, one that runs by itself and draws
pictures, one that fails at first and waits before it is tried again, and one that calls others. A
round is a table: what else a turn may wait for is a row more. Every act of a tool or of the model
is noted outside, where no death takes it back, and passes points in the middle and at its end.
Whatever may differ from one turn to another, whether it is the first of its session, the order of
the calls, how long they take, what the tools say of themselves, follows from the seed, so that
every life plays the same turn.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from crash.aftermath import EVERY_TIME
from crash.dying import Death, Points, Reaper, watched_process
from crash.outside import Outside, model_call, tool_attempt
from lash_runtime import (
    EmbedError,
    FunctionTool,
    Image,
    LashCore,
    LashSession,
    LeaseTimings,
    Message,
    SafeRetry,
    ToolContext,
    ToolError,
    TurnOutput,
    tool,
)
from lash_runtime.model.llm import LlmMessage, LlmRequest, LlmResponse
from lash_runtime.model.tool_results import PendingToolCall
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import TestProvider, text_response, tool_calls_response, usage
from lash_runtime.testing.conformance._samples import a_store

SESSION: Final = "s"
TURN: Final = "long"
WORDS: Final = "Do all of it"
EARLIER: Final = "What was before"
ROUNDS: Final = 2
BACK_OFF_MS: Final = 5
RESUBMISSION: Final = "resubmission"
NEXT_TURN: Final = "next turn"
BEGINNINGS: Final = ("goes on", "is the first", "starts over")
TOKENS: Final = 10
"""What each call of the model costs."""


@dataclass(frozen=True)
class Sort:
    """One sort of call of each round. What a call of it is by itself comes from the seed."""

    name: str
    on_unknown: str | None = None
    scheduling: str = "parallel"
    fails_at_first: bool = False
    draws: bool = False
    calls: tuple[str, ...] = ()
    rounds: tuple[int, ...] = (0, 1)


SORTS: Final = (
    Sort("report", on_unknown="report"),
    Sort("rerun", on_unknown="rerun"),
    Sort("ask", on_unknown="ask"),
    Sort("alone", scheduling="serial", draws=True),
    Sort("retried", fails_at_first=True),
    Sort("caller", on_unknown="rerun", calls=("report", "rerun"), rounds=(1,)),
)


@dataclass(frozen=True)
class Script:
    """What the turn of one seed is like."""

    seed: int

    @property
    def begins(self) -> str:
        return BEGINNINGS[self.seed % len(BEGINNINGS)]

    @property
    def unknown(self) -> Mapping[str, str]:
        """What each tool says is to be done about a call of which nobody knows how it ended."""
        chance = random.Random(f"{self.seed}:unknown")
        return {
            sort.name: sort.on_unknown or chance.choice(["report", "rerun", "ask"])
            for sort in SORTS
        }

    def round(self, number: int) -> list[str]:
        """The names of the tools, in the order in which they are called."""
        names = [sort.name for sort in SORTS if number in sort.rounds]
        random.Random(f"{self.seed}:round:{number}").shuffle(names)
        return names

    def patience(self, act: str) -> int:
        """How often the event loop goes round while that act is on its way."""
        return random.Random(f"{self.seed}:{act}").randrange(4)


@dataclass(frozen=True)
class Life:
    """One process in the life of the turn. `poison` is the act that no process survives.

    With `lease_ms` its lease is that short.
    """

    database: Path
    outside: Path
    seed: int
    number: int
    finisher: str = RESUBMISSION
    points: Points = Points.WRITES
    poison: str | None = None
    lease_ms: int | None = None


class Player:
    """Plays the tools and the model of one life."""

    def __init__(self, life: Life, reaper: Reaper) -> None:
        self.script = Script(life.seed)
        self._poison = life.poison
        self._reaper = reaper
        self._outside = Outside(life.outside, life.number)

    async def _act(self, act: str, *, run: int = 1, key: str = "") -> None:
        self._outside.note("begins", act, run=run, key=key)
        self._reaper.point()
        for _ in range(self.script.patience(act)):
            await asyncio.sleep(0)
        if act == self._poison:
            self._reaper.perish()
        self._reaper.point()
        self._outside.note("ends", act, run=run, key=key)
        self._reaper.point()

    def tools(self) -> list[FunctionTool]:
        return [self._tool(sort) for sort in SORTS]

    def _tool(self, sort: Sort) -> FunctionTool:
        async def do(number: int, context: ToolContext) -> Any:
            """Do something that somebody else can see."""
            attempt = context.attempt_number
            await self._act(
                tool_attempt(context.tool_call_id, attempt),
                run=context.run_number,
                key=context.idempotency_key,
            )
            if sort.fails_at_first and attempt == 1:
                raise ToolError("not yet", retryable=True)
            if sort.draws:
                return await _draw(context)
            if sort.calls:
                return await _call_others(sort, number, context)
            return f"{sort.name} has done {number}"

        return tool(
            do,
            name=sort.name,
            scheduling=sort.scheduling,  # type: ignore[call-overload]
            on_unknown=self.script.unknown[sort.name],
            **{"retry": SafeRetry(max_attempts=2, base_delay_ms=BACK_OFF_MS)}
            if sort.fails_at_first
            else {},
        )

    async def answer(self, request: LlmRequest) -> LlmResponse:
        words, number = _asked(request.messages)
        if words != WORDS:
            return text_response(f"answer to {words}")
        await self._act(model_call(number))
        cost = usage(TOKENS, 1)
        if number == ROUNDS:
            return text_response("All of it is done", usage=cost)
        calls = [
            (f"{name}-{number}", name, {"number": number}) for name in self.script.round(number)
        ]
        return tool_calls_response(*calls, usage=cost)


async def _draw(context: ToolContext) -> list[Any]:
    """One picture that is shown to the model, and one that it is told the id of."""
    assert context.attachments is not None
    call = context.tool_call_id
    kept = await context.attachments.put(picture(f"{call} kept"))
    return [Image(picture(f"{call} shown")), kept.id]


def picture(name: str) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + name.encode()


async def _call_others(sort: Sort, number: int, context: ToolContext) -> str:
    assert context.dispatch is not None
    calls = [
        PendingToolCall(
            call_id=f"{context.tool_call_id}.{name}", tool_name=name, args={"number": number}
        )
        for name in sort.calls
    ]
    done = await context.dispatch.batch(calls)
    return ", ".join(f"{each.call_id}: {each.output.outcome.status}" for each in done)


def _asked(messages: tuple[LlmMessage, ...]) -> tuple[str, int]:
    """What the user has said last, and how often the model has spoken since."""
    spoken = 0
    for message in reversed(messages):
        spoken += message.role == "assistant"
        texts = [block.text for block in message.blocks if block.type == "text"]
        answers = any(block.type == "tool_result" for block in message.blocks)
        if message.role == "user" and texts and not answers:
            return texts[0], spoken
    raise AssertionError("nobody has said anything")


# --- how a turn is brought to its end -----------------------------------------------------------


async def _resubmit(session: LashSession, _: Life) -> TurnOutput:
    return await session.turn(WORDS).turn_id(TURN).run()


async def _run_the_next(session: LashSession, life: Life) -> TurnOutput | None:
    output = await session.turn(f"next {life.number}").turn_id(f"next-{life.number}").run()
    assert output.is_success
    return None


FINISHERS: Final[Mapping[str, Callable[[LashSession, Life], Awaitable[TurnOutput | None]]]] = {
    RESUBMISSION: _resubmit,
    NEXT_TURN: _run_the_next,
}
"""Who finishes the turn of a process that is gone: whatever makes it happen."""


# --- one process --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a caller was told. `restarts` are the attempts that those who watched were told of."""

    text: str | None
    stop_reason: str | None
    calls: tuple[tuple[str, str, str], ...]
    usage: tuple[int, int]
    issues: tuple[str, ...]
    restarts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """What the last process finds when it is all over.

    `answers` are those of callers who come back. `messages` are those of the turn: role, and
    kind, text, call and tool of each part. `pictures` are what it shows, and `unsettled` what a
    sweep would find.
    """

    answers: tuple[Answer, ...]
    messages: tuple[tuple[str, tuple[tuple[str, str, str | None, str | None], ...]], ...]
    words: tuple[str, ...]
    usage: tuple[int, int]
    problems: tuple[str, ...]
    pictures: tuple[bytes, ...]
    unsettled: frozenset[str]


def make_template(database: Path, report: Connection) -> None:
    """A database with a session that has had a turn already."""
    asyncio.run(_make_template(database))
    report.send("made")


def live(life: Life, death: Death, report: Connection) -> None:
    """Bring the turn to its end, in danger; report what came of it, and how many points were
    passed."""
    asyncio.run(_live(life, death, watched_process(life.points), report.send))


def live_on(life: Life, death: Death, parent: Connection) -> None:
    """As `live`, but what is raised is reported, too, and when the parent says so, the caller comes
    back, to the same session."""
    asyncio.run(_live_on(life, death, watched_process(life.points), parent))


def look_after(life: Life, report: Connection) -> None:
    """Report what is there when all is over, to callers who come back as well."""
    report.send(asyncio.run(_look_after(life)))


def rehearse() -> None:
    """Do all of it once, so that what is built on first use is there. Leaves no thread behind."""

    async def play(life: Life) -> None:
        await _make_template(life.database)
        await _live(life, Death(), Reaper(), lambda _: None)
        await _look_after(life)

    with TemporaryDirectory() as place:
        life = Life(database=Path(place, "db"), outside=Path(place, "outside"), seed=0, number=0)
        asyncio.run(play(life))


async def _make_template(database: Path) -> None:
    core = LashCore.open(database, provider=TestProvider(lambda _: text_response("So")), model="m")
    async with core, core.session(SESSION) as session:
        await session.turn(EARLIER).turn_id("earlier").run()


def a_core(life: Life, player: Player) -> LashCore:
    builder = (
        LashCore.standard_builder()
        .provider(TestProvider(player.answer))
        .model("m")
        .tools(*player.tools())
        .storage(SqliteStorage(life.database))
    )
    if life.lease_ms is not None:
        builder = builder.lease_timings(LeaseTimings.from_ttl(life.lease_ms))
    return builder.build()


async def _opened(core: LashCore, life: Life) -> LashSession:
    """By whoever finishes another's turn as it is stored, and by its own caller as it was."""
    session = core.session(SESSION)
    if life.finisher == RESUBMISSION and Script(life.seed).begins == "starts over":
        return await session.open_fresh()
    return await session.open()


async def _live(
    life: Life, death: Death, reaper: Reaper, tell: Callable[[tuple[str, Any]], None]
) -> None:
    player = Player(life, reaper)
    with reaper.danger(death):
        async with a_core(life, player) as core, await _opened(core, life) as session:
            output = await FINISHERS[life.finisher](session, life)
            tell(("answered", None if output is None else answer_of(output)))
    tell(("survived", reaper.passed))


async def _live_on(life: Life, death: Death, reaper: Reaper, parent: Connection) -> None:
    async with a_core(life, Player(life, reaper)) as core:
        with reaper.danger(death):
            session = await _opened(core, life)
            parent.send(await _told(session, life))
        assert await asyncio.to_thread(parent.recv) == "come back"
        parent.send(await _told(session, life))
        await session.close()


async def _told(session: LashSession, life: Life) -> Answer | str:
    """What the caller of the turn gets: the answer, or the code of an error."""
    try:
        output = await _resubmit(session, life)
    except EmbedError as error:
        return error.code
    return answer_of(output)


async def _look_after(life: Life) -> Found:
    answers = []
    player = Player(life, Reaper())
    for finisher in (RESUBMISSION, NEXT_TURN):
        async with (
            a_core(life, player) as core,
            await _opened(core, replace(life, finisher=finisher)) as session,
        ):
            for _ in range(2):
                answers.append(answer_of(await session.turn(WORDS).turn_id(TURN).run()))
            messages = tuple(session.read_view().messages)
            spent = session.usage_report().usage
            shown = [
                ref for message in messages for part in message.parts for ref in part.attachments
            ]
            pictures = [(await core.attachments.get(ref)).data for ref in shown]
    async with SqliteStorage(life.database) as storage:
        problems = await storage.maintenance.check()
        store = await a_store(storage, SESSION)
        unsettled = await store.list_uncommitted(EVERY_TIME)
    return Found(
        answers=tuple(answers),
        messages=_shape(messages),
        words=tuple(m.text for m in messages if m.role.value == "user" and m.text),
        usage=(spent.input_tokens, spent.output_tokens),
        problems=tuple(each.message for each in problems),
        pictures=tuple(pictures),
        unsettled=frozenset(each.attachment_id for each in unsettled),
    )


def answer_of(output: TurnOutput) -> Answer:
    return Answer(
        text=output.assistant_message,
        stop_reason=None if output.stop_reason is None else output.stop_reason.value,
        calls=tuple(
            (str(call.call_id), call.tool, call.output.outcome.status) for call in output.tool_calls
        ),
        usage=(output.usage.input_tokens, output.usage.output_tokens),
        issues=tuple(str(issue.code) for issue in output.errors),
        restarts=tuple(
            activity.event.data["attempt"]
            for activity in output.activities
            if activity.event.type == "runtime_diagnostic"
            and activity.event.kind == "turn_restarted"
        ),
    )


def _shape(messages: tuple[Message, ...]) -> Any:
    """The messages of the turn: from its words to those of the next."""
    shapes: list[Any] = []
    for message in messages:
        said = message.text if message.role.value == "user" else ""
        if shapes and said:
            break
        if shapes or said == WORDS:
            parts = tuple(
                (part.kind.value, part.content, part.tool_call_id, part.tool_name)
                for part in message.parts
            )
            shapes.append((message.role.value, parts))
    return tuple(shapes)
