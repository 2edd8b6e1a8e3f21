"""One turn with everything in it that a journal has to keep: its script, and who plays it.

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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crash.dying import Reaper
from crash.outside import Outside, model_call, tool_attempt
from lash_runtime import FunctionTool, Image, SafeRetry, ToolContext, ToolError, tool
from lash_runtime.model.llm import LlmMessage, LlmRequest, LlmResponse
from lash_runtime.model.tool_results import PendingToolCall
from lash_runtime.testing import text_response, tool_calls_response, usage

WORDS: Final = "Do all of it"
ROUNDS: Final = 2
BACK_OFF_MS: Final = 5
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


class Player:
    """Plays the tools and the model of one life."""

    def __init__(
        self, script: Script, outside: Outside, reaper: Reaper, *, poison: str | None = None
    ) -> None:
        """`poison` is the act that no process survives."""
        self.script = script
        self._outside = outside
        self._reaper = reaper
        self._poison = poison

    async def _act(self, act: str, *, run: int = 1, key: str = "") -> None:
        self._outside.note("begins", act, run=run, key=key)
        self._reaper.here()
        for _ in range(self.script.patience(act)):
            await asyncio.sleep(0)
        if act == self._poison:
            self._reaper.perish()
        self._reaper.here()
        self._outside.note("ends", act, run=run, key=key)
        self._reaper.here()

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
