"""More deaths than a test run has time for, or a crowd for longer: `python -m crash.run --help`.

Run it from `tests/`, with the library installed or on the path. Prints what was done, and ends
with an error at the first thing that is wrong.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from crash.calls import CALLS
from crash.conftest import process_server
from crash.gathering import gather
from crash.lives import survive


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m crash.run", description=__doc__)
    parser.add_argument("calls", nargs="*", choices=[[], *CALLS], metavar="CALL")
    parser.add_argument("--kills", type=int, default=40, help="processes killed in each call")
    parser.add_argument("--torn", type=int, default=5, help="writes torn in each call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=float, metavar="SECONDS", help="no deaths, but a crowd")
    parser.add_argument("--members", type=int, default=8, help="processes of the crowd")
    parser.add_argument("--kill-every", type=float, metavar="SECONDS", help="one of the crowd")
    arguments = parser.parse_args()
    if arguments.crowd is None:
        _die(arguments)
    else:
        _crowd(arguments)


def _die(arguments: argparse.Namespace) -> None:
    processes, killed, torn = process_server(), 0, 0
    for call in arguments.calls or CALLS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            try:
                tally = survive(
                    processes,
                    Path(place),
                    call,
                    kills=arguments.kills,
                    torn=arguments.torn,
                    seed=arguments.seed,
                )
            except AssertionError:
                sys.stderr.write(f"{call}, with --seed {arguments.seed}:\n")
                raise
        killed, torn = killed + tally.killed, torn + tally.torn
        sys.stdout.write(
            f"{call:16} {tally.killed:4} killed {tally.torn:3} torn "
            f"{tally.survived:3} got through {time.monotonic() - started:7.1f} s\n"
        )
    sys.stdout.write(f"{'all':16} {killed:4} killed {torn:3} torn\n")


def _crowd(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        found = gather(
            process_server(),
            Path(place, "agents.db"),
            members=arguments.members,
            seconds=arguments.crowd,
            kill_every_s=arguments.kill_every,
            seed=arguments.seed,
        )
    sys.stdout.write(f"{found.killed} killed, {dict(found.told.lines)}\n")
    if found.wrong:
        sys.exit("\n".join(found.wrong))


if __name__ == "__main__":
    main()
