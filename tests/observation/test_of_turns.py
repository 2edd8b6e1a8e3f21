"""Observation of real turns, as a host uses it, over every storage."""

from pathlib import Path

import anyio
import pytest

from facade.models import StallingProvider
from facade.places import Place, a_core
from lash_runtime import EmbedError, LashSession
from lash_runtime.model.activity import AssistantProseDelta
from lash_runtime.observe import (
    CommittedPayload,
    LiveReplayClosed,
    ObservableSession,
    ObservationEvent,
    Replayed,
    SessionCursor,
    SessionObservationEvent,
    SessionObservationStream,
    TurnActivityPayload,
)
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Every storage that ships."""
    return Place(request.param, tmp_path / "agents.db")


def start_of(observable: ObservableSession) -> SessionCursor:
    return observable.current_observation().cursor


async def until_committed(stream: SessionObservationStream) -> list[SessionObservationEvent]:
    """What is told up to the next commit, which is the last of them."""
    events = []
    async for item in stream:
        assert isinstance(item, ObservationEvent)
        events.append(item.event)
        if isinstance(item.event.payload, CommittedPayload):
            break
    return events


def prose(events: list[SessionObservationEvent]) -> str:
    """The assistant's text as it was streamed."""
    return "".join(
        event.payload.activity.event.text
        for event in events
        if isinstance(event.payload, TurnActivityPayload)
        and isinstance(event.payload.activity.event, AssistantProseDelta)
    )


def said(session: LashSession | ObservableSession) -> list[str]:
    return [part.content for message in session.read_view().messages for part in message.parts]


async def test_an_observer_sees_what_the_caller_sees_then_the_commit(place: Place) -> None:
    """The same activities in the same order, each under the turn's id."""
    model = ScriptedProvider([Call.text("Take a coat.", chunk=3)])
    async with a_core(place, model) as core, core.session("s") as session:
        observable = session.observe()
        stream = observable.subscribe_and_recover(start_of(observable))
        output = await session.turn("Oslo?").turn_id("t-1").run()
        *activities, commit = await until_committed(stream)
        assert [event.payload.activity for event in activities] == list(output.activities)
        assert {event.turn_id for event in (*activities, commit)} == {"t-1"}
        assert isinstance(commit.payload, CommittedPayload)
        assert commit.payload.advanced
        assert said(observable) == ["Oslo?", "Take a coat."]
        assert observable.usage_report() == session.usage_report()
        assert observable.policy_snapshot() == session.policy_snapshot()


async def test_a_tab_opened_in_the_middle_of_a_turn_sees_its_beginning(place: Place) -> None:
    """The snapshot is of before the turn, and its cursor leads to all that happened since."""
    model = StallingProvider("Take a coat.")
    async with a_core(place, model) as core, core.session("s") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.turn("Oslo?").run)
            await model.entered.wait()
            observation = session.observe().current_observation()
            assert list(observation.read_view.messages) == []
            stream = session.observe().subscribe_and_recover(observation.cursor)
            model.release.set()
            assert prose(await until_committed(stream)) == "Take a coat."


async def test_an_observer_that_leaves_cancels_nothing(place: Place) -> None:
    """The turn goes on as though nobody had been there."""
    model = StallingProvider("Take a coat.")
    async with a_core(place, model) as core, core.session("s") as session:
        observable = session.observe()
        async with anyio.create_task_group() as turns:
            turns.start_soon(session.turn("Oslo?").run)
            async with anyio.create_task_group() as watchers:
                for _ in range(10):
                    stream = observable.subscribe_and_recover(start_of(observable))
                    watchers.start_soon(until_committed, stream)
                await model.entered.wait()
                watchers.cancel_scope.cancel()
            model.release.set()
        assert said(session) == ["Oslo?", "Take a coat."]


async def test_a_cancelled_turn_is_committed_in_front_of_observers(place: Place) -> None:
    """They settle what was said; nothing stays provisional for ever."""
    model = StallingProvider("Take a c")
    async with a_core(place, model) as core, core.session("s") as session:
        observable = session.observe()
        stream = observable.subscribe_and_recover(start_of(observable))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.turn("Oslo?").run)
            await model.entered.wait()
            session.cancel_running_turns()
        events = await until_committed(stream)
        assert prose(events) == "Take a c"
        assert said(observable) == said(session)


async def test_watching_keeps_no_session_open(place: Place) -> None:
    """A tab on a parked session shows its last state and follows on after the next request."""
    model = ScriptedProvider([Call.text("one"), Call.text("two")])
    async with a_core(place, model) as core:
        session = await core.session("s").open()
        observable = session.observe()
        stream = observable.subscribe_and_recover(start_of(observable))
        await session.turn("first").run()
        cursor = (await until_committed(stream))[-1].cursor
        parked = await session.park()
        assert said(observable) == ["first", "one"]
        assert observable.resume_from_cursor(cursor) == Replayed(())
        session = await core.resume(parked)
        await session.turn("second").run()
        await until_committed(stream)
        assert said(observable) == ["first", "one", "second", "two"]
        await session.close()


async def test_two_handles_of_one_core_are_watched_as_one_session(place: Place) -> None:
    """It does not matter through which of them a turn is run."""
    model = ScriptedProvider([Call.text("one")])
    async with a_core(place, model) as core, core.session("s") as watched:
        stream = watched.observe().subscribe_and_recover(start_of(watched.observe()))
        async with core.session("s") as running:
            await running.turn("first").run()
        assert (await until_committed(stream))[-1].revision >= 1
        assert said(watched.observe()) == ["first", "one"]


async def test_a_cursor_survives_parking_and_not_the_core(place: Place) -> None:
    """Of what another core has done there is no log here: the reader gets a snapshot."""
    model = ScriptedProvider([Call.text("one"), Call.text("two")])
    async with a_core(place, model) as core:
        session = await core.session("s").open()
        start = start_of(session.observe())
        await session.turn("first").run()
        session = await core.resume(await session.park())
        found = session.observe().resume_from_cursor(start)
        assert isinstance(found, Replayed)
        assert isinstance(found.events[-1].payload, CommittedPayload)
        await session.close()
    async with a_core(place, model) as core, core.session("s") as session:
        stream = session.observe().subscribe_and_recover(start)
        item = await stream.__anext__()
        assert not isinstance(item, ObservationEvent)
        assert len(item.observation.read_view.messages) == 2


async def test_closing_the_core_ends_its_observers(place: Place) -> None:
    """Nobody is left waiting for a session that cannot go on."""
    raised: list[EmbedError] = []

    async def watch(stream: SessionObservationStream) -> None:
        try:
            async for _ in stream:
                pass
        except EmbedError as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        async with a_core(place, ScriptedProvider()) as core:
            session = await core.session("s").open()
            observable = session.observe()
            stream = observable.subscribe_and_recover(start_of(observable))
            await session.close()
            # Not in the core's own block: that block expects no task to outlive it.
            reading = anyio.Event()

            async def reader() -> None:
                reading.set()
                await watch(stream)

            tasks.start_soon(reader)
            await reading.wait()
            await core.aclose()
            await anyio.wait_all_tasks_blocked()
    (error,) = raised
    assert error.code == "live_replay"
    assert isinstance(error.__cause__, LiveReplayClosed)
