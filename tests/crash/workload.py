"""What the killed process does, and what the process after it finds.

Both run as processes of their own: the first reports every turn it was told is done and is
killed somewhere in between; the second opens the same file, looks, and goes on.
"""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from lash_runtime import (
    EmbedError,
    LashCore,
    LashSession,
    Message,
    MessageRole,
    PartKind,
    StopReason,
    tool,
)
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.testing import ScriptedProvider, text_response, tool_call_response

SESSION = "survivor"


@tool
async def look_up(key: str) -> str:
    """Look something up."""
    await asyncio.sleep(0)
    return f"value of {key}"


def _answers(prefix: str) -> ScriptedProvider:
    """A model that uses a tool in every turn and then repeats what it was asked."""

    def reply(request: object) -> object:
        messages = request.messages  # type: ignore[attr-defined]
        last = messages[-1]
        if any(block.type == "tool_result" for block in last.blocks):
            asked = next(
                block.text
                for message in reversed(messages)
                if message.role == "user"
                for block in message.blocks
                if block.type == "text"
            )
            return text_response(f"answer to {asked}")
        count = sum(1 for message in messages if message.role == "assistant")
        return tool_call_response(f"call-{prefix}-{count}", "look_up", {"key": str(count)})

    return ScriptedProvider(otherwise=reply, record=False)  # type: ignore[arg-type]


def core_over(database: Path, prefix: str) -> LashCore:
    return LashCore.open(database, provider=_answers(prefix), model="m", tools=[look_up])


def run_until_killed(database: Path, prefix: str, report: Connection) -> None:
    """Run turn after turn, reporting the id of each one that `run()` has returned."""
    asyncio.run(_run_until_killed(database, prefix, report))


async def _run_until_killed(database: Path, prefix: str, report: Connection) -> None:
    async with core_over(database, prefix) as core, core.session(SESSION) as session:
        report.send("ready")
        for number in itertools.count():
            turn_id = f"{prefix}-{number}"
            output = await session.turn(turn_id).turn_id(turn_id).run()
            assert output.assistant_message == f"answer to {turn_id}"
            report.send(turn_id)


@dataclass(frozen=True)
class Findings:
    """What a process found in the file that it opened after a kill."""

    user_texts: dict[str, int]
    answers: dict[str, int]
    resumable: bool
    unanswered_but_settled: list[str]
    usable_at_once: bool
    error: str = ""


def look_after_kill(database: Path, prefix: str, report: Connection) -> None:
    """Open the file, say what is there, and run one more turn."""
    report.send(asyncio.run(_look_after_kill(database, prefix)))


async def _look_after_kill(database: Path, prefix: str) -> Findings:
    async with core_over(database, prefix) as core, core.session(SESSION) as session:
        messages = list(session.read_view().messages)
        users, answers = _texts(messages, MessageRole.USER), _texts(messages, MessageRole.ASSISTANT)
        settled_without_answer = [
            text
            for text in users
            if f"answer to {text}" not in answers and not await _is_interrupted(core, session, text)
        ]
        try:
            output = await session.turn(f"{prefix}-after").turn_id(f"{prefix}-after").run()
            usable, error = output.is_success, ""
        except EmbedError as caught:
            usable, error = False, str(caught)
        return Findings(
            user_texts=dict(users),
            answers=dict(answers),
            resumable=resume_safe(messages),
            unanswered_but_settled=settled_without_answer,
            usable_at_once=usable,
            error=error,
        )


def _texts(messages: list[Message], role: MessageRole) -> Counter[str]:
    return Counter(
        part.content
        for message in messages
        if message.role is role
        for part in message.parts
        if part.kind in (PartKind.TEXT, PartKind.PROSE)
    )


async def _is_interrupted(core: LashCore, session: LashSession, turn_id: str) -> bool:
    """Coming back to a turn tells how it ended, and runs nothing again."""
    output = await session.turn(turn_id).turn_id(turn_id).run()
    return output.stop_reason is StopReason.INTERRUPTED
