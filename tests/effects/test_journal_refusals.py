"""What a journal refuses: another turn under a recorded key, and one that kills its processes."""

from typing import Any

import anyio
import pytest

from effects.journaled import Lives, attempt, begun_only, outcome_of
from lash_runtime.effects.journal import JournalEffectController
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.tool_results import PendingToolCall
from lash_runtime.model.tools import IdempotentRetry
from lash_runtime.ports.effects import (
    CheckpointCommand,
    CheckpointOutcome,
    EffectControllerError,
    LlmCallCommand,
    RuntimeEffectEnvelope,
)
from lash_runtime.ports.tools import ToolContext
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance._effect_samples import Works, a_request, an_effect, answered
from lash_runtime.tools import ToolError, tool
from tools.dispatching import calls

pytestmark = pytest.mark.anyio


def model_call(effect_id: str = "9") -> RuntimeEffectEnvelope:
    return an_effect(LlmCallCommand(a_request()), effect_id)


async def code_of(controller: JournalEffectController, envelope: RuntimeEffectEnvelope) -> str:
    """What the controller refuses an effect with, which must not run then."""
    executor = Works(answered())
    with pytest.raises(EffectControllerError) as raised:
        await controller.execute_effect(envelope, executor)
    assert executor.runs == []
    return raised.value.code


class TestMismatch:
    @pytest.mark.parametrize(
        ("asked", "named"),
        [
            (("give", {"what": "coat"}), "otherwise: tool differ"),
            (("pay", {"what": "hat"}), "otherwise: arguments differ"),
            (("give", {"what": "hat"}), "otherwise: tool and arguments differ"),
        ],
    )
    async def test_the_error_names_what_differs(
        self, asked: tuple[str, dict[str, Any]], named: str
    ) -> None:
        """And the call, for whoever has to find out what a release has changed."""

        @tool
        async def pay(what: str) -> str:
            """Pay."""
            return what

        @tool
        async def give(what: str) -> str:
            """Give."""
            return what

        lives = Lives(pay, give)
        await lives.run(*calls(("pay", {"what": "coat"})))
        lives.next_life()
        with pytest.raises(EffectControllerError) as raised:
            await lives.run(*calls(asked))
        assert raised.value.code == "turn_replay_mismatch"
        assert named in raised.value.message
        assert "'c0'" in raised.value.message
        assert "'pay'" in raised.value.message
        assert "coat" not in raised.value.message

    async def test_no_call_of_such_a_round_is_run(self) -> None:
        """Also not those that had not begun: the round is another turn's."""
        ran: list[str] = []

        @tool
        async def pay(what: str) -> None:
            """Pay."""
            ran.append(what)

        lives = Lives(pay)
        await lives.run(*calls(("pay", {"what": "a"}), ("pay", {"what": "b"})))
        entries = lives.journal.entries
        lives.next_life(entries[1:])
        with pytest.raises(EffectControllerError):
            await lives.run(*calls(("pay", {"what": "a"}), ("pay", {"what": "other"})))
        assert ran == ["a", "b"]

    async def test_nothing_is_run_after_a_mismatch(self) -> None:
        """The turn is over, whatever its machine would still have liked to do."""
        lives = Lives(self.pay)
        await lives.run(*calls(("pay", {"what": "a"})))
        lives.next_life()
        controller = lives.controller
        with pytest.raises(EffectControllerError):
            await lives.run(*calls(("pay", {"what": "b"})))
        before = lives.journal.transactions[:]
        assert await code_of(controller, model_call()) == "turn_replay_mismatch"
        checked = an_effect(CheckpointCommand(CheckpointKind.AFTER_WORK), "8")
        assert await code_of(controller, checked) == "turn_replay_mismatch"
        assert lives.journal.transactions == before

    @tool
    @staticmethod
    async def pay(what: str) -> str:
        """Pay."""
        return f"{what} paid"

    async def test_a_tool_that_asks_for_something_else_ends_the_turn(self) -> None:
        """What its first run has bought is not what this one asks for. It may catch what it gets;
        the turn ends all the same, and its failure is not put on record."""
        wants, caught = ["coat"], []

        @tool(on_unknown="rerun")
        async def shop(context: ToolContext) -> str:
            """Shop."""
            assert context.dispatch is not None
            wanted = PendingToolCall(call_id="x", tool_name="pay", args={"what": wants[0]})
            try:
                (done,) = await context.dispatch.batch([wanted])
            except Exception as error:
                caught.append(error)
                return "never mind"
            if context.run_number == 1:
                entered.set()
                await anyio.sleep_forever()
            return str(outcome_of(done))

        entered = anyio.Event()
        lives = Lives(shop, self.pay)
        async with lives.cut_off(*calls(("shop", {}))):
            await entered.wait()
        wants[:] = ["hat"]
        lives.next_life()
        controller = lives.controller
        with pytest.raises(EffectControllerError) as raised:
            await lives.run(*calls(("shop", {})))
            await controller.execute_effect(model_call(), Works(answered()))
        assert raised.value.code == "turn_replay_mismatch"
        assert len(caught) == 1
        assert lives.record[attempt(0)] == (2, False)
        assert await code_of(controller, model_call()) == "turn_replay_mismatch"


class TestExhausted:
    """The processes have died too often here: what is on record is told, and nothing is begun."""

    async def test_a_model_is_not_called(self) -> None:
        """It may be the very call that kills them."""
        lives = Lives()
        lives.next_life(replay_only=True)
        assert await code_of(lives.controller, model_call()) == "turn_attempts_exhausted"

    async def test_what_is_on_record_is_told(self) -> None:
        """The turn ends at the point where it has got to, and not before."""

        @tool
        async def pay() -> str:
            """Pay."""
            return "paid"

        lives = Lives(pay)
        await lives.controller.execute_effect(model_call("1"), Works(answered("pay")))
        await lives.run(*calls(("pay", {})))
        lives.next_life(replay_only=True)
        assert [outcome_of(done) for done in await lives.run(*calls(("pay", {})))] == ["paid"]
        controller = lives.controller
        answer = await controller.execute_effect(model_call("1"), Works(answered()))
        assert answer == answered("pay")
        assert await code_of(controller, model_call("3")) == "turn_attempts_exhausted"

    async def test_a_checkpoint_is_no_beginning(self) -> None:
        """The machine needs it to get to the end of its record."""
        lives = Lives()
        lives.next_life(replay_only=True)
        outcome = await lives.controller.execute_effect(
            an_effect(CheckpointCommand(CheckpointKind.AFTER_WORK)), Works(CheckpointOutcome())
        )
        assert outcome == CheckpointOutcome()

    @pytest.mark.parametrize("on_unknown", ["report", "rerun", "ask"])
    async def test_a_call_that_was_begun_is_told_as_unknown(self, on_unknown: str) -> None:
        """Also where its tool would have it run again: that is what was tried so often."""
        ran = []

        @tool(on_unknown=on_unknown)
        async def pay() -> str:
            """Pay."""
            ran.append("paid")
            return "paid"

        lives = Lives(pay)
        await lives.run(*calls(("pay", {})))
        lives.next_life(map(begun_only, lives.journal.entries), replay_only=True)
        (done,) = await lives.run(*calls(("pay", {})))
        assert outcome_of(done) == "tool_outcome_unknown"
        assert ran == ["paid"]
        assert lives.record == {attempt(0): (1, True)}

    async def test_a_call_that_was_not_begun_is_not_begun(self) -> None:
        """It gets a failure that says why, so that the history is closed."""
        ran = []

        @tool
        async def pay() -> None:
            """Pay."""
            ran.append("paid")

        lives = Lives(pay)
        lives.next_life(replay_only=True)
        (done,) = await lives.run(*calls(("pay", {})))
        assert outcome_of(done) == "tool_attempt_failed"
        assert (ran, lives.record) == ([], {})

    async def test_no_further_attempt_is_made(self) -> None:
        """Nor is the wait before it begun or gone on with."""
        clock, ran = ManualClock(), []

        @tool(retry=IdempotentRetry(max_attempts=2, base_delay_ms=1_000))
        async def call() -> None:
            """Call."""
            ran.append("called")
            raise ToolError("down", retryable=True)

        lives = Lives(call, clock=clock)
        async with lives.cut_off(*calls(("call", {}))):
            await clock.wait_for_sleepers()
        lives.next_life(replay_only=True)
        (done,) = await lives.run(*calls(("call", {})))
        assert outcome_of(done) == "tool_retry_sleep_failed"
        assert ran == ["called"]


class TestPlaces:
    async def test_a_wait_has_no_place_of_its_own(self) -> None:
        """It is between two attempts of a round, and the place is the round's."""
        clock = ManualClock()

        @tool(retry=IdempotentRetry(max_attempts=2, base_delay_ms=1_000))
        async def call(context: ToolContext) -> str:
            """Call."""
            if context.attempt_number == 1:
                raise ToolError("down", retryable=True)
            return "up"

        lives = Lives(call, clock=clock)
        async with lives.cut_off(*calls(("call", {}))):
            await clock.wait_for_sleepers()
        assert {entry.effect.position for entry in lives.journal.entries} == {"7"}
        clock.advance(1)
        lives.next_life()
        (done,) = await lives.run(*calls(("call", {})))
        assert outcome_of(done) == "up"
