"""Eight processes on one database, and two hundred sessions."""

from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.conftest import ask, together
from crash.crowd import disagreements, sum_up, take_part, told

pytestmark = pytest.mark.crash

MEMBERS = 8
SECONDS = 10


@pytest.mark.timeout(300)
def test_a_crowd_of_processes_neither_loses_nor_doubles_anything(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """A lock that another process holds is waited for, and no caller ever hears of it."""
    database = tmp_path / "agents.db"
    done = together(
        processes, take_part, [(database, number, SECONDS) for number in range(MEMBERS)]
    )
    assert min(done) > 0
    problems, stands = ask(processes, sum_up, database)
    assert problems == []
    every = told(database, MEMBERS)
    assert list(disagreements(every, stands)) == []
    assert min(every.lines[what] for what in ("done", "refused", "cancelled", "interrupted")) > 0
