"""A process that is killed at any moment loses nothing that it was told is done."""

import os
import random
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash import workload
from crash.conftest import REPORT_TIMEOUT_S, ask

pytestmark = pytest.mark.crash

KILLS_PER_FILE = 10
FILES = 10
LONGEST_LIFE_S = 0.06


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FILES))
def test_a_killed_process_leaves_every_acknowledged_turn_exactly_once(
    processes: ForkServerContext, tmp_path: Path, seed: int
) -> None:
    """The promise, at random moments: ten lives on one file, each ended by SIGKILL."""
    database = tmp_path / "agents.db"
    moments = random.Random(seed)
    acknowledged: list[str] = []
    for life in range(KILLS_PER_FILE):
        prefix = f"t{seed}.{life}"
        acknowledged += _live_and_die(
            processes, database, prefix, moments.uniform(0, LONGEST_LIFE_S)
        )
        found = ask(processes, workload.look_after_kill, database, prefix)
        assert found.error == ""
        assert found.usable_at_once
        assert found.resumable
        assert found.unanswered_but_settled == []
        assert [t for t in acknowledged if found.user_texts.get(t) != 1] == []
        assert [t for t in acknowledged if found.answers.get(f"answer to {t}") != 1] == []
        assert [t for t, times in found.user_texts.items() if times > 1] == []
        assert [t for t, times in found.answers.items() if times > 1] == []
        acknowledged.append(f"{prefix}-after")


def _live_and_die(
    processes: ForkServerContext, database: Path, prefix: str, life_s: float
) -> list[str]:
    """Start the workload, kill it after `life_s`, and return what it had acknowledged."""
    ours, theirs = processes.Pipe()
    child = processes.Process(
        target=workload.run_until_killed, args=(database, prefix, theirs), daemon=True
    )
    child.start()
    theirs.close()
    assert ours.poll(REPORT_TIMEOUT_S)
    assert ours.recv() == "ready"
    child.join(life_s)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    return list(_received(ours))


def _received(pipe: Connection) -> Iterator[str]:
    """What was sent before the sender died, whole messages only."""
    with pipe:
        while pipe.poll():
            try:
                yield pipe.recv()
            except EOFError:
                return
