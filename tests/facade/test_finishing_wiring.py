"""What an unfinished turn is finished with: what it was accepted with, or not at all."""

from typing import Any

import anyio
import pytest

from facade.finishing import (
    SAID,
    WHOLE,
    Agent,
    Change,
    Shop,
    about_to_close,
    cut_off_in_round,
    is_restart,
    is_retired,
    row_of,
    unchanged,
)
from facade.graphs import the_store
from facade.models import asked
from facade.places import Place, running
from facade.transcripts import lines
from lash_runtime import (
    LashCore,
    PromptContribution,
    PromptSlot,
    RuntimeFailure,
    SessionBuilder,
    StopReason,
    tool,
)
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.protocols.standard import StandardProtocol
from lash_runtime.testing import ScriptedProvider, text_response

pytestmark = pytest.mark.anyio


def says(content: str) -> PromptContribution:
    return PromptContribution(slot=PromptSlot.GUIDANCE, content=content)


async def cut_off(
    place: Place,
    *,
    core: Change = unchanged,
    session: Change = unchanged,
    turn: Change = unchanged,
    agent: Agent | None = None,
) -> None:
    """A turn that stops in its first model call, with these changes to its builders."""
    agent = agent or Agent(hangs=0)

    async def opened(builder: SessionBuilder) -> Any:
        return await session(builder).open()

    built = core(Shop().builder(place, agent)).build()
    async with about_to_close(built, opened=opened, turn=turn):
        await agent.entered.wait()


class Finishing:
    """The first request that a core makes when it finishes the turn, and what comes after."""

    def __init__(
        self,
        place: Place,
        *,
        core: Change = unchanged,
        session: Change = unchanged,
        turn: Change = unchanged,
    ) -> None:
        self.agent = Agent()
        self._core = core(Shop().builder(place, self.agent)).build()
        self._session = session
        self._turn = turn

    async def by_asking_again(self) -> LlmRequest:
        async with running(self._core), self._session(self._core.session("s")) as session:
            self.output = await self._turn(session.turn("Go").turn_id("t")).run()
            self.policy = session.policy_snapshot()
            self.calls = self.agent.calls
            await session.turn("And now?").run()
        return self.agent.requests[0]

    async def by_another_turn(self) -> LlmRequest:
        async with running(self._core), self._session(self._core.session("s")) as session:
            self.output = await session.turn("And now?").run()
            self.policy = session.policy_snapshot()
            self.calls = self.agent.calls - 3
        return self.agent.requests[0]

    @property
    def later(self) -> LlmRequest:
        """The first request of the turn that came after it."""
        return self.agent.requests[self.calls]


@pytest.fixture(params=["by_asking_again", "by_another_turn"])
def way(request: pytest.FixtureRequest) -> str:
    """How the turn comes to be finished."""
    return str(request.param)


class TestWhatItRunsWith:
    """Whatever the session has become meanwhile. The turns after it run with that."""

    async def test_the_model_of_its_session(self, on_disk: Place, way: str) -> None:
        """Also on the first turn, of which nothing else is stored."""
        await cut_off(on_disk, session=lambda builder: builder.model("old", context_window=9_000))
        finishing = Finishing(on_disk, session=lambda builder: builder.model("new"))
        request = await getattr(finishing, way)()
        assert request.model == "old"
        assert finishing.policy.model.id == "new"
        assert finishing.later.model == "new"

    async def test_the_model_of_its_core(self, on_disk: Place, way: str) -> None:
        """A new release with another default does not change what was asked before it."""
        await cut_off(on_disk, core=lambda builder: builder.model("old"))
        finishing = Finishing(on_disk, core=lambda builder: builder.model("new"))
        assert (await getattr(finishing, way)()).model == "old"
        assert finishing.later.model == "new"

    async def test_the_prompt_of_its_session(self, on_disk: Place, way: str) -> None:
        """What its host had told it to be."""
        await cut_off(on_disk, session=lambda b: b.prompt_contribution(says("<old session>")))
        finishing = Finishing(
            on_disk, session=lambda b: b.prompt_contribution(says("<new session>"))
        )
        prompt = asked(await getattr(finishing, way)())[0]
        assert ("<old session>" in prompt, "<new session>" in prompt) == (True, False)
        later = asked(finishing.later)[0]
        assert ("<old session>" in later, "<new session>" in later) == (False, True)

    async def test_the_prompt_of_the_core_is_the_present_one(
        self, on_disk: Place, way: str
    ) -> None:
        """It is never stored."""
        await cut_off(on_disk, core=lambda b: b.prompt_contribution(says("<old core>")))
        finishing = Finishing(on_disk, core=lambda b: b.prompt_contribution(says("<new core>")))
        prompt = asked(await getattr(finishing, way)())[0]
        assert ("<old core>" in prompt, "<new core>" in prompt) == (False, True)

    async def test_the_rounds_that_its_session_allowed(self, on_disk: Place, way: str) -> None:
        """A limit that was set since is for later turns, and one that was dropped still holds."""
        await cut_off(on_disk, session=lambda builder: builder.max_turns(1))
        finishing = Finishing(on_disk)
        await getattr(finishing, way)()
        row = await row_of(on_disk)
        assert row.result is not None
        assert row.result.outcome.reason is StopReason.MAX_TURNS  # type: ignore[union-attr]

    async def test_what_was_set_for_the_turn_itself(self, on_disk: Place, way: str) -> None:
        """Its own model, prompt and limit, whoever finishes it."""

        def own(builder: Any) -> Any:
            return builder.model("mine").prompt_contribution(says("<mine>")).max_turns(1)

        await cut_off(on_disk, turn=own)
        finishing = Finishing(on_disk, turn=own)
        request = await getattr(finishing, way)()
        assert request.model == "mine"
        assert "<mine>" in asked(request)[0]
        row = await row_of(on_disk)
        assert row.result is not None
        assert row.result.outcome.reason is StopReason.MAX_TURNS  # type: ignore[union-attr]
        assert finishing.later.model == "scripted-1"
        assert "<mine>" not in asked(finishing.later)[0]

    async def test_the_words_as_they_were_stored(self, on_disk: Place, way: str) -> None:
        """And with the index and on the history that it began with."""
        core = Shop().builder(on_disk, Agent([text_response("Hello.")])).build()
        async with running(core), core.session("s") as session:
            await session.turn("Hi").run()
        await cut_off(on_disk)
        finishing = Finishing(on_disk)
        request = await getattr(finishing, way)()
        assert asked(request)[1:] == ["user: Hi", "assistant: Hello.", "user: Go"]
        assert (await row_of(on_disk)).turn_index == 2


async def refused(core: LashCore, *asks: Any) -> list[RuntimeFailure]:
    """What each of the turns that `asks` make of a session is refused with."""
    errors = []
    async with running(core), core.session("s") as session:
        for ask in asks:
            with pytest.raises(RuntimeFailure) as raised:
                await ask(session).run()
            errors.append(raised.value)
    return errors


def same(session: Any) -> Any:
    return session.turn("Go").turn_id("t")


def other(session: Any) -> Any:
    return session.turn("And now?").turn_id("later")


@tool
async def look(at: str) -> str:
    """Look."""
    return f"{at} seen elsewhere"


class TestMissingWiring:
    """Nobody finishes a turn with something else than it was accepted with."""

    async def assert_untouched(self, place: Place, before: Any) -> None:
        assert await row_of(place) == before
        assert not await self.is_known(place, "later")

    @staticmethod
    async def is_known(place: Place, turn_id: str) -> bool:
        async with the_store(place) as store:
            return await store.load_turn("s", turn_id) is not None

    async def goes_on(self, place: Place, core: Any = None) -> None:
        """With what it needs, the turn is finished, at once and whole."""
        built = core or Shop().builder(place, Agent()).build()
        async with running(built), built.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
            assert is_restart(output.activities[0])
            assert lines(session) == WHOLE

    async def test_a_tool(self, on_disk: Place) -> None:
        """Each that is missing is named, to both who ask; nothing has changed, and the core with
        the tools goes on."""
        await cut_off_in_round(on_disk, 1)
        before = await row_of(on_disk)
        agent = Agent()
        core = on_disk.builder(agent, look).recover(False).build()
        for error in await refused(core, same, other, same):
            assert error.code == "turn_wiring_missing"
            assert "tool 'pay'" in str(error)
            assert "look" not in str(error)
            assert "'t'" in str(error)
        assert agent.calls == 0
        await self.assert_untouched(on_disk, before)
        await self.goes_on(on_disk)

    async def test_the_provider(self, on_disk: Place) -> None:
        """One of another name is none."""
        await cut_off_in_round(on_disk, 1)
        before = await row_of(on_disk)
        core = Shop().builder(on_disk, Agent(kind="elsewhere")).build()
        [first] = await refused(core, same)
        assert first.code == "turn_wiring_missing"
        assert "provider 'scripted'" in str(first)
        await self.assert_untouched(on_disk, before)
        await self.goes_on(on_disk)

    async def test_the_protocol(self, on_disk: Place) -> None:
        """The machine of another one would make something else of the same answers."""

        class Other(StandardProtocol):
            id = "other_protocol"

        await cut_off_in_round(on_disk, 1)
        before = await row_of(on_disk)
        core = Shop().builder(on_disk, Agent()).protocol(Other()).build()
        for error in await refused(core, same, other):
            assert error.code == "turn_wiring_missing"
            assert "protocol 'standard_protocol'" in str(error)
        await self.assert_untouched(on_disk, before)
        await self.goes_on(on_disk)

    async def test_all_that_is_missing_is_named_at_once(self, on_disk: Place) -> None:
        """One round trip for whoever mends the wiring."""
        await cut_off_in_round(on_disk, 1)
        core = on_disk.builder(Agent(kind="elsewhere")).recover(False).build()
        [error] = await refused(core, same)
        for name in ("provider 'scripted'", "tool 'look'", "tool 'pay'"):
            assert name in str(error)

    async def test_the_lane_is_free_after_a_refusal(self, on_disk: Place) -> None:
        """Another core may have what this one lacks, and gets it at once."""
        await cut_off_in_round(on_disk, 1)
        lacking = on_disk.builder(Agent()).recover(False).build()
        having = Shop().builder(on_disk, Agent()).build()
        async with running(lacking), running(having):
            async with lacking.session("s") as poor, having.session("s") as rich:
                with pytest.raises(RuntimeFailure):
                    await poor.turn("Go").turn_id("t").run()
                assert (await rich.turn("Go").turn_id("t").run()).is_success
                assert (await poor.turn("Go").turn_id("t").run()).assistant_message == "Done."

    async def test_a_turn_that_is_over_needs_nothing(self, on_disk: Place) -> None:
        """What became of it is told by any core."""
        await cut_off_in_round(on_disk, 1)
        await self.goes_on(on_disk)
        core = on_disk.builder(Agent(kind="elsewhere")).recover(False).build()
        async with running(core), core.session("s") as session:
            found = await session.turn("Go").turn_id("t").run()
        assert found.assistant_message == "Done."


class Counted(Agent):
    """An agent that counts its closings."""

    closings = 0

    async def close(self) -> None:
        self.closings += 1


class TestProvidersOfItsOwn:
    async def left_with_its_own(self, place: Place) -> None:
        """A turn of its own provider, which is gone with its process."""
        own = Agent(hangs=1, kind="own")
        async with about_to_close(
            Shop().builder(place, Agent()).build(), turn=lambda builder: builder.provider(own)
        ):
            await own.entered.wait()

    async def test_a_turn_is_finished_with_the_provider_that_is_given_again(
        self, on_disk: Place
    ) -> None:
        """Its caller has it, and gives it as it did before; it is closed when the turn is over."""
        await self.left_with_its_own(on_disk)
        agent, own = Agent(), Counted(kind="own")
        core = Shop().builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("Go").turn_id("t").provider(own).run()
            assert lines(session) == WHOLE
            assert (own.rounds, own.closings, agent.rounds) == ([1, 2], 1, [])
        assert is_restart(output.activities[0])

    async def test_nobody_else_finishes_it(self, on_disk: Place) -> None:
        """Whoever comes next has no provider of that name, and is told so."""
        await self.left_with_its_own(on_disk)
        agent = Agent()
        core = Shop().builder(on_disk, agent).build()
        async with running(core), core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("And now?").run()
            assert raised.value.code == "turn_wiring_missing"
            assert "provider 'own'" in str(raised.value)
            assert agent.calls == 0
            own = Agent(kind="own")
            assert (await session.turn("Go").turn_id("t").provider(own).run()).is_success
            assert (await session.turn("And now?").run()).is_success

    async def test_without_it_the_same_turn_is_another(self, on_disk: Place) -> None:
        """Who answers is part of what was asked."""
        await self.left_with_its_own(on_disk)
        core = Shop().builder(on_disk, Agent()).build()
        async with running(core), core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Go").turn_id("t").run()
            assert raised.value.code == "turn_content_conflict"
        assert (await row_of(on_disk)).state is TurnState.RUNNING

    async def test_a_provider_of_the_session_is_given_by_the_session(
        self, on_disk: Place, way: str
    ) -> None:
        """A host that opens the session as before has what the turn needs."""
        own = Agent(hangs=1, kind="own")

        async def opened(builder: SessionBuilder) -> Any:
            return await builder.provider(own).open()

        async with about_to_close(Shop().builder(on_disk, Agent()).build(), opened=opened):
            await own.entered.wait()
        again = Agent(kind="own")
        finishing = Finishing(on_disk, session=lambda builder: builder.provider(again))
        finishing.agent, unused = again, finishing.agent
        await getattr(finishing, way)()
        assert unused.calls == 0
        assert again.rounds[:2] == [1, 2]
        assert await is_retired(on_disk)

    async def test_a_provider_that_fails_is_the_end_of_the_turn_and_not_of_the_session(
        self, on_disk: Place
    ) -> None:
        """An error of a model is an outcome, also in a turn that is finished."""
        await cut_off_in_round(on_disk, 1)

        class Broken(ScriptedProvider):
            async def complete(self, request: LlmRequest) -> LlmResponse:
                raise RuntimeError("no such endpoint")

        core = Shop().builder(on_disk, Broken()).build()
        async with running(core), core.session("s") as session:
            output = await session.turn("Go").turn_id("t").run()
            assert output.stop_reason is StopReason.PROVIDER_ERROR
            assert lines(session)[:6] == WHOLE[:6]
        assert await is_retired(on_disk)


async def test_a_turn_without_tools_needs_none_of_them_to_be_called(on_disk: Place) -> None:
    """A core may have more than the turn has asked for."""
    stalled = Agent([SAID[2]], hangs=0)
    async with about_to_close(on_disk.builder(stalled).recover(False).build()):
        await stalled.entered.wait()
    core = Shop().builder(on_disk, Agent([SAID[2]])).build()
    with anyio.fail_after(30):
        async with running(core), core.session("s") as session:
            assert (await session.turn("Go").turn_id("t").run()).is_success
