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


def grow_branches(kind: str, database: Path, report: Connection) -> None:
    """Three branches that part after the first turn."""
    place = Place(kind, database)

    async def grow() -> None:
        for name in ("root", "left", "right", "path"):
            async with _core_over(place) as core, core.session(SESSION) as session:
                await session.turn(name).turn_id(name).run()
            if name in ("left", "right"):
                await move_leaf(place, "m:root:1:assistant")

    asyncio.run(grow())
    report.send("grown")


def talk_until_killed(kind: str, database: Path, prefix: str, report: Connection) -> None:
    """Open the session, run turn after turn, and close it between them."""
    place = Place(kind, database)

    async def talk() -> None:
        async with _core_over(place) as core:
            report.send("ready")
            for number in itertools.count():
                async with core.session(SESSION) as session:
                    await session.turn("more").turn_id(f"{prefix}-{number}").run()

    asyncio.run(talk())


def lose_the_leaf(kind: str, database: Path, report: Connection) -> None:
    asyncio.run(move_leaf(Place(kind, database), "gone"))
    report.send("lost")


def open_and_read(kind: str, database: Path, turn_id: str, report: Connection) -> None:
    """See to what a dead process has left, as the next one would, and report every stored node as
    its JSON, and the ids of the path. Opening closes an unfinished turn; one that is to be finished
    is, before the turn `turn_id`."""
    place = Place(kind, database)

    async def read() -> tuple[list[str], list[str]]:
        async with _core_over(place) as core, core.session(SESSION) as session:
            if place.kind == "sqlite":
                await session.turn("look").turn_id(turn_id).run()
            path = [node.node_id for node in session.read_view().graph.nodes]
        return [encode_node(node) for node in (await stored(place)).nodes], path

    report.send(asyncio.run(read()))
