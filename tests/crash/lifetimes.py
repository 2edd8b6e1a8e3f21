"""The processes in the life of the long turn: what each does, and what it reports.

Who finishes the turn of a process that is gone is looked up in a table.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio

from crash.aftermath import EVERY_TIME
from crash.dying import Death, Points, Reaper, watched_process
from crash.long_turn import WORDS, Player, Script
from crash.outside import Outside
from lash_runtime import EmbedError, LashCore, LashSession, LeaseTimings, Message, TurnOutput
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import TestProvider, text_response
from lash_runtime.testing.conformance._samples import a_store

SESSION: Final = "s"
TURN: Final = "long"
EARLIER: Final = "What was before"
RESUBMISSION: Final = "resubmission"
NEXT_TURN: Final = "next turn"
DRIVER: Final = "driver"
BOTH: Final = "resubmission beside the driver"
RECOVERS: Final = frozenset({DRIVER, BOTH})
RECOVERY_S: Final = 60


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


async def _resubmit(core: LashCore, life: Life) -> TurnOutput:
    async with await _own_session(core, life) as session:
        return await session.turn(WORDS).turn_id(TURN).run()


async def _run_the_next(core: LashCore, life: Life) -> None:
    async with await _session_as_it_is(core, life) as session:
        output = await session.turn(f"next {life.number}").turn_id(f"next-{life.number}").run()
        assert output.is_success


async def _let_it_recover(core: LashCore, life: Life) -> None:
    """Nobody asks for anything: a core over the same database is open, and that is all."""
    with anyio.fail_after(RECOVERY_S):
        while await core.unfinished_turns():
            await anyio.sleep(0.005)


async def _own_session(core: LashCore, life: Life) -> LashSession:
    """Opened as by the caller of the turn, also when it comes back."""
    session = core.session(SESSION)
    if Script(life.seed).begins == "starts over":
        return await session.open_fresh()
    return await session.open()


async def _session_as_it_is(core: LashCore, _: Life) -> LashSession:
    return await core.session(SESSION).open()


FINISHERS: Final[Mapping[str, Callable[[LashCore, Life], Awaitable[TurnOutput | None]]]] = {
    RESUBMISSION: _resubmit,
    NEXT_TURN: _run_the_next,
    DRIVER: _let_it_recover,
    BOTH: _resubmit,
}


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


def _player(life: Life, reaper: Reaper) -> Player:
    outside = Outside(life.outside, life.number)
    return Player(Script(life.seed), outside, reaper, poison=life.poison)


def a_core(life: Life, player: Player) -> LashCore:
    builder = (
        LashCore.standard_builder()
        .provider(TestProvider(player.answer))
        .model("m")
        .tools(*player.tools())
        .storage(SqliteStorage(life.database))
        .recover(life.finisher in RECOVERS)
    )
    if life.lease_ms is not None:
        builder = builder.lease_timings(LeaseTimings.from_ttl(life.lease_ms))
    return builder.build()


async def _live(
    life: Life, death: Death, reaper: Reaper, tell: Callable[[tuple[str, Any]], None]
) -> None:
    player = _player(life, reaper)
    with reaper.danger(death):
        async with a_core(life, player) as core:
            output = await FINISHERS[life.finisher](core, life)
            tell(("answered", None if output is None else answer_of(output)))
    tell(("survived", reaper.passed))


async def _live_on(life: Life, death: Death, reaper: Reaper, parent: Connection) -> None:
    async with a_core(life, _player(life, reaper)) as core:
        with reaper.danger(death):
            session = await _own_session(core, life)
            parent.send(await _told(session))
        assert await asyncio.to_thread(parent.recv) == "come back"
        parent.send(await _told(session))
        await session.close()


async def _told(session: LashSession) -> Answer | str:
    """What the caller of the turn gets: the answer, or the code of an error."""
    try:
        output = await session.turn(WORDS).turn_id(TURN).run()
    except EmbedError as error:
        return error.code
    return answer_of(output)


async def _look_after(life: Life) -> Found:
    answers = []
    player = _player(life, Reaper())
    for opened in (_own_session, _session_as_it_is):
        async with a_core(life, player) as core, await opened(core, life) as session:
            for _ in range(2):
                answers.append(answer_of(await session.turn(WORDS).turn_id(TURN).run()))
            messages = tuple(session.read_view().messages)
            spent = session.usage_report().usage
            shown = [
                ref for message in messages for part in message.parts for ref in part.attachments
            ]
            pictures = [(await core.attachments.get(ref)).data for ref in shown]
    # Nobody holds the lane any more who would have to be waited for.
    async with a_core(life, player) as core, core.session(SESSION) as session:
        assert (await session.turn("And now").run()).is_success
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
