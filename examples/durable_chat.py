"""The whole story on one screen: stream, observe, park, resume, `kill -9`, start again.

    python examples/durable_chat.py                        a scripted model, no network
    OPENAI_API_KEY=... python examples/durable_chat.py     OPENAI_BASE_URL and LASH_MODEL count
    LOCAL=1 python examples/durable_chat.py                a small model on this machine

The program plays two parts. The chat is what an application does. The supervisor runs it as a
process of its own, kills it in the middle of a turn, starts it again, and counts what is in the
file. The chat tells it, over a pipe, of each turn that it has acknowledged to its user.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import anyio

from lash_runtime import (
    AssistantProseDelta,
    LashCore,
    LashSession,
    Message,
    MessageRole,
    PartKind,
    ToolCallCompleted,
    ToolCallStarted,
    TurnBuilder,
    TurnOutput,
    TurnResult,
    tool,
)
from lash_runtime.observe import (
    CommittedPayload,
    ObservationEvent,
    SessionCursor,
    SessionObservationEvent,
    TurnActivityPayload,
)
from lash_runtime.testing import Call, ScriptedProvider

SESSION = "chat-42"
WORDS = {
    "turn-1": "What should I wear in Oslo today?",
    "turn-2": "And tomorrow?",
    "turn-3": "What is the weather in Bergen? Then tell me at length what to do there.",
    "turn-4": "Are you still there? Where were we?",
}
SCRIPTS = {
    "first": (
        Call.tool("call-1", "weather", {"city": "Oslo"}),
        Call.text("Rain from noon: a coat, an umbrella and boots.", chunk=4, delay_s=0.05),
        Call.text("The same again, and gloves: it will be colder."),
        Call.tool("call-2", "weather", {"city": "Bergen"}),
        Call.text("Bergen lies between seven mountains. " * 9, chunk=9, delay_s=0.1),
    ),
    "second": (
        Call.text("Bergen lies between seven mountains: take the funicular to the first."),
        Call.text("Yes. You asked about Bergen, and I have answered."),
    ),
    "count": (),
}

PIECES_BEFORE_THE_KILL = 3
"""So that there is something on the screen to be cut off; a small model soon has said it all."""


@tool
async def weather(city: str) -> str:
    """Look up today's weather in a city."""
    await anyio.sleep(0.1)
    return f"{city}: 4 degrees, rain from noon"


def open_core(database: str, life: str) -> LashCore:
    provider: Any = ScriptedProvider(SCRIPTS[life])
    if "OPENAI_API_KEY" in os.environ:
        from lash_runtime.providers.openai import OpenAICompatibleProvider

        provider = OpenAICompatibleProvider()
    model = os.environ.get("LASH_MODEL", "gpt-5.4")
    return LashCore.open(database, provider=provider, model=model, tools=[weather])


def turn_of(session: LashSession, turn_id: str) -> TurnBuilder:
    """The turn of that id: the same content each time, so that sending it again is harmless."""
    return session.turn(WORDS[turn_id]).turn_id(turn_id).max_turns(4)


# The chat


class Chat:
    """One life of the chat process. `pipe` is where the supervisor listens."""

    def __init__(self, core: LashCore, pipe: TextIO) -> None:
        self._core = core
        self._pipe = pipe

    async def first(self) -> None:
        heading("1  A turn is streamed while a second task watches the session")
        session = await self._core.session(SESSION).open()
        start = session.observe().current_observation().cursor
        live: Counter[str] = Counter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, session, start, live)
            await self._stream(session, "turn-1")
        say("observer", f"saw live {seen(live)}")
        late: Counter[str] = Counter()
        await watch(session, start, late)
        say("observer", f"came late and caught up: {seen(late)}")

        heading("2  The session is parked, resumed and used again")
        parked = await session.park()
        say("parked", "nothing of the transcript stays in memory")
        session = await self._core.resume(parked)
        say("resumed", f"{len(session.read_view().messages)} messages")
        await self._run(session, "turn-2")

        heading("3  The process is killed in the middle of a turn")
        await self._stream(session, "turn-3", until_killed=True)
        await session.close()

    async def second(self) -> None:
        heading("4  The program is started again")
        began = time.perf_counter()
        async with self._core.session(SESSION) as session:
            took_ms = (time.perf_counter() - began) * 1000
            say("reopened", f"in {took_ms:.0f} ms, with no lease to wait for")
            for turn_id in ("turn-1", "turn-2"):
                known = await turn_of(session, turn_id).run()
                say(
                    turn_id, f"sent again, answered from the file: {short(known.assistant_message)}"
                )
            # The core has begun to finish this one by itself. Its user comes back for the answer.
            cut = await turn_of(session, "turn-3").run()
            calls = calls_of(turns_in(session.read_view().messages)[WORDS["turn-3"]])
            say("turn-3", f"is {cut.stop_reason or 'finished'}{and_calls(calls)}")
            say("model", short(cut.assistant_message))
            self._acknowledge("turn-3", cut.result)
            await self._run(session, "turn-4")

    async def _stream(
        self, session: LashSession, turn_id: str, *, until_killed: bool = False
    ) -> None:
        """Run a turn and show it as it happens."""
        say("you", WORDS[turn_id])
        speaking = False
        async with turn_of(session, turn_id).stream() as activities:
            async for activity in activities:
                match activity.event:
                    case ToolCallStarted(name=name, args=args):
                        say("tool", f"{name} is called with {json.dumps(args)}")
                    case ToolCallCompleted(name=name, output=output):
                        say("tool", f"{name} has ended: {output.outcome.status}")
                    case AssistantProseDelta(text=text):
                        if not speaking:
                            say("model", "", end="")
                        speaking = True
                        print(text, end="", flush=True)
                        if until_killed:
                            self._tell("in_the_middle")
            result = await activities.finish()
        if speaking:
            print(flush=True)
        self._acknowledge(turn_id, result)

    async def _run(self, session: LashSession, turn_id: str) -> None:
        """Run a turn without watching it."""
        say("you", WORDS[turn_id])
        output = await turn_of(session, turn_id).run()
        say("model", short(output.assistant_message))
        self._acknowledge(turn_id, output.result)

    def _acknowledge(self, turn_id: str, result: TurnResult) -> None:
        """Only now is the turn's end known to the user, and from now on it may not be lost."""
        say("committed", f"{turn_id}; the session has {len(result.state.messages)} messages")
        self._tell("acknowledged", turn_id=turn_id, answer=result.assistant_message)

    def _tell(self, kind: str, **facts: Any) -> None:
        print(json.dumps({"kind": kind, **facts}), file=self._pipe, flush=True)


async def watch(session: LashSession, cursor: SessionCursor, counts: Counter[str]) -> None:
    """Count what happens in the session after `cursor`, up to the next commit."""
    async with session.observe().subscribe_and_recover(cursor) as stream:
        async for item in stream:
            match item:
                case ObservationEvent(event=SessionObservationEvent(payload=CommittedPayload())):
                    counts["committed"] += 1
                    return
                case ObservationEvent(
                    event=SessionObservationEvent(payload=TurnActivityPayload(activity=activity))
                ):
                    counts[activity.event.type] += 1


def seen(counts: Counter[str]) -> str:
    return (
        f"{counts['assistant_prose_delta']} pieces of text, {counts['tool_call_completed']} tool "
        f"result, {counts['committed']} commit"
    )


async def live(life: str, database: str, pipe: int) -> None:
    with os.fdopen(pipe, "w") as reports:
        async with open_core(database, life) as core:
            chat = Chat(core, reports)
            await (chat.first() if life == "first" else chat.second())


# The supervisor


def supervise() -> int:
    """Tell the story. The exit code is 0 if nothing was lost, repeated or left in pieces."""
    acknowledged: dict[str, str | None] = {}
    with ExitStack() as stack:
        database = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "chat.db")
        environment = model_environment(stack)
        print(f"lash_runtime: {environment.get('LASH_MODEL', 'a scripted model')}, {database}")
        for life in ("first", "second"):
            for report in reports_of(life, database, environment):
                if report["kind"] == "acknowledged":
                    acknowledged[report["turn_id"]] = report["answer"]
        os.environ.update(environment)
        return asyncio.run(count(database, acknowledged))


def reports_of(life: str, database: str, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Run one life of the chat; kill it as soon as it is in the middle of a turn."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, __file__, life, database, str(writing)],
        env=environment,
        pass_fds=(writing,),
    )
    os.close(writing)
    pieces = 0
    with os.fdopen(reading) as reports:
        for line in reports:
            report = json.loads(line)
            if report["kind"] == "in_the_middle":
                pieces += 1
                if pieces == PIECES_BEFORE_THE_KILL:
                    child.kill()
            yield report
    status = child.wait()
    if status == -signal.SIGKILL:
        print(flush=True)
        say("kill -9", f"process {child.pid} ended with status {status}")
    elif status != 0:
        raise SystemExit(f"the chat failed with status {status}")


def model_environment(stack: ExitStack) -> dict[str, str]:
    """What tells the chat which model to use."""
    environment = dict(os.environ)
    if environment.get("LOCAL"):
        from lash_runtime.testing.local_model import local_model

        server = stack.enter_context(local_model())
        environment |= {
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": server.base_url,
            "LASH_MODEL": server.name,
        }
    elif environment.get("OPENAI_API_KEY"):
        environment.setdefault("LASH_MODEL", "gpt-5.4")
    return environment


async def count(database: str, acknowledged: dict[str, str | None]) -> int:
    """Compare the file with what was acknowledged."""
    heading("5  What is in the file")
    async with open_core(database, "count") as core, core.session(SESSION) as session:
        messages = session.read_view().messages
        said = Counter(text for message in messages if (text := user_words(message)))
        found = [turn_id for turn_id in acknowledged if WORDS[turn_id] in said]
        duplicates = sum(times - 1 for times in said.values())
        partial = 0
        for turn_id, words in WORDS.items():
            if words in said:
                stored = await turn_of(session, turn_id).run()
                answer = acknowledged.get(turn_id, stored.assistant_message)
                whole = is_whole(stored, turns_in(messages)[words], turn_id in acknowledged)
                partial += not whole or answer != stored.assistant_message
    print(
        f"  acknowledged turns: {len(acknowledged)}, turns found: {len(found)}, "
        f"duplicates: {duplicates}, partial turns: {partial}",
        flush=True,
    )
    return 0 if len(found) == len(acknowledged) and not duplicates and not partial else 1


def is_whole(stored: TurnOutput, messages: list[Message], acknowledged: bool) -> bool:
    """Every tool call has its result, and the turn has an end."""
    closed = len(parts_of(messages, PartKind.TOOL_RESULT)) == len(calls_of(messages))
    return closed and (acknowledged or stored.is_success)


# Reading a transcript, and printing


def turns_in(messages: Iterable[Message]) -> dict[str, list[Message]]:
    """The messages of each turn, by the words that the user began it with."""
    turns: dict[str, list[Message]] = {}
    words = ""
    for message in messages:
        words = user_words(message) or words
        turns.setdefault(words, []).append(message)
    return turns


def user_words(message: Message) -> str:
    if message.role is not MessageRole.USER:
        return ""
    return "".join(part.content for part in message.parts if part.kind is PartKind.TEXT)


def parts_of(messages: Iterable[Message], kind: PartKind) -> list[str]:
    return [part.content for message in messages for part in message.parts if part.kind is kind]


def calls_of(messages: Iterable[Message]) -> list[str]:
    return parts_of(messages, PartKind.TOOL_CALL)


def and_calls(calls: list[str]) -> str:
    return f", with {len(calls)} tool call from before the kill" if calls else ""


def short(text: str | None) -> str:
    line = " ".join((text or "(no answer)").split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def heading(title: str) -> None:
    print(f"\n{title}", flush=True)


def say(who: str, what: str, end: str = "\n") -> None:
    print(f"  {who:<10} {what}", end=end, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(supervise())
    asyncio.run(live(sys.argv[1], sys.argv[2], int(sys.argv[3])))
