"""The live log: what is told again to those who come back, and what is a gap.

A subclass provides the fixture `replay_store_factory`. It is called with the most events that a
session's log keeps, their greatest age in seconds, and the clock that ages them.
"""

import pytest

from ...ports.replay import Gap, LiveReplayCursorError, LiveReplayStore
from ...ports.session_cursor import MalformedSessionCursor, SessionCursor, SessionRevision
from ..clocks import ManualClock
from ._replay_case import (
    MAX_AGE_S,
    R0,
    TRIMMED,
    UNAVAILABLE,
    ReplayCase,
    ReplayStoreFactory,
    says,
    tell,
    texts_of,
)


class ReplayConformance(ReplayCase):
    """What the log answers to somebody who comes back with a cursor."""

    def test_events_are_numbered_from_one_without_holes(self, store: LiveReplayStore) -> None:
        """An event says where it stands, whose it is, and carries what was appended."""
        payload = says("a")
        first = store.append("s", SessionRevision(7), payload, turn_id="t1")
        second = store.append("s", SessionRevision(8), says("b"))
        assert (first.session_id, first.revision, first.turn_id) == ("s", 7, "t1")
        assert first.payload is payload
        assert second.turn_id is None
        places = [event.cursor.parse() for event in (first, second)]
        assert [(place.position, place.revision) for place in places] == [(1, 7), (2, 8)]
        assert places[0].incarnation == first.replay_incarnation_id

    def test_a_cursor_replays_what_came_after_it(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """From the beginning, from within, and from the end, where there is nothing."""
        a, b, c = tell(store, "a", "b", "c")
        for cursor, later in ((start, "abc"), (a, "bc"), (b, "c"), (c, "")):
            assert texts_of(store.replay_after_cursor(cursor)) == list(later)

    def test_sessions_are_told_apart(self, store: LiveReplayStore, start: SessionCursor) -> None:
        """Each has its own numbers, also where an id looks like a cursor's own punctuation."""
        tell(store, "mine")
        tell(store, "a", "b", session_id="1:2:s")
        odd = store.current_cursor("1:2:s", R0).parse()
        assert (odd.session_id, odd.position) == ("1:2:s", 2)
        assert texts_of(store.replay_after_cursor(start)) == ["mine"]

    def test_the_current_cursor_is_the_end_of_the_log(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """It bears the revision that was given, and position 0 for an unknown session."""
        assert start.parse().position == 0
        (after,) = tell(store, "a")
        assert store.current_cursor("s", R0) == after
        assert store.current_cursor("s", SessionRevision(5)).parse().revision == 5

    def test_the_current_cursor_stays_before_events_of_a_later_revision(
        self, store: LiveReplayStore
    ) -> None:
        """Whoever holds the older snapshot would skip the newer commit otherwise."""
        store.append("s", SessionRevision(1), says("old"))
        store.append("s", SessionRevision(2), says("new"))
        store.append("s", SessionRevision(1), says("late"))
        cursor = store.current_cursor("s", SessionRevision(1))
        assert texts_of(store.replay_after_cursor(cursor)) == ["new", "late"]

    def test_several_events_are_appended_as_one(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """They adjoin, and an empty batch is no event."""
        assert store.append_many("s", R0, ()) == ()
        events = store.append_many("s", R0, [says("a"), says("b")], turn_id="t")
        assert [event.cursor.parse().position for event in events] == [1, 2]
        assert {event.turn_id for event in events} == {"t"}
        assert texts_of(store.replay_after_cursor(start)) == ["a", "b"]

    def test_beyond_the_bound_the_oldest_events_are_dropped(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """The cursor just before the oldest one kept still replays; the one before it gaps."""
        cursors = tell(store, *"abcdef")
        assert store.replay_after_cursor(start) == TRIMMED
        assert store.replay_after_cursor(cursors[0]) == TRIMMED
        assert texts_of(store.replay_after_cursor(cursors[1])) == list("cdef")
        assert texts_of(store.replay_after_cursor(cursors[5])) == []

    def test_events_expire_when_they_are_older_than_the_bound(
        self, store: LiveReplayStore, start: SessionCursor, clock: ManualClock
    ) -> None:
        """At exactly the bound they are still told."""
        tell(store, "a")
        clock.advance(MAX_AGE_S)
        (after,) = tell(store, "b")
        assert texts_of(store.replay_after_cursor(start)) == ["a", "b"]
        clock.advance(0.001)
        assert store.replay_after_cursor(start) == TRIMMED
        clock.advance(MAX_AGE_S)
        assert texts_of(store.replay_after_cursor(after)) == []

    def test_the_end_of_the_log_replays_cleanly_after_everything_expired(
        self, store: LiveReplayStore, clock: ManualClock
    ) -> None:
        """A reader who missed nothing is not sent back to a snapshot."""
        before, after = tell(store, "a", "b")
        clock.advance(MAX_AGE_S + 1)
        store.trim_session("s")
        assert texts_of(store.replay_after_cursor(after)) == []
        assert store.replay_after_cursor(before) == TRIMMED

    def test_trimming_an_unknown_session_does_nothing(self, store: LiveReplayStore) -> None:
        """Nor do resting and dropping one."""
        store.trim_session("unknown")
        store.rest_session("unknown")
        store.drop_session("unknown")
        assert store.current_cursor("unknown", R0).parse().position == 0

    def test_a_place_beyond_the_end_is_unavailable(self, store: LiveReplayStore) -> None:
        """Also for a session that the log does not know."""
        event = store.append("s", R0, says("a"))
        for session_id in ("s", "unknown"):
            ahead = SessionCursor.for_position(session_id, 0, 2, event.replay_incarnation_id)
            assert store.replay_after_cursor(ahead) == UNAVAILABLE
            assert store.subscribe_after_cursor(ahead) == UNAVAILABLE

    def test_a_cursor_of_another_log_is_unavailable(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """After a restart the numbers mean something else: never a silent, empty replay."""
        event = store.append("s", R0, says("a"))
        other = f"{event.replay_incarnation_id}x"
        for position in (0, 1):
            foreign = SessionCursor.for_position("s", 0, position, other)
            assert store.replay_after_cursor(foreign) == UNAVAILABLE
            assert store.subscribe_after_cursor(foreign) == UNAVAILABLE
        assert store.replay_after_cursor(SessionCursor("lashsc1:0:0:s")) == UNAVAILABLE

    @pytest.mark.parametrize("token", ["", "nonsense", "lashsc2:", "lashsc2:x:1:s"])
    def test_a_malformed_cursor_is_an_error_not_a_gap(
        self, store: LiveReplayStore, token: str
    ) -> None:
        """A host that stored something else under the name of a cursor should hear of it."""
        for call in (store.replay_after_cursor, store.subscribe_after_cursor):
            with pytest.raises(LiveReplayCursorError) as caught:
                call(SessionCursor(token))
            assert isinstance(caught.value.cause, MalformedSessionCursor)

    def test_a_log_without_room_replays_nothing(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> None:
        """A bound of zero is legal: whoever was not there sees a gap."""
        store = replay_store_factory(0, MAX_AGE_S, clock)
        start = store.current_cursor("s", R0)
        (after,) = tell(store, "a")
        assert store.replay_after_cursor(start) == TRIMMED
        assert texts_of(store.replay_after_cursor(after)) == []

    def test_a_dropped_session_is_forgotten(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Cursors of its past are gaps, also once the id is used again."""
        cursors = tell(store, "a", "b")
        store.drop_session("s")
        tell(store, "anew")
        for cursor in (start, *cursors):
            assert isinstance(store.replay_after_cursor(cursor), Gap)

    def test_a_session_at_rest_goes_on_where_it_was(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Cursors from before it was parked stay good while its events are kept."""
        tell(store, "a")
        store.rest_session("s")
        assert texts_of(store.replay_after_cursor(start)) == ["a"]
        tell(store, "b")
        assert texts_of(store.replay_after_cursor(start)) == ["a", "b"]
