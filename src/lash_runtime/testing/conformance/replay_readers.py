"""The live log's readers: what those may rely on who stay and read as it is written."""

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from ...ports.replay import LiveReplayClosed, LiveReplayStore, SubscriberLagged
from ...ports.session_cursor import SessionCursor
from ..clocks import ManualClock
from ._replay_case import (
    MAX_AGE_S,
    R0,
    ReplayCase,
    ReplayStoreFactory,
    follow,
    read,
    reads_nothing,
    says,
    tell,
    text_of,
)


class ReplayReadersConformance(ReplayCase):
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
