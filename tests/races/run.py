"""More duplicates than a test run has time for: `python -m races.run --help`.

Run it from `tests/`, with the library installed or on the path. Prints what was done, and ends with
an error at the first thing that is wrong.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from crash.conftest import process_server, together
from lash_runtime.stores.sqlite import SqliteStorage
from races.duplicates import Crowd, Told, faults, take_part, told_by, transcript


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m races.run", description=__doc__)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=10, help="of each turn, in each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--impatient", type=float, default=0.2, help="share that is cancelled")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    count = arguments.submissions // (arguments.callers * arguments.processes)
    turns = [f"turn-{number}" for number in range(count)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        database = Path(place, "agents.db")
        if arguments.processes == 1:
            crowd = Crowd(SqliteStorage(database), "a", arguments.seed)
            asyncio.run(crowd.submit(turns, arguments.callers, impatient=arguments.impatient))
            crowds = [crowd.told]
        else:
            crowds = in_processes(database, turns, arguments)
        said = asyncio.run(transcript(SqliteStorage(database)))
    report(turns, said, crowds, time.monotonic() - started)


def in_processes(database: Path, turns: list[str], arguments: argparse.Namespace) -> list[Told]:
    each = [
        (
            database,
            f"process-{number}",
            turns,
            arguments.callers,
            arguments.impatient,
            arguments.seed,
        )
        for number in range(arguments.processes)
    ]
    return [told_by(told) for told in together(process_server(), take_part, each)]


def report(turns: list[str], said: list[str], crowds: list[Told], took_s: float) -> None:
    sys.stdout.write(
        f"{len(turns)} turns, {sum(told.submissions for told in crowds)} submissions, "
        f"{sum(told.cancelled for told in crowds)} cancelled, "
        f"{sum(told.refused for told in crowds)} refused as busy, "
        f"{sum(told.calls.total() for told in crowds)} model calls, {took_s:.1f} s\n"
    )
    if wrong := faults(turns, said, crowds):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
