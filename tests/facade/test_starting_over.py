"""Starting over: what `open_fresh()` promises lasts until a turn has kept it, and no longer."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from facade.models import StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from lash_runtime import (
    LashCore,
    LashSession,
    LeaseOwnerIdentity,
    RuntimeFailure,
    SessionReadView,
    StopReason,
)
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

OLD = ["user: old", "assistant: yes"]


def yes(kind: str = "scripted") -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"), kind=kind)


async def say(core: LashCore, words: str, turn_id: str | None = None) -> None:
    """One turn of the session `s`, opened as it is stored."""
    async with core.session("s") as session:
        turn = session.turn(words)
        await (turn if turn_id is None else turn.turn_id(turn_id)).run()


async def stored(core: LashCore) -> list[str]:
    async with core.session("s") as session:
        return lines(session)


# --- parking ------------------------------------------------------------------------------------


async def test_a_fresh_session_is_still_fresh_after_parking(place: Place) -> None:
    """A host's cache puts it away and takes it up again before the user has said a word."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
        fresh = await core.session("s").open_fresh()
        parked = await (await core.resume(await fresh.park())).park()
        assert await stored(core) == OLD
        resumed = await core.resume(parked)
        assert lines(resumed) == []
        assert resumed.read_view().turn_index == 0
        await resumed.turn("new").run()
        assert lines(resumed) == ["user: new", "assistant: yes"]
        await resumed.close()
        assert await stored(core) == ["user: new", "assistant: yes"]


async def test_one_start_over_happens_once_however_often_it_is_resumed(place: Place) -> None:
    """A parked session may be resumed again: that must not throw away what was said since."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
        parked = await (await core.session("s").open_fresh()).park()
        one, two = await core.resume(parked), await core.resume(parked)
        await one.turn("first").run()
        await two.turn("second").run()
        said = [line for line in lines(two) if line.startswith("user")]
        assert said == ["user: first", "user: second"]
        await one.close()
        await two.close()
        again = await core.resume(parked)
        assert len(lines(again)) == 4
        await again.close()


async def test_a_session_that_has_started_over_parks_like_any_other(place: Place) -> None:
    """After its first turn it goes on from what is stored, whoever has stored it."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
        fresh = await core.session("s").open_fresh()
        await fresh.turn("new").run()
        parked = await fresh.park()
        await say(core, "from elsewhere")
        resumed = await core.resume(parked)
        assert [line for line in lines(resumed) if line.startswith("user")] == [
            "user: new",
            "user: from elsewhere",
        ]
        await resumed.close()


async def test_a_turn_that_was_refused_has_not_started_over(on_disk: Place) -> None:
    """Busy means that nothing happened: the old words stay, and the next turn replaces them."""
    stalled = StallingProvider()
    async with a_core(on_disk, stalled) as busy, a_core(on_disk, yes()) as core:
        await say(core, "old")
        holder = await busy.session("s").open()
        fresh = await core.session("s").open_fresh()
        async with holder.turn("meanwhile").stream():
            await stalled.entered.wait()
            with pytest.raises(RuntimeFailure) as raised:
                await fresh.turn("new").run()
            assert raised.value.code == "session_execution_busy"
            assert lines(fresh) == []
        await holder.close()
        resumed = await core.resume(await fresh.park())
        assert lines(resumed) == []
        await resumed.turn("new").run()
        assert lines(resumed) == ["user: new", "assistant: yes"]
        await resumed.close()


async def test_a_turn_without_a_provider_does_not_bring_the_old_words_back(place: Place) -> None:
    """A refusal looks at what is stored; the fresh session does not show it."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
    core = place.builder(yes()).build()
    bare = LashCore.standard_builder().model("m").storage(place.storage()).build()
    async with running(bare):
        fresh = await bare.session("s").open_fresh()
        with pytest.raises(RuntimeFailure) as raised:
            await fresh.turn("new").run()
        assert raised.value.code == "llm_provider"
        assert lines(fresh) == []
        await fresh.close()
    async with running(core):
        assert await stored(core) == OLD


async def test_a_resumed_session_keeps_the_owner_that_its_host_has_chosen(place: Place) -> None:
    """Parking must not make another owner of a host that names its own."""
    mine = LeaseOwnerIdentity(owner_id="worker-7", incarnation_id="one")
    async with a_core(place, yes()) as core:
        session = await core.session("s").session_execution_owner(mine).open()
        resumed = await core.resume(await session.park())
        stalled = StallingProvider()
        async with resumed.turn("x").provider(stalled).stream():
            await stalled.entered.wait()
            with pytest.raises(RuntimeFailure, match="worker-7"):
                async with a_core(place, yes()) as other, other.session("s") as second:
                    await second.turn("y").run()
        await resumed.close()


# --- turn ids that were used before -------------------------------------------------------------


async def _fresh(core: LashCore, view: SessionReadView) -> LashSession:
    return await core.session("s").open_fresh()


async def _resumed(core: LashCore, view: SessionReadView) -> LashSession:
    return await core.resume(await (await core.session("s").open_fresh()).park())


async def _gone_back(core: LashCore, view: SessionReadView) -> LashSession:
    return await core.session("s").open_with_state(view)


Open = Callable[[LashCore, SessionReadView], Awaitable[LashSession]]


@pytest.mark.parametrize("opened", [_fresh, _resumed, _gone_back])
async def test_a_turn_of_the_old_history_is_refused_in_the_new_one(
    place: Place, opened: Open
) -> None:
    """It can be neither run, for it was run once, nor told without bringing old words back."""
    provider = yes()
    async with a_core(place, provider) as core:
        async with core.session("s") as session:
            nothing = session.read_view()
            await session.turn("old").turn_id("t-1").run()
        calls = provider.calls
        session = await opened(core, nothing)
        for _ in range(2):
            with pytest.raises(RuntimeFailure, match="t-1") as raised:
                await session.turn("old").turn_id("t-1").run()
            assert raised.value.code == "turn_of_replaced_history"
            assert (raised.value.is_terminal, raised.value.is_retryable) == (True, False)
            assert lines(session) == []
        assert await stored(core) == OLD
        assert provider.calls == calls
        await session.turn("new").turn_id("t-2").run()
        assert lines(session) == ["user: new", "assistant: yes"]
        await session.close()
        assert await stored(core) == ["user: new", "assistant: yes"]


async def test_a_start_over_that_is_asked_for_again_has_happened(place: Place) -> None:
    """The whole request is repeated, because its answer was lost: the new history stays."""
    provider = yes()
    async with a_core(place, provider) as core:
        await say(core, "old", "t-0")
        for _ in range(3):
            async with await core.session("s").open_fresh() as fresh:
                output = await fresh.turn("new").turn_id("t-1").run()
                assert output.assistant_message == "yes"
                await fresh.turn("and").turn_id("t-2").run()
                said = [line for line in lines(fresh) if line.startswith("user")]
                assert said == ["user: new", "user: and"]
        assert len(await stored(core)) == 4
    assert provider.calls == 3


async def test_a_lost_start_over_is_told_on_the_same_handle(place: Place) -> None:
    """Asking for the very turn again is not starting over again."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
        async with await core.session("s").open_fresh() as fresh:
            turn = fresh.turn("new").turn_id("t-1")
            first = await turn.run()
            assert (await turn.run()).assistant_message == first.assistant_message
            assert lines(fresh) == ["user: new", "assistant: yes"]


async def left_at_starting_over(place: Place) -> None:
    """A core ends while a turn of a new history waits for its model."""
    async with a_core(place, yes()) as core:
        await say(core, "old")
    stalled = StallingProvider()
    async with a_core(place, stalled) as core:
        fresh = await core.session("s").open_fresh()
        stream = fresh.turn("new").turn_id("t-1").stream()
        await stalled.entered.wait()
    with pytest.raises(RuntimeFailure):
        await stream.finish()


async def test_a_start_over_whose_process_died_is_finished(on_disk: Place) -> None:
    """It had emptied the session when it was accepted; whoever repeats it gets its answer."""
    await left_at_starting_over(on_disk)
    async with a_core(on_disk, yes()) as core:
        async with await core.session("s").open_fresh() as fresh:
            output = await fresh.turn("new").turn_id("t-1").run()
            assert output.assistant_message == "yes"
            await fresh.turn("go on").run()
        assert await stored(core) == [
            "user: new",
            "assistant: yes",
            "user: go on",
            "assistant: yes",
        ]


async def test_a_start_over_whose_process_died_is_told_as_interrupted(database: Path) -> None:
    """The same without a journal: whoever repeats it finds that it was done, and no more."""
    on_disk = Place("inline", database)
    await left_at_starting_over(on_disk)
    async with a_core(on_disk, yes()) as core:
        async with await core.session("s").open_fresh() as fresh:
            output = await fresh.turn("new").turn_id("t-1").run()
            assert output.stop_reason is StopReason.INTERRUPTED
            assert lines(fresh) == ["user: new"]
            await fresh.turn("go on").run()
        assert await stored(core) == ["user: new", "user: go on", "assistant: yes"]


async def test_a_turn_whose_words_were_replaced_is_never_told_without_them(place: Place) -> None:
    """A result is kept as references. An empty answer in its place would pass for the answer."""
    async with a_core(place, yes()) as core:
        await say(core, "old", "t-1")
        async with await core.session("s").open_fresh() as fresh:
            await fresh.turn("new").turn_id("t-2").run()
        async with await core.session("s").open_fresh() as fresh:
            await fresh.turn("newer").turn_id("t-3").run()
        async with core.session("s") as session:
            for gone, words in (("t-1", "old"), ("t-2", "new")):
                with pytest.raises(RuntimeFailure, match=gone) as raised:
                    await session.turn(words).turn_id(gone).run()
                assert raised.value.code == "turn_of_replaced_history"
            kept = await session.turn("newer").turn_id("t-3").run()
            assert kept.assistant_message == "yes"
        async with await core.session("s").open_fresh() as fresh:
            with pytest.raises(RuntimeFailure) as raised:
                await fresh.turn("new").turn_id("t-2").run()
            assert raised.value.code == "turn_of_replaced_history"
            assert lines(fresh) == []


async def test_going_back_is_not_undone_by_closing_what_a_dead_process_left(
    on_disk: Place,
) -> None:
    """The state that was opened with replaces the unfinished turn with the rest."""
    async with a_core(on_disk, yes()) as core:
        async with core.session("s") as session:
            await session.turn("one").run()
            kept = session.read_view()
    stalled = StallingProvider()
    async with a_core(on_disk, stalled) as core:
        session = await core.session("s").open()
        stream = session.turn("two").turn_id("t-2").stream()
        await stalled.entered.wait()
    with pytest.raises(RuntimeFailure):
        await stream.finish()
    async with a_core(on_disk, yes()) as core:
        async with await core.session("s").open_with_state(kept) as back:
            await back.turn("other two").run()
            said = [line for line in lines(back) if line.startswith("user")]
            assert said == ["user: one", "user: other two"]
        assert len(await stored(core)) == 4


@pytest.mark.parametrize("leave", ["close", "park"])
async def test_going_back_to_an_empty_state_is_stored_at_the_end(place: Place, leave: str) -> None:
    """A state is a state: one without a message is stored like one with many."""
    empty = SessionReadView(session_id="s", graph=SessionGraph())
    async with a_core(place, yes()) as core:
        await say(core, "old")
        back = await core.session("s").open_with_state(empty)
        if leave == "close":
            await back.close()
        else:
            resumed = await core.resume(await back.park())
            assert lines(resumed) == []
            await resumed.close()
        assert await stored(core) == []
