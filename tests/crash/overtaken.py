"""A process that is stopped in the middle of a turn, past the end of its lease, and goes on again.

Meanwhile another one has taken the turn over: it is done, or stands still in the middle itself.
Whatever the first still does comes to nothing, and its caller is told so.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from crash.accounts import Page, step_of, wrong_at_the_end, wrong_in, wrong_whoever_did_it
from crash.conftest import REPORT_TIMEOUT_S, ask, start
from crash.dying import Death, Points
from crash.finishing import Place, Undisturbed
from crash.lifetimes import SESSION, TURN, Answer, Life, live_on, look_after
from crash.long_turn import Script
from crash.outside import BEFORE_IT_BEGAN, Line, Snapshot, lines_of, snapshot

LEASE_MS: Final = 450
"""Of the one that is stopped, which it holds as long as the machine lets it run."""

TAKE_OVER_POINTS: Final = 6
"""As many are passed by whoever takes a turn over."""

LOST: Final = "session_execution_lease_lost"
BUSY: Final = "session_execution_busy"


@dataclass(frozen=True)
class Overtaken:
    """What was done.

    `told` counts what the callers of the stopped processes were told, `midway` how often the other
    process was not done yet, and `late` what was begun and ended after the take-over.
    """

    stops: int = 0
    midway: int = 0
    told: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Overtaken") -> "Overtaken":
        return Overtaken(
            stops=self.stops + other.stops,
            midway=self.midway + other.midway,
            told=self.told + other.told,
            late=self.late + other.late,
        )


class Mortal:
    """A process that may stop, and what it says."""

    def __init__(self, place: Place, life: Life, death: Death) -> None:
        self.life = life
        self._child: ForkServerProcess
        self._pipe: Connection
        self._child, self._pipe = start(place.processes, live_on, (life, death))

    def stands_still(self) -> bool:
        """Wait until it has stopped, or has come to the end of the turn."""
        until = time.monotonic() + REPORT_TIMEOUT_S
        while time.monotonic() < until:
            if self._pipe.poll(0.002):
                return False
            if _state_of(self._pid) == "T":
                return True
        raise AssertionError(f"{self.life} neither stops nor ends")

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def hears(self) -> Answer | str:
        """What its caller was told."""
        assert self._pipe.poll(REPORT_TIMEOUT_S), self.life
        told: Answer | str = self._pipe.recv()
        return told

    def come_back(self) -> Answer | str:
        """What its caller is told who comes back, which is the last that it does."""
        self._pipe.send("come back")
        told = self.hears()
        self._child.join(REPORT_TIMEOUT_S)
        assert self._child.exitcode == 0, (self.life, self._child.exitcode)
        return told

    @property
    def _pid(self) -> int:
        assert self._child.pid is not None
        return self._child.pid


def overtaken(place: Place, undisturbed: Undisturbed, chance: random.Random) -> Overtaken:
    """Raises `AssertionError` with everything that is wrong."""
    life = place.life(undisturbed.seed, Points.BETWEEN_WRITES, lease_ms=LEASE_MS)
    at = chance.randint(1, undisturbed.passed)
    stop = Death(point=at, stops=True)
    first = Mortal(place, life, stop)
    if not first.stands_still():
        # The point was not passed; or the machine is so slow that the lease was lost before it.
        told = first.hears()
        assert isinstance(told, Answer) or told == LOST
        first.come_back()
        return Overtaken()
    page = Page(
        life=0,
        died=True,
        answers=(),
        lines=tuple(lines_of(life.outside)),
        before=BEFORE_IT_BEGAN,
        after=snapshot(life.database, SESSION, TURN),
    )
    _wait_until(page.after.lapses_at_ms)
    left = undisturbed.passed - at
    middle = Death(point=TAKE_OVER_POINTS + chance.randint(0, left), stops=True)
    second = Mortal(place, replace(life, number=1, lease_ms=None), chance.choice([Death(), middle]))
    in_the_middle = second.stands_still()
    meanwhile = snapshot(life.database, SESSION, TURN)
    if in_the_middle and meanwhile.token == page.after.token:
        # The point has come before the take-over.
        second.go_on()
        in_the_middle = second.stands_still()
        meanwhile = snapshot(life.database, SESSION, TURN)
    if in_the_middle:
        first.go_on()
        if page.after.state is None:
            second.go_on()  # for the first has come too late, and waits for it
        told = first.hears()
        if page.after.state is not None:
            second.go_on()
        answer = second.hears()
    else:
        answer = second.hears()
        first.go_on()
        told = first.hears()
    back = (second.come_back(), first.come_back())
    lines = lines_of(life.outside)
    pages = [page, _page_of(second.life, page.after, answer, lines)]
    late = [line for line in lines if line.life == 0][len(page.lines) :]
    found = ask(place.processes, look_after, life)
    script = Script(life.seed)
    wrong = [
        *wrong_in(page, script),
        *wrong_in(pages[1], script),
        *wrong_at_the_end(pages, script, found, undisturbed.found),
        *_wrong_with_the_first(page, meanwhile, told, late),
    ]
    answers = [each for each in (told, answer, *back) if isinstance(each, Answer)]
    if {replace(each, restarts=()) for each in answers} != {found.answers[0]} or len(answers) < 3:
        wrong.append(f"the callers were told {told}, {answer} and {back}")
    if page.after.state == "running" and pages[1].after.token != page.after.token + 1:
        wrong.append(f"the lane has changed hands: {page.after} became {pages[1].after}")
    assert wrong == [], (life, stop, in_the_middle, told, answer, wrong)
    return Overtaken(
        stops=1,
        midway=in_the_middle,
        told=Counter([told if isinstance(told, str) else "the answer"]),
        late=Counter(line.what for line in late),
    )


def held_up(place: Place, undisturbed: Undisturbed, chance: random.Random) -> Overtaken:
    """As `overtaken`, but the first is stopped inside a transaction, so that the second has to wait
    until it goes on. Either of them may finish the turn then.

    Raises `AssertionError` with everything that is wrong.
    """
    life = place.life(undisturbed.seed, Points.INSIDE_WRITES, lease_ms=LEASE_MS)
    stop = Death(point=chance.randint(1, undisturbed.passed), stops=True)
    first = Mortal(place, life, stop)
    if not first.stands_still():
        first.hears()
        first.come_back()
        return Overtaken()
    _wait_until(snapshot(life.database, SESSION, TURN).lapses_at_ms)
    second = Mortal(place, replace(life, number=1, lease_ms=None), Death())
    time.sleep(chance.uniform(0, 0.2))
    first.go_on()
    told = (first.hears(), second.hears())
    back = (second.come_back(), first.come_back())
    found = ask(place.processes, look_after, life)
    script, lines = Script(life.seed), lines_of(life.outside)
    wrong = [*found.problems, *wrong_whoever_did_it(lines, script, found, undisturbed.found)]
    if {*back} != {found.answers[0]}:
        wrong.append(f"those who came back were told {back}")
    if not {each for each in told if isinstance(each, str)} <= {LOST, BUSY}:
        wrong.append(f"the callers were told {told}")
    assert wrong == [], (life, stop, told, wrong)
    return Overtaken(stops=1, told=Counter([told[0] if isinstance(told[0], str) else "the answer"]))


def _page_of(life: Life, before: Snapshot, answer: Answer | str, lines: list[Line]) -> Page:
    return Page(
        life=life.number,
        died=False,
        answers=(answer,) if isinstance(answer, Answer) else (),
        lines=tuple(line for line in lines if line.life == life.number),
        before=before,
        after=snapshot(life.database, SESSION, TURN),
    )


def _wrong_with_the_first(
    page: Page, went_on_at: Snapshot, told: Answer | str, late: list[Line]
) -> Iterator[str]:
    begun = {step_of(act) for act in page.begun()}
    match told:
        case Answer():
            # Also where the very same commit was about to be made a second time.
            may_be = went_on_at.is_settled or page.after.state is None
        case _ if page.after.state == "running":
            may_be = told == LOST
        case _:
            may_be = told == BUSY and not went_on_at.is_settled
    if not may_be:
        yield f"the caller of the first was told {told}"
    for line in late:
        # Those that were reserved at once begin at once, and the process may stop in the first.
        reserved = line.act in page.after.entries and step_of(line.act) in begun
        if line.what == "begins" and not reserved:
            yield f"{line.act} was begun after the take-over"


def _wait_until(at_ms: int) -> None:
    time.sleep(max(0.0, at_ms / 1000 - time.time()) + 0.002)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
