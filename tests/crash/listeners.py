"""Processes that wait for a turn to be settled by another one, and tell when they saw it.

Their clock stands still: nothing but a signal can end a wait. What is announced while a process
starts its wait is found by its first look, or heard.
"""

import asyncio
import gc
import os
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from lash_runtime.ports.signals import SignalFilter, SignalKind
from lash_runtime.ports.turn_ledger import TurnRow
from lash_runtime.ports.waiting import wait_until
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance._samples import (
    a_store,
    accepted,
    an_acceptance,
    as_failed,
)

FOREVER_S: Final = 600


def listen(database: Path, turn_ids: list[str], parent: Connection) -> None:
    """Wait for each turn in its order; say when each was seen, and by how many looks."""
    asyncio.run(_listen(database, turn_ids, parent))


async def _listen(database: Path, turn_ids: list[str], parent: Connection) -> None:
    async with SqliteStorage(database) as storage:
        await _wait_for_each(storage, turn_ids, parent)


async def _wait_for_each(storage: SqliteStorage, turn_ids: list[str], parent: Connection) -> None:
    store = await a_store(storage)
    for turn_id in turn_ids:
        looks = 0

        async def settled(turn_id: str = turn_id) -> TurnRow | None:
            nonlocal looks
            looks += 1
            if looks == 1:
                parent.send(("waits", turn_id))
            row = await store.load_turn("s", turn_id)
            return row if row is not None and row.state.is_settled else None

        wanted = SignalFilter.of(SignalKind.TURN_SETTLED, session_id="s", turn_id=turn_id)
        await wait_until(settled, storage.signals, wanted, clock=ManualClock())
        parent.send(("saw", turn_id, time.monotonic_ns(), looks))


def settle_for_ever(database: Path, name: str, parent: Connection) -> None:
    """Accept and settle turns of a session of its own, until it is killed."""
    asyncio.run(_settle_for_ever(database, name, parent))


async def _settle_for_ever(database: Path, name: str, parent: Connection) -> None:
    async with SqliteStorage(database) as storage:
        store = await a_store(storage, name)
        number = 0
        while True:
            turn_id = f"t{number}"
            turn = await accepted(store, an_acceptance(turn_id, session_id=name))
            await store.settle_turn(turn.lease.fence(), as_failed(turn_id), release=True)
            number += 1
            if number == 3:
                parent.send("at it")


def fork_while_listening(database: Path, turn_ids: list[str], parent: Connection) -> None:
    """Listen, and leave two children: one that has ended, and one that lives on."""
    warnings.simplefilter("ignore")  # of forking with threads
    asyncio.run(_fork_while_listening(database, turn_ids, parent))


async def _fork_while_listening(database: Path, turn_ids: list[str], parent: Connection) -> None:
    storage = SqliteStorage(database)
    await storage.open()
    storage.signals.listen(SignalFilter.of(SignalKind.TURN_SETTLED)).close()
    if (ended := os.fork()) == 0:
        del storage
        gc.collect()
        os._exit(0)
    os.waitpid(ended, 0)
    if (lives_on := os.fork()) == 0:
        time.sleep(FOREVER_S)
        os._exit(0)
    parent.send(lives_on)
    await _wait_for_each(storage, turn_ids, parent)
    await asyncio.sleep(FOREVER_S)
