"""A process that is killed while it deletes: no session is ever half there."""

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash import deletions
from crash.conftest import REPORT_TIMEOUT_S, ask

pytestmark = pytest.mark.crash

KILLS = 15
LONGEST_LIFE_S = 0.1


@pytest.mark.timeout(300)
def test_a_killed_deletion_is_seen_whole_or_not_at_all(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """What was acknowledged as deleted is gone; what is listed has every node; ids are of use."""
    full = tmp_path / "full.db"
    assert ask(processes, deletions.fill, full) == "filled"
    moments = random.Random(0)
    for life in range(KILLS):
        database = tmp_path / f"{life}.db"
        shutil.copy(full, database)
        deleted = _live_and_die(processes, database, moments.uniform(0, LONGEST_LIFE_S))
        found = ask(processes, deletions.look_after_kill, database)
        assert found.problems == []
        assert set(found.sizes.values()) <= {deletions.NODES}
        assert set(found.reused.values()) <= {0}
        assert [session_id for session_id in deleted if session_id in found.sizes] == []
        with closing(sqlite3.connect(database)) as db:
            assert db.execute("SELECT count(*) FROM graph_nodes").fetchone() == (0,)
        database.unlink()


def _live_and_die(processes: ForkServerContext, database: Path, life_s: float) -> list[str]:
    """Start the workload and kill it; what it had acknowledged."""
    ours, theirs = processes.Pipe()
    child = processes.Process(
        target=deletions.delete_until_killed, args=(database, theirs), daemon=True
    )
    child.start()
    theirs.close()
    assert ours.poll(REPORT_TIMEOUT_S)
    assert ours.recv() == "ready"
    child.join(life_s)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    deleted: list[str] = []
    with ours:
        while ours.poll():
            try:
                deleted.append(ours.recv())
            except EOFError:
                break
    return deleted
