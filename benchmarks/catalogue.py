"""Every measure there is, by name."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

from . import (
    deletion,
    group_commit,
    imports,
    journal,
    persistence,
    residency,
    sessions,
    signals,
    streaming,
    turns,
    upkeep,
)
from .measure import Row, note

MEASURES: dict[str, Callable[[Path], Coroutine[None, None, Row]]] = {
    "text-turn": turns.text_turn,
    "history": turns.history,
    "sequential-tools": turns.sequential_tools,
    "parallel-tools": turns.parallel_tools,
    "journal-0": journal.price(0),
    "journal-1": journal.price(1),
    "journal-10": journal.price(10),
    "deltas": streaming.deltas_to_one_consumer,
    "observers": streaming.thousand_observers,
    "cold-open": sessions.cold_open,
    "parked": sessions.parked_sessions,
    "sessions-100": sessions.many_sessions(100),
    "sessions-1000": sessions.many_sessions(1_000),
    "sessions-1000-calm": sessions.many_sessions(1_000, calm=True),
    "disk": sessions.disk,
    "cold-load": residency.cold_load,
    "commits-1": group_commit.commits(1),
    "commits-10": group_commit.commits(10),
    "commits-100": group_commit.commits(100),
    "commits-1000": group_commit.commits(1_000),
    "reads-beside-a-write": group_commit.reads_beside_a_write,
    "wake-up": signals.wake_up,
    "announcing-0": signals.announcing(0),
    "announcing-1": signals.announcing(1),
    "announcing-8": signals.announcing(8),
    "queue-claims": persistence.queue_claims,
    "delete": deletion.delete_long_session,
    "collection": upkeep.collection,
    "backup": upkeep.backup,
    "size-of-turns": upkeep.size_of_turns,
    "import": imports.bare_import,
}


def measured(name: str) -> Row:
    """Take one figure, in a directory of its own. A spawned process can be asked for it."""
    note(f"measuring {name} …")
    with tempfile.TemporaryDirectory() as place:
        row = asyncio.run(MEASURES[name](Path(place)))
    note(f"  {row.figure} (floor {row.floor}, to reach {row.target})")
    return row
