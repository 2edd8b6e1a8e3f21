"""A process that goes on after another has taken its turn over changes nothing any more."""

import random
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.dying import Points
from crash.finishing import Place
from crash.overtaken import LOST, Overtaken, held_up, overtaken

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="a stopped process is seen in /proc"),
]

STOPS = 10


@pytest.mark.timeout(300)
def test_a_process_that_was_stopped_past_its_lease_is_refused_whatever_it_does(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """In a tool, in a call of the model, between two writes: its caller is told that the lease is
    lost, what its tools bring goes nowhere, and history and journal are those of the other one."""
    place, total = Place(processes, tmp_path), Overtaken()
    undisturbed = place.undisturbed(1, Points.BETWEEN_WRITES)
    # A point that was drawn may not be passed.
    for seed in range(2 * STOPS):
        if total.stops < STOPS:
            total += overtaken(place, undisturbed, random.Random(seed))
    assert total.stops == STOPS
    assert 0 < total.midway < total.stops
    assert total.told[LOST] > 0
    assert total.late["ends"] > 0


@pytest.mark.timeout(300)
def test_a_process_that_was_stopped_inside_a_transaction_holds_up_others_and_no_more(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """Nobody can write to the file meanwhile. Once it goes on, its write counts, or is refused
    because the lease has lapsed, and the turn is finished once."""
    place, total = Place(processes, tmp_path), Overtaken()
    undisturbed = place.undisturbed(4, Points.INSIDE_WRITES)
    for seed in range(2 * STOPS):
        if total.stops < STOPS:
            total += held_up(place, undisturbed, random.Random(seed))
    assert total.stops == STOPS
