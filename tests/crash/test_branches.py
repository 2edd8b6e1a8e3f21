"""A process that is killed takes no branch with it that it did not have in memory."""

import os
import random
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash import branches
from crash.conftest import REPORT_TIMEOUT_S, ask

pytestmark = pytest.mark.crash

KILLS_PER_FILE = 10
FILES = 3
LONGEST_LIFE_S = 0.1
NODES_PER_TURN = 4
"""Words, call, result and answer."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FILES))
@pytest.mark.parametrize("kind", ["sqlite", "inline"])
def test_no_kill_takes_a_node_from_the_store(
    processes: ForkServerContext, tmp_path: Path, kind: str, seed: int
) -> None:
    """Turns, what the next process makes of them, and the healing of a lost leaf: whatever a kill
    interrupts, every node that was ever seen is still there, unchanged and in its place."""
    where = (kind, tmp_path / "agents.db")
    moments = random.Random(seed)
    assert ask(processes, branches.grow_branches, *where) == "grown"
    nodes, path = ask(processes, branches.open_and_read, *where, "after-growing")
    assert len(nodes) - len(path) == 2 * NODES_PER_TURN
    for life in range(KILLS_PER_FILE):
        if moments.random() < 0.5:
            assert ask(processes, branches.lose_the_leaf, *where) == "lost"
        _live_and_die(processes, where, f"t{life}", moments.uniform(0, LONGEST_LIFE_S))
        after, after_path = ask(processes, branches.open_and_read, *where, f"after-{life}")
        assert after[: len(nodes)] == nodes
        assert after_path[: len(path)] == path
        assert len(after) - len(nodes) == len(after_path) - len(path)
        nodes, path = after, after_path


def _live_and_die(
    processes: ForkServerContext, where: tuple[str, Path], prefix: str, life_s: float
) -> None:
    ours, theirs = processes.Pipe()
    child = processes.Process(
        target=branches.talk_until_killed, args=(*where, prefix, theirs), daemon=True
    )
    child.start()
    theirs.close()
    with ours:
        assert ours.poll(REPORT_TIMEOUT_S)
        assert ours.recv() == "ready"
        child.join(life_s)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert child.exitcode == -signal.SIGKILL
