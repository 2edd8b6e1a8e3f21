"""A process that is killed among work in line: each thing is done once, or still waits."""

import os
import random
import signal
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash import queue_workload
from crash.conftest import REPORT_TIMEOUT_S, ask

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

KILLS_PER_FILE = 10
FILES = 4
LONGEST_LIFE_S = 0.2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FILES))
def test_what_waits_is_done_exactly_once_however_often_its_process_is_killed(
    processes: ForkServerContext, tmp_path: Path, seed: int
) -> None:
    """No claim of a dead process sticks, and no completion is half there."""
    database = tmp_path / "agents.db"
    moments = random.Random(seed)
    queued: set[str] = set()
    done: set[str] = set()
    cancelled: set[str] = set()
    perhaps_cancelled: set[str] = set()
    for life in range(KILLS_PER_FILE):
        prefix = f"{seed}.{life}"
        for what, *keys in _live_and_die(
            processes, database, prefix, life, moments.uniform(0, LONGEST_LIFE_S)
        ):
            {
                "queued": queued,
                "done": done,
                "cancelling": perhaps_cancelled,
                "cancelled": cancelled,
            }[what].update(keys)
        found = ask(processes, queue_workload.look, database, prefix)
        in_line = {*found.batches, *found.inputs}
        assert found.damage == []
        assert found.free_batches == found.batches
        assert [key for key, times in found.done.items() if times > 1] == []
        assert in_line.isdisjoint(found.done)
        assert done <= set(found.done)
        assert cancelled.isdisjoint(in_line | set(found.done))
        assert queued - perhaps_cancelled <= in_line | set(found.done)
    finished = ask(processes, queue_workload.finish, database, f"{seed}")
    assert set(finished.values()) <= {1}
    assert queued - perhaps_cancelled <= set(finished)


def _live_and_die(
    processes: ForkServerContext, database: Path, prefix: str, life: int, life_s: float
) -> list[tuple[str, ...]]:
    """Run the workload, kill it after `life_s`, and return what it had reported."""
    ours, theirs = processes.Pipe()
    child = processes.Process(
        target=queue_workload.work_until_killed,
        args=(database, prefix, life, theirs),
        daemon=True,
    )
    child.start()
    theirs.close()
    reports = []
    with ours:
        assert ours.poll(REPORT_TIMEOUT_S)
        assert ours.recv() == "ready"
        child.join(life_s)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        while ours.poll():
            try:
                reports.append(ours.recv())
            except EOFError:
                break
    return reports
