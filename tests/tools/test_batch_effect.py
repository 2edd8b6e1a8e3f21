"""A round of tool calls as one effect: what a controller sees of it, and what its answer does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime import LashCore, RuntimeFailure, TurnOutput, tool
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.model.activity import ToolCallCompleted, ToolCallStarted
from lash_runtime.model.causes import ToolCallRef, TurnRef
from lash_runtime.model.tool_results import (
    CompletedToolCall,
    ToolCallOutput,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    EffectControllerError,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepOutcome,
    ToolBatchCommand,
    ToolBatchOutcome,
    ToolCallDone,
)
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ScriptedProvider, tool_calls_response
from lash_runtime.tools import batch_tool
from tools.dispatching import BATCH_KEY, SCOPE, Batches, calls, failure_of

pytestmark = pytest.mark.anyio

FULL = EffectControllerError("journal_full", "no room for another record")


class JournalingController(InlineRuntimeEffectController):
    """Notes each effect before it runs, records its outcome, and runs nothing that is recorded.

    `lines` is what it did, in order; `noted` the envelopes of what was not on record.
    """

    def __init__(
        self,
        records: Mapping[str, RuntimeEffectOutcome] | None = None,
        *,
        concurrent: bool = True,
        tier: DurabilityTier = DurabilityTier.INLINE,
    ) -> None:
        self.supports_concurrent_effects = concurrent
        self.durability_tier = tier
        self.records = dict(records or {})
        self.noted: list[RuntimeEffectEnvelope] = []
        self.lines: list[str] = []

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        key = envelope.invocation.replay_key
        if (recorded := self.records.get(key)) is not None:
            self.lines.append(f"replay {key}")
            return recorded
        self.noted.append(envelope)
        self.lines.append(f"note {key}")
        outcome = await self.run(envelope, executor)
        self.lines.append(f"record {key}")
        return self.records.setdefault(key, outcome)

    async def run(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        return await executor.execute(envelope)


class FullBefore(JournalingController):
    """Has no room to note a batch."""

    async def run(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolBatchCommand):
            raise FULL
        return await super().run(envelope, executor)


class FullAfter(JournalingController):
    """Has no room to record what came of a batch."""

    async def run(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        outcome = await super().run(envelope, executor)
        if isinstance(envelope.command, ToolBatchCommand):
            raise FULL
        return outcome


class ImpatientController(JournalingController):
    """Stops a batch when told to, and says that it took too long."""

    def __init__(self) -> None:
        super().__init__()
        self.scope = anyio.CancelScope()

    async def run(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if not isinstance(envelope.command, ToolBatchCommand):
            return await super().run(envelope, executor)
        with self.scope:
            return await super().run(envelope, executor)
        raise EffectControllerError("too_slow", "the batch took too long")


class LosesAnAttempt(JournalingController):
    """Ends the task that asks for the attempt of `c0`."""

    async def run(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if envelope.invocation.effect_id.startswith("c0:"):
            raise anyio.get_cancelled_exc_class()
        return await super().run(envelope, executor)


class Till:
    """Tools that count how often they really ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    @tool
    async def look(self, at: str) -> str:
        """Look."""
        self.ran.append(at)
        return f"{at} seen"

    @tool(scheduling="serial")
    async def pay(self, to: str) -> str:
        """Pay."""
        self.ran.append(to)
        return f"{to} paid"

    def batches(self, controller: JournalingController) -> Batches:
        return Batches(self.look, self.pay, batch_tool(), controller=controller)


def values(results: tuple[CompletedToolCall, ...]) -> list[Any]:
    return [result.output.value_for_projection() for result in results]


def a_pair_for_each(count: int) -> list[str]:
    return sorted(f"{what} c{index}" for what in ("started", "completed") for index in range(count))


def child(index: int) -> str:
    return f"{BATCH_KEY}:child:{index}:c{index}:attempt:1"


class TestTheEnvelope:
    async def test_a_round_is_noted_before_any_of_its_tools_starts(self) -> None:
        """After a crash the note alone tells which calls may have happened."""
        till, controller = Till(), JournalingController()

        await till.batches(controller).run(
            *calls(("pay", {"to": "a"}), ("teleport", {}), ("pay", {"to": "b"}))
        )

        assert controller.lines == [
            f"note {BATCH_KEY}",
            f"note {child(0)}",
            f"record {child(0)}",
            f"note {child(2)}",
            f"record {child(2)}",
            f"record {BATCH_KEY}",
        ]

    async def test_it_names_the_calls_that_will_run_and_their_keys(self) -> None:
        """A call that never gets to its tool has nothing to do in a record of tools."""
        controller = JournalingController()

        await (
            Till()
            .batches(controller)
            .run(*calls(("look", {"at": "a"}), ("teleport", {}), ("pay", {"to": "b"})))
        )

        round_, *_ = controller.noted
        assert round_.invocation.effect_kind is RuntimeEffectKind.TOOL_BATCH
        assert round_.invocation.scope == SCOPE
        assert round_.invocation.caused_by == TurnRef(session_id="s", turn_id="t")
        assert isinstance(round_.command, ToolBatchCommand)
        assert round_.command.batch_id == round_.invocation.effect_id == "7"
        assert [
            (called.call.tool_name, called.replay_suffix) for called in round_.command.calls
        ] == [("look", "child:0:c0"), ("pay", "child:2:c2")]

    async def test_its_outcome_has_the_calls_in_their_order(self) -> None:
        """A serial call runs last wherever it stands; a record is read by position."""
        controller = JournalingController()

        results = await (
            Till().batches(controller).run(*calls(("pay", {"to": "a"}), ("look", {"at": "b"})))
        )

        assert controller.records[BATCH_KEY] == ToolBatchOutcome(
            tuple(ToolCallDone(result.output, result.duration_ms) for result in results)
        )
        assert values(results) == ["a paid", "b seen"]

    async def test_a_round_in_which_nothing_can_run_is_no_effect(self) -> None:
        """There is nothing to reserve."""
        controller = JournalingController()
        batches = Till().batches(controller)

        await batches.run(*calls(("teleport", {}), ("look", {})))

        assert controller.lines == []
        assert batches.shown == ["started c0", "completed c0", "started c1", "completed c1"]

    async def test_a_round_of_a_cancelled_turn_is_no_effect(self) -> None:
        """What will not be done is not reserved; its calls are closed all the same."""
        controller = JournalingController()
        batches = Till().batches(controller)
        batches.cancel.cancel()

        results = await batches.run(*calls(("look", {"at": "a"}), ("pay", {"to": "b"})))

        assert [result.output.outcome.status for result in results] == ["cancelled"] * 2
        assert controller.lines == []
        assert sorted(batches.shown) == a_pair_for_each(2)

    async def test_calls_made_by_a_call_are_a_round_of_their_own(self) -> None:
        """Under the key of the attempt that makes them, so that a retry is another round."""
        controller = JournalingController()
        wanted = [{"tool": "look", "parameters": {"at": "a"}}]

        await Till().batches(controller).run(*calls(("batch", {"tool_calls": wanted})))

        nested = f"{child(0)}:batch:0"
        assert [envelope.invocation.replay_key for envelope in controller.noted] == [
            BATCH_KEY,
            child(0),
            nested,
            f"{nested}:child:0:c0:00:attempt:1",
        ]
        inner = controller.noted[2]
        assert inner.invocation.effect_id == "c0:attempt:1:batch:0"
        assert inner.invocation.caused_by == ToolCallRef(session_id="s", call_id="c0")

    async def test_one_effect_at_a_time_means_one_step_of_the_round(self) -> None:
        """An engine that records a strict sequence sees each attempt end before the next."""
        controller = JournalingController(concurrent=False)

        await (
            Till()
            .batches(controller)
            .run(*calls(("pay", {"to": "a"}), ("look", {"at": "b"}), ("look", {"at": "c"})))
        )

        attempts = [f"{what} {child(index)}" for index in range(3) for what in ("note", "record")]
        assert controller.lines == [f"note {BATCH_KEY}", *attempts, f"record {BATCH_KEY}"]


class TestAnswersFromARecord:
    WANTED = calls(("pay", {"to": "a"}), ("look", {"at": "b"}), ("teleport", {}))

    async def test_a_recorded_round_runs_no_tool_and_is_shown_in_full(self) -> None:
        """Whoever watches the second run sees each call once, as in the first."""
        first, journal = Till(), JournalingController()
        results = await first.batches(journal).run(*self.WANTED)

        second, replayed = Till(), JournalingController(journal.records)
        batches = second.batches(replayed)
        again = await batches.run(*self.WANTED)

        assert again == results
        assert second.ran == []
        assert replayed.lines == [f"replay {BATCH_KEY}"]
        assert sorted(batches.shown) == a_pair_for_each(3)
        assert {shown.call_id: shown.output for shown in batches.completions} == {
            result.call_id: result.output for result in results
        }

    async def test_a_round_that_was_cut_off_runs_only_what_is_not_on_record(self) -> None:
        """The process died after one of two tools: that one is not paid for again."""
        recorded = JournalingController()
        results = await Till().batches(recorded).run(*self.WANTED)
        till = Till()
        batches = till.batches(JournalingController({child(0): recorded.records[child(0)]}))

        again = await batches.run(*self.WANTED)

        assert [result.output for result in again] == [result.output for result in results]
        assert till.ran == ["b"]
        assert sorted(batches.shown) == a_pair_for_each(3)

    async def test_the_answer_counts_even_where_the_tools_have_run(self) -> None:
        """Another worker was faster, and its record is the one that all others will read."""
        theirs = ToolCallDone(ToolCallOutput.success("theirs"), 17)

        class Beaten(JournalingController):
            async def run(
                self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
            ) -> RuntimeEffectOutcome:
                outcome = await super().run(envelope, executor)
                if isinstance(envelope.command, ToolBatchCommand):
                    return ToolBatchOutcome((theirs,))
                return outcome

        batches = Till().batches(Beaten())
        (completed,) = await batches.run(*calls(("look", {"at": "a"})))

        assert (completed.output, completed.duration_ms) == (theirs.output, 17)
        assert completed.model_return.text == "theirs"
        assert batches.shown == ["started c0", "completed c0"]


class TestAControllerThatFails:
    WANTED = calls(("look", {"at": "a"}), ("teleport", {}), ("pay", {"to": "b"}))

    async def test_no_call_runs_that_could_not_be_noted(self) -> None:
        """The model reads why, and a watcher sees every call end."""
        till = Till()
        batches = till.batches(FullBefore())

        looked, unknown, paid = await batches.run(*self.WANTED)

        for completed in (looked, paid):
            failure = failure_of(completed.output)
            assert failure.class_ is ToolFailureClass.INTERNAL
            assert failure.source is ToolFailureSource.RUNTIME
            assert (failure.code, failure.message) == (FULL.code, FULL.message)
        assert failure_of(unknown.output).code == "tool_unavailable"
        assert till.ran == []
        assert sorted(batches.shown) == a_pair_for_each(3)

    async def test_what_has_run_keeps_its_result(self) -> None:
        """A payment that was made must not be told as one that failed."""
        batches = Till().batches(FullAfter())

        looked, _, paid = await batches.run(*self.WANTED)

        assert values((looked, paid)) == ["a seen", "b paid"]
        assert sorted(batches.shown) == a_pair_for_each(3)

    async def test_a_round_stopped_midway_fails_the_calls_that_have_no_result(self) -> None:
        """One that had begun is closed once, like one that had not."""
        till, controller = Till(), ImpatientController()

        @tool(scheduling="serial")
        async def hang() -> None:
            """Hang."""
            controller.scope.cancel()
            await anyio.sleep_forever()

        batches = Batches(till.look, hang, till.pay, controller=controller)
        looked, hung, paid = await batches.run(
            *calls(("look", {"at": "a"}), ("hang", {}), ("pay", {"to": "b"}))
        )

        assert looked.output == ToolCallOutput.success("a seen")
        assert [failure_of(result.output).code for result in (hung, paid)] == ["too_slow"] * 2
        assert till.ran == ["a"]
        assert sorted(batches.shown) == a_pair_for_each(3)

    @pytest.mark.parametrize("count", [0, 1, 3])
    async def test_an_answer_with_the_wrong_number_of_results_is_none(self, count: int) -> None:
        """Results are matched by position, so none of them can be trusted."""
        stray = ToolBatchOutcome((ToolCallDone(ToolCallOutput.success("stray"), 1),) * count)
        till = Till()
        batches = till.batches(JournalingController({BATCH_KEY: stray}))

        looked, _, paid = await batches.run(*self.WANTED)

        for completed in (looked, paid):
            failure = failure_of(completed.output)
            assert failure.code == "tool_batch_result_count_mismatch"
            assert str(count) in failure.message
        assert till.ran == []
        assert sorted(batches.shown) == a_pair_for_each(3)

    async def test_an_answer_of_another_kind_is_none(self) -> None:
        """A record that belongs to something else must not pass for a round."""
        batches = Till().batches(JournalingController({BATCH_KEY: SleepOutcome()}))

        failure = failure_of(await batches.output("look", at="a"))

        assert failure.code == "runtime_effect_wrong_outcome"
        assert failure.message == "expected ToolBatchOutcome for tool_batch, got SleepOutcome"

    async def test_a_call_that_is_lost_on_its_way_is_named(self) -> None:
        """A task that ends without a word must not leave a hole in the round."""
        batches = Till().batches(LosesAnAttempt())

        lost, seen, paid = await batches.run(
            *calls(("look", {"at": "a"}), ("look", {"at": "b"}), ("pay", {"to": "c"}))
        )

        failure = failure_of(lost.output)
        assert failure.code == "tool_batch_missing_result"
        assert "'c0' of 'look'" in failure.message
        assert seen.output == ToolCallOutput.success("b seen")
        assert paid.output == ToolCallOutput.success("c paid")
        assert sorted(batches.shown) == a_pair_for_each(3)

    @pytest.mark.parametrize(
        ("controller", "code"),
        [
            (FullBefore(tier=DurabilityTier.DURABLE), FULL.code),
            (FullAfter(tier=DurabilityTier.DURABLE), FULL.code),
            (
                JournalingController(
                    {BATCH_KEY: ToolBatchOutcome(())}, tier=DurabilityTier.DURABLE
                ),
                "tool_batch_result_count_mismatch",
            ),
        ],
        ids=["before", "after", "count"],
    )
    async def test_a_durable_one_is_not_answered_for(
        self, controller: JournalingController, code: str
    ) -> None:
        """Its engine runs the turn again; a made-up failure would end up in the record."""
        with pytest.raises(EffectControllerError) as raised:
            await Till().batches(controller).run(*self.WANTED)
        assert raised.value.code == code


def pairs_of(output: TurnOutput) -> list[tuple[str, str | None]]:
    return [
        (activity.event.type, activity.event.call_id)
        for activity in output.activities
        if isinstance(activity.event, ToolCallStarted | ToolCallCompleted)
    ]


class TestInATurn:
    @staticmethod
    async def turn(
        storage: MemoryStorage | SqliteStorage,
        controller: JournalingController,
        provider: ScriptedProvider,
        till: Till,
    ) -> TurnOutput:
        core = (
            LashCore.standard_builder()
            .provider(provider)
            .model("scripted-1")
            .tools(till.look, till.pay)
            .storage(storage)
            .effect_host(InlineEffectHost(controller))
            .build()
        )
        async with core, core.session("s") as session:
            return await session.turn("Shop.").turn_id("t").run()

    @staticmethod
    def shopper() -> ScriptedProvider:
        asked = tool_calls_response(("c0", "look", {"at": "a"}), ("c1", "pay", {"to": "b"}))
        return ScriptedProvider([Call(result=asked), Call.text("Done.")])

    async def test_the_same_turn_over_its_record_calls_neither_model_nor_tool(self) -> None:
        """What a journal promises: nothing is paid for twice, and nothing reads differently."""
        journal = JournalingController()
        output = await self.turn(MemoryStorage(), journal, self.shopper(), Till())
        till, silent = Till(), ScriptedProvider()

        again = await self.turn(
            MemoryStorage(), JournalingController(journal.records), silent, till
        )

        assert output.is_success
        assert again.is_success
        assert again.assistant_message == output.assistant_message == "Done."
        assert again.tool_calls == output.tool_calls
        assert (silent.calls, till.ran) == (0, [])
        assert sorted(pairs_of(again)) == sorted(pairs_of(output))
        assert len(pairs_of(again)) == len(set(pairs_of(again))) == 4

    async def test_an_inline_controller_that_fails_does_not_end_the_turn(self) -> None:
        """The model reads what happened and can still answer."""
        till, provider = Till(), self.shopper()

        output = await self.turn(MemoryStorage(), FullBefore(), provider, till)

        assert output.assistant_message == "Done."
        assert [failure_of(record.output).code for record in output.tool_calls] == [FULL.code] * 2
        assert till.ran == []
        assert len(set(pairs_of(output))) == 4

    async def test_a_durable_controller_that_fails_leaves_the_turn(self, tmp_path: Path) -> None:
        """Nothing is made up in its place, and the session's next turn can be shown to a model."""
        storage = SqliteStorage(tmp_path / "agents.db")
        controller = FullBefore(tier=DurabilityTier.DURABLE)

        with pytest.raises(RuntimeFailure) as raised:
            await self.turn(storage, controller, self.shopper(), Till())

        assert raised.value.code == FULL.code
        async with (
            LashCore.open(
                tmp_path / "agents.db", provider=ScriptedProvider([Call.text("Here.")]), model="m"
            ) as core,
            core.session("s") as session,
        ):
            assert (await session.turn("And now?").run()).is_success
