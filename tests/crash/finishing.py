"""Turns that are cut off by one death after another, and finished; several at a time."""

import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Final, TypeVar

from crash.accounts import Page, unknown_calls, wrong_at_the_end, wrong_in
from crash.conftest import REPORT_TIMEOUT_S, ask, start
from crash.dying import Death, Points
from crash.lifetimes import (
    NEXT_TURN,
    RECOVERS,
    RESUBMISSION,
    SESSION,
    TURN,
    Found,
    Life,
    live,
    look_after,
    make_template,
)
from crash.long_turn import Script
from crash.outside import BEFORE_IT_BEGAN, lines_of, snapshot

T = TypeVar("T")
Story = Generator[ForkServerProcess, None, T]
"""What happens to one turn; it yields each process whose end it waits for."""

MOST_LIVES: Final = 20
"""Of a turn that no process is to survive, until somebody stops it."""


@dataclass(frozen=True)
class Tally:
    """What was done.

    `by_state` counts deaths by the state of the turn that they left, `asked_again` calls of the
    model that were made once more, `run_again` attempts at tools that were, and `unknown` calls
    that were reported as such.
    """

    turns: int = 0
    killed: int = 0
    by_state: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0
    run_again: int = 0
    unknown: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            turns=self.turns + other.turns,
            killed=self.killed + other.killed,
            by_state=self.by_state + other.by_state,
            asked_again=self.asked_again + other.asked_again,
            run_again=self.run_again + other.run_again,
            unknown=self.unknown + other.unknown,
        )


@dataclass(frozen=True)
class Undisturbed:
    """The turn of one seed that nobody died in: how many points it passes, and how long it takes,
    together with its process."""

    seed: int
    points: Points
    passed: int
    lasted_s: float
    found: Found


class Place:
    """Where stories take place: each on a database of its own, all of them alike at first."""

    def __init__(self, processes: ForkServerContext, path: Path) -> None:
        self.processes = processes
        self._path = path
        self._numbers = iter(range(1_000_000_000))
        self._template = path / "template.db"
        assert ask(processes, make_template, self._template) == "made"

    def life(self, seed: int, points: Points = Points.WRITES, **settings: Any) -> Life:
        """The first life of a turn of its own."""
        home = self._path / str(next(self._numbers))
        home.mkdir()
        database = home / "agents.db"
        if Script(seed).begins != "is the first":
            shutil.copy(self._template, database)
        return Life(
            database=database,
            outside=home / "outside",
            seed=seed,
            number=0,
            points=points,
            **settings,
        )

    def undisturbed(self, seed: int, points: Points = Points.WRITES) -> Undisturbed:
        life = self.life(seed, points)
        pages: list[Page] = []
        started = time.monotonic()
        (passed,) = side_by_side([one_life(self.processes, life, Death(), pages)], 1)
        lasted_s = time.monotonic() - started
        assert passed is not None
        found = ask(self.processes, look_after, life)
        script = Script(seed)
        wrong = [*wrong_in(pages[0], script), *wrong_at_the_end(pages, script, found, found)]
        assert wrong == [], (seed, wrong)
        return Undisturbed(seed, points, passed, lasted_s, found)


def side_by_side(stories: Iterable[Story[T]], width: int) -> list[T]:
    """Play the stories, so many at a time, and return how each has ended."""
    waiting, ends = deque(stories), []
    playing: dict[int, tuple[ForkServerProcess, Story[T]]] = {}

    def go_on(story: Story[T]) -> None:
        try:
            child = next(story)
        except StopIteration as end:
            ends.append(end.value)
        else:
            playing[child.sentinel] = child, story

    while waiting or playing:
        while waiting and len(playing) < width:
            go_on(waiting.popleft())
        ready = wait([*playing], timeout=REPORT_TIMEOUT_S)
        assert ready or not playing, "no process has come to its end"
        for sentinel in ready:
            child, story = playing.pop(sentinel)  # type: ignore[index]
            child.join()
            go_on(story)
    return ends


def finished_after(
    place: Place, undisturbed: Undisturbed, deaths: Iterable[Death], *, finisher: str
) -> Story[Tally]:
    """A turn whose processes die of `deaths`, one after another, and that `finisher` finishes.

    Raises `AssertionError` with everything that is wrong.
    """
    life = place.life(undisturbed.seed, undisturbed.points)
    script, pages = Script(life.seed), list[Page]()
    # Whoever the finisher is, it may find a turn that was never accepted.
    lives = [(finisher, death) for death in (*deaths, Death())] + [(RESUBMISSION, Death())]
    for number, (finishes, death) in enumerate(lives):
        life = replace(life, number=number, finisher=finishes if number else RESUBMISSION)
        passed = yield from one_life(place.processes, life, death, pages)
        wrong = [*wrong_in(pages[-1], script)]
        assert wrong == [], (life, death, wrong)
        if passed is not None and pages[-1].after.is_settled:
            break
    found = yield from _looked_after(place.processes, life)
    wrong = [*wrong_at_the_end(pages, script, found, undisturbed.found)]
    assert wrong == [], (life, [(page.died, page.after.state) for page in pages], wrong)
    shutil.rmtree(life.database.parent)
    return _tally(pages, script)


def poisoned(
    place: Place, seed: int, act: str, *, finisher: str
) -> Story[tuple[list[Page], Found]]:
    """A turn with an act that no process survives, until it is over, and a turn after it."""
    life, pages = place.life(seed, poison=act), list[Page]()
    for number in range(MOST_LIVES):
        life = replace(life, number=number, finisher=finisher if number else RESUBMISSION)
        yield from one_life(place.processes, life, Death(), pages)
        wrong = [*wrong_in(pages[-1], Script(seed))]
        assert wrong == [], (life, wrong)
        if not pages[-1].died:
            break
    last = replace(life, number=life.number + 1, finisher=NEXT_TURN)
    yield from one_life(place.processes, last, Death(), pages)
    assert not pages[-1].died
    return pages[:-1], (yield from _looked_after(place.processes, last))


def _looked_after(processes: ForkServerContext, life: Life) -> Story[Found]:
    child, pipe = start(processes, look_after, (life,))
    yield child
    [found] = received(pipe)
    assert isinstance(found, Found)
    return found


def one_life(
    processes: ForkServerContext, life: Life, death: Death, pages: list[Page]
) -> Story[int | None]:
    """Append the page of this life; how many points it has passed, if it lived."""
    child, pipe = start(processes, live, (life, death))
    yield child
    died = child.exitcode in {death.signal, -signal.SIGKILL if life.poison else death.signal}
    said = dict(received(pipe))
    assert died or child.exitcode == 0, (life, death, child.exitcode)
    pages.append(
        Page(
            life=life.number,
            died=died,
            answers=(said["answered"],) if "answered" in said else (),
            lines=tuple(line for line in lines_of(life.outside) if line.life == life.number),
            before=pages[-1].after if pages else BEFORE_IT_BEGAN,
            after=snapshot(life.database, SESSION, TURN),
            recovers=life.finisher in RECOVERS,
        )
    )
    return said.get("survived")


def received(pipe: Connection) -> Iterator[Any]:
    """What was sent before the sender died, whole messages only."""
    with pipe:
        while pipe.poll():
            try:
                yield pipe.recv()
            except EOFError:
                return


def _tally(pages: list[Page], script: Script) -> Tally:
    begun = Counter(act for page in pages for act in page.begun())
    again = {act: times - 1 for act, times in begun.items()}
    asked = sum(times for act, times in again.items() if act.startswith("model:"))
    return Tally(
        turns=1,
        killed=sum(page.died for page in pages),
        by_state=Counter(str(page.after.state) for page in pages if page.died),
        asked_again=asked,
        run_again=sum(again.values()) - asked,
        unknown=len(unknown_calls(pages, script)),
    )
