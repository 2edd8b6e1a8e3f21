"""Take every figure and print the table: `python -m benchmarks [NAME ...]`.

With `--record FILE` the table is also written, with the machine it was taken on. Each figure is
taken in a process of its own: what another one has left in memory would be collected, and paid
for, in the middle of it.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from .catalogue import MEASURES, measured
from .measure import Row, machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASURES], metavar="NAME")
    parser.add_argument("--record", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        rows = list(processes.map(measured, arguments.names or MEASURES))
    table = _table(rows)
    print(table)
    if arguments.record is not None:
        stamp = datetime.now(UTC).date().isoformat()
        arguments.record.write_text(f"# Figures of {stamp}\n\n{machine()}.\n\n{table}\n")


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
