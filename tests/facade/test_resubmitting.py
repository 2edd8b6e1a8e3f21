"""Asking for a turn that runs already, under its id: one turn, and one result for all who ask."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.models import DictatedProvider, StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Gate, WatchedStores
from lash_runtime import (
    AssistantProseDelta,
    CancelToken,
    LashSession,
    RuntimeFailure,
    SessionDeleted,
    SessionStillInUse,
    StopReason,
    TextItem,
    TurnBuilder,
    TurnInput,
    TurnOutput,
    TurnStream,
)
from lash_runtime.model.images import Image
from lash_runtime.ports.store_errors import StoreContended
from lash_runtime.testing import Call, RecordingClock, ScriptedProvider

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


def pack(session: LashSession, words: str = "Pack") -> TurnBuilder:
    return session.turn(words).turn_id("t-1")


def texts(output: TurnOutput) -> list[str]:
    events = [activity.event for activity in output.activities]
    return [event.text for event in events if isinstance(event, AssistantProseDelta)]


@asynccontextmanager
async def a_running_turn(session: LashSession, provider: Any) -> AsyncIterator[TurnStream]:
    """A turn that has got as far as its model, to be finished by its owner."""
    stream = pack(session).stream()
    await provider.entered.wait()
    yield stream
    await stream.finish()


async def started(*runs: Any) -> list["asyncio.Future[Any]"]:
    """Each of `runs` in a task of its own, waiting for whatever it waits for."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    await anyio.wait_all_tasks_blocked()
    return tasks


# --- one process --------------------------------------------------------------------------------


@pytest.mark.parametrize("callers", [2, 10, 100])
async def test_all_who_ask_for_a_turn_that_runs_get_its_result(place: Place, callers: int) -> None:
    """One turn, one model call, the very same result and activities for each of them."""
    provider = DictatedProvider()
    async with a_core(place, provider) as core, core.session("s") as session:
        outputs = await started(*(pack(session).run() for _ in range(callers)))
        provider.say("Co", "at.")
        await anyio.wait_all_tasks_blocked()
        outputs += await started(pack(session).run())
        provider.done()
        first, *others = [await output for output in outputs]
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert texts(first) == ["Co", "at."]
    for output in others:
        assert output.result is first.result
        assert output.activities == first.activities
    assert provider.calls == 1


@pytest.mark.parametrize("callers", [2, 10, 100])
async def test_callers_that_come_in_one_instant_run_one_turn(place: Place, callers: int) -> None:
    """Each through a handle of its own, which shows the turn when its caller has the result."""
    provider = yes()

    async with a_core(place, provider) as core, AsyncExitStack() as handles:
        sessions = [await handles.enter_async_context(core.session("s")) for _ in range(callers)]
        outputs = await asyncio.gather(*(pack(session).run() for session in sessions))
        for session, output in zip(sessions, outputs, strict=True):
            assert output.result is outputs[0].result
            assert lines(session) == ["user: Pack", "assistant: yes"]
    assert provider.calls == 1


async def test_a_stream_of_the_same_turn_tells_the_same(place: Place) -> None:
    """The second tab sends the form again and streams the answer."""
    provider = DictatedProvider()
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            provider.say("Co", "at.")
            async with pack(session).stream() as second:
                early = [await anext(second) for _ in range(3)]
                provider.done()
                seen = early + [activity async for activity in second]
                assert await second.finish() is await stream.finish()
            assert seen[0].event.type == "model_request_started"


async def test_who_asks_again_does_not_wait_for_the_turns_in_line(place: Place) -> None:
    """The result is there as soon as the turn is over, however long the next one takes."""
    first, second = StallingProvider("Coat."), StallingProvider("Boots.")
    async with a_core(place, first) as core:
        async with core.session("s") as session, core.session("s") as other:
            async with a_running_turn(session, first):
                (line,) = await started(session.turn("Next").provider(second).run())
                again = await started(pack(session).run(), pack(other).run())
                first.release.set()
                for output in again:
                    assert (await output).assistant_message == "Coat."
                await second.entered.wait()
                second.release.set()
                assert (await line).is_success


async def test_who_asks_again_in_line_gets_the_result_when_it_is_run(place: Place) -> None:
    """The first of them need not have begun."""
    busy, provider = StallingProvider("busy"), yes()
    async with a_core(place, provider) as core, core.session("s") as session:
        blocking = session.turn("Wait").provider(busy).stream()
        await busy.entered.wait()
        outputs = await started(*(pack(session).run() for _ in range(3)))
        busy.release.set()
        results = [(await output).result for output in outputs]
        assert results == [results[0]] * 3
        assert (await blocking.finish()).is_success
    assert provider.calls == 1


CHANGES: list[Callable[[LashSession], TurnBuilder]] = [
    lambda session: pack(session, "Unpack"),
    lambda session: pack(session).max_turns(3),
    lambda session: pack(session).model("other"),
    lambda session: session.turn(TurnInput.of("Pack", Image(PNG))).turn_id("t-1"),
]


@pytest.mark.parametrize("changed", CHANGES, ids=["words", "max_turns", "model", "image"])
async def test_other_content_is_a_conflict_at_once(
    place: Place, changed: Callable[[LashSession], TurnBuilder]
) -> None:
    """Not when the first one is over: nothing that happens until then can make it right."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            for _ in range(2):
                with pytest.raises(RuntimeFailure) as raised:
                    await changed(session).run()
                assert (raised.value.code, raised.value.is_terminal) == (
                    "turn_content_conflict",
                    True,
                )
            provider.release.set()
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert provider.calls == 1


async def test_other_content_in_line_is_a_conflict_when_it_has_been_run(place: Place) -> None:
    """Which of them has the id is decided by who is accepted first."""
    busy = StallingProvider("busy")
    async with a_core(place, yes()) as core, core.session("s") as session:
        blocking = session.turn("Wait").provider(busy).stream()
        await busy.entered.wait()
        first, other, again = await started(
            pack(session).run(), pack(session, "Unpack").run(), pack(session).run()
        )
        busy.release.set()
        await blocking.finish()
        assert (await first).result is (await again).result
        with pytest.raises(RuntimeFailure) as raised:
            await other
        assert raised.value.code == "turn_content_conflict"


async def test_the_same_content_said_in_another_form_is_the_same_turn(place: Place) -> None:
    """What is compared is what is stored: text in one piece or in two, an image or its id."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s") as session:
        in_pieces = TurnInput(items=(TextItem(text="Pa"), TextItem(text=""), TextItem(text="ck")))
        async with a_running_turn(session, provider) as stream:
            again = await started(
                session.turn(in_pieces).turn_id("t-1").run(),
                session.turn(TurnInput.text("Pack").with_turn_id("t-1")).run(),
            )
            provider.release.set()
            for output in again:
                assert (await output).result is await stream.finish()
    assert provider.calls == 1


async def test_input_that_cannot_be_stored_is_an_outcome_here_too(place: Place) -> None:
    """As for a turn that nobody runs: nothing is accepted and nothing conflicts."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            (again,) = await started(session.turn("half a \ud83c").turn_id("t-1").run())
            provider.release.set()
            assert (await again).stop_reason is StopReason.INVALID_INPUT


# --- whose turn it is ---------------------------------------------------------------------------


async def _by_task_cancel(second: "asyncio.Future[Any]", token: CancelToken) -> None:
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second


async def _by_token(second: "asyncio.Future[Any]", token: CancelToken) -> None:
    token.cancel()
    await _is_detached(second)


async def _by_a_token_from_a_thread(second: "asyncio.Future[Any]", token: CancelToken) -> None:
    await anyio.to_thread.run_sync(token.cancel)
    await _is_detached(second)


async def _is_detached(second: "asyncio.Future[Any]") -> None:
    with pytest.raises(RuntimeFailure, match="it goes on") as raised:
        await second
    assert raised.value.code == "turn_detached"
    assert not raised.value.is_terminal


@pytest.mark.parametrize("stop", [_by_task_cancel, _by_token, _by_a_token_from_a_thread])
async def test_cancelling_the_second_caller_detaches_it_and_does_nothing_else(
    place: Place, stop: Callable[["asyncio.Future[Any]", CancelToken], Any]
) -> None:
    """By whatever hand: the turn is the first one's, who still waits for it."""
    provider, token = StallingProvider("Coat."), CancelToken()
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            (second,) = await started(pack(session).cancel(token).run())
            await stop(second, token)
            assert provider.cut_off == 0
            (third,) = await started(pack(session).run())
            provider.release.set()
            assert (await third).result is await stream.finish()
        assert lines(session) == ["user: Pack", "assistant: Coat."]


async def test_leaving_the_second_stream_detaches_it_and_does_nothing_else(
    place: Place, recwarn: pytest.WarningsRecorder
) -> None:
    """At the end of its block, by closing it, or by dropping it; nobody waits for the turn."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            async with core.session("s") as other:
                async with pack(other).stream() as second:
                    await anext(second)
            with pytest.raises(RuntimeFailure) as raised:
                await second.finish()
            assert raised.value.code == "turn_detached"
            dropped = pack(session).stream()
            await anext(dropped)
            del dropped
            await anyio.wait_all_tasks_blocked()
            assert provider.cut_off == 0
            provider.release.set()
            assert (await stream.finish()).assistant_message == "Coat."
    assert [str(warning.message) for warning in recwarn] == []


async def test_cancelling_the_first_caller_cancels_the_turn_for_all(place: Place) -> None:
    """It is the first one's turn: what it has finished is stored, and all are told so."""
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core, core.session("s") as session:
        first = asyncio.ensure_future(pack(session).run())
        await provider.entered.wait()
        others = await started(*(pack(session).run() for _ in range(3)))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        for other in others:
            assert (await other).stop_reason is StopReason.CANCELLED
        assert lines(session) == ["user: Pack"]


async def test_cancelling_all_turns_of_a_handle_gives_all_the_cancelled_result(
    place: Place,
) -> None:
    """Also those who merely attached: the turn they wait for is being cancelled anyway."""
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as stream:
            others = await started(*(pack(session).run() for _ in range(3)))
            assert session.cancel_running_turns() == 4
            for other in others:
                assert (await other).stop_reason is StopReason.CANCELLED
            assert (await stream.finish()).stop_reason is StopReason.CANCELLED


async def test_cancelling_the_turns_of_another_handle_leaves_this_ones_turn(place: Place) -> None:
    """There they merely attached."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core:
        async with core.session("s") as session, core.session("s") as other:
            async with a_running_turn(session, provider) as stream:
                (second,) = await started(pack(other).run())
                assert other.cancel_running_turns() == 1
                await _is_detached(second)
                provider.release.set()
                assert (await stream.finish()).assistant_message == "Coat."


async def test_when_the_first_leaves_the_line_the_second_runs_the_turn(place: Place) -> None:
    """The first has left no trace, so the turn is still to be run, once."""
    busy, provider = StallingProvider("busy"), yes()
    async with a_core(place, provider) as core, core.session("s") as session:
        blocking = session.turn("Wait").provider(busy).stream()
        await busy.entered.wait()
        first, second, third = await started(*(pack(session).run() for _ in range(3)))
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        busy.release.set()
        await blocking.finish()
        assert (await second).result is (await third).result
        assert (await second).assistant_message == "yes"
        assert lines(session)[2:] == ["user: Pack", "assistant: yes"]
    assert provider.calls == 1


async def test_when_the_first_is_not_accepted_the_second_runs_the_turn(place: Place) -> None:
    """A store that was busy for the first need not be for the second."""
    failed = False

    async def fail_once(name: str) -> None:
        nonlocal failed
        if name == "accept_turn" and not failed:
            failed = True
            await asyncio.sleep(0)
            raise StoreContended("busy for too long")

    storage, provider = place.storage(), yes()
    stores = WatchedStores(storage, fail_once)
    core = place.builder(provider).storage(storage).store_factory(stores).build()
    async with running(core), core.session("s") as session:
        first, second, third = await started(*(pack(session).run() for _ in range(3)))
        with pytest.raises(RuntimeFailure) as raised:
            await first
        assert raised.value.code == "contended"
        assert (await second).result is (await third).result
        assert lines(session) == ["user: Pack", "assistant: yes"]
    assert provider.calls == 1


async def test_when_the_turn_fails_it_fails_for_all(place: Place) -> None:
    """It was accepted and is over; nobody runs it again."""

    async def fail(name: str) -> None:
        if name == "commit_runtime_state":
            raise ZeroDivisionError("out of order")

    storage, provider = place.storage(), yes()
    stores = WatchedStores(storage, fail)
    core = place.builder(provider).storage(storage).store_factory(stores).build()
    async with running(core), core.session("s") as session:
        for output in await started(*(pack(session).run() for _ in range(3)), pack(session).run()):
            with pytest.raises(RuntimeFailure, match="out of order") as raised:
                await output
            assert raised.value.code == "turn_failed"
    assert provider.calls == 1


async def test_a_caller_that_is_attached_keeps_its_handle_in_use(place: Place) -> None:
    """It still waits for its `run()`."""
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider):
            other = await core.session("s").open()
            (second,) = await started(pack(other).run())
            with pytest.raises(SessionStillInUse):
                await other.close()
            provider.release.set()
            assert (await second).is_success
            await other.close()


async def test_closing_the_core_interrupts_all(unjournaled: Place) -> None:
    """Each may ask again, of the next core."""
    place = unjournaled
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core:
        session = await core.session("s").open()
        outputs = await started(*(pack(session).run() for _ in range(3)))
        await core.aclose()
        for output in outputs:
            with pytest.raises(RuntimeFailure) as raised:
                await output
            assert raised.value.code == "turn_interrupted"
    async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
        assert (await pack(session).run()).stop_reason is StopReason.INTERRUPTED


async def test_deleting_the_session_ends_all(place: Place) -> None:
    """Those who merely attached are told the same."""
    provider = StallingProvider("Take a c")
    async with a_core(place, provider) as core:
        session, other = await core.session("s").open(), await core.session("s").open()
        outputs = await started(pack(session).run(), pack(session).run(), pack(other).run())
        await core.delete_session("s")
        for output in outputs:
            with pytest.raises(SessionDeleted):
                await output


async def test_the_first_turn_of_a_session_that_starts_over_is_run_once(place: Place) -> None:
    """Whoever asks for it through the same handle, or repeats the whole request."""
    provider = yes()
    async with a_core(place, provider) as core:
        async with core.session("s") as session:
            await session.turn("old").run()
        async with await core.session("s").open_fresh() as fresh:
            outputs = await started(*(pack(fresh).run() for _ in range(3)))
            outcomes = [(await output).outcome for output in outputs]
            assert outcomes == [outcomes[0]] * 3
            assert lines(fresh) == ["user: Pack", "assistant: yes"]
            async with await core.session("s").open_fresh() as again:
                assert (await pack(again).run()).outcome == outcomes[0]
    assert provider.calls == 2


async def test_where_nothing_is_stored_each_is_a_turn_of_its_own() -> None:
    """Without rows no repetition can be recognised, also not while the first one runs."""
    provider = yes()
    nowhere = Place("nothing", None)  # type: ignore[arg-type]
    async with a_core(nowhere, provider) as core, core.session("s") as session:
        outputs = await started(*(pack(session).run() for _ in range(3)))
        assert [(await output).assistant_message for output in outputs] == ["yes"] * 3
        assert len(lines(session)) == 6
    assert provider.calls == 3


# --- two cores on one database ------------------------------------------------------------------


@asynccontextmanager
async def a_turn_elsewhere(
    place: Place, provider: Any
) -> AsyncIterator[tuple[TurnStream, LashSession]]:
    """A turn that one core runs, and its session as another core has opened it, whose clock waits
    for nobody and whose model has nothing to say."""
    waiting = place.builder(ScriptedProvider()).clock(RecordingClock()).recover(False).build()
    async with a_core(place, provider) as core, running(waiting) as elsewhere:
        async with core.session("s") as session, elsewhere.session("s") as other:
            async with a_running_turn(session, provider) as stream:
                yield stream, other


@pytest.mark.parametrize("callers", [2, 10, 100])
async def test_all_who_ask_another_core_get_the_result(on_disk: Place, callers: int) -> None:
    """They wait for the core that runs the turn; none of them calls a model."""
    provider = StallingProvider("Coat.")
    async with a_turn_elsewhere(on_disk, provider) as (stream, other):
        outputs = await started(*(pack(other).run() for _ in range(callers)))
        provider.release.set()
        first = await stream.finish()
        for output in outputs:
            result = (await output).result
            assert (result.outcome, result.usage) == (first.outcome, first.usage)
            assert result.execution == first.execution
        assert lines(other) == ["user: Pack", "assistant: Coat."]
    assert provider.calls == 1


async def test_another_core_that_waits_refuses_other_turns_at_once(on_disk: Place) -> None:
    """To wait for a turn holds no place in the line."""
    provider = StallingProvider("Coat.")
    async with a_turn_elsewhere(on_disk, provider) as (stream, other):
        (waiting,) = await started(pack(other).run())
        with pytest.raises(RuntimeFailure) as raised:
            await other.turn("Unpack").run()
        assert raised.value.code == "session_execution_busy"
        with pytest.raises(RuntimeFailure) as raised:
            await pack(other, "Unpack").run()
        assert raised.value.code == "turn_content_conflict"
        provider.release.set()
        assert (await waiting).assistant_message == "Coat."
        await stream.finish()
        output = await other.turn("Unpack").provider(yes()).run()
        assert output.assistant_message == "yes"
        assert len(lines(other)) == 4


@pytest.mark.parametrize("stop", [_by_task_cancel, _by_token, _by_a_token_from_a_thread])
async def test_cancelling_who_waits_for_another_core_detaches_it(
    on_disk: Place, stop: Callable[["asyncio.Future[Any]", CancelToken], Any]
) -> None:
    """The turn is the other core's."""
    provider, token = StallingProvider("Coat."), CancelToken()
    async with a_turn_elsewhere(on_disk, provider) as (stream, other):
        (second,) = await started(pack(other).cancel(token).run())
        await stop(second, token)
        assert provider.cut_off == 0
        async with pack(other).stream() as left:
            assert left.turn_id == "t-1"
        third, fourth = await started(pack(other).run(), pack(other).run())
        third.cancel()
        provider.release.set()
        assert (await stream.finish()).assistant_message == "Coat."
        assert (await fourth).assistant_message == "Coat."


async def test_a_turn_of_a_core_that_is_gone_is_closed_by_who_asks_for_it(database: Path) -> None:
    """It is not run a second time, and nobody waits for a lease to lapse."""
    on_disk = Place("inline", database)
    provider, silent = StallingProvider("Take a c"), ScriptedProvider()
    first = on_disk.builder(provider).build()
    asking = on_disk.builder(silent).clock(RecordingClock()).build()
    async with running(asking) as core, core.session("s") as other:
        async with running(first):
            session = await first.session("s").open()
            stream = pack(session).stream()
            await provider.entered.wait()
            (waiting,) = await started(pack(other).run())
            await first.aclose()
            with pytest.raises(RuntimeFailure):
                await stream.finish()
        assert (await waiting).stop_reason is StopReason.INTERRUPTED
        assert (await pack(other).run()).stop_reason is StopReason.INTERRUPTED
        assert lines(other) == ["user: Pack"]
    assert silent.calls == 0


async def test_a_turn_that_fails_elsewhere_fails_for_who_asks_here(on_disk: Place) -> None:
    """With the error that its own caller gets."""
    gate = Gate("commit_runtime_state")

    async def fail(name: str) -> None:
        await gate(name)
        if name == "commit_runtime_state":
            raise ZeroDivisionError("out of order")

    storage = on_disk.storage()
    broken = on_disk.builder(yes()).storage(storage).store_factory(WatchedStores(storage, fail))
    core = broken.build()
    async with running(core), a_core(on_disk, ScriptedProvider()) as elsewhere:
        async with core.session("s") as session, elsewhere.session("s") as other:
            (failing,) = await started(pack(session).run())
            await gate.entered.wait()
            (waiting,) = await started(pack(other).run())
            gate.release.set()
            for output in (failing, waiting):
                with pytest.raises(RuntimeFailure, match="out of order") as raised:
                    await output
                assert raised.value.code == "turn_failed"


async def test_deleting_the_session_ends_who_waits_for_another_core(on_disk: Place) -> None:
    """Here or there."""
    provider = StallingProvider("Take a c")
    async with a_core(on_disk, provider) as core, a_core(on_disk, yes()) as elsewhere:
        session, other = await core.session("s").open(), await elsewhere.session("s").open()
        stream = pack(session).stream()
        await provider.entered.wait()
        (waiting,) = await started(pack(other).run())
        await elsewhere.delete_session("s")
        with pytest.raises(SessionDeleted):
            await waiting
        provider.release.set()
        with pytest.raises(SessionDeleted):
            await stream.finish()
