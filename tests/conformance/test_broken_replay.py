"""The live log's suite, held to its own purpose: a store that breaks a rule is caught.

Each broken store is the one in memory with one thing wrong. The case that is named beside it
must pass on the intact store and fail on the broken one.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from lash_runtime.ports.clock import Clock
from lash_runtime.ports.observation_events import SessionObservationEvent
from lash_runtime.ports.replay import (
    Gap,
    LiveReplayGapReason,
    LiveReplayResult,
    LiveReplayStoreError,
    LiveReplaySubscribeResult,
    Replayed,
)
from lash_runtime.ports.session_cursor import SessionCursor, SessionRevision
from lash_runtime.replay import InMemoryLiveReplayStore
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance import LiveReplayConformance

pytestmark = pytest.mark.anyio

Intact = InMemoryLiveReplayStore

HANGS_AFTER_S = 2.0
"""A reader that waits so long for an event in memory waits for ever."""


class AnswersGapsWithSilence(Intact):
    """What it cannot tell, it leaves out."""

    def replay_after_cursor(self, cursor: SessionCursor) -> LiveReplayResult:
        found = super().replay_after_cursor(cursor)
        return Replayed(()) if isinstance(found, Gap) else found


class TakesEveryGapForTrimming(Intact):
    """It never says that it does not know the cursor's log."""

    def replay_after_cursor(self, cursor: SessionCursor) -> LiveReplayResult:
        found = super().replay_after_cursor(cursor)
        return Gap(LiveReplayGapReason.TRIMMED) if isinstance(found, Gap) else found


class RepeatsTheEventAtTheCursor(Intact):
    """After means from."""

    def replay_after_cursor(self, cursor: SessionCursor) -> LiveReplayResult:
        place = cursor.parse()
        if place.position == 0 or place.incarnation is None:
            return super().replay_after_cursor(cursor)
        before = SessionCursor.for_position(
            place.session_id, place.revision, place.position - 1, place.incarnation
        )
        return super().replay_after_cursor(before)


class StepsOverNewerCommits(Intact):
    """The end of the log is the end of the log."""

    def current_cursor(self, session_id: str, revision: SessionRevision) -> SessionCursor:
        end = super().current_cursor(session_id, SessionRevision(2**64 - 1)).parse()
        assert end.incarnation is not None
        return SessionCursor.for_position(session_id, revision, end.position, end.incarnation)


class NeverForgetsAnAge(Intact):
    """Its clock stands still."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{**named, "clock": ManualClock()})


class LosesTheTurn(Intact):
    """Whose event it was does not matter to it."""

    def append(self, *args: Any, turn_id: str | None = None) -> SessionObservationEvent:
        return super().append(*args)


class SubscribesToTheFutureAlone(Intact):
    """What happened between the cursor and the subscription is lost."""

    def subscribe_after_cursor(self, cursor: SessionCursor) -> LiveReplaySubscribeResult:
        place = cursor.parse()
        return super().subscribe_after_cursor(self.current_cursor(place.session_id, place.revision))


class TurnsBatchesRound(Intact):
    """The commit comes before the frame switch that it belongs to."""

    def append_many(
        self, session_id: str, revision: SessionRevision, payloads: Sequence[Any], **named: Any
    ) -> tuple[SessionObservationEvent, ...]:
        return super().append_many(session_id, revision, payloads[::-1], **named)


class KeepsDroppedSessions(Intact):
    """A deleted session's readers wait for ever."""

    def drop_session(self, session_id: str) -> None:
        self.trim_session(session_id)


class EndsSessionsAtRest(Intact):
    """It takes parked for deleted."""

    def rest_session(self, session_id: str) -> None:
        self.drop_session(session_id)


async def passes(case: str, store: type[Intact]) -> bool:
    """Whether one case of the suite holds for stores of that class."""

    def build(max_events: int, max_age_s: float, clock: Clock) -> Intact:
        return store.with_bounds(max_events, max_age_s, clock=clock)

    clock = ManualClock()
    subject = build(4, 60.0, clock)
    given = {
        "store": subject,
        "start": subject.current_cursor("s", SessionRevision(0)),
        "clock": clock,
        "replay_store_factory": build,
    }
    method = getattr(LiveReplayConformance(), case)
    try:
        with anyio.fail_after(HANGS_AFTER_S):
            outcome = method(**{name: given[name] for name in inspect.signature(method).parameters})
            if inspect.isawaitable(outcome):
                await outcome
    except (AssertionError, pytest.fail.Exception, LiveReplayStoreError, TimeoutError):
        return False
    return True


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (AnswersGapsWithSilence, "test_beyond_the_bound_the_oldest_events_are_dropped"),
        (TakesEveryGapForTrimming, "test_a_cursor_of_another_log_is_unavailable"),
        (RepeatsTheEventAtTheCursor, "test_a_cursor_replays_what_came_after_it"),
        (
            StepsOverNewerCommits,
            "test_the_current_cursor_stays_before_events_of_a_later_revision",
        ),
        (NeverForgetsAnAge, "test_events_expire_when_they_are_older_than_the_bound"),
        (LosesTheTurn, "test_events_are_numbered_from_one_without_holes"),
        (SubscribesToTheFutureAlone, "test_a_reader_gets_the_past_then_the_present"),
        (TurnsBatchesRound, "test_several_events_are_appended_as_one"),
        (KeepsDroppedSessions, "test_a_dropped_session_is_forgotten"),
        (EndsSessionsAtRest, "test_a_reader_stays_with_a_session_at_rest"),
    ],
)
async def test_a_broken_log_is_caught(broken: type[Intact], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, Intact)
    assert not await passes(case, broken)
