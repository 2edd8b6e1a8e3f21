"""More deaths of turns than a test run has time for: `python -m crash.turns --help`.

Run it from `tests/`, with the library installed or on the path. Each turn loses its process a few
times, beside some statement, file, tool or call of the model, or at any instruction; with `--stops`
its process is stopped instead until another one has taken the turn over. Prints what was done, and
ends with an error at the first thing that is wrong.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from crash.conftest import process_server
from crash.dying import Death, Points
from crash.finishing import Place, Story, Tally, finished_after, side_by_side
from crash.lifetimes import FINISHERS
from crash.overtaken import Overtaken, held_up, overtaken

TURNS_PER_SEED = 20
"""How often the turn of one seed is cut off, after it was played undisturbed."""

MOST_DEATHS = 4
"""Of one turn. One more at the same point, and it would be stopped."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m crash.turns", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=2, help="turns at the same time")
    parser.add_argument("--finisher", choices=[*FINISHERS], help="only this one")
    parser.add_argument("--stops", type=int, help="no deaths, but so many processes stopped")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as path:
        place = Place(process_server(), Path(path))
        if arguments.stops is None:
            _kill(place, arguments)
        else:
            _stop(place, arguments)


def _kill(place: Place, arguments: argparse.Namespace) -> None:
    started, total, stories = time.monotonic(), Tally(), _stories(place, arguments)
    while total.killed < arguments.kills:
        batch = [next(stories) for _ in range(10 * arguments.width)]
        total = sum(side_by_side(batch, arguments.width), total)
        _tell(started, total)


def _stop(place: Place, arguments: argparse.Namespace) -> None:
    started, total, chance = time.monotonic(), Overtaken(), random.Random(arguments.seed)
    while total.stops < arguments.stops:
        seed = chance.randrange(1_000_000)
        between = place.undisturbed(seed, Points.BETWEEN_WRITES)
        inside = place.undisturbed(seed, Points.INSIDE_WRITES)
        for number in range(TURNS_PER_SEED):
            if number % 4:
                total += overtaken(place, between, chance)
            else:
                total += held_up(place, inside, chance)
        _tell(started, total)


def _tell(started: float, total: Tally | Overtaken) -> None:
    sys.stdout.write(f"{time.monotonic() - started:7.1f} s  {total}\n")
    sys.stdout.flush()


def _stories(place: Place, arguments: argparse.Namespace) -> Iterator[Story[Tally]]:
    chance = random.Random(arguments.seed)
    while True:
        undisturbed = place.undisturbed(chance.randrange(1_000_000), Points.EVERYTHING)
        for _ in range(TURNS_PER_SEED):
            deaths = [
                Death(point=chance.randint(1, undisturbed.passed))
                if chance.random() < 0.5
                else Death(after_s=chance.uniform(0, 1.2 * undisturbed.lasted_s))
                for _ in range(chance.randint(1, MOST_DEATHS))
            ]
            finisher = arguments.finisher or chance.choice([*FINISHERS])
            yield finished_after(place, undisturbed, deaths, finisher=finisher)


if __name__ == "__main__":
    main()
