"""Death anywhere inside a call leaves the call done or not done, and nothing else."""

import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.calls import CALLS
from crash.lives import survive

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

KILLS = 5
TORN = 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_cut_off_by_death_is_done_or_not_done(
    processes: ForkServerContext, tmp_path: Path, call: str
) -> None:
    """Between any two statements and in the middle of a write: no half of anything remains."""
    survive(processes, tmp_path, call, kills=KILLS, torn=TORN, seed=1)
