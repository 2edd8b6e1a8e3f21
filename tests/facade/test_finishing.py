"""Turns whose process is gone: finished from their journal, as if nothing had happened."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.finishing import (
    CUTS,
    SAID,
    WHOLE,
    Agent,
    Cut,
    Shop,
    about_to_close,
    cut_off_in_round,
    cut_off_in_tool,
    is_restart,
    is_retired,
    left_of,
    of_the_turn,
    row_of,
    run_whole,
)
from facade.places import Place, running
from facade.transcripts import lines
from facade.watched import WatchedStores
from lash_runtime import FunctionTool, RuntimeFailure, tool
from lash_runtime.model.llm import TextOutput
from lash_runtime.model.records import replace
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import text_response, tool_calls_response

pytestmark = pytest.mark.anyio


@pytest.fixture
def whole(tmp_path: Path) -> Place:
    """A place where the same turn runs undisturbed."""
    return Place("sqlite", tmp_path / "whole.db")


class TestBySubmittingItAgain:
    @pytest.mark.parametrize("cut", CUTS)
    async def test_the_caller_gets_what_an_undisturbed_run_gives(
        self, on_disk: Place, whole: Place, cut: Cut
    ) -> None:
        """Answer, calls and spending, and every activity of the whole turn, after a word that it
        was begun again."""
        undisturbed = await run_whole(whole)
        await cut(on_disk)
        shop, agent = Shop(), Agent()
        core = shop.builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
            assert lines(session) == WHOLE
        first, *_ = output.activities
        assert is_restart(first)
        assert first.event.data == {"turn_id": "t", "attempt": 2}  # type: ignore[union-attr]
        assert of_the_turn(output) == of_the_turn(undisturbed)
        assert output.outcome == undisturbed.outcome
        assert output.usage == undisturbed.usage
        assert [call.model_dump(exclude={"duration_ms"}) for call in output.tool_calls] == [
            call.model_dump(exclude={"duration_ms"}) for call in undisturbed.tool_calls
        ]

    @pytest.mark.parametrize("cut", CUTS)
    async def test_what_is_left_is_what_an_undisturbed_run_leaves(
        self, on_disk: Place, whole: Place, cut: Cut
    ) -> None:
        """Messages with their ids, usage, the row's result; and no journal."""
        await run_whole(whole)
        await cut(on_disk)
        await run_whole(on_disk)
        assert await left_of(on_disk) == await left_of(whole)
        assert await is_retired(on_disk)
        row = await row_of(on_disk)
        assert (row.state, row.attempt, row.input, row.policy) == (
            TurnState.COMMITTED,
            2,
            None,
            None,
        )
        assert sum(effect.runs for effect in row.effects if effect.kind == "tool_attempt") >= 3
        assert all(effect.recorded for effect in row.effects)

    async def test_nothing_that_is_on_record_is_paid_for_again(self, on_disk: Place) -> None:
        """Neither the model's answers nor the calls of the rounds before."""
        await cut_off_in_tool(on_disk, "me")
        shop, agent = Shop(), Agent()
        core = shop.builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            await session.turn("Go").turn_id("t").run()
        assert (shop.did, agent.rounds) == (["me"], [2])

    async def test_it_is_told_as_settled_from_then_on(self, on_disk: Place) -> None:
        """Asking once more gives the same result, and runs nothing."""
        await cut_off_in_round(on_disk, 1)
        agent = Agent()
        core = Shop().builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            first = await session.turn("Go").turn_id("t").run()
            calls = agent.calls
            again = await session.turn("Go").turn_id("t").run()
            assert (again.assistant_message, again.usage) == (first.assistant_message, first.usage)
            assert agent.calls == calls
            assert not any(map(is_restart, again.activities))

    async def test_other_words_under_its_id_are_refused(self, on_disk: Place) -> None:
        """And leave it to be finished."""
        await cut_off_in_round(on_disk, 1)
        core = Shop().builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Stop").turn_id("t").run()
            assert raised.value.code == "turn_content_conflict"
            assert (await session.turn("Go").turn_id("t").run()).is_success

    async def test_a_stream_of_it_begins_with_the_restart(self, on_disk: Place) -> None:
        """A reader has to drop what the first run had shown it before anything new comes."""
        await cut_off_in_round(on_disk, 2)
        core = Shop().builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:
            async with session.turn("Go").turn_id("t").stream() as stream:
                seen = [activity async for activity in stream]
                result = await stream.finish()
        assert is_restart(seen[0])
        assert sum(map(is_restart, seen)) == 1
        assert result.assistant_message == "Done."

    async def test_every_process_counts(self, on_disk: Place) -> None:
        """The attempt in the restart tells lower ones apart."""
        attempts = []
        for at in (0, 1, 1, 2):
            await cut_off_in_round(on_disk, at)
            attempts.append((await row_of(on_disk)).attempt)
        assert attempts == [1, 2, 3, 4]
        core = Shop().builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
        assert output.activities[0].event.data["attempt"] == 5  # type: ignore[union-attr]


class TestByWhatComesNext:
    @pytest.mark.parametrize("cut", CUTS)
    async def test_another_turn_finishes_it_first(
        self, on_disk: Place, whole: Place, cut: Cut
    ) -> None:
        """The history has it in its place, and its own caller finds its result."""
        undisturbed = await run_whole(whole)
        await cut(on_disk)
        shop, agent = Shop(), Agent()
        core = shop.builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("And now?").run()
            assert output.is_success
            assert lines(session) == [*WHOLE, "user: And now?", *WHOLE[1:]]
            assert not any(map(is_restart, output.activities))
            did, calls = list(shop.did), agent.calls
            found = await session.turn("Go").turn_id("t").run()
            assert found.assistant_message == undisturbed.assistant_message
            assert found.usage == undisturbed.usage
            assert (shop.did, agent.calls) == (did, calls)

    async def test_turns_in_line_wait_for_it(self, on_disk: Place) -> None:
        """Several at once: it is finished once, and they come in their order."""
        await cut_off_in_tool(on_disk, "me")
        shop = Shop()
        core = shop.builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:

            async def say(words: str) -> None:
                await session.turn(words).run()

            async with anyio.create_task_group() as callers:
                for words in ("one", "two", "three"):
                    callers.start_soon(say, words)
                    await anyio.wait_all_tasks_blocked()
            said = [line for line in lines(session) if line.startswith("user: ")]
        assert said == ["user: Go", "user: one", "user: two", "user: three"]
        assert shop.did.count("me") == 4

    async def test_one_that_cannot_succeed_does_not_stand_in_the_way(self, on_disk: Place) -> None:
        """How it ends is its own caller's matter: here its model has no answer left."""
        await cut_off_in_round(on_disk, 1)
        agent = Agent([SAID[0]])
        core = Shop().builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            later = await session.turn("And now?").provider(Agent([text_response("Now.")])).run()
            assert later.assistant_message == "Now."
            found = await session.turn("Go").turn_id("t").run()
        assert not found.is_success
        assert await is_retired(on_disk)

    async def test_opening_a_session_leaves_it_to_be_finished(self, on_disk: Place) -> None:
        """A reader costs nobody anything: it shows what is settled."""
        await cut_off_in_tool(on_disk, "me")
        shop, agent = Shop(), Agent()
        core = shop.builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            assert lines(session) == []
        assert (shop.did, agent.calls) == ([], 0)
        assert (await row_of(on_disk)).state is TurnState.RUNNING

    async def test_observers_are_told_of_the_restart(self, on_disk: Place) -> None:
        """Whoever shows live rows drops those of the run before, and shows the new ones."""
        await cut_off_in_tool(on_disk, "me")
        core = Shop().builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:
            observable = session.observe()
            cursor = observable.current_observation().cursor
            await session.turn("And now?").turn_id("later").run()
            replayed = observable.resume_from_cursor(cursor)
            events = replayed.events  # type: ignore[union-attr]
        shown = [event for event in events if hasattr(event.payload, "activity")]
        assert is_restart(shown[0].payload.activity)
        assert shown[0].turn_id == "t"
        assert {event.turn_id for event in shown} == {"t", "later"}
        assert sum(is_restart(event.payload.activity) for event in shown) == 1


class TestCallsWhoseToolSaysNothing:
    """By default a call that may have happened is not made again: the model is told."""

    @staticmethod
    def payments(entered: anyio.Event | None = None) -> tuple[list[str], FunctionTool[..., Any]]:
        made: list[str] = []

        @tool
        async def pay(to: str) -> str:
            """Pay."""
            made.append(to)
            if to == "slow" and entered is not None:
                entered.set()
                await anyio.sleep_forever()
            return f"{to} paid"

        return made, pay

    SAID = (
        tool_calls_response(("a", "pay", {"to": "quick"}), ("b", "pay", {"to": "slow"})),
        text_response("Done."),
    )

    async def test_the_model_reads_what_is_known_and_what_is_not(self, on_disk: Place) -> None:
        """One of two calls had ended; the other was cut off."""
        entered = anyio.Event()
        _, pay = self.payments(entered)
        async with about_to_close(on_disk.builder(Agent(self.SAID), pay).recover(False).build()):
            await entered.wait()
            await anyio.wait_all_tasks_blocked()
        made, pay = self.payments()
        agent = Agent(self.SAID)
        core = on_disk.builder(agent, pay).recover(False).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
            results = lines(session)[3:5]
        assert made == []
        assert results[0] == "user [tool_result]: quick paid"
        assert "may or may not have taken effect" in results[1]
        assert [call.output.is_success for call in output.tool_calls] == [True, False]
        effects = [e for e in (await row_of(on_disk)).effects if e.kind == "tool_attempt"]
        assert [(effect.runs, effect.recorded) for effect in effects] == [(1, True), (1, True)]

    async def test_a_call_that_ended_as_its_core_was_closed_is_not_forgotten(
        self, on_disk: Place
    ) -> None:
        """Its record was on the way: closing waits for it."""
        recording, go_on = anyio.Event(), anyio.Event()

        async def hold(name: str) -> None:
            if name == "write_journal" and made:
                recording.set()
                await go_on.wait()

        made, pay = self.payments()
        storage = SqliteStorage(on_disk.database)
        core = on_disk.builder(Agent(self.SAID), pay).recover(False).storage(storage)
        core = core.store_factory(WatchedStores(storage, hold))

        async def let_go() -> None:
            await anyio.wait_all_tasks_blocked()
            go_on.set()

        async with anyio.create_task_group() as tasks:
            async with about_to_close(core.build()):
                await recording.wait()
                tasks.start_soon(let_go)
        again, pay = self.payments()
        later = on_disk.builder(Agent(self.SAID), pay).recover(False).build()
        async with running(later), later.session("s") as session:
            await session.turn("Go").turn_id("t").run()
            assert lines(session)[3:5] == [
                "user [tool_result]: quick paid",
                "user [tool_result]: slow paid",
            ]
        assert again == []


async def test_an_answer_that_no_utf_8_can_hold_is_no_obstacle(on_disk: Place) -> None:
    """A model may stop within a character; the turn is finished with what it said."""
    odd = "half a \ud83d"
    said = (replace(SAID[0], full_text=odd, parts=(TextOutput(odd), *SAID[0].parts[1:])), *SAID[1:])
    agent = Agent(said, hangs=1)
    async with about_to_close(Shop().builder(on_disk, agent).build()):
        await agent.entered.wait()
    core = Shop().builder(on_disk, Agent(said)).build()
    async with running(core), core.session("s") as session:
        assert (await session.turn("Go").turn_id("t").run()).is_success
        assert lines(session) == ["user: Go", "assistant: half a \\ud83d", *WHOLE[2:]]
