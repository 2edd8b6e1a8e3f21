"""Sessions as a host holds them: opened, shared, parked, resumed, reopened under other wiring."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from facade.models import StallingProvider, asked
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Calls, WatchedStores
from lash_runtime import (
    CancelToken,
    CoreClosed,
    LashCore,
    LashSession,
    ModelSpec,
    ParkedSession,
    PromptContribution,
    PromptLayer,
    PromptSlot,
    RuntimeFailure,
    SessionClosed,
    SessionNotDurable,
    SessionSpec,
    SessionStillInUse,
    StopReason,
    StoreSessionMismatch,
    TurnOutput,
    tool,
)
from lash_runtime.model.llm import LlmRequest
from lash_runtime.observe import ObservableSession
from lash_runtime.testing import Call, ScriptedProvider, usage

pytestmark = pytest.mark.anyio


def an_echo(kind: str = "scripted") -> ScriptedProvider:
    """A model that repeats the last thing it was told."""

    def repeat(request: LlmRequest) -> Call:
        return Call.text("re: " + asked(request)[-1].split(": ", 1)[1])

    return ScriptedProvider(otherwise=repeat, kind=kind)


@asynccontextmanager
async def a_running_turn(
    session: LashSession, provider: StallingProvider, words: str = "Pack"
) -> AsyncIterator[list[TurnOutput]]:
    """A turn that hangs in its model call until the block ends."""
    outputs: list[TurnOutput] = []

    async def run() -> None:
        outputs.append(await session.turn(words).provider(provider).run())

    async with anyio.create_task_group() as callers:
        callers.start_soon(run)
        await provider.entered.wait()
        yield outputs
        provider.release.set()


# --- opening and closing ------------------------------------------------------------------------


async def test_a_new_session_is_empty(anywhere: Place) -> None:
    """Opening an id that nobody has used is how a session begins."""
    async with a_core(anywhere, an_echo()) as core, core.session("s") as session:
        view = session.read_view()
        assert (session.session_id, view.session_id) == ("s", "s")
        assert (len(view.messages), view.turn_index) == (0, 0)
        assert session.usage_report().usage.total_tokens == 0
        assert session.policy_snapshot().model.id == "scripted-1"
        assert session.policy_snapshot().provider_id == "scripted"
        assert session.parent_session_id is None


async def test_a_session_can_be_opened_without_a_block(anywhere: Place) -> None:
    """A handle that lives in an object of the host's, closed when the object is."""
    async with a_core(anywhere, an_echo()) as core:
        session = await core.session("s").open()
        assert (await session.turn("hello").run()).assistant_message == "re: hello"
        assert not session.closed
        await session.close()
        assert session.closed
        await session.close()


async def test_a_closed_handle_says_so_whatever_it_is_asked(place: Place) -> None:
    """One error for every use, with the id of the session in it."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("chat-42").open()
        builder = session.turn("hello")
        await session.close()
        for use in (
            lambda: session.turn("hello"),
            session.cancel_running_turns,
            session.read_view,
            session.usage_report,
            session.policy_snapshot,
            session.observe,
            session.clone,
            builder.stream,
        ):
            with pytest.raises(SessionClosed, match="chat-42"):
                use()
        for wait in (session.park, builder.run):
            with pytest.raises(SessionClosed) as raised:
                await wait()
            assert (raised.value.code, raised.value.is_terminal) == ("session_closed", True)
        assert session.session_id == "chat-42"


async def test_one_session_is_remembered_by_many_cores(place: Place) -> None:
    """What was said is there for the next process, the one after it, and in order."""
    for number in range(3):
        async with a_core(place, an_echo()) as core, core.session("s") as session:
            assert len(lines(session)) == 2 * number
            await session.turn(f"q{number}").run()
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        assert lines(session) == [
            "user: q0",
            "assistant: re: q0",
            "user: q1",
            "assistant: re: q1",
            "user: q2",
            "assistant: re: q2",
        ]
        assert session.read_view().turn_index == 3


async def test_sessions_do_not_see_each_other(anywhere: Place) -> None:
    """Two users of one application."""
    provider = an_echo()
    async with (
        a_core(anywhere, provider) as core,
        core.session("a") as a,
        core.session("b") as b,
    ):
        await a.turn("secret of a").run()
        await b.turn("hello").run()
        assert lines(b) == ["user: hello", "assistant: re: hello"]
    assert "secret of a" not in "\n".join(asked(provider.requests[1]))


async def test_turns_of_different_sessions_run_at_the_same_time(place: Place) -> None:
    """One stalled conversation must not hold up the others."""
    stalled = StallingProvider()
    async with (
        a_core(place, an_echo()) as core,
        core.session("a") as a,
        core.session("b") as b,
        a_running_turn(a, stalled),
    ):
        assert (await b.turn("hello").run()).assistant_message == "re: hello"


async def test_a_block_that_ends_while_a_turn_runs_says_so(place: Place) -> None:
    """The turn is not cut off behind its caller's back; the host has to decide."""
    stalled = StallingProvider()
    async with a_core(place, an_echo()) as core:
        async with anyio.create_task_group() as callers:
            session = await core.session("s").open()
            callers.start_soon(session.turn("Pack").provider(stalled).run)
            await stalled.entered.wait()
            with pytest.raises(SessionStillInUse):
                async with session:
                    pass
            assert not session.closed
            stalled.release.set()
        await session.close()


async def test_the_error_of_a_block_is_not_hidden_by_its_closing(place: Place) -> None:
    """Of two errors the first one is the cause."""
    stalled = StallingProvider()
    async with a_core(place, an_echo()) as core:
        async with anyio.create_task_group() as callers:
            session = await core.session("s").open()
            callers.start_soon(session.turn("Pack").provider(stalled).run)
            await stalled.entered.wait()
            with pytest.raises(ZeroDivisionError):
                async with session:
                    raise ZeroDivisionError
            stalled.release.set()
        await session.close()


async def test_one_builder_can_be_entered_by_many_tasks_at_once(place: Place) -> None:
    """A builder is a value that a host keeps; each block closes the session that it opened."""
    everyone = anyio.Event()
    inside = 0
    handles: list[LashSession] = []

    async with a_core(place, an_echo()) as core:
        builder = core.session("s")

        async def visit(name: str) -> None:
            nonlocal inside
            async with builder as session:
                handles.append(session)
                inside += 1
                if inside == 5:
                    everyone.set()
                await everyone.wait()
                await session.turn(name).run()
                assert not session.closed

        async with anyio.create_task_group() as visitors:
            for number in range(5):
                visitors.start_soon(visit, f"v{number}")
        assert len({id(handle) for handle in handles}) == 5
        assert all(handle.closed for handle in handles)
        async with builder as outer, builder as inner:
            assert outer is not inner
            assert len(lines(inner)) == 10


async def test_a_dropped_handle_warns(place: Place) -> None:
    """A handle that nobody can close any more is a leak of the host's."""
    async with a_core(place, an_echo()) as core:
        handles = [await core.session("chat-42").open()]
        with pytest.warns(ResourceWarning, match="chat-42"):
            handles.clear()


async def test_a_closed_handle_is_dropped_in_silence(place: Place) -> None:
    """No warning for those who did it right, nor after the core was closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with a_core(place, an_echo()) as core:
            left_open = [await core.session("a").open()]
            closed = [await core.session("b").open()]
            await closed[0].close()
            closed.clear()
        left_open.clear()


# --- clones -------------------------------------------------------------------------------------


async def test_clones_share_one_session(anywhere: Place) -> None:
    """Handles for the parts of a host, each closed by its own part."""
    async with a_core(anywhere, an_echo()) as core:
        session = await core.session("s").open()
        clone = session.clone()
        await clone.turn("one").run()
        assert lines(session) == lines(clone) == ["user: one", "assistant: re: one"]
        await session.close()
        assert (session.closed, clone.closed) == (True, False)
        with pytest.raises(SessionClosed):
            session.read_view()
        await clone.turn("two").run()
        assert len(lines(clone)) == 4
        await clone.close()


async def test_closing_one_handle_twice_does_not_close_its_clone(place: Place) -> None:
    """Handles are counted; one must not be counted twice."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        clone = session.clone()
        await session.close()
        await session.close()
        assert (await clone.turn("one").run()).is_success
        await clone.close()


# --- parking ------------------------------------------------------------------------------------


async def test_a_parked_session_goes_on_where_it_was(place: Place) -> None:
    """What a host's cache keeps of an idle conversation: nothing of its text."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        await session.turn("one").run()
        parked = await session.park()
        assert session.closed
        assert (parked.session_id, parked.policy.model.id) == ("s", "scripted-1")
        assert "one" not in repr(parked)
        resumed = await core.resume(parked)
        assert lines(resumed) == ["user: one", "assistant: re: one"]
        await resumed.turn("two").run()
        await resumed.close()
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        assert len(lines(session)) == 4


async def test_resuming_sees_what_others_have_said_meanwhile(place: Place) -> None:
    """A parked session holds no copy that could go stale, and may be resumed again."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        await session.turn("one").run()
        parked = await session.park()
        async with core.session("s") as other:
            await other.turn("two").run()
        for _ in range(2):
            async with await core.resume(parked) as resumed:
                assert [line for line in lines(resumed) if line.startswith("user")] == [
                    "user: one",
                    "user: two",
                ]


async def test_resuming_keeps_what_the_session_was_opened_with(place: Place) -> None:
    """Provider, model, prompt, limits and parent are the session's, parked or not."""
    own = an_echo("own")
    async with a_core(place, ScriptedProvider()) as core:
        session = await (
            core.session("s")
            .provider(own)
            .model(ModelSpec.from_token_limits("bigger-2", context_window=9_000))
            .max_turns(4)
            .prompt_contribution(
                PromptContribution(slot=PromptSlot.GUIDANCE, content="Like a sailor.")
            )
            .parent("root")
            .open()
        )
        before = session.policy_snapshot()
        parked = await session.park()
        async with await core.resume(parked) as resumed:
            assert resumed.policy_snapshot() == before
            assert resumed.parent_session_id == "root"
            await resumed.turn("one").run()
    assert own.requests[0].model == "bigger-2"
    assert "Like a sailor." in asked(own.requests[0])[0]


async def test_a_session_without_a_store_cannot_be_parked(database: Any) -> None:
    """There would be nothing to resume it from. It stays open."""
    place = Place("nothing", database)
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        with pytest.raises(SessionNotDurable) as raised:
            await session.park()
        assert (raised.value.code, raised.value.is_terminal) == ("session_not_durable", True)
        assert (await session.turn("one").run()).is_success


async def test_a_parked_session_of_a_closed_core_cannot_be_resumed(place: Place) -> None:
    """It belongs to its core; another core opens the session by its id."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        parked = await session.park()
    with pytest.raises(CoreClosed):
        await core.resume(parked)


@pytest.mark.parametrize("leave", ["close", "park"])
async def test_a_session_in_use_stays_open(place: Place, leave: str) -> None:
    """Refused with nothing changed: the turn goes on and the handle stays usable."""
    stalled = StallingProvider("Coat.")
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        async with a_running_turn(session, stalled) as outputs:
            with pytest.raises(SessionStillInUse) as raised:
                await getattr(session, leave)()
            assert (raised.value.turns, raised.value.clones) == (1, 0)
            assert raised.value.code == "session_still_in_use"
            assert not session.closed
            assert len(session.read_view().messages) == 0
        assert outputs[0].assistant_message == "Coat."
        await getattr(session, leave)()
        assert session.closed


async def test_turns_in_line_keep_a_session_in_use(place: Place) -> None:
    """They were promised a place; giving the session up would break the promise."""
    stalled = StallingProvider()
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        async with core.session("s") as other, anyio.create_task_group() as callers:
            callers.start_soon(session.turn("one").provider(stalled).run)
            await stalled.entered.wait()
            waiting = asyncio.ensure_future(other.turn("two").run())
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(SessionStillInUse):
                await other.park()
            stalled.release.set()
            await waiting


async def test_a_clone_keeps_a_session_from_being_parked_but_not_from_closing(
    place: Place,
) -> None:
    """Parking ends the session for all its handles, closing one handle ends that handle."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        clone = session.clone()
        with pytest.raises(SessionStillInUse) as raised:
            await session.park()
        assert (raised.value.clones, raised.value.turns) == (1, 0)
        assert (await session.turn("one").run()).is_success
        await clone.close()
        parked = await session.park()
        assert isinstance(parked, ParkedSession)


async def test_an_observer_does_not_keep_a_session_in_use(place: Place) -> None:
    """Whoever watches steers nothing, and cannot be made to leave."""
    async with a_core(place, an_echo()) as core:
        session = await core.session("s").open()
        observed = session.observe()
        await session.turn("one").run()
        await session.close()
        assert len(observed.current_observation().read_view.messages) == 2


# --- order --------------------------------------------------------------------------------------


async def test_turns_stand_in_line_in_the_order_in_which_they_were_started(
    anywhere: Place,
) -> None:
    """First come, first served, each on what the one before has left."""
    provider = an_echo()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        streams = [session.turn(f"q{number}").stream() for number in range(5)]
        results = [await stream.finish() for stream in reversed(streams)]
        said = lines(session)
    assert all(result.is_success for result in results)
    assert said == [line for n in range(5) for line in (f"user: q{n}", f"assistant: re: q{n}")]
    assert [len(request.messages) for request in provider.requests] == [2, 4, 6, 8, 10]


async def test_two_handles_of_one_core_never_interleave(place: Place) -> None:
    """Opened apart, the two still stand in one line, and neither runs on stale history."""
    provider = an_echo()
    async with (
        a_core(place, provider) as core,
        core.session("s") as a,
        core.session("s") as b,
    ):
        async with anyio.create_task_group() as callers:
            for number in range(10):
                session = (a, b)[number % 2]
                callers.start_soon(session.turn(f"q{number}").run)
        await a.turn("end").run()
        said = lines(a)
    assert len(said) == 22
    for question, answer in zip(said[::2], said[1::2], strict=True):
        assert answer == question.replace("user: ", "assistant: re: ")
    assert sorted(said[:20:2]) == [f"user: q{number}" for number in range(10)]
    assert [len(request.messages) for request in provider.requests] == list(range(2, 24, 2))


async def test_a_handle_catches_up_with_the_other_at_its_next_turn(place: Place) -> None:
    """Between turns a handle shows what it knew; its turn sees everything."""
    provider = an_echo()
    async with (
        a_core(place, provider) as core,
        core.session("s") as a,
        core.session("s") as b,
    ):
        await a.turn("one").run()
        await b.turn("two").run()
        assert lines(b)[:2] == ["user: one", "assistant: re: one"]
        await a.turn("three").run()
        assert len(lines(a)) == 6
        assert a.read_view().turn_index == 3


async def test_opening_a_session_beside_its_running_turn_takes_nothing_from_it(
    place: Place,
) -> None:
    """Otherwise whoever is next in line would find the session held by a mere reader."""
    storage, calls, stalled = place.storage(), Calls(), StallingProvider()
    core = (
        place.builder(an_echo()).storage(storage).store_factory(WatchedStores(storage, calls))
    ).build()
    async with running(core), core.session("s") as session:
        async with a_running_turn(session, stalled):
            calls.clear()
            async with core.session("s") as reader:
                assert lines(reader) == []
            assert [call for call in calls if "lease" in call] == []
        assert (await session.turn("next").run()).is_success


# --- reading ------------------------------------------------------------------------------------


async def test_a_view_never_changes_once_taken(anywhere: Place) -> None:
    """A page that is being rendered must not grow under the renderer."""
    async with a_core(anywhere, an_echo()) as core, core.session("s") as session:
        views = [session.read_view()]
        for number in range(4):
            await session.turn(f"q{number}").run()
            views.append(session.read_view())
        assert [len(view.messages) for view in views] == [0, 2, 4, 6, 8]
        assert [view.turn_index for view in views] == [0, 1, 2, 3, 4]
        assert [m.text for m in views[1].messages] == ["q0", "re: q0"]
        assert views[4].messages[0] == views[1].messages[0]


async def test_reads_do_not_wait_for_a_running_turn(anywhere: Place) -> None:
    """And they show settled things alone: nothing of a turn that is not over."""
    stalled = StallingProvider()
    async with a_core(anywhere, an_echo()) as core, core.session("s") as session:
        await session.turn("one").run()
        async with a_running_turn(session, stalled, "two"):
            assert lines(session) == ["user: one", "assistant: re: one"]
            assert session.read_view().turn_index == 1
            assert session.usage_report().entry_count == 0
            assert session.policy_snapshot().provider_id == "scripted"
            async with core.session("s") as other:
                assert len(lines(other)) == (2 if anywhere.stores else 0)
        assert len(lines(session)) == 4


# --- starting over ------------------------------------------------------------------------------


async def test_a_fresh_session_replaces_the_old_one_at_its_first_turn(place: Place) -> None:
    """Until somebody says something the old conversation is still there."""
    async with a_core(place, an_echo()) as core:
        async with core.session("s") as session:
            await session.turn("old").run()
        async with await core.session("s").open_fresh() as fresh:
            assert lines(fresh) == []
        async with core.session("s") as session:
            assert lines(session) == ["user: old", "assistant: re: old"]
        async with await core.session("s").open_fresh() as fresh:
            await fresh.turn("new").run()
            assert lines(fresh) == ["user: new", "assistant: re: new"]
            await fresh.turn("newer").run()
            assert len(lines(fresh)) == 4
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        assert [line for line in lines(session) if "old" in line] == []
        assert len(lines(session)) == 4


async def test_opening_fresh_reads_nothing(place: Place) -> None:
    """It is also the way out of a transcript that cannot be read."""
    storage, calls = place.storage(), Calls()
    core = (
        place.builder(an_echo()).storage(storage).store_factory(WatchedStores(storage, calls))
    ).build()
    async with running(core):
        async with await core.session("s").open_fresh():
            assert calls == []


async def test_a_view_tells_the_last_turns_usage_and_the_report_the_sessions(place: Place) -> None:
    """One says how large a turn is by now, the other what the conversation has cost."""
    provider = ScriptedProvider(
        [Call.text("yes", usage=usage(10, 1)), Call.text("yes", usage=usage(20, 2))]
    )
    cancelled = CancelToken()
    cancelled.cancel()

    def tokens(shown: LashSession | ObservableSession) -> tuple[int, int, int | None]:
        view = shown.read_view()
        prompt = view.last_prompt_usage
        return (
            view.token_usage.total,
            shown.usage_report().usage.total_tokens,
            None if prompt is None else prompt.prompt_context_tokens,
        )

    async with a_core(place, provider) as core:
        async with core.session("s") as session:
            assert tokens(session) == (0, 0, None)
            await session.turn("one").run()
            assert tokens(session) == (11, 11, 10)
            await session.turn("two").run()
            assert tokens(session) == (22, 33, 20)
            # A turn that has asked no model has nothing to say about the size of one.
            await session.turn("three").cancel(cancelled).run()
            assert tokens(session) == tokens(session.observe()) == (22, 33, 20)
        async with core.session("s") as session:
            assert tokens(session) == (22, 33, 20)


async def test_a_fresh_session_begins_its_bill_again(place: Place) -> None:
    """The ledger is part of what was replaced, in memory and in the store alike."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("yes", usage=usage(10, 1)))
    async with a_core(place, provider) as core:
        async with core.session("s") as session:
            await session.turn("old").run()
        async with await core.session("s").open_fresh() as fresh:
            await fresh.turn("new").run()
            report = fresh.usage_report()
            assert fresh.read_view().turn_index == 1
        async with core.session("s") as session:
            assert session.usage_report() == report
            assert session.read_view().turn_index == 1


async def test_a_session_can_be_opened_with_the_state_of_an_earlier_view(place: Place) -> None:
    """Undo: the host kept a view and goes back to it."""
    async with a_core(place, an_echo()) as core:
        async with core.session("s") as session:
            await session.turn("one").run()
            kept = session.read_view()
            await session.turn("two").run()
        async with await core.session("s").open_with_state(kept) as back:
            assert lines(back) == ["user: one", "assistant: re: one"]
            await back.turn("other two").run()
        async with core.session("s") as session:
            assert [line for line in lines(session) if line.startswith("user")] == [
                "user: one",
                "user: other two",
            ]


@pytest.mark.parametrize("leave", ["close", "park"])
async def test_a_state_that_no_turn_has_stored_is_stored_at_the_end(
    place: Place, leave: str
) -> None:
    """The host said what the session is; leaving it must not lose that."""
    async with a_core(place, an_echo()) as core:
        async with core.session("s") as session:
            await session.turn("one").run()
            kept = session.read_view()
            await session.turn("two").run()
        back = await core.session("s").open_with_state(kept)
        await getattr(back, leave)()
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        assert lines(session) == ["user: one", "assistant: re: one"]


async def test_the_state_of_another_session_is_refused(place: Place) -> None:
    """A mix-up of two users' conversations would be the worst of bugs."""
    async with a_core(place, an_echo()) as core:
        async with core.session("a") as session:
            await session.turn("one").run()
            view = session.read_view()
        with pytest.raises(StoreSessionMismatch) as raised:
            await core.session("b").open_with_state(view)
        assert (raised.value.loaded, raised.value.requested) == ("a", "b")
        assert (raised.value.code, raised.value.is_terminal) == ("store_session_mismatch", True)
        async with core.session("b") as session:
            assert lines(session) == []


# --- reopening under other wiring ---------------------------------------------------------------


async def test_the_hosts_model_wins_over_the_recorded_one(place: Place) -> None:
    """A deployment that moves to a newer model moves its old sessions too."""
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        await session.turn("one").run()
    provider = an_echo()
    core = place.builder(provider).model("newer-2", context_window=5_000).build()
    async with running(core):
        async with core.session("s") as session:
            assert session.policy_snapshot().model.id == "newer-2"
            await session.turn("two").run()
        async with core.session("s").model(
            ModelSpec.from_token_limits("newest-3", context_window=10)
        ) as session:
            await session.turn("three").run()
    assert [request.model for request in provider.requests] == ["newer-2", "newest-3"]


async def test_a_recorded_prompt_holds_until_the_host_gives_another(place: Place) -> None:
    """The personality of a session is kept with it."""

    def prompt(words: str) -> PromptLayer:
        return PromptLayer().add_contribution(
            PromptContribution(slot=PromptSlot.GUIDANCE, content=words)
        )

    provider = an_echo()
    async with a_core(place, provider) as core:
        async with core.session("s").prompt_layer(prompt("Like a sailor.")) as session:
            await session.turn("one").run()
    async with a_core(place, provider) as core:
        async with core.session("s") as session:
            await session.turn("two").run()
        async with core.session("s").prompt_layer(prompt("Like a poet.")) as session:
            await session.turn("three").run()
        async with core.session("s") as session:
            await session.turn("four").run()
    systems = [asked(request)[0] for request in provider.requests]
    assert ["sailor" in system for system in systems] == [True, True, False, False]
    assert ["poet" in system for system in systems] == [False, False, True, True]


async def test_the_cores_prompt_is_always_the_present_one(place: Place) -> None:
    """It belongs to the deployment and is never stored."""
    providers = []
    for words in ("first edition", "second edition"):
        provider = an_echo()
        providers.append(provider)
        core = (
            place.builder(provider)
            .prompt_contribution(PromptContribution(slot=PromptSlot.GUIDANCE, content=words))
            .build()
        )
        async with running(core), core.session("s") as session:
            await session.turn("x").run()
    assert "first edition" in asked(providers[0].requests[0])[0]
    second = asked(providers[1].requests[0])[0]
    assert "second edition" in second
    assert "first edition" not in second


async def test_another_provider_than_the_recorded_one_is_refused_at_the_turn(
    place: Place,
) -> None:
    """A conversation moves to another vendor when its host says so, never by accident."""
    async with a_core(place, an_echo("first")) as core, core.session("s") as session:
        await session.turn("one").run()
    other = an_echo("second")
    async with a_core(place, other) as core, core.session("s") as session:
        assert session.policy_snapshot().provider_id == "first"
        for _ in range(2):
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("two").turn_id("t-2").run()
            assert raised.value.code == "llm_provider"
            assert "'first'" in str(raised.value)
            assert "'s'" in str(raised.value)
        assert len(lines(session)) == 2
        explicit = await session.turn("three").provider(other).run()
        assert explicit.assistant_message == "re: three"
        with pytest.raises(RuntimeFailure):
            await session.turn("four").run()
    assert other.calls == 1
    async with a_core(place, an_echo("first")) as core, core.session("s") as session:
        assert (await session.turn("two").turn_id("t-2").run()).is_success


async def test_a_core_without_a_provider_opens_and_reads_sessions(place: Place) -> None:
    """A viewer needs no keys; only a turn needs a model."""
    async with a_core(place, an_echo()) as core, core.session("s") as session:
        await session.turn("one").run()
    core = LashCore.standard_builder().model("scripted-1").storage(place.storage()).build()
    async with running(core), core.session("s") as session:
        assert lines(session) == ["user: one", "assistant: re: one"]
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("two").run()
        assert raised.value.code == "llm_provider"
        assert len(lines(session)) == 2


async def test_a_session_spec_sets_what_it_names_and_nothing_else(place: Place) -> None:
    """Overlays combine: core, then session, in the order in which they were given."""
    async with a_core(place, an_echo()) as core:
        builder = core.session("s").max_turns(4)
        async with builder.session_spec(SessionSpec()) as session:
            assert session.policy_snapshot().max_turns == 4
        async with builder.session_spec(SessionSpec(max_turns=None)) as session:
            assert session.policy_snapshot().max_turns is None
        async with builder as session:
            assert session.policy_snapshot().max_turns == 4


async def test_the_sessions_max_turns_bounds_each_turn(anywhere: Place) -> None:
    """A limit of the session holds unless a turn has its own."""

    @tool
    async def look() -> str:
        """Look."""
        return "nothing"

    provider = ScriptedProvider(otherwise=lambda request: Call.tool("c", "look", {}))
    async with a_core(anywhere, provider, look) as core:
        async with core.session("s").max_turns(2) as session:
            first = await session.turn("x").run()
            assert (first.stop_reason, provider.calls) == (StopReason.MAX_TURNS, 2)
            second = await session.turn("x").max_turns(1).run()
            assert (second.stop_reason, provider.calls) == (StopReason.MAX_TURNS, 3)
