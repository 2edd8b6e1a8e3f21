"""Whatever happens, what an observer has folded is the committed state and the live tail."""

import asyncio
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from lash_runtime.model.activity import RuntimeDiagnostic, TurnActivity
from lash_runtime.observe import (
    CommittedPayload,
    ObservationEvent,
    ObservationGap,
    SessionCursor,
    SessionObservationEvent,
    SessionObservationStream,
    SessionObservationStreamItem,
    TurnActivityPayload,
)
from lash_runtime.runtime.observation import ObservationCells
from lash_runtime.testing import ManualClock
from observation.showing import Shown, a_store, settled, told

CAPACITY = 6


@dataclass(eq=False)
class Observer:
    """A browser's tab: it folds what it is given, as the documentation says to."""

    stream: SessionObservationStream
    settled: list[str]
    rows: list[SessionObservationEvent] = field(default_factory=list)
    lost_some: bool = False

    @property
    def provisional(self) -> list[str]:
        return [told(event) for event in self.rows]

    def fold(self, item: SessionObservationStreamItem) -> None:
        match item:
            case ObservationGap(observation=observation):
                self.settled, self.rows = settled(observation.read_view), []
                self.lost_some = True
            case ObservationEvent(event=event):
                match event.payload:
                    case CommittedPayload(read_view=view, advanced=True):
                        self.settled, self.rows = settled(view), []
                        self.lost_some = False
                    case CommittedPayload():
                        pass
                    case TurnActivityPayload(
                        activity=TurnActivity(
                            event=RuntimeDiagnostic(kind="turn_restarted", data=data)
                        )
                    ):
                        self.rows = [row for row in self.rows if row.turn_id != data["turn_id"]]
                    case _:
                        self.rows.append(event)

    async def read(self, most: int) -> None:
        """Fold up to `most` items, and be cancelled at the read that finds nothing."""
        for _ in range(most):
            got = False

            async def one() -> None:
                nonlocal got
                self.fold(await self.stream.__anext__())
                got = True

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                for _ in range(4):
                    await checkpoint()
                tasks.cancel_scope.cancel()
            if not got:
                return


class ObservationLaws(RuleBasedStateMachine):
    """One session, run by one runtime after another, and tabs that come and go."""

    observers = Bundle("observers")

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.cells = ObservationCells(replay=a_store(CAPACITY, clock=self.clock))
        self.shown = Shown(self.cells)
        self.words = 0
        self.watching: list[Observer] = []

    def teardown(self) -> None:
        self.runner.close()

    @rule(count=st.integers(1, CAPACITY + 2))
    def say(self, count: int) -> None:
        for _ in range(count):
            self.words += 1
            self.shown.say(f"w{self.words}", turn_id=self.turn_id)

    @property
    def turn_id(self) -> str:
        """That of the turn which the next commit settles."""
        return f"t{self.shown.revision}"

    @rule(attempt=st.integers(2, 3))
    def begin_again(self, attempt: int) -> None:
        """The turn was cut off in the same process, which goes on with it from its record."""
        self.shown.restart(self.turn_id, attempt)

    @rule()
    def commit(self) -> None:
        self.shown.commit()

    @rule()
    def publish_again(self) -> None:
        self.shown.publish()

    @rule(elsewhere=st.booleans())
    def park_and_resume(self, elsewhere: bool) -> None:
        """Between two turns; meanwhile another process may have committed one."""
        self.shown.commit()
        known, committed = self.shown.revision, self.shown.committed
        self.shown.cell.release()
        if elsewhere:
            self.words += 1
            known, committed = known + 1, (*committed, f"w{self.words}")
        self.shown = Shown(self.cells, revision=known, committed=committed)

    @rule(seconds=st.sampled_from([1.0, 121.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(target=observers)
    def attach(self) -> Observer:
        observable = self.shown.observe()
        start = observable.current_observation()
        observer = Observer(
            observable.subscribe_and_recover(start.cursor), settled(start.read_view)
        )
        self.watching.append(observer)
        return observer

    @rule(observer=observers, most=st.integers(1, 2 * CAPACITY))
    def read_some(self, observer: Observer, most: int) -> None:
        self.runner.run(observer.read(most))

    @rule(observer=observers)
    def reconnect(self, observer: Observer) -> None:
        """The connection broke; the tab kept what it had folded, and the cursor."""
        kept = SessionCursor(str(observer.stream.cursor))
        self.runner.run(observer.stream.aclose())
        observer.stream = self.shown.observe().subscribe_and_recover(kept)

    @rule(observer=consumes(observers))
    def leave(self, observer: Observer) -> None:
        self.watching.remove(observer)
        del observer

    @rule(observer=observers)
    def catch_up(self, observer: Observer) -> None:
        """All there is to read has been read: settled is what is committed, and what is
        provisional is the turn so far, or its end where the log could not reach back."""
        self.runner.run(observer.read(10 * CAPACITY))
        assert observer.settled == list(self.shown.committed)
        said = self.shown.said
        if observer.lost_some:
            assert observer.provisional == said[len(said) - len(observer.provisional) :]
        else:
            assert observer.provisional == said

    @invariant()
    def the_snapshot_is_current(self) -> None:
        observation = self.shown.observe().current_observation()
        assert settled(observation.read_view) == list(self.shown.committed)


ObservationLaws.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestObservationLaws = ObservationLaws.TestCase
