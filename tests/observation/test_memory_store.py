"""What the log in memory gives up, and what it keeps for those who still need it."""

import asyncio
import gc
import threading
import weakref
from datetime import timedelta

import anyio
import pytest
from anyio import to_thread

from lash_runtime.observe import (
    Gap,
    InMemoryLiveReplayStore,
    InMemoryLiveReplayStoreConfig,
    LiveReplayClosed,
    LiveReplayGapReason,
    Replayed,
    SessionCursor,
    SessionRevision,
    Subscribed,
    TurnActivityPayload,
)
from lash_runtime.testing import ManualClock
from observation.showing import a_store, an_activity

pytestmark = pytest.mark.anyio

R0 = SessionRevision(0)


class Payload(TurnActivityPayload):
    """A payload whose end can be seen."""

    __slots__ = ("__weakref__",)


def tell(
    store: InMemoryLiveReplayStore, session_id: str
) -> "tuple[SessionCursor, weakref.ref[Payload]]":
    payload = Payload(an_activity("a"))
    return store.append(session_id, R0, payload).cursor, weakref.ref(payload)


def replays(store: InMemoryLiveReplayStore, cursor: SessionCursor) -> bool:
    return isinstance(store.replay_after_cursor(cursor), Replayed)


def test_only_so_many_sessions_at_rest_keep_their_events() -> None:
    """The latest to come to rest; the others' cursors become gaps, their memory is free."""
    store = a_store(max_resting_sessions=2)
    starts = {name: store.current_cursor(name, R0) for name in "abc"}
    payloads = {name: tell(store, name)[1] for name in "abc"}
    for name in "abc":
        store.rest_session(name)
    gc.collect()
    assert {name: replays(store, starts[name]) for name in "abc"} == {
        "a": False,
        "b": True,
        "c": True,
    }
    assert payloads["a"]() is None
    assert payloads["b"]() is not None


def test_a_session_that_is_run_again_is_not_at_rest() -> None:
    """It must not lose its log to later ones that are."""
    store = a_store(max_resting_sessions=1)
    start = store.current_cursor("a", R0)
    tell(store, "a")
    store.rest_session("a")
    tell(store, "a")
    for name in "bc":
        tell(store, name)
        store.rest_session(name)
    assert replays(store, start)


def test_a_session_at_rest_with_a_reader_keeps_its_log() -> None:
    """Giving it up would leave the reader listening to nothing for ever."""
    store = a_store(max_resting_sessions=0)
    found = store.subscribe_after_cursor(store.current_cursor("a", R0))
    assert isinstance(found, Subscribed)
    start = store.current_cursor("a", R0)
    tell(store, "a")
    store.rest_session("a")
    assert replays(store, start)
    del found
    gc.collect()
    store.rest_session("a")
    assert not replays(store, start)


def test_a_log_that_was_given_up_never_counts_the_same_again() -> None:
    """An old cursor must not fit into the new log of the same session."""
    store = a_store(max_resting_sessions=0)
    old = [tell(store, "a")[0] for _ in range(3)]
    store.rest_session("a")
    assert store.replay_after_cursor(old[0]) == Gap(LiveReplayGapReason.TRIMMED)
    assert store.replay_after_cursor(old[2]) == Replayed(())
    new, _ = tell(store, "a")
    assert new not in old
    assert store.replay_after_cursor(old[0]) == Gap(LiveReplayGapReason.TRIMMED)


def test_sweeping_frees_what_is_too_old() -> None:
    """Of every session, also those that nobody touches any more."""
    clock = ManualClock()
    store = a_store(clock=clock)
    _, payload = tell(store, "a")
    cursor, _ = tell(store, "a")
    clock.advance(121)
    store.sweep()
    gc.collect()
    assert payload() is None
    assert replays(store, cursor)


def test_the_store_sweeps_by_itself_as_events_come_in() -> None:
    """A busy core pays its memory back without anyone asking."""
    clock = ManualClock()
    store = a_store(clock=clock)
    payloads = [tell(store, f"quiet-{n}")[1] for n in range(50)]
    clock.advance(121)
    for _ in range(1_000):
        tell(store, "busy")
    gc.collect()
    assert [payload() for payload in payloads] == [None] * 50


def test_a_closed_store_answers_nobody() -> None:
    """Twice is once; only the current cursor never raises."""
    store = a_store()
    cursor, _ = tell(store, "a")
    store.close()
    store.close()
    for call in (store.replay_after_cursor, store.subscribe_after_cursor):
        with pytest.raises(LiveReplayClosed):
            call(cursor)
    with pytest.raises(LiveReplayClosed):
        tell(store, "a")
    assert store.current_cursor("a", R0).parse().session_id == "a"


def test_an_age_may_be_a_duration_or_seconds() -> None:
    """Both are what Python programs hand around."""
    for age in (timedelta(minutes=2), 120, 120.0):
        assert InMemoryLiveReplayStoreConfig(max_age=age).max_age_s == 120.0


def test_two_stores_never_share_an_incarnation() -> None:
    """That is what keeps a cursor from before a restart apart."""
    one, other = a_store(), a_store()
    cursor, _ = tell(one, "a")
    tell(other, "a")
    assert other.replay_after_cursor(cursor) == Gap(LiveReplayGapReason.UNAVAILABLE)


async def test_readers_in_other_event_loops_are_woken() -> None:
    """One store may serve several loops, each in its own thread."""
    store = a_store()
    start = store.current_cursor("s", R0)
    reading = threading.Barrier(3)
    seen: list[list[int]] = []

    async def reader() -> None:
        found = store.subscribe_after_cursor(start)
        assert isinstance(found, Subscribed)
        asyncio.get_running_loop().call_soon(reading.wait)
        seen.append([(await found.subscription.__anext__()).position for _ in range(100)])

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(to_thread.run_sync, asyncio.run, reader())
        await to_thread.run_sync(reading.wait)
        for _ in range(100):
            tell(store, "s")
    assert seen == [list(range(1, 101))] * 2


async def test_reads_that_were_cancelled_leave_nothing_behind() -> None:
    """A heartbeat cancels a read every few seconds, in a session where nothing happens."""
    store = a_store()
    found = store.subscribe_after_cursor(store.current_cursor("s", R0))
    assert isinstance(found, Subscribed)

    def futures() -> int:
        gc.collect()
        return sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects())

    before = futures()
    for _ in range(100):
        with anyio.move_on_after(0):
            await found.subscription.__anext__()
    assert futures() - before < 10


async def test_a_reader_whose_loop_is_gone_is_forgotten() -> None:
    """A thread that ended in the middle of a read must not break the publisher."""
    store = a_store()
    start = store.current_cursor("s", R0)

    def abandoned() -> None:
        loop = asyncio.new_event_loop()
        found = store.subscribe_after_cursor(start)
        assert isinstance(found, Subscribed)
        task = loop.create_task(found.subscription.next_event())
        loop.run_until_complete(asyncio.sleep(0))
        kept.append((loop, task))
        loop.close()

    kept: list[object] = []
    await to_thread.run_sync(abandoned)
    tell(store, "s")
    assert store.current_cursor("s", R0).parse().position == 1
