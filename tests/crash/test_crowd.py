"""Eight processes on one database, and two hundred sessions."""

import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.conftest import together
from crash.crowd import come_and_go
from crash.gathering import gather

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

MEMBERS = 8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kill_every_s", [None, 0.3], ids=["undisturbed", "killed"])
def test_a_crowd_of_processes_neither_loses_nor_doubles_anything(
    processes: ForkServerContext, tmp_path: Path, kill_every_s: float | None
) -> None:
    """A lock that another process holds is waited for, and no caller ever hears of it."""
    found = gather(
        processes, tmp_path / "agents.db", members=MEMBERS, seconds=10, kill_every_s=kill_every_s
    )
    assert found.wrong == []
    assert (found.killed > 0) == (kill_every_s is not None)
    happened = ("done", "failed", "refused", "cancelled", "interrupted")
    assert {what for what in happened if found.told.lines[what] == 0} == set()


def test_processes_that_come_and_go_never_meet_a_locked_database(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """The last to leave folds the log away while the next one comes in."""
    work = [(tmp_path / "agents.db", number, 4.0) for number in range(MEMBERS)]
    assert min(together(processes, come_and_go, work)) > 0
