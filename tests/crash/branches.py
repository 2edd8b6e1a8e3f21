"""What the killed process does to a session with branches, of which it has one path in memory."""

import asyncio
import itertools
from multiprocessing.connection import Connection
from pathlib import Path

from crash.workload import look_up
from facade.graphs import move_leaf, stored
from facade.places import Place
from lash_runtime import LashCore, Residency
from lash_runtime.model.nodes import encode_node
from lash_runtime.testing import Call, ScriptedProvider

SESSION = "s"


def _core_over(place: Place) -> LashCore:
    """A model that uses a tool in every turn, so that each turn also stores its progress."""

    def reply(request: object) -> Call:
        messages = request.messages  # type: ignore[attr-defined]
        if any(block.type == "tool_result" for block in messages[-1].blocks):
            return Call.text("so it is")
        return Call.tool(f"call-{len(messages)}", "look_up", {"key": "k"})

    provider = ScriptedProvider(otherwise=reply, record=False)
    builder = place.builder(provider, look_up).residency(Residency.ACTIVE_PATH_ONLY)
    return builder.build()


def grow_branches(database: Path, report: Connection) -> None:
    """Three branches that part after the first turn."""

    async def grow() -> None:
        place = Place("sqlite", database)
        for name in ("root", "left", "right", "path"):
            async with _core_over(place) as core, core.session(SESSION) as session:
                await session.turn(name).turn_id(name).run()
            if name in ("left", "right"):
                await move_leaf(place, "m:root:1:assistant")

    asyncio.run(grow())
    report.send("grown")


def talk_until_killed(database: Path, prefix: str, report: Connection) -> None:
    """Open the session, run turn after turn, and close it between them."""

    async def talk() -> None:
        place = Place("sqlite", database)
        async with _core_over(place) as core:
            report.send("ready")
            for number in itertools.count():
                async with core.session(SESSION) as session:
                    await session.turn("more").turn_id(f"{prefix}-{number}").run()

    asyncio.run(talk())


def lose_the_leaf(database: Path, report: Connection) -> None:
    asyncio.run(move_leaf(Place("sqlite", database), "gone"))
    report.send("lost")


def open_and_read(database: Path, report: Connection) -> None:
    """Open and close the session, as the next process would, and report every stored node as
    its JSON, and the ids of the path."""

    async def read() -> tuple[list[str], list[str]]:
        place = Place("sqlite", database)
        async with _core_over(place) as core, core.session(SESSION) as session:
            path = [node.node_id for node in session.read_view().graph.nodes]
        return [encode_node(node) for node in (await stored(place)).nodes], path

    report.send(asyncio.run(read()))
