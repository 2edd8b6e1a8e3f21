"""A crowd of processes on one database, some of them killed and replaced."""

import os
import random
import signal
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from crash.conftest import ask, start
from crash.crowd import Told, disagreements, sum_up, take_part, told


@dataclass(frozen=True)
class Gathering:
    """What came of it: `wrong` is empty, or what the database and the ledgers disagree on."""

    told: Told
    killed: int
    wrong: list[str]


def gather(
    processes: ForkServerContext,
    database: Path,
    *,
    members: int,
    seconds: float,
    kill_every_s: float | None = None,
    seed: int = 1,
) -> Gathering:
    """Let so many work for so long; with `kill_every_s` kill one of them that often."""
    chance, until, numbers = random.Random(seed), time.monotonic() + seconds, members
    there = [start(processes, take_part, (database, each, seconds)) for each in range(members)]
    killed = 0
    while kill_every_s is not None and (left := until - time.monotonic()) > 2 * kill_every_s:
        place = chance.randrange(members)
        child, pipe = there[place]
        child.join(chance.uniform(0.5, 1.5) * kill_every_s)
        assert child.pid is not None
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        pipe.close()
        killed += 1
        there[place] = start(processes, take_part, (database, numbers, left))
        numbers += 1
    for child, pipe in there:
        child.join()
        pipe.close()
        assert child.exitcode == 0
    problems, stands = ask(processes, sum_up, database)
    every = told(database, numbers, killed)
    return Gathering(every, killed, [*problems, *disagreements(every, stands)])
