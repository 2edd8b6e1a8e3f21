"""Cancelling a turn, by every hand that can: it ends closed and stored, and the session goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import to_thread

from facade.models import StallingProvider, asked
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Gate, WatchedStores
from lash_runtime import (
    CancelToken,
    LashSession,
    StopReason,
    ToolCallCompleted,
    ToolCallStarted,
    ToolContext,
    TurnActivity,
    TurnEvent,
    TurnOutput,
    UsageReported,
    tool,
)
from lash_runtime.model.llm import LlmRequest, LlmResponse, TextDelta
from lash_runtime.model.usage import LlmUsage
from lash_runtime.testing import (
    Call,
    ScriptedProvider,
    TestProvider,
    text_response,
    tool_calls_response,
)

pytestmark = pytest.mark.anyio


async def run_to_its_end(session: LashSession, words: str, into: list[TurnOutput]) -> None:
    into.append(await session.turn(words).run())


@asynccontextmanager
async def a_running_turn(
    session: LashSession, provider: StallingProvider, words: str = "Pack"
) -> AsyncIterator[list[TurnOutput]]:
    """A turn that hangs in its model call; the block's end waits for it."""
    outputs: list[TurnOutput] = []
    async with anyio.create_task_group() as callers:
        callers.start_soon(run_to_its_end, session, words, outputs)
        await provider.entered.wait()
        yield outputs


async def goes_on(session: LashSession, question: str = "Pack") -> None:
    """The session takes another turn, and its model is asked with the cancelled question."""
    model = ScriptedProvider([Call.text("Still here.")])
    output = await session.turn("Are you there?").provider(model).run()
    assert output.assistant_message == "Still here."
    assert f"user: {question}" in asked(model.requests[0])
    assert lines(session)[-2:] == ["user: Are you there?", "assistant: Still here."]


# --- by token -----------------------------------------------------------------------------------


async def test_a_token_stops_the_model_call_and_keeps_the_question(anywhere: Place) -> None:
    """Half an answer is nobody's answer; the question stays for the next turn to see."""
    provider, token = StallingProvider("Take a c"), CancelToken()
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").cancel(token).run())

    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await provider.entered.wait()
            token.cancel("the user changed their mind")
        [output] = outputs
        assert output.stop_reason is StopReason.CANCELLED
        assert not output.is_success
        assert output.assistant_message is None
        assert provider.cut_off == 1
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_cancelled_turn_is_not_reported_as_a_failure_of_the_model(anywhere: Place) -> None:
    """Whoever cancels does not want to read that the provider is broken."""
    provider, token = StallingProvider(), CancelToken()
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").cancel(token).run())

    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await provider.entered.wait()
            token.cancel()
    assert outputs[0].errors == ()
    assert not [a for a in outputs[0].activities if a.event.type == "error"]


async def test_a_token_that_fired_before_the_start_calls_no_model(anywhere: Place) -> None:
    """The user's words are stored all the same: they were said."""
    provider, token = ScriptedProvider(), CancelToken()
    token.cancel()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        output = await session.turn("Pack").cancel(token).run()
        assert output.stop_reason is StopReason.CANCELLED
        assert lines(session) == ["user: Pack"]
        await goes_on(session)
    assert provider.calls == 0


async def test_a_token_may_be_fired_from_another_thread(anywhere: Place) -> None:
    """The stop button often lives in another thread than the loop."""
    provider, token = StallingProvider(), CancelToken()
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").cancel(token).run())

    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await provider.entered.wait()
            await to_thread.run_sync(token.cancel)
        assert outputs[0].stop_reason is StopReason.CANCELLED
        await goes_on(session)


async def test_a_token_that_fires_after_the_end_changes_nothing(anywhere: Place) -> None:
    """What was finished stays finished."""
    token = CancelToken()
    async with (
        a_core(anywhere, ScriptedProvider([Call.text("Coat.")])) as core,
        core.session("s") as session,
    ):
        output = await session.turn("Pack").cancel(token).run()
        token.cancel()
        assert output.is_success
        assert lines(session) == ["user: Pack", "assistant: Coat."]


async def test_a_token_that_fires_during_the_commit_comes_too_late(place: Place) -> None:
    """Cancelled or completed is decided once, before the commit; the answer is not lost."""
    gate, token = Gate("commit_runtime_state"), CancelToken()
    storage = place.storage()
    provider = ScriptedProvider([Call.text("Coat.")])
    core = (
        place.builder(provider).storage(storage).store_factory(WatchedStores(storage, gate)).build()
    )
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").cancel(token).run())

    async with running(core), core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await gate.entered.wait()
            token.cancel()
            gate.release.set()
        assert outputs[0].assistant_message == "Coat."
        assert lines(session) == ["user: Pack", "assistant: Coat."]


async def test_one_token_can_stop_several_turns_and_is_never_fired_by_one(place: Place) -> None:
    """The token is the host's: cancelling a turn in another way must not spread."""
    token = CancelToken()
    first, second = StallingProvider(), StallingProvider()
    outputs: list[TurnOutput] = []

    async def run(session: LashSession, provider: StallingProvider) -> None:
        turn = session.turn("Pack").provider(provider).cancel(token)
        outputs.append(await turn.run())

    async with (
        a_core(place, ScriptedProvider()) as core,
        core.session("a") as a,
        core.session("b") as b,
    ):
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, a, first)
            await first.entered.wait()
            assert a.cancel_running_turns() == 1
        assert not token.is_cancelled
        first = StallingProvider()
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, a, first)
            callers.start_soon(run, b, second)
            await first.entered.wait()
            await second.entered.wait()
            token.cancel()
    assert [output.stop_reason for output in outputs] == [StopReason.CANCELLED] * 3


# --- by the session -----------------------------------------------------------------------------


async def test_cancel_running_turns_reaches_those_in_line(anywhere: Place) -> None:
    """Stop means stop: what waits behind the running turn must not start after it."""
    provider = StallingProvider()
    outputs: list[TurnOutput] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        assert session.cancel_running_turns() == 0
        async with anyio.create_task_group() as callers:
            for words in ("one", "two", "three"):
                callers.start_soon(run_to_its_end, session, words, outputs)
            await provider.entered.wait()
            assert session.cancel_running_turns() == 3
        assert [output.stop_reason for output in outputs] == [StopReason.CANCELLED] * 3
        assert provider.calls == 1
        assert lines(session) == ["user: one", "user: two", "user: three"]
        assert session.cancel_running_turns() == 0
        await goes_on(session, "two")


async def test_cancel_running_turns_spans_clones_but_no_other_handle(place: Place) -> None:
    """A clone is the same open session; a session opened apart is somebody else's."""
    provider = StallingProvider()
    async with a_core(place, provider) as core, core.session("s") as session:
        clone = session.clone()
        async with core.session("s") as apart, a_running_turn(session, provider) as outputs:
            assert apart.cancel_running_turns() == 0
            assert clone.cancel_running_turns() == 1
            assert clone.cancel_running_turns() <= 1
        assert outputs[0].stop_reason is StopReason.CANCELLED
        await clone.close()


# --- by cancelling the caller -------------------------------------------------------------------


async def test_cancelling_the_caller_cancels_the_turn(anywhere: Place) -> None:
    """`task.cancel()` must neither lose the question nor leave the model running."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").run())
        await provider.entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert provider.cut_off == 1
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_cancel_scope_cancels_the_turn(anywhere: Place) -> None:
    """The same for anyio's way, and the scope learns that it was obeyed."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as others:
            with anyio.CancelScope() as scope:

                async def stop() -> None:
                    await provider.entered.wait()
                    scope.cancel()

                others.start_soon(stop)
                await session.turn("Pack").run()
        assert scope.cancelled_caught
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_caller_that_leaves_the_line_leaves_no_trace(anywhere: Place) -> None:
    """Its turn was never accepted, and those before and behind it are served."""
    provider = StallingProvider("Coat.")
    outputs: list[TurnOutput] = []
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run_to_its_end, session, "one", outputs)
            await provider.entered.wait()
            waiting = asyncio.ensure_future(session.turn("two").run())
            await anyio.wait_all_tasks_blocked()
            callers.start_soon(run_to_its_end, session, "three", outputs)
            await anyio.wait_all_tasks_blocked()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            provider.release.set()
        assert [output.is_success for output in outputs] == [True, True]
        assert lines(session) == [
            "user: one",
            "assistant: Coat.",
            "user: three",
            "assistant: Coat.",
        ]


async def test_a_tool_that_is_cut_off_leaves_a_closed_history(anywhere: Place) -> None:
    """A call without a result would make every later request invalid at the provider."""
    entered = anyio.Event()
    ended = []

    @tool
    async def search(what: str) -> str:
        """Search for ever."""
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(what)
        return "never"

    provider = ScriptedProvider([Call.tool("call-1", "search", {"what": "coat"})])
    async with a_core(anywhere, provider, search) as core, core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").run())
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended == ["coat"]
        said = lines(session)
        assert said[:2] == ["user: Pack", 'assistant [tool_call]: {"what": "coat"}']
        assert said[2].startswith("user [tool_result]: ")
        assert len(said) == 3
        model = ScriptedProvider([Call.text("Still here.")])
        await session.turn("Go on").provider(model).run()
        assert asked(model.requests[0])[-2].startswith("user: [call-1]")


async def test_calls_that_were_asked_for_too_late_are_shown_as_cancelled(anywhere: Place) -> None:
    """The model has asked for them, so a watcher who counts starts and ends must find both."""
    called: list[str] = []

    @tool
    async def search(what: str) -> str:
        """Search."""
        called.append(what)
        return "found"

    class CancelsWhenAnswered:
        """Cancels once the model has answered, before its calls are made."""

        def __init__(self) -> None:
            self.token = CancelToken()
            self.shown: list[TurnEvent] = []

        async def emit(self, activity: TurnActivity) -> None:
            self.shown.append(activity.event)
            if isinstance(activity.event, UsageReported):
                self.token.cancel()

    sink = CancelsWhenAnswered()
    wanted = [("a", "search", {"what": "coat"}), ("b", "search", {"what": "hat"})]
    usage = LlmUsage(input_tokens=3, output_tokens=2)
    provider = ScriptedProvider([tool_calls_response(*wanted, usage=usage)])
    async with a_core(anywhere, provider, search) as core, core.session("s") as session:
        result = await session.turn("Pack").cancel(sink.token).stream_to(sink)
        assert result.stop_reason is StopReason.CANCELLED
        assert called == []
        started = [e.call_id for e in sink.shown if isinstance(e, ToolCallStarted)]
        completed = {e.call_id: e.output for e in sink.shown if isinstance(e, ToolCallCompleted)}
        assert started == ["a", "b"]
        assert [output.outcome.status for output in completed.values()] == ["cancelled"] * 2
        assert {call.call_id: call.output for call in result.tool_calls} == completed
        await goes_on(session)
    assert provider.calls == 1


async def test_a_tool_that_heeds_the_token_keeps_its_result(anywhere: Place) -> None:
    """Work that was finished in time is not thrown away."""
    entered = anyio.Event()

    @tool
    async def search(what: str, context: ToolContext) -> str:
        """Search until told to stop."""
        entered.set()
        await context.cancellation_token.wait()
        return f"half a {what}"

    token = CancelToken()
    provider = ScriptedProvider([Call.tool("call-1", "search", {"what": "coat"})])
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").cancel(token).run())

    async with a_core(anywhere, provider, search) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await entered.wait()
            token.cancel()
        assert outputs[0].stop_reason is StopReason.CANCELLED
        assert lines(session)[-1] == "user [tool_result]: half a coat"
    assert provider.calls == 1


async def test_finished_calls_of_a_cut_off_round_keep_their_results(anywhere: Place) -> None:
    """Of two parallel calls one was done: its result stays, the other says it was cancelled."""
    entered = anyio.Event()

    @tool
    async def quick() -> str:
        """Return at once."""
        return "done"

    @tool
    async def slow() -> str:
        """Never return."""
        entered.set()
        await anyio.sleep_forever()
        return "never"

    provider = ScriptedProvider([tool_calls_response(("a", "quick", {}), ("b", "slow", {}))])
    async with a_core(anywhere, provider, quick, slow) as core, core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").run())
        await entered.wait()
        await anyio.wait_all_tasks_blocked()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        results = [line for line in lines(session) if "[tool_result]" in line]
        assert results[0] == "user [tool_result]: done"
        assert len(results) == 2
        assert "cancelled" in results[1]


async def test_cancelling_during_the_commit_keeps_the_answer(place: Place) -> None:
    """A finished turn is never taken back: the cancellation goes on after it is stored."""
    gate = Gate("commit_runtime_state")
    storage = place.storage()
    provider = ScriptedProvider([Call.text("Coat.")])
    core = (
        place.builder(provider).storage(storage).store_factory(WatchedStores(storage, gate)).build()
    )
    async with running(core), core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").run())
        await gate.entered.wait()
        caller.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.release.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert lines(session) == ["user: Pack", "assistant: Coat."]
        await goes_on(session)


async def test_cancelling_during_the_acceptance_stores_the_question(place: Place) -> None:
    """The row was being written: the turn is closed as cancelled, and not left half accepted."""
    gate = Gate("accept_turn")
    storage = place.storage()
    provider = ScriptedProvider()
    core = (
        place.builder(provider).storage(storage).store_factory(WatchedStores(storage, gate)).build()
    )
    async with running(core), core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").turn_id("t-1").run())
        await gate.entered.wait()
        caller.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.release.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert lines(session) == ["user: Pack"]
        found = await session.turn("Pack").turn_id("t-1").run()
        assert found.stop_reason is StopReason.CANCELLED
        await goes_on(session)
    assert provider.calls == 0


async def test_cancelling_twice_does_not_tear_the_commit(place: Place) -> None:
    """An impatient host goes at once; the turn is still closed behind it."""
    gate = Gate("commit_runtime_state")
    storage = place.storage()
    provider = ScriptedProvider([Call.text("Coat.")])
    core = (
        place.builder(provider).storage(storage).store_factory(WatchedStores(storage, gate)).build()
    )
    async with running(core), core.session("s") as session:
        caller = asyncio.ensure_future(session.turn("Pack").run())
        await gate.entered.wait()
        caller.cancel()
        await anyio.wait_all_tasks_blocked()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.release.set()
        await goes_on(session)
        assert lines(session)[:2] == ["user: Pack", "assistant: Coat."]


async def test_cancelling_who_waits_for_the_same_turn_detaches_them_alone(place: Place) -> None:
    """The second tab was closed; the first one still wants its answer."""
    provider = StallingProvider("Coat.")
    outputs: list[TurnOutput] = []

    async def run(session: LashSession) -> None:
        outputs.append(await session.turn("Pack").turn_id("t-1").run())

    async with a_core(place, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, session)
            await provider.entered.wait()
            attached = asyncio.ensure_future(session.turn("Pack").turn_id("t-1").run())
            await anyio.wait_all_tasks_blocked()
            attached.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attached
            provider.release.set()
        assert outputs[0].assistant_message == "Coat."
        assert lines(session) == ["user: Pack", "assistant: Coat."]


# --- by leaving a stream ------------------------------------------------------------------------


async def test_leaving_a_stream_early_keeps_what_the_user_said(anywhere: Place) -> None:
    """An abandoned turn is committed as cancelled: the next turn sees the question."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with session.turn("Pack").stream() as stream:
            await anext(stream)
            await provider.entered.wait()
        assert (await stream.finish()).stop_reason is StopReason.CANCELLED
        assert provider.cut_off == 1
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_an_error_in_the_block_cancels_the_turn_and_is_raised(anywhere: Place) -> None:
    """The reader broke: its own error is what it gets to see."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        with pytest.raises(ZeroDivisionError):
            await _read_until_it_breaks(session)
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def _read_until_it_breaks(session: LashSession) -> None:
    async with session.turn("Pack").stream() as stream:
        await anext(stream)
        raise ZeroDivisionError


async def test_cancelling_the_reader_cancels_the_turn(anywhere: Place) -> None:
    """A client that hung up cancels the handler's task, and that is the usual end of a stream."""
    provider = StallingProvider()

    async def read(session: LashSession) -> None:
        async with session.turn("Pack").stream() as stream:
            async for _ in stream:
                pass

    async with a_core(anywhere, provider) as core, core.session("s") as session:
        reader = asyncio.ensure_future(read(session))
        await provider.entered.wait()
        await anyio.wait_all_tasks_blocked()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_cancelled_read_loses_no_activity(anywhere: Place) -> None:
    """Reading with a deadline is allowed: the next read goes on where this one stood."""
    provider = StallingProvider("Coat.")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with session.turn("Pack").stream() as stream:
            seen = []
            while not provider.entered.is_set() or len(seen) < 2:
                seen.append((await anext(stream)).event.type)
            reader = asyncio.ensure_future(stream.next_activity())
            await anyio.wait_all_tasks_blocked()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            provider.release.set()
            seen += [activity.event.type async for activity in stream]
            result = await stream.finish()
    assert result.assistant_message == "Coat."
    assert seen[:2] == ["model_request_started", "assistant_prose_delta"]
    assert seen.count("assistant_prose_delta") == 1


async def test_a_stream_can_be_closed_twice_and_by_another_task(anywhere: Place) -> None:
    """Clean-up code runs wherever it runs."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        stream = session.turn("Pack").stream()
        await provider.entered.wait()
        async with anyio.create_task_group() as closers:
            closers.start_soon(stream.aclose)
            closers.start_soon(stream.aclose)
        await stream.aclose()
        assert (await stream.finish()).stop_reason is StopReason.CANCELLED
        assert await stream.next_activity() is None
        await goes_on(session)


async def test_closing_a_stream_that_is_over_changes_nothing(anywhere: Place) -> None:
    """The block ends after the turn did: the answer stays an answer."""
    provider = ScriptedProvider([Call.text("Coat.")])
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with session.turn("Pack").stream() as stream:
            async for _ in stream:
                pass
        assert (await stream.finish()).is_success
        assert lines(session) == ["user: Pack", "assistant: Coat."]


async def test_finish_needs_no_reader(anywhere: Place) -> None:
    """More activities than the stream holds, none read: the turn still comes to its end."""

    async def talk(request: LlmRequest) -> LlmResponse:
        for _ in range(500):
            assert request.stream_events is not None
            request.stream_events(TextDelta("x"))
        return text_response("x" * 500)

    async with a_core(anywhere, TestProvider(talk)) as core, core.session("s") as session:
        stream = session.turn("Talk").stream()
        await anext(stream)
        await anyio.wait_all_tasks_blocked()
        result = await stream.finish()
        assert result.assistant_message == "x" * 500
        assert await stream.finish() is result


async def test_leaving_a_stream_that_is_full_does_not_hang(anywhere: Place) -> None:
    """The turn waits for its reader, and the reader leaves: one of them has to give way."""

    async def talk(request: LlmRequest) -> LlmResponse:
        for _ in range(500):
            assert request.stream_events is not None
            request.stream_events(TextDelta("x"))
        await anyio.sleep_forever()
        return text_response("")

    async with a_core(anywhere, TestProvider(talk)) as core, core.session("s") as session:
        async with session.turn("Pack").stream() as stream:
            await anext(stream)
            await anyio.wait_all_tasks_blocked()
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_dropped_stream_warns_and_cancels_its_turn(anywhere: Place) -> None:
    """Nobody can read it any more; paying for it would be a leak without an owner."""
    provider = StallingProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        streams = [session.turn("Pack").stream()]
        await provider.entered.wait()
        with pytest.warns(ResourceWarning, match="was dropped while the turn ran"):
            streams.clear()
        await goes_on(session)
        assert lines(session)[0] == "user: Pack"
    assert provider.cut_off == 1


# --- by what cannot be stopped -----------------------------------------------------------------


async def test_a_sync_tool_that_ignores_the_cancel_does_not_hold_the_turn(place: Place) -> None:
    """A thread cannot be stopped; the turn goes without it and the session stays usable."""
    entered, leave = anyio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @tool
    def block() -> str:
        """Block a thread."""
        loop.call_soon_threadsafe(entered.set)
        leave.wait()
        return "late"

    provider = ScriptedProvider([Call.tool("call-1", "block", {})])
    try:
        async with a_core(place, provider, block) as core, core.session("s") as session:
            caller = asyncio.ensure_future(session.turn("Pack").run())
            await entered.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            assert "late" not in "\n".join(lines(session))
            await goes_on(session)
    finally:
        leave.set()
