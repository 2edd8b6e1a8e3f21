"""Coming to a turn by its id: its activities and its result, for whoever did not start it."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.models import DictatedProvider, StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import WatchedStores
from lash_runtime import (
    AssistantProseDelta,
    AttachedTurn,
    CoreClosed,
    EmbedError,
    LashCore,
    LashCoreBuilder,
    LashSession,
    RuntimeDiagnostic,
    RuntimeFailure,
    SessionClosed,
    SessionDeleted,
    StopReason,
    TurnActivity,
    TurnResult,
    TurnStream,
    tool,
)
from lash_runtime.observe import InMemoryLiveReplayStore
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.testing import (
    Call,
    ManualClock,
    RecordingClock,
    ScriptedProvider,
    TestProvider,
)

pytestmark = pytest.mark.anyio


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


def kinds(activities: list[TurnActivity]) -> list[str]:
    return [activity.event.type for activity in activities]


def texts(activities: list[TurnActivity]) -> list[str]:
    events = [activity.event for activity in activities]
    return [event.text for event in events if isinstance(event, AssistantProseDelta)]


def gaps(activities: list[TurnActivity]) -> list[str]:
    """The reasons of the gaps that were told of."""
    events = [activity.event for activity in activities]
    diagnostics = [event for event in events if isinstance(event, RuntimeDiagnostic)]
    assert {event.kind for event in diagnostics} <= {"activities_gap"}
    return [event.data["reason"] for event in diagnostics]


async def read(turn: AttachedTurn | TurnStream, count: int) -> list[TurnActivity]:
    return [await anext(turn) for _ in range(count)]


async def rest(turn: AttachedTurn | TurnStream) -> list[TurnActivity]:
    return [activity async for activity in turn]


def same(result: TurnResult, other: TurnResult) -> bool:
    """Whether both say the same of the turn."""
    return (
        result.turn_id == other.turn_id
        and result.outcome == other.outcome
        and result.usage == other.usage
        and result.execution == other.execution
        and result.errors == other.errors
        and [call.call_id for call in result.tool_calls]
        == [call.call_id for call in other.tool_calls]
    )


@asynccontextmanager
async def a_running_turn(
    session: LashSession, provider: Any, *, turn_id: str = "t-1", words: str = "Pack"
) -> AsyncIterator[TurnStream]:
    """A turn that has got as far as its model; its owner waits for it at the end of the block."""
    stream = session.turn(words).turn_id(turn_id).stream()
    await provider.entered.wait()
    try:
        yield stream
    finally:
        with suppress(EmbedError):
            await stream.finish()


# --- a turn that this core runs -----------------------------------------------------------------


async def test_a_running_turn_is_read_from_its_first_activity_on(anywhere: Place) -> None:
    """The second tab is opened in the middle of the answer, and shows all of it."""
    provider = DictatedProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        stream = session.turn("Pack").turn_id("t-1").stream()
        await provider.entered.wait()
        provider.say("Take ", "a ")
        await anyio.wait_all_tasks_blocked()
        async with session.attach("t-1") as attached:
            assert attached.turn_id == "t-1"
            early = await read(attached, 3)
            assert texts(early) == ["Take ", "a "]
            provider.say("coat.")
            early += await read(attached, 1)
            provider.done()
            seen = early + await rest(attached)
            result = await attached.finish()
        own = await rest(stream)
        assert seen == own
        assert texts(seen) == ["Take ", "a ", "coat."]
        assert result is await stream.finish()
        assert result.assistant_message == "Take a coat."
        assert lines(session) == ["user: Pack", "assistant: Take a coat."]


async def test_a_turn_in_line_is_read_when_it_begins(anywhere: Place) -> None:
    """Nothing of the turn before it is told, although both are of one session."""
    first, second = StallingProvider("one"), StallingProvider("two")
    async with a_core(anywhere, first) as core, core.session("s") as session:
        async with a_running_turn(session, first):
            waiting = session.turn("Unpack").turn_id("t-2").provider(second).stream()
            attached = session.attach("t-2")
            activities: list[TurnActivity] = []
            async with anyio.create_task_group() as readers:
                readers.start_soon(_collect, attached, activities)
                await anyio.wait_all_tasks_blocked()
                assert activities == []
                first.release.set()
                await second.entered.wait()
                second.release.set()
            assert activities == await rest(waiting)
            assert texts(activities) == ["two"]
            assert (await attached.finish()).assistant_message == "two"


async def _collect(turn: AttachedTurn | TurnStream, into: list[TurnActivity]) -> None:
    into.extend([activity async for activity in turn])


async def test_the_turn_of_another_handle_is_found(anywhere: Place) -> None:
    """Each request of a server opens the session for itself."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core:
        async with core.session("s") as session, core.session("s") as other:
            async with a_running_turn(session, provider):
                async with other.attach("t-1") as attached:
                    assert texts(await read(attached, 2)) == ["Coat."]
                    provider.release.set()
                    assert (await attached.finish()).assistant_message == "Coat."


async def test_the_turn_of_another_session_is_not_found(anywhere: Place) -> None:
    """A turn id belongs to its session."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core:
        async with core.session("s") as session, core.session("other") as other:
            async with a_running_turn(session, provider):
                with pytest.raises(RuntimeFailure) as raised:
                    await other.attach("t-1").finish()
                provider.release.set()
    assert raised.value.code == "unknown_turn"


@pytest.mark.parametrize("readers", [2, 10, 100])
async def test_all_who_attach_see_the_same(anywhere: Place, readers: int) -> None:
    """Early or late, each from its own task, whoever they are many."""
    provider = DictatedProvider()
    seen: list[list[TurnActivity]] = []
    results: list[TurnResult] = []

    async def follow(session: LashSession) -> None:
        async with session.attach("t-1") as attached:
            seen.append(await rest(attached))
            results.append(await attached.finish())

    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            async with anyio.create_task_group() as tasks:
                for number in range(readers):
                    provider.say(f"{number} ")
                    tasks.start_soon(follow, session)
                    await asyncio.sleep(0)
                mine: list[TurnActivity] = []
                tasks.start_soon(_collect, stream, mine)
                provider.done()
    assert len(seen) == readers
    assert all(activities == mine for activities in seen)
    assert all(result is results[0] for result in results)
    assert provider.calls == 1


async def test_the_turn_does_not_wait_for_whoever_is_attached(anywhere: Place) -> None:
    """A phone in a tunnel must not hold up the conversation."""
    provider = ScriptedProvider([Call.text("x" * 500, chunk=1)])
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        stream = session.turn("Pack").turn_id("t-1").stream()
        attached = session.attach("t-1")
        result = await stream.finish()
        assert result.is_success
        activities = await rest(attached)
        assert "".join(texts(activities)) == "x" * 500
        assert gaps(activities) == []


async def test_reading_while_somebody_else_reads_is_refused(anywhere: Place) -> None:
    """Two readers of one stream would get every other word. The result is for any number."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            attached = session.attach("t-1")
            await read(attached, 2)
            reading = asyncio.ensure_future(attached.next_activity())
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="already reading"):
                await attached.next_activity()
            finishing = [asyncio.ensure_future(attached.finish()) for _ in range(3)]
            assert await reading is None
            provider.release.set()
            results = await asyncio.gather(*finishing)
    assert results == [results[0]] * 3


async def test_a_cancelled_read_loses_nothing(anywhere: Place) -> None:
    """A deadline around every read is how a server sends its heartbeats."""
    provider = DictatedProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            attached = session.attach("t-1")
            await read(attached, 1)
            for word in ("a", "b", "c"):
                with anyio.move_on_after(0.001) as deadline:
                    await attached.next_activity()
                assert deadline.cancelled_caught
                reading = asyncio.ensure_future(attached.next_activity())
                await anyio.wait_all_tasks_blocked()
                # The word and the cancellation in one step of the loop.
                provider.say(word)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert texts(await read(attached, 1)) == [word]
            provider.done()
            assert texts(await rest(attached)) == []


# --- leaving ------------------------------------------------------------------------------------


async def _leave_by_task_cancel(attached: AttachedTurn) -> None:
    waiting = asyncio.ensure_future(attached.finish())
    await anyio.wait_all_tasks_blocked()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _leave_by_scope(attached: AttachedTurn) -> None:
    with anyio.move_on_after(0.01) as scope:
        await rest(attached)
    assert scope.cancelled_caught


async def _leave_the_block(attached: AttachedTurn) -> None:
    async with attached:
        await read(attached, 1)
    assert await attached.next_activity() is None


async def _leave_the_block_by_an_error(attached: AttachedTurn) -> None:
    with pytest.raises(ZeroDivisionError):
        async with attached:
            raise ZeroDivisionError


async def _leave_by_aclose_from_another_task(attached: AttachedTurn) -> None:
    reading = asyncio.ensure_future(rest(attached))
    await anyio.wait_all_tasks_blocked()
    await attached.aclose()
    await attached.aclose()
    assert len(await reading) == 2


async def _leave_by_dropping(attached: AttachedTurn) -> None:
    await read(attached, 1)


LEAVING = [
    _leave_by_task_cancel,
    _leave_by_scope,
    _leave_the_block,
    _leave_the_block_by_an_error,
    _leave_by_aclose_from_another_task,
    _leave_by_dropping,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__.strip("_"))
async def test_leaving_detaches_and_does_nothing_else(
    anywhere: Place, leave: Any, recwarn: pytest.WarningsRecorder
) -> None:
    """Who closed the second tab has not stopped the first one's answer."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            await leave(session.attach("t-1"))
            gc.collect()
            assert provider.cut_off == 0
            provider.release.set()
            assert (await stream.finish()).assistant_message == "Coat."
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert [str(warning.message) for warning in recwarn] == []


async def test_the_result_can_be_had_after_reading_was_given_up(anywhere: Place) -> None:
    """To close is to stop reading, not to be refused the answer."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            attached = session.attach("t-1")
            await attached.aclose()
            assert await rest(attached) == []
            provider.release.set()
            result = await attached.finish()
            assert result is await stream.finish()
            assert result is await attached.finish()


async def test_readers_that_came_and_went_leave_nothing_behind(anywhere: Place) -> None:
    """One turn is attached to and left a thousand times, closed or simply dropped."""
    provider = StallingProvider("Coat.")
    readers: list[weakref.ref[Any]] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            before = len(asyncio.all_tasks())
            for number in range(1000):
                attached = session.attach("t-1")
                readers.append(weakref.ref(attached))
                await read(attached, 1)
                if number % 2:
                    await attached.aclose()
            del attached
            gc.collect()
            assert [reader for reader in readers if reader() is not None] == []
            assert len(asyncio.all_tasks()) == before
            provider.release.set()


async def test_attaching_keeps_nobody_from_closing_the_session(anywhere: Place) -> None:
    """It is no turn of the handle. What was attached goes on, as an observer does."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            other = await core.session("s").open()
            attached, waiting = other.attach("t-1"), other.attach("t-1")
            finishing = asyncio.ensure_future(waiting.finish())
            await read(attached, 1)
            await other.close()
            with pytest.raises(SessionClosed):
                other.attach("t-1")
            assert texts(await read(attached, 1)) == ["Coat."]
            provider.release.set()
            await rest(attached)
            assert (await attached.finish()).assistant_message == "Coat."
            assert (await finishing).assistant_message == "Coat."


async def test_attaching_keeps_nobody_from_parking_the_session(place: Place) -> None:
    """Also where the turn is over and only its row is left to tell of it."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.turn("x").turn_id("t-1").run()
        attached = session.attach("t-1")
        await session.park()
        assert await rest(attached) == []
        assert (await attached.finish()).assistant_message == "yes"


# --- a turn that is over ------------------------------------------------------------------------


@tool
async def weather(city: str) -> str:
    """Look up the weather."""
    return f"sunny in {city}"


async def test_a_turn_that_is_over_gives_its_result_at_once(place: Place) -> None:
    """From this core and from the next one, without a model, as often as it is asked for."""
    model = ScriptedProvider(
        [Call.tool("call-1", "weather", {"city": "Oslo"}), Call.text("Coat.", chunk=2)]
    )
    async with a_core(place, model, weather) as core, core.session("s") as session:
        first = (await session.turn("Pack").turn_id("t-1").run()).result
        for _ in range(2):
            async with session.attach("t-1") as attached:
                assert await rest(attached) == []
                assert same(await attached.finish(), first)
    silent = ScriptedProvider()
    async with a_core(place, silent) as core, core.session("s") as session:
        attached = session.attach("t-1")
        result = await attached.finish()
        assert same(result, first)
        assert result.tool_calls[0].output.value_for_projection() == "sunny in Oslo"
        assert await attached.finish() is result
        assert await rest(attached) == []
    assert silent.calls == 0


async def test_an_older_turn_gives_its_own_answer(place: Place) -> None:
    """And the session as it is now, for it has gone on since."""
    model = ScriptedProvider([Call.text("one"), Call.text("two")])
    async with a_core(place, model) as core, core.session("s") as session:
        await session.turn("1").turn_id("t-1").run()
        await session.turn("2").turn_id("t-2").run()
        result = await session.attach("t-1").finish()
        assert result.assistant_message == "one"
        assert len(result.state.messages) == 4


async def test_a_cancelled_turn_says_so(place: Place) -> None:
    """It is over like any other: its outcome says how."""
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            attached = session.attach("t-1")
            session.cancel_running_turns()
            assert (await attached.finish()).stop_reason is StopReason.CANCELLED
            await stream.finish()
        again = await session.attach("t-1").finish()
        assert again.stop_reason is StopReason.CANCELLED


async def test_an_interrupted_turn_gives_exactly_what_is_stored(unjournaled: Place) -> None:
    """Its core was closed; the question stays, and nobody runs it again."""
    place = unjournaled
    provider = StallingProvider("Take a c")
    with pytest.raises(RuntimeFailure):
        async with a_core(place, provider) as core, core.session("s") as session:
            stream = session.turn("Pack").turn_id("t-1").stream()
            await provider.entered.wait()
            await core.aclose()
            await stream.finish()
    silent = ScriptedProvider()
    async with a_core(place, silent) as core, core.session("s") as session:
        async with session.attach("t-1") as attached:
            assert await rest(attached) == []
            result = await attached.finish()
        assert result.stop_reason is StopReason.INTERRUPTED
        assert lines(session) == ["user: Pack"]
    assert silent.calls == 0


def broken_once(place: Place, builder: LashCoreBuilder) -> LashCore:
    """A core whose first turn breaks when it is about to be committed."""
    broken = False

    async def break_once(name: str) -> None:
        nonlocal broken
        if name == "commit_runtime_state" and not broken:
            broken = True
            raise ZeroDivisionError("out of order")

    storage = place.storage()
    return builder.storage(storage).store_factory(WatchedStores(storage, break_once)).build()


async def test_a_failed_turn_raises_what_it_has_failed_with(place: Place) -> None:
    """For those who waited for it, and for those who come later."""
    codes = []
    async with running(broken_once(place, place.builder(yes()))) as core:
        async with core.session("s") as session:
            stream = session.turn("Pack").turn_id("t-1").stream()
            attached = session.attach("t-1")
            assert kinds(await read(attached, 1)) == ["model_request_started"]
            for failing in (stream.finish(), rest(attached), attached.finish()):
                with pytest.raises(RuntimeFailure, match="out of order") as raised:
                    await failing
                codes.append(raised.value.code)
    async with a_core(place, yes()) as core, core.session("s") as session:
        attached = session.attach("t-1")
        for failing in (attached.__anext__, attached.next_activity, attached.finish):
            with pytest.raises(RuntimeFailure, match="out of order") as raised:
                await failing()
            codes.append(raised.value.code)
    assert codes == ["turn_failed"] * 6


# --- a turn that nobody knows -------------------------------------------------------------------


async def test_an_unknown_turn_is_an_error_that_says_what_to_do(place: Place) -> None:
    """At whichever door: the block, the iteration, the result. Later it may be known."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        attached = session.attach("t-1")
        for door in (attached.__aenter__, attached.__anext__, attached.finish):
            with pytest.raises(RuntimeFailure, match="run it under that id") as raised:
                await door()
            assert raised.value.code == "unknown_turn"
            assert not raised.value.is_terminal
        await session.turn("Pack").turn_id("t-1").run()
        assert (await attached.finish()).assistant_message == "yes"


async def test_without_a_store_a_turn_is_known_until_it_is_over() -> None:
    """Nothing is kept of it afterwards; who was attached by then has the result."""
    provider = StallingProvider("Coat.")
    nowhere = Place("nothing", Path())
    async with a_core(nowhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            attached = session.attach("t-1")
            provider.release.set()
        assert (await attached.finish()).assistant_message == "Coat."
        with pytest.raises(RuntimeFailure, match="only until it is over") as raised:
            await session.attach("t-1").finish()
        assert raised.value.code == "unknown_turn"
        # The same id names another turn, and nothing is told of the first.
        again = session.turn("Unpack").turn_id("t-1").stream()
        activities = await rest(session.attach("t-1"))
        assert activities == await rest(again)


async def test_a_turn_that_was_withdrawn_from_the_line_is_unknown(anywhere: Place) -> None:
    """Its caller has left before it began, so there is no such turn and never was."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            caller = asyncio.ensure_future(session.turn("Unpack").turn_id("t-2").run())
            await anyio.wait_all_tasks_blocked()
            reader, waiter = session.attach("t-2"), session.attach("t-2")
            reading = asyncio.ensure_future(rest(reader))
            waiting = asyncio.ensure_future(waiter.finish())
            await anyio.wait_all_tasks_blocked()
            caller.cancel()
            for each in (reading, waiting):
                with pytest.raises(RuntimeFailure) as raised:
                    await each
                assert raised.value.code == "unknown_turn"
            provider.release.set()


async def test_a_turn_that_another_caller_takes_over_is_followed(place: Place) -> None:
    """Whoever is attached is attached to the turn, not to the caller who has left."""
    first = StallingProvider("Coat.")
    async with a_core(place, first) as core, core.session("s") as session:
        async with a_running_turn(session, first):
            turn = session.turn("Unpack").turn_id("t-2").provider(yes())
            callers = [asyncio.ensure_future(turn.run()) for _ in range(2)]
            await anyio.wait_all_tasks_blocked()
            attached = session.attach("t-2")
            reading = asyncio.ensure_future(rest(attached))
            await anyio.wait_all_tasks_blocked()
            callers[0].cancel()
            await anyio.wait_all_tasks_blocked()
            first.release.set()
            activities = await reading
            assert list((await callers[1]).activities) == activities
            assert (await attached.finish()).assistant_message == "yes"


@pytest.mark.parametrize("turn_id", ["", " ", "half a \ud83c pair", "a:agent-frame:1"])
async def test_an_id_that_cannot_be_one_is_refused_at_once(place: Place, turn_id: str) -> None:
    """As by the setter of a turn."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        with pytest.raises(EmbedError) as raised:
            session.attach(turn_id)
    assert raised.value.code in {"missing_execution_scope_id", "invalid_turn_id"}


async def test_a_session_that_starts_over_does_not_tell_of_the_old_history(place: Place) -> None:
    """As a turn that is asked for again is refused there; its own first turn is told."""
    async with a_core(place, yes()) as core:
        async with core.session("s") as session:
            await session.turn("old").turn_id("t-1").run()
        async with await core.session("s").open_fresh() as fresh:
            with pytest.raises(RuntimeFailure) as raised:
                await fresh.attach("t-1").finish()
            assert raised.value.code == "turn_of_replaced_history"
            stream = fresh.turn("new").turn_id("t-2").stream()
            attached = fresh.attach("t-2")
            assert await rest(attached) == await rest(stream)
            assert (await attached.finish()).assistant_message == "yes"
            with pytest.raises(RuntimeFailure) as raised:
                await fresh.attach("t-1").finish()


# --- what is lost, and what goes wrong ----------------------------------------------------------


async def test_a_beginning_that_the_log_has_dropped_is_said_to_be_missing(place: Place) -> None:
    """The rest is told, and the result is whole."""
    provider = DictatedProvider()
    replay = InMemoryLiveReplayStore.with_bounds(8, 120.0)
    core = place.builder(provider).live_replay_store(replay).build()
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider):
            provider.say(*"abcdefghijkl")
            await anyio.wait_all_tasks_blocked()
            attached = session.attach("t-1")
            provider.done()
            activities = await rest(attached)
            assert gaps(activities[:1]) == ["trimmed"]
            assert texts(activities) == list("efghijkl")
            assert (await attached.finish()).assistant_message == "abcdefghijkl"


async def test_a_beginning_that_is_too_old_is_said_to_be_missing(place: Place) -> None:
    """A long turn: the log keeps the last two minutes of it."""
    provider, clock = DictatedProvider(), ManualClock()
    replay = InMemoryLiveReplayStore.with_bounds(100, 120.0, clock=clock)
    core = place.builder(provider).live_replay_store(replay).build()
    async with running(core), core.session("s") as session:
        await session.turn("before").provider(yes()).run()
        async with a_running_turn(session, provider):
            for word in "abc":
                provider.say(word)
                await anyio.wait_all_tasks_blocked()
                clock.advance(50.0)
            clock.advance(20.0)
            late = session.attach("t-1")
            provider.done()
            activities = await rest(late)
            assert gaps(activities[:1]) == ["trimmed"]
            assert texts(activities) == ["b", "c"]


async def test_what_other_turns_have_lost_is_no_gap(place: Place) -> None:
    """A turn whose own activities are all there is whole, however old the session is."""
    provider, clock = DictatedProvider(), ManualClock()
    replay = InMemoryLiveReplayStore.with_bounds(100, 120.0, clock=clock)
    core = broken_once(place, place.builder(provider).live_replay_store(replay))
    async with running(core), core.session("s") as session:
        with pytest.raises(RuntimeFailure):
            await session.turn("fails").provider(yes()).run()
        await session.turn("before").provider(yes()).run()
        clock.advance(1000.0)
        async with a_running_turn(session, provider) as stream:
            provider.say("a")
            attached = session.attach("t-1")
            provider.done()
            activities = await rest(attached)
            assert (activities, gaps(activities)) == (await rest(stream), [])


async def test_a_reader_that_falls_behind_is_told_so_and_reads_on(place: Place) -> None:
    """It is the reader's loss; the turn and the other readers are as they were."""
    provider = DictatedProvider()
    replay = InMemoryLiveReplayStore.with_bounds(4, 120.0)
    core = place.builder(provider).live_replay_store(replay).build()
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider):
            attached = session.attach("t-1")
            provider.say(*"abcdefgh")
            await anyio.wait_all_tasks_blocked()
            begun = await read(attached, 2)
            assert (kinds(begun[:1]), gaps(begun)) == (["model_request_started"], ["lagged"])
            assert texts(await read(attached, 4)) == list("efgh")
            provider.say("i")
            assert texts(await read(attached, 1)) == ["i"]
            provider.done()
            await rest(attached)


class _DeadLog:
    """A live log whose network is down."""

    def __init__(self) -> None:
        self._store = InMemoryLiveReplayStore()
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down and name != "current_cursor":  # which never raises
            raise OSError("network is down")
        return getattr(self._store, name)


@pytest.mark.parametrize("when", ["before", "while"])
async def test_a_log_that_fails_costs_activities_and_not_the_result(
    place: Place, when: str
) -> None:
    """The stream says that something is missing and ends with the turn."""
    provider, log = DictatedProvider(), _DeadLog()
    core = place.builder(provider).live_replay_store(log).build()  # type: ignore[arg-type]
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider):
            log.down = when == "before"
            attached = session.attach("t-1")
            log.down = True
            reading = asyncio.ensure_future(rest(attached))
            await anyio.wait_all_tasks_blocked()
            provider.say("Coat.")
            provider.done()
            activities = await reading
            assert gaps(activities) == (["unavailable"] if when == "before" else [])
            assert (await attached.finish()).assistant_message == "Coat."
        log.down = False


async def test_what_a_running_turn_has_stored_of_itself_does_not_show(place: Place) -> None:
    """To ask for the result of an older turn moves nothing on in the middle of the next."""
    model = StallingProvider("Coat.")
    first = ScriptedProvider([Call.tool("call-1", "weather", {"city": "Oslo"})])
    calls = 0

    async def answer(request: Any) -> Any:
        nonlocal calls
        calls += 1
        return await (first if calls == 1 else model).complete(request)

    async with a_core(place, yes(), weather) as core, core.session("s") as session:
        await session.turn("old").turn_id("t-1").run()
        stream = session.turn("Pack").provider(TestProvider(answer, kind="scripted")).stream()
        await model.entered.wait()
        for handle in (session, await core.session("s").open()):
            result = await handle.attach("t-1").finish()
            assert result.assistant_message == "yes"
        assert lines(session) == ["user: old", "assistant: yes"]
        await handle.close()
        model.release.set()
        assert (await stream.finish()).is_success


async def test_closing_the_core_ends_whoever_is_attached(anywhere: Place) -> None:
    """As it ends the turn: interrupted, to be asked for again."""
    provider = StallingProvider("Take a c")
    core = anywhere.builder(provider).build()
    async with running(core):
        session = await core.session("s").open()
        stream = session.turn("Pack").turn_id("t-1").stream()
        await provider.entered.wait()
        attached, waiting = session.attach("t-1"), session.attach("t-1")
        reading = asyncio.ensure_future(rest(attached))
        finishing = asyncio.ensure_future(waiting.finish())
        await anyio.wait_all_tasks_blocked()
        await core.aclose()
        for each in (reading, finishing, attached.finish(), stream.finish()):
            with pytest.raises(RuntimeFailure) as raised:
                await each
            assert raised.value.code == "turn_interrupted"


async def test_a_closed_core_cannot_tell_what_became_of_a_turn(place: Place) -> None:
    """Neither of one that it has not looked for yet."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        await session.turn("x").turn_id("t-1").run()
        attached, known = session.attach("t-1"), session.attach("t-1")
        result = await known.finish()
    with pytest.raises(CoreClosed):
        await attached.finish()
    assert await known.finish() is result


async def test_deleting_the_session_ends_whoever_is_attached(place: Place) -> None:
    """To a turn that runs, and to one that is over."""
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core:
        session = await core.session("s").open()
        await session.turn("x").turn_id("t-0").provider(yes()).run()
        over = session.attach("t-0")
        stream = session.turn("Pack").turn_id("t-1").stream()
        await provider.entered.wait()
        attached = session.attach("t-1")
        reading = asyncio.ensure_future(rest(attached))
        await anyio.wait_all_tasks_blocked()
        await core.delete_session("s")
        for each in (reading, attached.finish(), over.finish(), stream.finish()):
            with pytest.raises(SessionDeleted):
                await each
        async with core.session("s") as next_one:
            with pytest.raises(RuntimeFailure) as raised:
                await next_one.attach("t-1").finish()
            assert raised.value.code == "unknown_turn"


async def test_a_store_that_fails_is_an_error_of_ours(place: Place) -> None:
    """And asking again, once it is mended, gives the result."""
    failing = False

    async def fail(name: str) -> None:
        if failing and name == "load_turn":
            raise StoreBackendError("disk on fire")

    storage = place.storage()
    core = place.builder(yes()).storage(storage).store_factory(WatchedStores(storage, fail)).build()
    async with running(core), core.session("s") as session:
        await session.turn("x").turn_id("t-1").run()
        attached = session.attach("t-1")
        failing = True
        with pytest.raises(RuntimeFailure, match="disk on fire") as raised:
            await attached.finish()
        assert raised.value.code == "session_head_refresh"
        failing = False
        assert (await attached.finish()).assistant_message == "yes"


# --- a turn that another core runs --------------------------------------------------------------


async def looked(clock: RecordingClock, times: int) -> None:
    """Return when the core of that clock has slept so often."""
    while len(clock.sleeps) < times:
        await asyncio.sleep(0)


async def test_a_turn_of_another_core_is_waited_for(on_disk: Place) -> None:
    """There is nothing to read; the stream ends when the turn does, and then there is a result."""
    provider, silent, clock = StallingProvider("Coat."), ScriptedProvider(), RecordingClock()
    waiting = on_disk.builder(silent).clock(clock).recover(False).build()
    async with a_core(on_disk, provider) as core, running(waiting) as elsewhere:
        async with core.session("s") as session, elsewhere.session("s") as other:
            async with a_running_turn(session, provider) as stream:
                attached = other.attach("t-1")
                reading = asyncio.ensure_future(rest(attached))
                await looked(clock, 8)
                finishing = [asyncio.ensure_future(other.attach("t-1").finish()) for _ in range(10)]
                await looked(clock, 80)
                assert not any(each.done() for each in (reading, *finishing))
                provider.release.set()
                result = await stream.finish()
                assert await reading == []
                assert same(await attached.finish(), result)
                for each in finishing:
                    assert same(await each, result)
            assert lines(other) == ["user: Pack", "assistant: Coat."]
    assert silent.calls == 0


@pytest.mark.parametrize("leave", LEAVING[:2], ids=lambda leave: leave.__name__.strip("_"))
async def test_leaving_a_turn_of_another_core_leaves_no_task(on_disk: Place, leave: Any) -> None:
    """The wait ends with whoever waits."""
    provider = StallingProvider("Coat.")
    async with a_core(on_disk, provider) as core, a_core(on_disk, yes()) as elsewhere:
        async with core.session("s") as session, elsewhere.session("s") as other:
            async with a_running_turn(session, provider) as stream:
                await leave(other.attach("t-1"))
                closing = other.attach("t-1")
                reading = asyncio.ensure_future(rest(closing))
                await anyio.wait_all_tasks_blocked()
                await closing.aclose()
                assert await reading == []
                await anyio.wait_all_tasks_blocked()
                names = {task.get_name() for task in asyncio.all_tasks()}
                assert not [name for name in names if name.startswith("lash-attached")]
                provider.release.set()
                assert (await stream.finish()).is_success


async def test_closing_the_core_ends_the_wait_for_another(on_disk: Place) -> None:
    """At once, and not when the next look is due."""
    provider = StallingProvider("Coat.")
    async with a_core(on_disk, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            async with a_core(on_disk, yes()) as elsewhere:
                other = await elsewhere.session("s").open()
                reading = asyncio.ensure_future(rest(other.attach("t-1")))
                finishing = asyncio.ensure_future(other.attach("t-1").finish())
                await anyio.wait_all_tasks_blocked()
            for each in (reading, finishing):
                with pytest.raises(CoreClosed):
                    await each
            provider.release.set()


async def test_deleting_the_session_ends_the_wait_for_another_core(on_disk: Place) -> None:
    """Whichever core has deleted it."""
    provider = StallingProvider("Coat.")
    async with a_core(on_disk, provider) as core, a_core(on_disk, yes()) as elsewhere:
        session = await core.session("s").open()
        other = await elsewhere.session("s").open()
        stream = session.turn("Pack").turn_id("t-1").stream()
        await provider.entered.wait()
        finishing = asyncio.ensure_future(other.attach("t-1").finish())
        await anyio.wait_all_tasks_blocked()
        await core.delete_session("s")
        for each in (finishing, stream.finish(), other.attach("t-1").finish()):
            with pytest.raises(SessionDeleted):
                await each
        with pytest.raises(SessionDeleted):
            await other.turn("x").run()


async def _abandoned(place: Place, provider: StallingProvider, core: LashCore) -> LashSession:
    """A session, open in `core`, whose turn another core has begun and left."""
    first = place.builder(provider).build()
    async with running(first), first.session("s") as session:
        stream = session.turn("Pack").turn_id("t-1").stream()
        await provider.entered.wait()
        opened = await core.session("s").open()
        await first.aclose()
        with pytest.raises(RuntimeFailure):
            await stream.finish()
    return opened


@pytest.mark.parametrize("recovers", [True, False])
async def test_a_turn_whose_owner_is_gone_is_finished_for_who_waits_for_it(
    on_disk: Place, recovers: bool
) -> None:
    """By the core's recovery, or else by whoever waits."""
    async with running(on_disk.builder(yes()).recover(recovers).build()) as core:
        session = await _abandoned(on_disk, StallingProvider("Take a c"), core)
        async with session:
            result = await session.attach("t-1").finish()
            assert result.assistant_message == "yes"
        async with core.session("s") as session:
            assert lines(session) == ["user: Pack", "assistant: yes"]


async def test_a_turn_whose_owner_is_gone_is_closed_by_who_waits_for_it(database: Path) -> None:
    """Nobody else might come; and whoever is attached gets exactly what is stored."""
    on_disk = Place("inline", database)
    async with a_core(on_disk, yes()) as core:
        session = await _abandoned(on_disk, StallingProvider("Take a c"), core)
        async with session:
            async with session.attach("t-1") as attached:
                assert await rest(attached) == []
                result = await attached.finish()
            assert result.stop_reason is StopReason.INTERRUPTED
            assert lines(session) == ["user: Pack"]
            await session.turn("Still here?").run()
            assert lines(session)[1:] == ["user: Still here?", "assistant: yes"]


async def test_waiting_for_a_living_owner_takes_nothing_from_it(on_disk: Place) -> None:
    """However often it is asked whether the owner lives, the turn is stored and the next begins."""
    provider, clock = StallingProvider("Coat."), RecordingClock()
    waiting = on_disk.builder(yes()).clock(clock).recover(False).build()
    async with a_core(on_disk, provider) as core, running(waiting) as elsewhere:
        async with core.session("s") as session, elsewhere.session("s") as other:
            async with a_running_turn(session, provider) as stream:
                finishing = asyncio.ensure_future(other.attach("t-1").finish())
                await looked(clock, 100)
                provider.release.set()
                assert (await stream.finish()).is_success
            assert (await finishing).assistant_message == "Coat."
            assert (await session.turn("next").provider(yes()).run()).is_success
