"""Unfinished turns of sessions that are opened in other ways, or by two at once."""

from datetime import timedelta

import anyio
import pytest

from attachments.pictures import a_png
from facade.finishing import (
    CUTS,
    WHOLE,
    Agent,
    Cut,
    Shop,
    about_to_close,
    cut_off_in_round,
    cut_off_in_tool,
    is_restart,
    is_retired,
    row_of,
)
from facade.places import Place, running
from facade.transcripts import lines
from facade.watched import WatchedStores
from lash_runtime import (
    CancelToken,
    Image,
    LashCore,
    LashSession,
    LeaseOwnerIdentity,
    Residency,
    RuntimeFailure,
    SessionBuilder,
    StopReason,
    TurnInput,
    tool,
)
from lash_runtime.model.llm import LlmRequest
from lash_runtime.model.tool_results import PendingToolCall
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.ports.tools import ToolContext
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.runtime.turn.run import MAX_DEATHS
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import text_response, tool_call_response

pytestmark = pytest.mark.anyio

OLD = ["user: Hi", "assistant: Hello."]


async def said_before(place: Place) -> None:
    """A history to begin with."""
    core = Shop().builder(place, Agent([text_response("Hello.")])).build()
    async with running(core), core.session("s") as session:
        await session.turn("Hi").turn_id("before").run()


def a_core(place: Place, agent: Agent | None = None, shop: Shop | None = None) -> LashCore:
    return (shop or Shop()).builder(place, agent or Agent()).build()


# --- other ways to open a session ---------------------------------------------------------------


async def left_at_starting_over(place: Place, at: str = "me") -> None:
    """A turn of a new history that was cut off in a tool."""
    shop = Shop(at)
    async with about_to_close(a_core(place, shop=shop), opened=SessionBuilder.open_fresh):
        await shop.entered.wait()


async def test_a_start_over_goes_on_in_its_own_history(on_disk: Place) -> None:
    """The old words were replaced when it was accepted, and the turn is finished without them:
    by the same request, and by another turn of the session as it is stored."""
    for again in (True, False):
        place = Place("sqlite", on_disk.database.with_name(f"{again}.db"))
        await said_before(place)
        await left_at_starting_over(place)
        core = a_core(place)
        async with running(core):
            if again:
                session = await core.session("s").open_fresh()
                await session.turn("Go").turn_id("t").run()
            else:
                session = await core.session("s").open()
                await session.turn("And now?").run()
            assert lines(session)[: len(WHOLE)] == WHOLE
            await session.close()
        assert (await row_of(place)).state is TurnState.COMMITTED
        assert await is_retired(place)


async def test_starting_over_gives_up_what_was_unfinished(on_disk: Place) -> None:
    """Nothing of it is run again, and its caller is told that its history is gone."""
    await cut_off_in_tool(on_disk, "me")
    agent, shop = Agent(), Shop()
    core = a_core(on_disk, agent, shop)
    async with running(core):
        async with await core.session("s").open_fresh() as fresh:
            await fresh.turn("New").run()
            assert lines(fresh)[0] == "user: New"
            assert len(lines(fresh)) == len(WHOLE)
        assert await is_retired(on_disk)
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Go").turn_id("t").run()
            assert raised.value.code == "turn_not_available"


async def test_going_back_closes_what_was_unfinished(on_disk: Place) -> None:
    """A state that replaces the history replaces the turn with it, also when it is asked for."""
    await said_before(on_disk)
    core = a_core(on_disk)
    async with running(core), core.session("s") as session:
        kept = session.read_view()
    await cut_off_in_tool(on_disk, "me")
    agent, shop = Agent(), Shop()
    core = a_core(on_disk, agent, shop)
    async with running(core):
        async with await core.session("s").open_with_state(kept) as back:
            with pytest.raises(RuntimeFailure) as raised:
                await back.turn("Go").turn_id("t").run()
            assert raised.value.code == "turn_of_replaced_history"
            assert (shop.did, agent.calls) == ([], 0)
            await back.turn("Other").run()
            assert lines(back) == [*OLD, "user: Other", *WHOLE[1:]]
    assert (await row_of(on_disk)).state is TurnState.INTERRUPTED
    assert await is_retired(on_disk)


async def test_a_session_that_was_parked_finishes_it_when_it_is_resumed(on_disk: Place) -> None:
    """Resuming is opening."""
    await cut_off_in_round(on_disk, 1)
    core = a_core(on_disk)
    async with running(core):
        parked = await (await core.session("s").open()).park()
        session = await core.resume(parked)
        output = await session.turn("Go").turn_id("t").run()
        assert is_restart(output.activities[0])
        assert lines(session) == WHOLE
        await session.close()


@pytest.mark.parametrize("cut", CUTS)
async def test_a_session_that_keeps_its_path_alone_finishes_it(on_disk: Place, cut: Cut) -> None:
    """What is in memory has no say in what is finished."""
    await said_before(on_disk)
    await cut(on_disk)
    core = Shop().builder(on_disk, Agent()).residency(Residency.ACTIVE_PATH_ONLY).build()
    async with running(core), core.session("s") as session:
        assert lines(session) == OLD
        output = await session.turn("Go").turn_id("t").run()
        assert output.assistant_message == "Done."
        assert lines(session) == [*OLD, *WHOLE]
        await session.turn("And now?").run()
    core = a_core(on_disk)
    async with running(core), core.session("s") as session:
        assert lines(session) == [*OLD, *WHOLE, "user: And now?", *WHOLE[1:]]


@pytest.mark.parametrize("again", [True, False])
async def test_an_image_in_the_words_is_shown_to_the_model(on_disk: Place, again: bool) -> None:
    """It was stored before the turn was accepted, and is kept until it is settled."""
    said = TurnInput.of("Go", Image(a_png("cat")))
    agent = Agent(hangs=1)
    async with about_to_close(a_core(on_disk, agent), said):
        await agent.entered.wait()
    agent = Agent()
    core = a_core(on_disk, agent)
    async with running(core), core.session("s") as session:
        if again:
            await session.turn(said).turn_id("t").run()
        else:
            await session.turn("And now?").run()
        assert images_of(agent.requests[0]) == [a_png("cat")]
        kept = [ref for m in session.read_view().messages for p in m.parts for ref in p.attachments]
        assert len(kept) == 1
        assert (await session.attachments.get(kept[0])).data == a_png("cat")
        await core.attachments.sweep(timedelta(0))
        assert (await session.attachments.get(kept[0])).data == a_png("cat")


def images_of(request: LlmRequest) -> list[bytes]:
    return [attachment.data for attachment in request.attachments]


# --- a core without a journal -------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("how", ["open", "again", "another turn"])
async def test_a_core_without_a_journal_closes_it(on_disk: Place, cut: Cut, how: str) -> None:
    """It never runs a turn again: the words stay, and the caller is told that it was cut off."""
    await cut(on_disk)
    inline = Place("inline", on_disk.database)
    agent, shop = Agent(), Shop()
    core = a_core(inline, agent, shop)
    async with running(core), core.session("s") as session:
        if how == "another turn":
            await session.turn("And now?").run()
            assert lines(session) == ["user: Go", "user: And now?", *WHOLE[1:]]
        else:
            if how == "again":
                found = await session.turn("Go").turn_id("t").run()
                assert found.stop_reason is StopReason.INTERRUPTED
            assert lines(session) == ["user: Go"]
            assert (shop.did, agent.calls) == ([], 0)
    row = await row_of(on_disk)
    assert (row.state, row.input) == (TurnState.INTERRUPTED, None)
    assert await is_retired(on_disk)
    core = a_core(on_disk)
    async with running(core), core.session("s") as session:
        found = await session.turn("Go").turn_id("t").run()
        assert found.stop_reason is StopReason.INTERRUPTED


async def test_a_turn_that_was_closed_says_what_it_had_done(on_disk: Place) -> None:
    """A call that may have happened is visible as exactly that, also where nobody goes on."""
    await cut_off_in_tool(on_disk, "me")
    core = a_core(Place("inline", on_disk.database))
    async with running(core), core.session("s"):
        pass
    effects = (await row_of(on_disk)).effects
    assert [(effect.subject, effect.recorded) for effect in effects] == [
        ("scripted-1", True),
        ("look", True),
        ("look", True),
        ("scripted-1", True),
        ("pay", False),
    ]


# --- two at once --------------------------------------------------------------------------------


async def test_of_two_cores_one_finishes_it(on_disk: Place) -> None:
    """The other is refused before it does anything, and finds the result when it asks again."""
    await cut_off_in_tool(on_disk, "me")
    shops, agents = (Shop(), Shop()), (Agent(), Agent())
    cores = [a_core(on_disk, agent, shop) for agent, shop in zip(agents, shops, strict=True)]
    answers: list[str | None] = []
    codes: list[str] = []

    async def ask(session: LashSession) -> None:
        try:
            answers.append((await session.turn("Go").turn_id("t").run()).assistant_message)
        except RuntimeFailure as error:
            codes.append(error.code)

    async with running(cores[0]), running(cores[1]):
        async with cores[0].session("s") as one, cores[1].session("s") as two:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, one)
                tasks.start_soon(ask, two)
            assert sorted([*answers, *codes]) in (
                ["Done.", "Done."],
                ["Done.", "session_execution_busy"],
            )
            for session in (one, two):
                found = await session.turn("Go").turn_id("t").run()
                assert found.assistant_message == "Done."
                assert lines(session) == WHOLE
    assert shops[0].did + shops[1].did == ["me"]
    assert agents[0].rounds + agents[1].rounds == [2]
    assert (await row_of(on_disk)).attempt == 2


async def test_a_core_that_is_at_it_is_not_disturbed(on_disk: Place) -> None:
    """A turn that is being finished runs like any other: who comes with another is refused."""
    await cut_off_in_round(on_disk, 1)
    agent = Agent(hangs=1)
    shop = Shop()
    busy, other = a_core(on_disk, agent), a_core(on_disk, shop=shop)
    async with running(other):
        async with about_to_close(busy):
            await agent.entered.wait()
            async with other.session("s") as session:
                with pytest.raises(RuntimeFailure) as raised:
                    await session.turn("And now?").turn_id("later").run()
                assert raised.value.code == "session_execution_busy"
                assert shop.did == []
        async with other.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
            assert output.activities[0].event.data["attempt"] == 3  # type: ignore[union-attr]
            assert lines(session) == WHOLE


async def test_two_handles_of_a_core_finish_it_once(on_disk: Place) -> None:
    """The second caller waits in line and attaches."""
    await cut_off_in_tool(on_disk, "me")
    shop = Shop()
    core = a_core(on_disk, shop=shop)
    answers = []

    async def ask(session: LashSession) -> None:
        answers.append((await session.turn("Go").turn_id("t").run()).assistant_message)

    async with running(core), core.session("s") as one, core.session("s") as two:
        async with anyio.create_task_group() as tasks:
            for session in (one, two, one):
                tasks.start_soon(ask, session)
    assert answers == ["Done."] * 3
    assert shop.did == ["me"]


# --- how it ends --------------------------------------------------------------------------------


async def test_a_turn_that_is_being_finished_can_be_cancelled(on_disk: Place) -> None:
    """It commits as cancelled, with what was on record, and closed."""
    await cut_off_in_tool(on_disk, "me")
    shop = Shop("me")
    token = CancelToken()
    core = a_core(on_disk, shop=shop)
    async with running(core), core.session("s") as session:
        stream = session.turn("Go").turn_id("t").cancel(token).stream()
        await shop.entered.wait()
        token.cancel()
        result = await stream.finish()
        assert result.outcome.reason is StopReason.CANCELLED  # type: ignore[union-attr]
        assert lines(session)[:7] == WHOLE[:7]
        assert lines(session)[7].startswith("user [tool_result]: ")
    row = await row_of(on_disk)
    assert row.state is TurnState.COMMITTED
    assert [effect.recorded for effect in row.effects if effect.subject == "pay"] == [False]
    assert await is_retired(on_disk)


async def test_a_caller_that_is_cancelled_leaves_a_settled_turn(on_disk: Place) -> None:
    """A cancel is no death: what was finished is committed, and nobody runs it again."""
    shop = Shop("me")
    core = a_core(on_disk, shop=shop)
    async with running(core), core.session("s") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.turn("Go").turn_id("t").run)
            await shop.entered.wait()
            tasks.cancel_scope.cancel()
        assert lines(session)[:7] == WHOLE[:7]
        found = await session.turn("Go").turn_id("t").run()
        assert found.stop_reason is StopReason.CANCELLED
    assert shop.did.count("me") == 1
    assert (await row_of(on_disk)).state is TurnState.COMMITTED


ME = LeaseOwnerIdentity(owner_id="worker", incarnation_id="1")


async def die_in_round(place: Place, at: int) -> None:
    """A process that ends without a word: it keeps the lease, which its next life enters again."""

    async def silently(name: str) -> None:
        if name == "leave_turn":
            raise StoreBackendError("killed")

    async def opened(builder: SessionBuilder) -> LashSession:
        return await builder.session_execution_owner(ME).open()

    agent, storage = Agent(hangs=at), SqliteStorage(place.database)
    core = Shop().builder(place, agent).storage(storage)
    core = core.store_factory(WatchedStores(storage, silently))
    async with about_to_close(core.build(), opened=opened):
        await agent.entered.wait()


async def test_a_turn_that_kills_its_processes_is_stopped(on_disk: Place) -> None:
    """What is on record of it is kept, and the session can be used again."""
    for _ in range(MAX_DEATHS):
        await die_in_round(on_disk, 1)
    assert (await row_of(on_disk)).deaths == MAX_DEATHS - 1  # and the take-over counts the last
    agent, shop = Agent(), Shop()
    core = a_core(on_disk, agent, shop)
    async with running(core), core.session("s").session_execution_owner(ME) as session:
        output = await session.turn("Go").turn_id("t").run()
        assert output.stop_reason is StopReason.RUNTIME_ERROR
        assert [issue.code for issue in output.errors] == ["turn_attempts_exhausted"]
        assert lines(session)[:6] == WHOLE[:6]
        assert (agent.calls, shop.did) == (0, [])
        found = await session.turn("Go").turn_id("t").run()
        assert found.stop_reason is StopReason.RUNTIME_ERROR
        assert (await session.turn("And now?").run()).is_success
    assert await is_retired(on_disk)


async def test_a_turn_that_gets_on_is_never_stopped(on_disk: Place) -> None:
    """Deaths count at one point alone; a new record begins a new one."""
    for at in (0, 1, 2):
        for _ in range(MAX_DEATHS - 1):
            await die_in_round(on_disk, at)
    core = a_core(on_disk)
    async with running(core), core.session("s").session_execution_owner(ME) as session:
        assert (await session.turn("Go").turn_id("t").run()).is_success
        assert lines(session) == WHOLE


async def test_a_core_that_is_closed_again_and_again_is_no_death(on_disk: Place) -> None:
    """A host that is restarted often has done nothing wrong, and its turn has not either."""
    for _ in range(MAX_DEATHS + 3):
        await cut_off_in_round(on_disk, 1)
    assert (await row_of(on_disk)).deaths == 0
    core = a_core(on_disk)
    async with running(core), core.session("s") as session:
        assert (await session.turn("Go").turn_id("t").run()).is_success


@tool(on_unknown="rerun")
async def shopping(context: ToolContext) -> str:
    """Buy something else each time."""
    assert context.dispatch is not None
    wanted = PendingToolCall(
        call_id="x", tool_name="pay", args={"to": f"shop {context.run_number}"}
    )
    await context.dispatch.batch([wanted])
    return "bought"


async def test_a_turn_that_became_another_is_closed_for_good(on_disk: Place) -> None:
    """It ends as an error with a reason, with its history closed; it is never tried again."""
    said = [tool_call_response("c", "shopping", {}), text_response("Done.")]
    shop = Shop("shop 1")
    core = shop.builder(on_disk, Agent(said)).tools(shopping).build()
    async with about_to_close(core):
        await shop.entered.wait()
    agent, again = Agent(said), Shop()
    core = again.builder(on_disk, agent).tools(shopping).build()
    async with running(core), core.session("s") as session:
        output = await session.turn("Go").turn_id("t").run()
        assert output.stop_reason is StopReason.RUNTIME_ERROR
        [issue] = output.errors
        assert (issue.kind, issue.code) == ("runtime_effect_controller", "turn_replay_mismatch")
        assert "arguments" in issue.message
        assert lines(session)[:2] == ["user: Go", "assistant [tool_call]: {}"]
        assert lines(session)[2].startswith("user [tool_result]: ")
        assert (await session.turn("And now?").run()) is not None
        found = await session.turn("Go").turn_id("t").run()
        assert found.stop_reason is StopReason.RUNTIME_ERROR
    assert "shop 2" not in again.did
    assert (await row_of(on_disk)).state is TurnState.COMMITTED
    assert await is_retired(on_disk)
