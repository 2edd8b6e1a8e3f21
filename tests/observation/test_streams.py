"""Streams that follow a session: over gaps, cancelled reads and closing from anywhere."""

import gc
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime import EmbedError
from lash_runtime.model.messages import Message
from lash_runtime.observe import (
    LiveReplayClosed,
    LiveReplayCursorError,
    LiveReplayGapReason,
    ObservationEvent,
    ObservationGap,
    Replayed,
    SessionCursor,
    SessionEventSubscription,
    SessionGap,
    SessionObservationEvent,
    SessionObservationStream,
    SubscriberLagged,
)
from observation.showing import Shown, a_session, a_store, another_model, here, settled, told

pytestmark = pytest.mark.anyio


async def read(stream: SessionObservationStream, count: int) -> list[str]:
    """The next items in words; a gap is what its snapshot has settled, in brackets."""
    seen = []
    for _ in range(count):
        match await stream.__anext__():
            case ObservationEvent(event=event):
                seen.append(told(event))
            case ObservationGap(observation=observation):
                seen.append(f"[{' '.join(settled(observation.read_view))}]")
    return seen


def followed(shown: Shown, cursor: SessionCursor | None = None) -> SessionObservationStream:
    observable = shown.observe()
    return observable.subscribe_and_recover(cursor or here(observable))


def subscribed(shown: Shown) -> SessionEventSubscription:
    observable = shown.observe()
    found = observable.subscribe_from_cursor(here(observable))
    assert isinstance(found, SessionEventSubscription)
    return found


def in_memory(message_id: str) -> bool:
    return any(isinstance(item, Message) and item.id == message_id for item in gc.get_objects())


async def test_a_stream_begins_at_its_cursor_however_late_it_is_read() -> None:
    """Making it subscribes to nothing yet, and what happens until the first read is kept."""
    shown = a_session()
    stream = followed(shown)
    shown.say("a")
    shown.commit()
    assert await read(stream, 2) == ["a", "committed 1"]


async def test_a_stream_knows_where_it_stands() -> None:
    """A host keeps that cursor, and a new stream from there neither repeats nor skips."""
    shown = a_session()
    start = here(shown.observe())
    stream = followed(shown, start)
    assert stream.cursor is start
    shown.say("a", "b")
    await read(stream, 1)
    kept = SessionCursor(str(stream.cursor))
    assert await read(followed(shown, kept), 1) == ["b"]


async def test_a_reader_left_behind_is_given_a_snapshot_and_follows_on() -> None:
    """The gap says where it was and where it goes on; that place is the stream's own then."""
    shown = a_session(a_store(4))
    stream = followed(shown)
    shown.say("a")
    await read(stream, 1)
    asked = stream.cursor
    shown.say(*"bcde")
    shown.commit()
    item = await stream.__anext__()
    assert isinstance(item, ObservationGap)
    assert settled(item.observation.read_view) == list("abcde")
    assert item.gap.requested_cursor == asked
    assert item.gap.reason is LiveReplayGapReason.TRIMMED
    assert item.gap.latest_cursor == item.observation.cursor == stream.cursor
    assert item.gap.latest_revision == 1
    shown.say("f")
    assert await read(stream, 1) == ["f"]


async def test_a_gap_goes_on_from_its_snapshot_where_the_log_reaches_back_to_it() -> None:
    """Events after the commit are not in the snapshot, so they must not be skipped."""
    shown = a_session(a_store(4))
    start = here(shown.observe())
    shown.say(*"abcd")
    shown.commit()
    shown.say("e")
    assert await read(followed(shown, start), 2) == ["[a b c d]", "e"]


async def test_a_gap_within_a_long_turn_skips_what_cannot_be_told() -> None:
    """The log no longer reaches back to the snapshot: go on from its end, never in a circle."""
    shown = a_session(a_store(2))
    start = here(shown.observe())
    stream = followed(shown, start)
    shown.say(*"abc")
    assert await read(stream, 1) == ["[]"]
    shown.say("d")
    assert await read(stream, 1) == ["d"]


async def test_a_commit_that_the_log_lacks_is_a_gap() -> None:
    """Somebody else committed while the session was closed here: silence would hide it."""
    store = a_store()
    shown = a_session(store)
    observable = shown.observe()
    cursor = here(observable)
    shown.cell.release()
    del observable
    elsewhere = Shown(shown.cells, revision=3, committed=("a",))
    for found in (
        elsewhere.observe().resume_from_cursor(cursor),
        elsewhere.observe().subscribe_from_cursor(cursor),
    ):
        assert isinstance(found, SessionGap)
        assert found.gap.reason is LiveReplayGapReason.UNAVAILABLE
        assert found.gap.latest_revision == 3
    assert await read(followed(elsewhere, cursor), 1) == ["[a]"]


async def test_a_change_after_a_commit_that_the_log_lacks_does_not_stand_in_for_it() -> None:
    """It does not settle anything, so a reader who took it for the commit would show old rows."""
    shown = a_session()
    cursor = here(shown.observe())
    shown.cell.release()
    elsewhere = Shown(shown.cells, revision=3, committed=("a",))
    elsewhere.policy = another_model("larger")
    elsewhere.publish()
    assert await read(followed(elsewhere, cursor), 1) == ["[a]"]


async def test_a_cursor_from_before_a_restart_is_a_gap() -> None:
    """Its numbers count in a log that is gone."""
    old = a_session()
    old.say(*"ab")
    old.commit()
    new = Shown(a_session().cells, revision=1, committed=("a", "b"))
    new.say(*"cdefgh")
    assert await read(followed(new, here(old.observe())), 2) == ["[a b]", "c"]


@pytest.mark.parametrize("token", ["nonsense", "lashsc2:x:0:0:another", "lashsc1:0:0:another"])
async def test_a_cursor_that_cannot_be_used_is_an_error(token: str) -> None:
    """At once where the call answers; at the first read where it does not, and then for good."""
    shown = a_session()
    cursor = SessionCursor(token)
    for call in (shown.observe().resume_from_cursor, shown.observe().subscribe_from_cursor):
        with pytest.raises(EmbedError) as caught:
            call(cursor)
        assert caught.value.code == "live_replay"
        assert isinstance(caught.value.__cause__, LiveReplayCursorError)
        assert not caught.value.is_retryable
        assert not caught.value.is_terminal
    stream = shown.observe().subscribe_and_recover(cursor)
    with pytest.raises(EmbedError):
        await stream.__anext__()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_plain_subscription_says_that_it_lagged_and_reads_on() -> None:
    """For hosts that want to decide themselves what a loss means."""
    shown = a_session(a_store(2))
    subscription = subscribed(shown)
    shown.say(*"abc")
    with pytest.raises(EmbedError) as caught:
        await subscription.__anext__()
    assert isinstance(caught.value.__cause__, SubscriberLagged)
    assert caught.value.__cause__.skipped == 1
    assert [told(await subscription.next_event()) for _ in range(2)] == ["b", "c"]


async def test_a_gap_creates_no_subscription() -> None:
    """The host renders the snapshot first and subscribes from its cursor."""
    shown = a_session(a_store(2))
    start = here(shown.observe())
    shown.say(*"abc")
    found = shown.observe().subscribe_from_cursor(start)
    assert isinstance(found, SessionGap)
    again = shown.observe().subscribe_from_cursor(found.gap.latest_cursor)
    assert isinstance(again, SessionEventSubscription)
    await again.aclose()


async def test_when_the_log_is_closed_a_stream_reads_what_is_left_and_ends() -> None:
    """The core was closed under it: an error once, the end ever after."""
    store = a_store()
    shown = a_session(store)
    stream = followed(shown)
    shown.say("a")
    await read(stream, 1)
    shown.say("b")
    store.close()
    assert await read(stream, 1) == ["b"]
    with pytest.raises(EmbedError) as caught:
        await stream.__anext__()
    assert isinstance(caught.value.__cause__, LiveReplayClosed)
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_closing_a_stream_ends_a_read_in_another_task() -> None:
    """Twice is once; nothing is delivered afterwards."""
    shown = a_session()
    stream = followed(shown)
    seen = []

    async def reader() -> None:
        seen.extend([item async for item in stream])
        seen.append(None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await checkpoint()
        await stream.aclose()
        await stream.aclose()
        shown.say("late")
    assert seen == [None]
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_stream_closed_before_its_first_read_is_empty() -> None:
    """Early exit costs nothing and subscribes to nothing."""
    shown = a_session()
    async with followed(shown) as stream:
        pass
    shown.say("a")
    assert [item async for item in stream] == []


async def test_a_second_reader_of_one_stream_is_refused() -> None:
    """Each would see every other item; the first goes on undisturbed."""
    shown = a_session()
    stream = followed(shown)
    seen: list[str] = []

    async def reader() -> None:
        seen.extend(await read(stream, 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await checkpoint()
        with pytest.raises(RuntimeError, match="read already"):
            await stream.__anext__()
        shown.say("a")
    assert seen == ["a"]


@pytest.mark.parametrize("steps", range(6))
async def test_a_read_cancelled_at_any_step_loses_nothing(steps: int) -> None:
    """Before it waits, while it waits, in the moment it is woken, and after."""
    shown = a_session()
    stream = followed(shown)
    seen: list[str] = []

    async def reader() -> None:
        seen.extend(await read(stream, 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        for step in range(steps):
            if step == 2:
                shown.say("a", "b")
            await checkpoint()
        tasks.cancel_scope.cancel()
    if steps <= 2:
        shown.say("a", "b")
    assert seen + await read(stream, 2 - len(seen)) == ["a", "b"]


async def test_a_heartbeat_around_a_read_loses_nothing() -> None:
    """The usual way to keep a connection alive is a deadline on every read."""
    shown = a_session()
    stream = followed(shown)
    seen: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def reader() -> None:
            while len(seen) < 20:
                with anyio.move_on_after(0):
                    seen.extend(await read(stream, 1))
                await checkpoint()

        tasks.start_soon(reader)
        for n in range(20):
            shown.say(str(n))
            await checkpoint()
    assert seen == [str(n) for n in range(20)]


async def test_a_thousand_observers_each_see_everything_in_order() -> None:
    """Whether they read as it happens or come later; nobody slows the session down."""
    shown = a_session()
    start = here(shown.observe())
    seen: list[list[str]] = []

    async def reader() -> None:
        async with followed(shown, start) as stream:
            seen.append(await read(stream, 24))

    async with anyio.create_task_group() as tasks:
        for turn in range(4):
            for _ in range(250):
                tasks.start_soon(reader)
            for n in range(5):
                shown.say(f"{turn}.{n}")
                await checkpoint()
            shown.commit()
    expected = [
        word
        for turn in range(4)
        for word in (*(f"{turn}.{n}" for n in range(5)), f"committed {turn + 1}")
    ]
    assert len(seen) == 1_000
    assert all(words == expected for words in seen)


async def test_a_reader_woken_by_a_commit_finds_it_in_the_snapshot() -> None:
    """Nobody may hear of a commit and then read the state from before it."""
    shown = a_session()
    observable = shown.observe()
    views: list[list[str]] = []

    async def reader() -> None:
        stream = followed(shown)
        while True:
            await read(stream, 1)
            views.append(settled(observable.read_view()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await checkpoint()
        shown.said.append("a")
        shown.commit()
        for _ in range(3):
            await checkpoint()
        tasks.cancel_scope.cancel()
    assert views == [["a"]]


@pytest.mark.parametrize("watch", [followed, subscribed])
async def test_a_reader_alone_keeps_its_session_observed(
    watch: Callable[[Shown], SessionObservationStream | SessionEventSubscription],
) -> None:
    """A tab stays open while the session is parked and opened again by the next request."""
    shown = a_session()
    cells = shown.cells
    reader = watch(shown)
    shown.cell.release()
    del shown
    gc.collect()
    Shown(cells, revision=4, committed=("by another process",))
    item = await reader.__anext__()
    event = item.event if isinstance(item, ObservationEvent) else item
    assert isinstance(event, SessionObservationEvent)
    assert told(event) == "committed 4"


async def test_an_observer_keeps_no_transcript_that_was_read_again() -> None:
    """Opened again with nothing new in it, the session is held once and not twice."""
    shown = a_session()
    shown.say("a")
    shown.commit()
    observable = shown.observe()
    old = observable.read_view()
    shown.cell.release()
    again = Shown(shown.cells, revision=1, committed=("a",))
    assert observable.read_view() is not old
    assert observable.read_view() is again.observe().read_view()
    assert settled(observable.read_view()) == ["a"]


async def test_a_session_that_nobody_runs_or_observes_leaves_nothing() -> None:
    """A thousand parked sessions must not cost a thousand transcripts."""
    shown = a_session(a_store(max_resting_sessions=0))
    cells = shown.cells
    stream = followed(shown)
    shown.say("a")
    shown.commit()
    await read(stream, 1)
    await stream.aclose()
    said = shown.observe().read_view().messages[0].id
    assert in_memory(said)
    shown.cell.release()
    del shown, stream
    gc.collect()
    assert not in_memory(said)
    assert Shown(cells).observe().resume_from_cursor(here(Shown(cells).observe())) == Replayed(())
