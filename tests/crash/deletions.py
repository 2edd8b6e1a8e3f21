"""A process that deletes sessions until it is killed, and what the process after it finds."""

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import a_chain, a_commit, a_store, first, hold

IDS = tuple(f"s{number}" for number in range(4))
NODES = 2_500
"""Enough for a deletion of several transactions."""


def fill(database: Path, report: Connection) -> None:
    """Make a file with sessions to delete."""
    asyncio.run(_fill(database))
    report.send("filled")


async def _fill(database: Path) -> None:
    nodes = a_chain(*(f"n{number}" for number in range(NODES)))
    async with SqliteStorage(database) as storage:
        for session_id in IDS:
            store = await a_store(storage, session_id)
            fence = (await hold(store, session_id)).fence()
            await store.commit_runtime_state(
                a_commit(fence, session_id=session_id, graph=first(*nodes))
            )


def delete_until_killed(database: Path, report: Connection) -> None:
    """Delete one session after the other, reporting each that was acknowledged."""
    asyncio.run(_delete_until_killed(database, report))


async def _delete_until_killed(database: Path, report: Connection) -> None:
    async with SqliteStorage(database) as storage:
        report.send("ready")
        for session_id in IDS:
            await storage.session_stores.delete_session(session_id)
            report.send(session_id)
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Remains:
    """`sizes` are the nodes of each session that is listed, `reused` of each that was begun on
    an id whose session is gone."""

    problems: list[str]
    sizes: dict[str, int]
    reused: dict[str, int]


def look_after_kill(database: Path, report: Connection) -> None:
    """Open the file, check it, use every free id again, and delete everything."""
    report.send(asyncio.run(_look_after_kill(database)))


async def _look_after_kill(database: Path) -> Remains:
    async with SqliteStorage(database) as storage:
        problems = [problem.message for problem in await storage.maintenance.check()]
        page = await storage.session_stores.list_sessions(SessionQuery())
        listed = [entry.session_id for entry in page.sessions]
        sizes = {session_id: await _size(storage, session_id) for session_id in listed}
        gone = [session_id for session_id in IDS if session_id not in sizes]
        reused = {session_id: await _size(storage, session_id) for session_id in gone}
        for session_id in IDS:
            await storage.session_stores.delete_session(session_id)
        return Remains(problems, sizes, reused)


async def _size(storage: SqliteStorage, session_id: str) -> int:
    store = await storage.session_stores.create_store(
        SessionStoreCreateRequest(session_id=session_id)
    )
    read = await store.load_session(FullGraph())
    return 0 if read is None else len(read.nodes)
