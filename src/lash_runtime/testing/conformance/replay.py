"""The live log: what is told again, what is a gap, and what a reader may rely on.

A subclass provides the fixture `replay_store_factory`. It is called with the most events that a
session's log keeps, their greatest age in seconds, and the clock that ages them.
"""

from collections.abc import Callable

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from ...model.activity import AssistantProseDelta, TurnActivity
from ...ports.clock import Clock
from ...ports.observation_events import SessionObservationEvent, TurnActivityPayload
from ...ports.replay import (
    Gap,
    LiveReplayClosed,
    LiveReplayCursorError,
    LiveReplayGapReason,
    LiveReplayResult,
    LiveReplayStore,
    LiveReplaySubscription,
    Replayed,
    Subscribed,
    SubscriberLagged,
)
from ...ports.session_cursor import MalformedSessionCursor, SessionCursor, SessionRevision
from ..clocks import ManualClock

ReplayStoreFactory = Callable[[int, float, Clock], LiveReplayStore]

CAPACITY = 4
MAX_AGE_S = 60.0
R0 = SessionRevision(0)

TRIMMED = Gap(LiveReplayGapReason.TRIMMED)
UNAVAILABLE = Gap(LiveReplayGapReason.UNAVAILABLE)


def says(text: str) -> TurnActivityPayload:
    return TurnActivityPayload(TurnActivity(f"id-{text}", "row", AssistantProseDelta(text)))


def text_of(event: SessionObservationEvent) -> str:
    assert isinstance(event.payload, TurnActivityPayload)
    assert isinstance(event.payload.activity.event, AssistantProseDelta)
    return event.payload.activity.event.text


def texts_of(result: LiveReplayResult) -> list[str]:
    assert isinstance(result, Replayed)
    return [text_of(event) for event in result.events]


def tell(store: LiveReplayStore, *texts: str, session_id: str = "s") -> list[SessionCursor]:
    """Append one event for each text; the cursors just after them."""
    return [store.append(session_id, R0, says(text)).cursor for text in texts]


def follow(store: LiveReplayStore, cursor: SessionCursor) -> LiveReplaySubscription:
    found = store.subscribe_after_cursor(cursor)
    assert isinstance(found, Subscribed)
    return found.subscription


async def read(subscription: LiveReplaySubscription, count: int) -> list[str]:
    return [text_of(await subscription.__anext__()) for _ in range(count)]


async def reads_nothing(subscription: LiveReplaySubscription) -> bool:
    """Whether a read still waits after everybody else had several turns of the loop."""
    arrived = False

    async def one() -> None:
        nonlocal arrived
        await subscription.__anext__()
        arrived = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        for _ in range(5):
            await checkpoint()
        tasks.cancel_scope.cancel()
    return not arrived


class _ReplayCase:
    """Base of the suites: a store that keeps four events for a minute."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> LiveReplayStore:
        return replay_store_factory(CAPACITY, MAX_AGE_S, clock)

    @pytest.fixture
    def start(self, store: LiveReplayStore) -> SessionCursor:
        """The place before anything."""
        return store.current_cursor("s", R0)


class ReplayConformance(_ReplayCase):
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
        for cursor in (start, cursors[0]):
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


class ReplaySubscriptionConformance(_ReplayCase):
    """What a reader who stays may rely on."""

    async def test_a_reader_gets_the_past_then_the_present(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Each event once, with no seam where the two meet."""
        tell(store, "a", "b")
        subscription = follow(store, start)
        tell(store, "c")
        assert await read(subscription, 3) == ["a", "b", "c"]
        assert await reads_nothing(subscription)

    async def test_a_waiting_reader_is_woken(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Never inside the call that appends."""
        subscription = follow(store, start)
        seen: list[str] = []

        async def reader() -> None:
            seen.extend(await read(subscription, 3))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await checkpoint()
            tell(store, "a", "b")
            assert seen == []
            await checkpoint()
            store.append_many("s", R0, [says("c")])
        assert seen == ["a", "b", "c"]

    async def test_what_a_reader_came_for_cannot_be_dropped_under_it(
        self, store: LiveReplayStore, start: SessionCursor, clock: ManualClock
    ) -> None:
        """Neither by the number of later events nor by age."""
        tell(store, "a", "b")
        subscription = follow(store, start)
        clock.advance(MAX_AGE_S + 1)
        tell(store, *"cdef")
        assert await read(subscription, 6) == list("abcdef")

    async def test_age_never_takes_an_event_from_a_reader_who_is_there(
        self, store: LiveReplayStore, start: SessionCursor, clock: ManualClock
    ) -> None:
        """Slow is not absent: only the number of events bounds a reader."""
        subscription = follow(store, start)
        tell(store, "a")
        clock.advance(MAX_AGE_S + 1)
        tell(store, "b")
        store.trim_session("s")
        assert await read(subscription, 2) == ["a", "b"]

    async def test_a_reader_left_behind_is_told_by_how_much_and_may_go_on(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Once; then it continues with the oldest event that is left."""
        subscription = follow(store, start)
        tell(store, *"abcdefg")
        with pytest.raises(SubscriberLagged) as caught:
            await subscription.__anext__()
        assert caught.value.skipped == 3
        assert await read(subscription, 4) == list("defg")

    async def test_a_reader_who_is_there_gets_events_of_a_log_without_room(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> None:
        """One event is always held for those who read as fast as it is written."""
        store = replay_store_factory(0, MAX_AGE_S, clock)
        subscription = follow(store, store.current_cursor("s", R0))
        for text in ("a", "b"):
            tell(store, text)
            assert await read(subscription, 1) == [text]

    async def test_a_cancelled_read_loses_nothing(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Whether it is cancelled while it waits or in the moment it is woken."""
        subscription = follow(store, start)
        seen: list[str] = []
        for text in "abc":
            async with anyio.create_task_group() as tasks:

                async def one() -> None:
                    seen.append(text_of(await subscription.__anext__()))

                tasks.start_soon(one)
                await checkpoint()
                tell(store, text)
                tasks.cancel_scope.cancel()
        rest = await read(subscription, 3 - len(seen))
        assert seen + rest == list("abc")

    async def test_a_reader_that_is_cancelled_disturbs_no_other(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Browsers come and go."""
        leaving, staying = follow(store, start), follow(store, start)
        seen: list[str] = []

        async def stay() -> None:
            seen.extend(await read(staying, 1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            assert await reads_nothing(leaving)
            tell(store, "a")
        assert seen == ["a"]
        assert await read(leaving, 1) == ["a"]

    async def test_a_second_reader_of_one_subscription_is_refused(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """Each of the two would see every other event."""
        subscription = follow(store, start)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, subscription, 1)
            await checkpoint()
            with pytest.raises(RuntimeError):
                await subscription.__anext__()
            tell(store, "a")

    async def test_closing_ends_a_read_in_another_task(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """And every later read; closing again is no error."""
        subscription = follow(store, start)
        ended: list[bool] = []

        async def reader() -> None:
            async for _ in subscription:
                pass
            ended.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await checkpoint()
            await subscription.aclose()
        await subscription.aclose()
        tell(store, "late")
        with pytest.raises(StopAsyncIteration):
            await subscription.__anext__()
        with pytest.raises(LiveReplayClosed):
            await subscription.next_event()
        assert ended == [True]

    async def test_a_dropped_session_ends_its_readers(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """After they have read what was there: closed once, then the end."""
        subscription, waiting = follow(store, start), follow(store, start)
        raised: list[type[Exception]] = []

        async def reader() -> None:
            await read(waiting, 1)
            try:
                await waiting.__anext__()
            except LiveReplayClosed:
                raised.append(LiveReplayClosed)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            tell(store, "a")
            for _ in range(5):
                await checkpoint()
            store.drop_session("s")
        assert raised == [LiveReplayClosed]
        assert await read(subscription, 1) == ["a"]
        with pytest.raises(LiveReplayClosed):
            await subscription.__anext__()
        with pytest.raises(StopAsyncIteration):
            await subscription.__anext__()
        with pytest.raises(LiveReplayClosed):
            await subscription.next_event()

    async def test_a_reader_stays_with_a_session_at_rest(
        self, store: LiveReplayStore, start: SessionCursor
    ) -> None:
        """It follows on as soon as somebody runs the session again."""
        subscription = follow(store, start)
        tell(store, "a")
        store.rest_session("s")
        tell(store, "b")
        assert await read(subscription, 2) == ["a", "b"]

    async def test_a_reader_with_a_backlog_lets_others_run(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> None:
        """It never waits by itself, so it has to step aside."""
        store = replay_store_factory(1_000, MAX_AGE_S, clock)
        subscription = follow(store, store.current_cursor("s", R0))
        tell(store, *("x" for _ in range(1_000)))
        steps = 0
        done = False

        async def bystander() -> None:
            nonlocal steps
            while not done:
                steps += 1
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bystander)
            await read(subscription, 1_000)
            done = True
        assert steps >= 10

    async def test_every_one_of_many_readers_sees_everything_in_order(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> None:
        """A thousand of them, attached before, in the midst of, and after the events."""
        store = replay_store_factory(100, MAX_AGE_S, clock)
        start = store.current_cursor("s", R0)
        seen: list[list[str]] = []

        async def reader() -> None:
            seen.append(await read(follow(store, start), 30))

        async with anyio.create_task_group() as tasks:
            for batch in range(10):
                for _ in range(100):
                    tasks.start_soon(reader)
                tell(store, *(f"{batch}.{n}" for n in range(3)))
                await checkpoint()
        expected = [f"{batch}.{n}" for batch in range(10) for n in range(3)]
        assert len(seen) == 1_000
        assert all(texts == expected for texts in seen)

    async def test_events_appended_in_other_threads_arrive_once_and_in_order(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> None:
        """Tools run in threads; their events race with those who subscribe and read."""
        store = replay_store_factory(10_000, MAX_AGE_S, clock)
        start = store.current_cursor("s", R0)
        seen: list[list[int]] = []

        async def reader() -> None:
            subscription = follow(store, start)
            events = [await subscription.__anext__() for _ in range(1_000)]
            seen.append([event.cursor.parse().position for event in events])

        def writer() -> None:
            for _ in range(500):
                tell(store, "x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(to_thread.run_sync, writer)
            tasks.start_soon(to_thread.run_sync, writer)
            for _ in range(5):
                tasks.start_soon(reader)
                await checkpoint()
        assert seen == [list(range(1, 1_001))] * 5


class LiveReplayConformance(ReplayConformance, ReplaySubscriptionConformance):
    """All cases that hold for any live replay store."""
