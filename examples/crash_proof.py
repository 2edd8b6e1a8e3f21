"""Kill it yourself, in any way and as often as you like, and start it again: it goes on.

    python examples/crash_proof.py [DATABASE]

One turn counts the boxes of five shelves, a second for each. Every count is on record when it is
done: a process that is started later does not count that shelf again, and does not ask the model
again what it has answered. A shelf that was being counted at the kill is counted once more, for
`on_unknown="rerun"` says that this does no harm.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from lash_runtime import (
    LashCore,
    RuntimeDiagnostic,
    ToolCallCompleted,
    ToolCallStarted,
    ToolContext,
    tool,
)
from lash_runtime.model.llm import LlmRequest
from lash_runtime.testing import Call, ScriptedProvider

SHELVES = ("A", "B", "C", "D", "E")


@tool(on_unknown="rerun")
async def count_boxes(shelf: str, context: ToolContext) -> int:
    """Count the boxes on a shelf."""
    if context.run_number > 1:
        say(f"shelf {shelf} was being counted when a process died: once more")
    await asyncio.sleep(float(os.environ.get("SECONDS_FOR_A_SHELF", "1")))
    return 10 + len(shelf) * SHELVES.index(shelf)


def model_says(request: LlmRequest) -> Call:
    """A model that asks for one shelf after the other, and then knows."""
    counted = _results(request)
    if len(counted) == len(SHELVES):
        return Call.text(f"There are {sum(map(int, counted))} boxes on {len(counted)} shelves.")
    shelf = SHELVES[len(counted)]
    say(f"the model is asked, and wants shelf {shelf} counted")
    return Call.tool(f"count-{shelf}", "count_boxes", {"shelf": shelf})


def _results(request: LlmRequest) -> Sequence[str]:
    return [
        block.content
        for message in request.messages
        for block in message.blocks
        if block.type == "tool_result"
    ]


def say(text: str) -> None:
    print(f"[{os.getpid()}] {text}", flush=True)


async def main(database: str) -> None:
    model = ScriptedProvider(otherwise=model_says, record=False)
    async with (
        LashCore.open(database, provider=model, model="scripted-1", tools=[count_boxes]) as core,
        core.session("stocktaking") as session,
    ):
        # The same words under the same id, in every process: one turn.
        turn = session.turn("How many boxes are there?").turn_id("count-them").max_turns(10)
        async with turn.stream() as activities:
            async for activity in activities:
                match activity.event:
                    case RuntimeDiagnostic(kind="turn_restarted", data=data):
                        say(f"goes on with the turn, attempt {data['attempt']}")
                    case ToolCallStarted(args=args):
                        say(f"shelf {args['shelf']} …")
                    case ToolCallCompleted(args=args, output=output):
                        say(f"shelf {args['shelf']} has {output.value_for_projection()} boxes")
                    case _:
                        pass
            result = await activities.finish()
    say(result.assistant_message or "no answer")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "stocktaking.db"))
