"""Two processes come back to the turn of a dead one at the same time: one finishes it."""

import random
import sys
from collections import Counter
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from crash.accounts import Page, wrong_at_the_end, wrong_in
from crash.conftest import ask
from crash.dying import Death
from crash.finishing import Place, Undisturbed, one_life, side_by_side
from crash.lifetimes import SESSION, TURN, Answer, look_after
from crash.long_turn import Script
from crash.outside import lines_of, snapshot
from crash.overtaken import BUSY, Mortal

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc"),
]

DEATHS = 12


@pytest.mark.timeout(300)
def test_of_two_who_come_back_at_the_same_time_one_finishes_the_turn(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    """The other is told what came of the turn, or that the session is busy just now; nothing is
    done twice, and who comes later is told the same."""
    place, chance = Place(processes, tmp_path), random.Random(1)
    undisturbed = place.undisturbed(3)
    told = Counter[str]()
    for _ in range(DEATHS):
        told += _contested(place, undisturbed, Death(point=chance.randint(1, undisturbed.passed)))
    assert told["the answer"] + told[BUSY] == 2 * DEATHS
    assert told["the answer"] >= DEATHS


def _contested(place: Place, undisturbed: Undisturbed, death: Death) -> Counter[str]:
    life, pages = place.life(undisturbed.seed), list[Page]()
    side_by_side([one_life(place.processes, life, death, pages)], 1)
    rivals = [Mortal(place, replace(life, number=number), Death()) for number in (1, 2)]
    told = [rival.hears() for rival in rivals]
    answers = [each for each in told if isinstance(each, Answer)]
    assert answers
    assert {each for each in told if isinstance(each, str)} <= {BUSY}
    back = [rival.come_back() for rival in rivals]
    before, after = pages[0].after, snapshot(life.database, SESSION, TURN)
    both = Page(
        life=1,
        died=False,
        answers=(),
        lines=tuple(line for line in lines_of(life.outside) if line.life > 0),
        before=before,
        after=after,
    )
    restarts = [attempt for each in answers for attempt in each.restarts]
    assert restarts == ([after.attempt] if before.state == "running" else [])
    found = ask(place.processes, look_after, life)
    assert {*back} == {found.answers[0]}
    script = Script(life.seed)
    wrong = [
        *wrong_in(pages[0], script),
        *wrong_in(both, script),
        *wrong_at_the_end([pages[0], both], script, found, undisturbed.found),
    ]
    assert wrong == [], (death, told, wrong)
    return Counter(each if isinstance(each, str) else "the answer" for each in told)
