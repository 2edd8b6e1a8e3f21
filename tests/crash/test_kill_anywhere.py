"""A turn whose process is killed anywhere is finished by another one, and nothing is done twice.

Counted from outside: what is on record is never done again, what is not is done again by the model
and by tools that allow it and reported where they do not, and whoever comes back gets one result.
"""

import random
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.dying import Death
from crash.finishing import Place, Tally, finished_after, side_by_side
from crash.lifetimes import FINISHERS

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

SEEDS = 3
WIDTH = 2
LEAST_POINTS = 120
"""With fewer, not all of what is written is watched."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_turn_that_is_cut_off_at_any_point_is_finished_once(
    processes: ForkServerContext, tmp_path: Path, seed: int
) -> None:
    """Beside every durable write, in every tool and in every call of the model. Whoever finishes
    the turn may die of it, too."""
    place, chance = Place(processes, tmp_path), random.Random(seed)
    undisturbed = place.undisturbed(seed)
    assert undisturbed.passed > LEAST_POINTS
    stories = []
    for point in range(1, undisturbed.passed + 1):
        deaths = [Death(point=point)]
        while chance.random() < 0.25:
            deaths.append(Death(point=chance.randint(1, undisturbed.passed)))
        finisher = chance.choice([*FINISHERS])
        stories.append(finished_after(place, undisturbed, deaths, finisher=finisher))
    total = sum(side_by_side(stories, WIDTH), Tally())
    assert total.turns == undisturbed.passed
    # What is written at one instant is one write, so that a life may pass a point or two less.
    assert total.killed >= 0.95 * undisturbed.passed
    assert total.by_state.keys() >= {"None", "running"}
    assert min(total.asked_again, total.run_again, total.unknown) > 0
