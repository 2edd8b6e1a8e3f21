"""Take every figure and print the table: `python -m benchmarks [NAME ...]`.

With `--record FILE` the table is also written, with the machine it was taken on.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path

from . import (
    deletion,
    group_commit,
    imports,
    persistence,
    residency,
    sessions,
    streaming,
    turns,
    upkeep,
)
from .measure import Row, machine, note

MEASURES: dict[str, Callable[[Path], Coroutine[None, None, Row]]] = {
    "text-turn": turns.text_turn,
    "history": turns.history,
    "sequential-tools": turns.sequential_tools,
    "parallel-tools": turns.parallel_tools,
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
    "queue-claims": persistence.queue_claims,
    "delete": deletion.delete_long_session,
    "collection": upkeep.collection,
    "backup": upkeep.backup,
    "size-of-turns": upkeep.size_of_turns,
    "import": imports.bare_import,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASURES], metavar="NAME")
    parser.add_argument("--record", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = [_measured(name) for name in arguments.names or MEASURES]
    table = _table(rows)
    print(table)
    if arguments.record is not None:
        stamp = datetime.now(UTC).date().isoformat()
        arguments.record.write_text(f"# Figures of {stamp}\n\n{machine()}.\n\n{table}\n")


def _measured(name: str) -> Row:
    note(f"measuring {name} …")
    with tempfile.TemporaryDirectory() as place:
        row = asyncio.run(MEASURES[name](Path(place)))
    note(f"  {row.figure} (floor {row.floor}, to reach {row.target})")
    return row


def _table(rows: list[Row]) -> str:
    lines = ["| Measure | Floor | Figure | To reach | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.measure} | {row.floor} | {row.figure} | {row.target} "
        f"| {'yes' if row.reached else 'no'} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
