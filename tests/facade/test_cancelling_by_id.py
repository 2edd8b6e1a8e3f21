"""`core.cancel_turn`: one verdict, whoever runs the turn, and a history that says the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.models import StallingProvider, asked
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Calls, Gate, WatchedStores
from lash_runtime import (
    CancelRequest,
    CancelVerdict,
    CoreClosed,
    LashCore,
    LashSession,
    RuntimeFailure,
    SessionDeleted,
    StopReason,
    StoreFailure,
    ToolContext,
    TurnBuilder,
    TurnOutput,
    TurnResult,
    tool,
)
from lash_runtime.effects.journal import JournalEffectHost
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreContended
from lash_runtime.testing import Call, ManualClock, ScriptedProvider

pytestmark = pytest.mark.anyio

ACCEPTED, WON, UNKNOWN = (
    CancelVerdict.ACCEPTED,
    CancelVerdict.COMPLETION_WON,
    CancelVerdict.UNKNOWN_TURN,
)


async def run(turn: TurnBuilder, into: list[TurnOutput]) -> None:
    into.append(await turn.run())


@asynccontextmanager
async def a_running_turn(
    session: LashSession, provider: StallingProvider, turn_id: str = "t-1", words: str = "Pack"
) -> AsyncIterator[list[TurnOutput]]:
    """A turn that hangs in its model call; the block's end waits for it."""
    outputs: list[TurnOutput] = []
    async with anyio.create_task_group() as callers:
        callers.start_soon(run, session.turn(words).turn_id(turn_id), outputs)
        await provider.entered.wait()
        yield outputs


async def goes_on(session: LashSession) -> None:
    """The session takes another turn, and its model is asked with the cancelled question."""
    model = ScriptedProvider([Call.text("Still here.")])
    output = await session.turn("Are you there?").provider(model).run()
    assert output.assistant_message == "Still here."
    assert "user: Pack" in asked(model.requests[0])


def watching(place: Place, provider: Any, before: Any, *tools: Any) -> LashCore:
    """A core that awaits `before` ahead of every call of a store."""
    storage = place.storage()
    builder = place.builder(provider, *tools).storage(storage)
    return builder.store_factory(WatchedStores(storage, before)).build()


# --- a turn that runs ---------------------------------------------------------------------------


async def test_a_running_turn_is_stopped_at_once(anywhere: Place) -> None:
    """The model call ends, the question stays, and the result says why and who."""
    provider, clock = StallingProvider(), ManualClock()
    core = anywhere.builder(provider).clock(clock).build()
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            verdict = await core.cancel_turn("s", "t-1", reason="wrong city", origin="user 7")
            assert verdict is ACCEPTED
        [output] = outputs
        assert output.stop_reason is StopReason.CANCELLED
        assert output.errors == ()
        assert output.cancellation == CancelRequest(
            requested_at_ms=clock.timestamp_ms(), reason="wrong city", origin="user 7"
        )
        assert provider.cut_off == 1
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_whoever_comes_back_to_the_turn_is_told_the_same(place: Place) -> None:
    """Also through another core, later."""
    provider = StallingProvider()
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            await core.cancel_turn("s", "t-1", reason="wrong city")
    async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
        again = await session.turn("Pack").turn_id("t-1").run()
        assert again.stop_reason is StopReason.CANCELLED
        assert again.cancellation == outputs[0].cancellation
        assert again.cancellation is not None


async def test_other_turns_of_the_session_go_on(anywhere: Place) -> None:
    """One turn is named, and one is cancelled."""
    provider = StallingProvider()
    outputs: list[TurnOutput] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session.turn("one").turn_id("1"), outputs)
            await provider.entered.wait()
            two = session.turn("two").turn_id("2").provider(ScriptedProvider([Call.text("Two.")]))
            callers.start_soon(run, two, outputs)
            await anyio.wait_all_tasks_blocked()
            assert await core.cancel_turn("s", "1") is ACCEPTED
        assert lines(session) == ["user: one", "user: two", "assistant: Two."]
        assert [output.is_success for output in outputs] == [False, True]


async def test_the_same_id_in_another_session_is_another_turn(anywhere: Place) -> None:
    """Turn ids are the host's and need not be unique beyond their session."""
    provider = StallingProvider()
    async with (
        a_core(anywhere, provider) as core,
        core.session("s") as session,
        core.session("other") as other,
    ):
        async with a_running_turn(session, provider):
            assert await core.cancel_turn("other", "t-1") is UNKNOWN
            provider.release.set()
        assert lines(session) == ["user: Pack", "assistant: Take a c"]
        assert lines(other) == []


async def test_cancelling_twice_keeps_the_first_request(anywhere: Place) -> None:
    """Two people press stop: both are told that it works, and the first is on record."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            for who in ("Ann", "Bob"):
                assert await core.cancel_turn("s", "t-1", origin=who) is ACCEPTED
        assert outputs[0].cancellation is not None
        assert outputs[0].cancellation.origin == "Ann"


async def test_a_tool_may_cancel_its_own_turn(anywhere: Place) -> None:
    """It has what it needs to return, and its result stays."""
    cores: list[LashCore] = []

    @tool
    async def give_up(context: ToolContext) -> str:
        """Give up."""
        assert await cores[0].cancel_turn("s", "t-1", reason="no use") is ACCEPTED
        return "gave up"

    provider = ScriptedProvider([Call.tool("call-1", "give_up", {})])
    async with a_core(anywhere, provider, give_up) as core, core.session("s") as session:
        cores.append(core)
        output = await session.turn("Pack").turn_id("t-1").run()
        assert output.stop_reason is StopReason.CANCELLED
        assert lines(session)[-1] == "user [tool_result]: gave up"
        assert provider.calls == 1


async def test_everybody_who_waits_for_the_turn_gets_its_end(place: Place) -> None:
    """The one who runs it, and the one who asked for the same turn again."""
    provider = StallingProvider()
    again: list[TurnOutput] = []
    async with a_core(place, provider) as core, core.session("s") as session:
        async with (
            a_running_turn(session, provider) as outputs,
            anyio.create_task_group() as callers,
        ):
            callers.start_soon(run, session.turn("Pack").turn_id("t-1"), again)
            await anyio.wait_all_tasks_blocked()
            assert await core.cancel_turn("s", "t-1") is ACCEPTED
        assert again[0].cancellation == outputs[0].cancellation
        assert lines(session) == ["user: Pack"]


# --- a turn that has not begun ------------------------------------------------------------------


async def test_a_turn_in_line_ends_without_a_model_call(anywhere: Place) -> None:
    """There is no row to write to yet; its question is stored once it is its turn."""
    provider, unused = StallingProvider("Coat."), ScriptedProvider()
    waiting: list[TurnOutput] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider), anyio.create_task_group() as callers:
            in_line = session.turn("And boots?").turn_id("t-2").provider(unused)
            callers.start_soon(run, in_line, waiting)
            await anyio.wait_all_tasks_blocked()
            assert await core.cancel_turn("s", "t-2", reason="never mind") is ACCEPTED
            assert await core.cancel_turn("s", "t-2", reason="again") is ACCEPTED
            provider.release.set()
        assert waiting[0].stop_reason is StopReason.CANCELLED
        assert waiting[0].cancellation is not None
        assert waiting[0].cancellation.reason == "never mind"
        assert unused.calls == 0
        assert lines(session) == ["user: Pack", "assistant: Coat.", "user: And boots?"]


async def test_a_turn_is_known_as_soon_as_it_was_asked_for(anywhere: Place) -> None:
    """Its task has not taken a step, and the host's stop button works already."""
    async with a_core(anywhere, StallingProvider()) as core, core.session("s") as session:
        stream = session.turn("Pack").turn_id("t-1").stream()
        assert await core.cancel_turn("s", "t-1") is ACCEPTED
        assert (await stream.finish()).stop_reason is StopReason.CANCELLED


async def test_a_turn_in_line_is_cancelled_whatever_it_would_have_come_to(
    anywhere: Place,
) -> None:
    """It could not even have called its model; what was accepted stays accepted."""
    provider = StallingProvider("Coat.")
    waiting: list[TurnOutput] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider), anyio.create_task_group() as callers:
            in_line = session.turn("And boots?").turn_id("t-2").model("m", variant="no such")
            callers.start_soon(run, in_line, waiting)
            await anyio.wait_all_tasks_blocked()
            assert await core.cancel_turn("s", "t-2") is ACCEPTED
            provider.release.set()
        assert waiting[0].stop_reason is StopReason.CANCELLED


async def test_a_turn_that_is_being_accepted_is_reached(place: Place) -> None:
    """Out of the line, and its row not written yet."""
    gate, provider = Gate("accept_turn"), ScriptedProvider()
    outputs: list[TurnOutput] = []
    core = watching(place, provider, gate)
    async with running(core), core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session.turn("Pack").turn_id("t-1"), outputs)
            await gate.entered.wait()
            assert await core.cancel_turn("s", "t-1") is ACCEPTED
            gate.release.set()
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert outputs[0].cancellation is not None
        assert await core.cancel_turn("s", "t-1") is ACCEPTED
        await goes_on(session)
    assert provider.calls == 0


# --- a turn that is about to end, or has --------------------------------------------------------


class AnswersLate:
    """A factory whose stores have made the first commit before `release` lets them say so."""

    def __init__(self, storage: Any) -> None:
        self._stores = storage.session_stores
        self.made = anyio.Event()
        self.release = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores, name)

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return _AnswersLate(await self._stores.create_store(request), self)


class _AnswersLate:
    def __init__(self, store: Any, stores: AnswersLate) -> None:
        self._store = store
        self._stores = stores

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit_runtime_state(self, commit: Any) -> Any:
        result = await self._store.commit_runtime_state(commit)
        self._stores.made.set()
        await self._stores.release.wait()
        return result


async def test_a_request_before_the_commit_wins_and_nothing_is_lost(place: Place) -> None:
    """The answer was there, and stays; the turn is a cancelled one, and runs nothing again."""
    looked = []

    @tool
    async def look() -> str:
        """Look."""
        looked.append(1)
        return "rain"

    gate = Gate("settling")
    calls = Calls()

    async def before(name: str) -> None:
        await calls(name)
        # What stores the round goes through; the final commit is held.
        rounds = 1 if place.kind == "sqlite" else 2
        final = name == "commit_runtime_state" and calls.count(name) == rounds
        await gate("settling" if final else name)

    provider = ScriptedProvider([Call.tool("call-1", "look", {}), Call.text("Coat.")])
    core = watching(place, provider, before, look)
    outputs: list[TurnOutput] = []
    async with running(core), core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session.turn("Pack").turn_id("t-1"), outputs)
            await gate.entered.wait()
            assert await core.cancel_turn("s", "t-1", reason="late") is ACCEPTED
            gate.release.set()
        [output] = outputs
        assert output.stop_reason is StopReason.CANCELLED
        assert output.assistant_message is None
        assert output.assistant_output.safe_text == "Coat."
        assert [call.call_id for call in output.tool_calls] == ["call-1"]
        assert output.cancellation is not None
        assert output.cancellation.reason == "late"
        assert output.usage == session.read_view().token_usage
        assert lines(session)[-2:] == ["user [tool_result]: rain", "assistant: Coat."]
        assert (provider.calls, looked) == (2, [1])
        assert calls.count("commit_runtime_state") == (2 if place.kind == "sqlite" else 3)
        again = await session.turn("Pack").turn_id("t-1").run()
        assert await core.cancel_turn("s", "t-1") is ACCEPTED
        await goes_on(session)
    assert told(again) == told(output)


def told(output: TurnOutput) -> tuple[Any, ...]:
    """What a caller is told, as far as it is kept."""
    return (
        output.outcome,
        output.assistant_output,
        output.usage,
        output.cancellation,
        output.errors,
        [(call.call_id, call.output.outcome.status) for call in output.tool_calls],
    )


async def test_a_request_after_the_commit_comes_too_late(place: Place) -> None:
    """Stored is stored, also while the runner has not heard of it yet."""
    storage = place.storage()
    stores = AnswersLate(storage)
    provider = ScriptedProvider([Call.text("Coat.")])
    core = place.builder(provider).storage(storage).store_factory(stores).build()
    outputs: list[TurnOutput] = []
    async with running(core), core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session.turn("Pack").turn_id("t-1"), outputs)
            await stores.made.wait()
            assert await core.cancel_turn("s", "t-1") is WON
            stores.release.set()
        assert outputs[0].assistant_message == "Coat."
        assert outputs[0].cancellation is None
        assert lines(session) == ["user: Pack", "assistant: Coat."]


async def test_a_finished_turn_keeps_its_answer(place: Place) -> None:
    """Whether its session is open, parked, or open elsewhere."""
    async with a_core(place, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            await session.turn("Pack").turn_id("t-1").run()
            assert await core.cancel_turn("s", "t-1") is WON
            assert lines(session) == ["user: Pack", "assistant: Coat."]
        assert await core.cancel_turn("s", "t-1") is WON
        async with core.session("s") as session:
            again = await session.turn("Pack").turn_id("t-1").run()
            assert again.assistant_message == "Coat."


async def test_a_turn_that_was_cancelled_otherwise_is_accepted(place: Place) -> None:
    """It is cancelled, as was wished; no request made it so."""
    provider = StallingProvider()
    async with a_core(place, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            session.cancel_running_turns()
        assert await core.cancel_turn("s", "t-1") is ACCEPTED
        assert outputs[0].cancellation is None
        again = await session.turn("Pack").turn_id("t-1").run()
        assert (again.stop_reason, again.cancellation) == (StopReason.CANCELLED, None)


async def test_an_interrupted_turn_is_over(database: Path) -> None:
    """Its core was closed under it. Unless it was to be cancelled: then that stays the answer."""
    on_disk = Place("inline", database)
    for turn_id, asks, verdict in (("t-1", False, WON), ("t-2", True, ACCEPTED)):
        provider = StallingProvider()
        async with a_core(on_disk, provider) as core:
            session = await core.session("s").open()
            turn = asyncio.ensure_future(session.turn("Pack").turn_id(turn_id).run())
            await provider.entered.wait()
        with pytest.raises(RuntimeFailure, match="closed while the turn ran"):
            await turn
        if asks:
            assert await other_process_cancels(on_disk, turn_id) is ACCEPTED
        async with a_core(on_disk, ScriptedProvider()) as core, core.session("s") as session:
            assert await core.cancel_turn("s", turn_id) is verdict
            left = await session.turn("Pack").turn_id(turn_id).run()
            assert left.stop_reason is StopReason.INTERRUPTED


async def other_process_cancels(place: Place, turn_id: str) -> CancelVerdict:
    """Another core on the same file knows no more of this one than another process does."""
    async with a_core(place, ScriptedProvider()) as other:
        return await other.cancel_turn("s", turn_id, reason="from elsewhere")


# --- no turn ------------------------------------------------------------------------------------


async def test_an_unknown_turn_or_session_is_told_as_such(anywhere: Place) -> None:
    """And asking makes neither."""
    async with a_core(anywhere, ScriptedProvider()) as core:
        async with core.session("s"):
            assert await core.cancel_turn("s", "never") is UNKNOWN
        assert await core.cancel_turn("never", "t-1") is UNKNOWN
        if anywhere.stores:
            assert not await core.session_exists("never")


async def test_a_turn_of_a_deleted_session_is_unknown(place: Place) -> None:
    """Also while a handle on it is open, and when the id is in use again."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("Coat."))
    async with a_core(place, provider) as core:
        old = await core.session("s").open()
        await old.turn("Pack").turn_id("t-1").run()
        await core.delete_session("s")
        assert await core.cancel_turn("s", "t-1") is UNKNOWN
        async with core.session("s") as session:
            assert await core.cancel_turn("s", "t-1") is UNKNOWN
            await session.turn("Pack").turn_id("t-1").run()
            assert await core.cancel_turn("s", "t-1") is WON
        with pytest.raises(SessionDeleted):
            old.read_view()


async def test_a_session_deleted_elsewhere_does_not_hide_the_one_that_followed(
    on_disk: Place,
) -> None:
    """A handle on the old one is still open here; the turn is one of the new one."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("Coat."))
    async with a_core(on_disk, provider) as core, a_core(on_disk, provider) as other:
        async with core.session("s") as old:
            await old.turn("Pack").turn_id("t-1").run()
            await other.delete_session("s")
            assert await core.cancel_turn("s", "t-1") is UNKNOWN
            async with other.session("s") as session:
                await session.turn("Pack").turn_id("t-2").run()
            assert await core.cancel_turn("s", "t-2") is WON


async def test_a_session_without_a_store_knows_what_runs_and_nothing_else(
    anywhere: Place,
) -> None:
    """Nothing is kept of a finished turn that a verdict could be given on."""
    async with a_core(anywhere, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            await session.turn("Pack").turn_id("t-1").run()
            known = await core.cancel_turn("s", "t-1")
            assert known is (WON if anywhere.stores else UNKNOWN)


async def test_a_session_with_a_store_of_its_own_is_asked_there(place: Place) -> None:
    """The core's storage knows nothing of it."""
    elsewhere = Place(place.kind, place.database.with_name("elsewhere.db"))
    storage = elsewhere.storage()
    await storage.open()
    store = await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
    provider = StallingProvider("Coat.")
    async with a_core(place, provider) as core, core.session("s").store(store) as session:
        async with a_running_turn(session, provider) as outputs:
            assert await core.cancel_turn("s", "t-1") is ACCEPTED
        assert outputs[0].stop_reason is StopReason.CANCELLED
        provider.release.set()
        await session.turn("Again").turn_id("t-2").run()
        assert await core.cancel_turn("s", "t-2") is WON
    await storage.aclose()


# --- a runner that is elsewhere -----------------------------------------------------------------


@asynccontextmanager
async def elsewhere(place: Place, provider: Any, *tools: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A core that hears no signals, and whose leases are renewed when its clock is moved, with a
    session open."""
    clock, storage = ManualClock(), place.storage()
    builder = LashCore.standard_builder().provider(provider).model("scripted-1").tools(*tools)
    core = (
        builder.clock(clock)
        .store_factory(storage.session_stores)
        .attachment_store(storage.attachments)
        .effect_host(JournalEffectHost())
        .build()
    )
    async with storage, running(core), core.session("s") as session:
        yield session, clock


async def test_a_runner_elsewhere_hears_of_it_at_once(on_disk: Place) -> None:
    """By a signal, which needs no write of its own."""
    provider = StallingProvider()
    async with a_core(on_disk, provider) as core, core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            assert await other_process_cancels(on_disk, "t-1") is ACCEPTED
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert outputs[0].cancellation is not None
        assert outputs[0].cancellation.reason == "from elsewhere"
        assert provider.cut_off == 1


async def test_a_runner_elsewhere_hears_of_it_when_it_renews_its_lease(on_disk: Place) -> None:
    """A model that says nothing for minutes is stopped all the same."""
    provider = StallingProvider()
    async with elsewhere(on_disk, provider) as (session, clock):
        async with a_running_turn(session, provider) as outputs:
            assert await other_process_cancels(on_disk, "t-1") is ACCEPTED
            await anyio.wait_all_tasks_blocked()
            assert provider.cut_off == 0
            await clock.wait_for_sleepers(1)
            clock.advance(10.0)
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert outputs[0].cancellation is not None
        assert outputs[0].cancellation.reason == "from elsewhere"
        assert provider.cut_off == 1
        await goes_on(session)


async def test_a_runner_elsewhere_hears_of_it_when_it_stores_a_round(on_disk: Place) -> None:
    """The next model call is not made any more; the round that was paid for stays."""
    entered, leave = anyio.Event(), anyio.Event()

    @tool
    async def look() -> str:
        """Look."""
        entered.set()
        await leave.wait()
        return "rain"

    provider = ScriptedProvider([Call.tool("call-1", "look", {}), Call.text("Coat.")])
    outputs: list[TurnOutput] = []
    async with elsewhere(on_disk, provider, look) as (session, _):
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session.turn("Pack").turn_id("t-1"), outputs)
            await entered.wait()
            assert await other_process_cancels(on_disk, "t-1") is ACCEPTED
            leave.set()
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert outputs[0].cancellation is not None
        assert provider.calls == 1
        assert lines(session)[-1] == "user [tool_result]: rain"
        await goes_on(session)


async def test_a_runner_elsewhere_hears_of_it_at_the_latest_when_it_commits(
    on_disk: Place,
) -> None:
    """The answer was complete by then, and is kept in a cancelled turn."""
    provider = StallingProvider("Coat.")
    async with elsewhere(on_disk, provider) as (session, _):
        async with a_running_turn(session, provider) as outputs:
            assert await other_process_cancels(on_disk, "t-1") is ACCEPTED
            provider.release.set()
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert lines(session) == ["user: Pack", "assistant: Coat."]
        assert provider.cut_off == 0


# --- what goes wrong ----------------------------------------------------------------------------


async def test_a_request_that_cannot_be_written_stops_nothing(place: Place) -> None:
    """A verdict that nobody could keep is not given."""

    async def before(name: str) -> None:
        if name == "request_turn_cancel":
            raise StoreContended("the database is busy")

    provider = StallingProvider("Coat.")
    core = watching(place, provider, before)
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            with pytest.raises(StoreFailure) as refused:
                await core.cancel_turn("s", "t-1")
            assert refused.value.is_retryable
            await anyio.wait_all_tasks_blocked()
            provider.release.set()
        assert outputs[0].assistant_message == "Coat."


async def test_giving_up_the_wait_does_not_take_the_request_back(place: Place) -> None:
    """What is written has to reach the turn, or the stop button would work by chance."""
    gate, provider = Gate("request_turn_cancel"), StallingProvider()
    core = watching(place, provider, gate)
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, provider) as outputs:
            asking = asyncio.ensure_future(core.cancel_turn("s", "t-1"))
            await gate.entered.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            gate.release.set()
        assert outputs[0].stop_reason is StopReason.CANCELLED


async def test_a_core_that_is_closed_while_it_asks_says_so(place: Place) -> None:
    """The caller cannot know whether the request was written, and is told what happened."""
    gate = Gate("request_turn_cancel")
    core = watching(place, ScriptedProvider([Call.text("Coat.")]), gate)
    async with running(core):
        session = await core.session("s").open()
        await session.turn("Pack").turn_id("t-1").run()
        asking = asyncio.ensure_future(core.cancel_turn("s", "t-1"))
        await gate.entered.wait()
    with pytest.raises(CoreClosed):
        await asking
    with pytest.raises(CoreClosed):
        await core.cancel_turn("s", "t-1")


async def test_a_stream_ends_with_the_turn(anywhere: Place) -> None:
    """Its reader did nothing wrong: the stream ends, and `finish` has the cancelled result."""
    provider = StallingProvider()
    results: list[TurnResult] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with session.turn("Pack").turn_id("t-1").stream() as stream:
            seen = [(await anext(stream)).event.type]
            await provider.entered.wait()
            assert await core.cancel_turn("s", "t-1") is ACCEPTED
            seen += [activity.event.type async for activity in stream]
            results.append(await stream.finish())
        assert seen[0] == "model_request_started"
        assert "error" not in seen
        assert results[0].cancellation is not None
