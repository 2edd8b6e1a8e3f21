"""What is told when a session changes, and what stays unsaid."""

import logging
from typing import Any

import pytest

from lash_runtime.observe import (
    AgentFrameSwitchedPayload,
    CommittedPayload,
    ProcessChangedPayload,
    QueueChangedPayload,
    Replayed,
    SessionCursor,
    SessionGap,
    SessionObservationEvent,
    SessionProcessEventKind,
    SessionQueueEventKind,
    TurnActivityPayload,
)
from observation.showing import (
    Shown,
    a_session,
    a_store,
    an_activity,
    another_model,
    here,
    settled,
    told,
)


def since(shown: Shown, cursor: SessionCursor) -> tuple[SessionObservationEvent, ...]:
    found = shown.observe().resume_from_cursor(cursor)
    assert isinstance(found, Replayed)
    return found.events


def told_since(shown: Shown, cursor: SessionCursor) -> list[str]:
    return [told(event) for event in since(shown, cursor)]


def test_opening_a_session_tells_nothing() -> None:
    """A newcomer reads the snapshot; there was nobody to tell before."""
    shown = a_session()
    assert since(shown, here(shown.observe())) == ()


def test_a_turn_is_told_before_its_commit() -> None:
    """Activities bear the revision that they started from, the commit the new one; both know
    their turn."""
    shown = a_session()
    start = here(shown.observe())
    shown.say("a", "b", turn_id="t1")
    shown.commit(turn_id="t1")
    events = since(shown, start)
    assert [told(event) for event in events] == ["a", "b", "committed 1"]
    assert [event.revision for event in events] == [0, 0, 1]
    assert {event.turn_id for event in events} == {"t1"}


def test_a_commit_carries_the_view_that_it_made_current() -> None:
    """Readers settle their rows from it without asking anywhere else."""
    shown = a_session()
    start = here(shown.observe())
    shown.say("a")
    shown.commit()
    payload = since(shown, start)[-1].payload
    assert isinstance(payload, CommittedPayload)
    assert payload.advanced
    assert payload.read_view is shown.observe().read_view()
    assert settled(payload.read_view) == ["a"]


def test_publishing_the_same_again_tells_nothing() -> None:
    """Reads and failed operations publish too; nobody should take that for a commit."""
    shown = a_session()
    shown.say("a")
    shown.commit()
    cursor = here(shown.observe())
    shown.publish()
    assert since(shown, cursor) == ()
    assert here(shown.observe()) == cursor


def test_a_change_without_a_commit_does_not_advance() -> None:
    """Provisional rows may not be settled by it, though the policy is another one."""
    shown = a_session()
    start = here(shown.observe())
    shown.policy = another_model("larger")
    shown.publish()
    assert told_since(shown, start) == ["committed 0 again"]
    assert shown.observe().policy_snapshot().model.id == "larger"


def test_a_frame_switch_and_its_commit_are_one() -> None:
    """They adjoin, under the new revision."""
    shown = a_session()
    start = here(shown.observe())
    shown.frame_id = "s:frame:2"
    shown.commit()
    switched, committed = since(shown, start)
    assert switched.payload == AgentFrameSwitchedPayload("s:frame:2")
    assert committed.position == switched.position + 1
    assert (switched.revision, committed.revision) == (1, 1)
    shown.commit()
    assert told_since(shown, committed.cursor) == ["committed 2"]


def test_queues_and_processes_are_invalidated_beside_the_commits() -> None:
    """The snapshot stays; readers ask again for what the ids name."""
    shown = a_session()
    before = shown.observe().current_observation()
    shown.cell.record_queue_changed(SessionQueueEventKind.ENQUEUED, ("i1", "i2"))
    shown.cell.record_process_changed(SessionProcessEventKind.STARTED, ("p1",))
    assert [event.payload for event in since(shown, before.cursor)] == [
        QueueChangedPayload(SessionQueueEventKind.ENQUEUED, ("i1", "i2")),
        ProcessChangedPayload(SessionProcessEventKind.STARTED, ("p1",)),
    ]
    assert shown.observe().current_observation() == before


def test_the_cursor_of_a_snapshot_leads_to_all_that_it_lacks() -> None:
    """Whoever comes in the middle of a turn sees it from its beginning."""
    shown = a_session()
    shown.say("settled")
    shown.commit()
    shown.say("a", "b")
    observation = shown.observe().current_observation()
    assert settled(observation.read_view) == ["settled"]
    assert told_since(shown, observation.cursor) == ["a", "b"]


class _RacingStore:
    """A log into which a thread writes in the very moment after a commit."""

    def __init__(self) -> None:
        self._store = a_store()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append_many(self, session_id: str, revision: Any, *args: Any, **named: Any) -> Any:
        events = self._store.append_many(session_id, revision, *args, **named)
        self._store.append(session_id, revision, TurnActivityPayload(an_activity("late")))
        return events


def test_the_cursor_of_a_snapshot_is_that_of_its_own_commit() -> None:
    """What a tool's thread tells right after the commit is not in the snapshot."""
    shown = a_session(_RacingStore())
    shown.commit()
    assert told_since(shown, here(shown.observe())) == ["late"]


def test_all_runtimes_of_a_session_are_seen_as_one() -> None:
    """An observer got from one of them sees the commits of the other."""
    first = a_session()
    observable = first.observe()
    start = here(observable)
    second = Shown(first.cells)
    second.say("a")
    second.commit()
    assert told_since(first, start) == ["a", "committed 1"]
    assert settled(observable.read_view()) == ["a"]


def test_an_older_snapshot_of_another_runtime_is_ignored() -> None:
    """A handle that was opened earlier and published late would turn time back."""
    first = a_session()
    second = Shown(first.cells)
    second.say("a")
    second.commit()
    cursor = here(first.observe())
    first.policy = another_model("stale")
    first.publish()
    assert since(second, cursor) == ()
    assert settled(first.observe().read_view()) == ["a"]


def test_a_runtime_may_turn_back_what_it_has_shown_itself() -> None:
    """A session that starts over counts from a lower revision."""
    shown = a_session()
    shown.say("a")
    shown.commit()
    cursor = here(shown.observe())
    shown.revision, shown.committed = 0, ()
    shown.publish()
    assert told_since(shown, cursor) == ["committed 0 again"]
    assert settled(shown.observe().read_view()) == []


def test_an_observer_follows_on_when_the_session_is_opened_again() -> None:
    """It kept the last snapshot meanwhile, and its cursor stays good."""
    shown = a_session()
    observable = shown.observe()
    shown.say("a")
    shown.commit()
    cursor = here(observable)
    shown.cell.release()
    shown.cell.release()
    assert settled(observable.read_view()) == ["a"]
    again = Shown(shown.cells, revision=1, committed=("a",))
    again.say("b")
    again.commit()
    found = observable.resume_from_cursor(cursor)
    assert isinstance(found, Replayed)
    assert [told(event) for event in found.events] == ["b", "committed 2"]


def test_a_session_that_is_not_stored_starts_over_after_it_was_closed() -> None:
    """Its revisions begin again at 0; that the observer has seen higher ones must not hide it."""
    shown = a_session()
    observable = shown.observe()
    shown.say("a")
    shown.commit()
    shown.cell.release()
    again = Shown(shown.cells)
    assert settled(observable.read_view()) == []
    again.say("b")
    again.commit()
    assert settled(observable.read_view()) == ["b"]


def test_what_a_closed_runtime_shows_is_dropped() -> None:
    """A straggler cannot overwrite what its successor has shown."""
    shown = a_session()
    observable = shown.observe()
    start = here(observable)
    shown.cell.release()
    shown.say("late")
    shown.commit()
    found = observable.resume_from_cursor(start)
    assert found == Replayed(())


class _BrokenStore:
    """A log whose network is down."""

    def __init__(self) -> None:
        self._store = a_store()
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *args: Any, **named: Any) -> Any:
        self._fail()
        return self._store.append(*args, **named)

    def append_many(self, *args: Any, **named: Any) -> Any:
        self._fail()
        return self._store.append_many(*args, **named)

    def rest_session(self, session_id: str) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.broken:
            raise OSError("network is down")


def test_a_log_that_fails_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The turn goes on, the snapshot is current, and readers are told that they missed a commit
    instead of being left with silence."""
    store = _BrokenStore()
    shown = a_session(store)
    observable = shown.observe()
    start = here(observable)
    store.broken = True
    with caplog.at_level(logging.WARNING):
        shown.say("a")
        shown.commit()
    assert len(caplog.records) == 2
    assert "network is down" in caplog.text
    store.broken = False
    assert settled(observable.read_view()) == ["a"]
    found = observable.resume_from_cursor(start)
    assert isinstance(found, SessionGap)
    assert observable.resume_from_cursor(found.gap.latest_cursor) == Replayed(())
    store.broken = True
    shown.cell.release()
