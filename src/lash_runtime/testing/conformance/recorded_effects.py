"""What a controller that keeps a record also does: what has happened once is not done again."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...model.tool_results import ToolCancelled, ToolFailed
from ...model.tools import OnUnknown
from ...ports.effects import (
    EffectControllerError,
    LlmCallCommand,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    SleepCommand,
    SleepOutcome,
    ToolBatchOutcome,
    ToolCallDone,
    TurnScope,
    expect_outcome,
)
from ...runtime.children import ended, stopped
from ...runtime.verdict import Ok
from ..clocks import ManualClock
from ._effect_case import EffectCase, EffectRuns
from ._effect_samples import (
    FAILED_ATTEMPT,
    FAILED_CALL,
    FINAL_ATTEMPT,
    FULL_ANSWER,
    ROUND,
    SCOPE,
    Asks,
    Hangs,
    Raises,
    Works,
    a_call,
    a_nap,
    a_request,
    a_round,
    an_effect,
    answered,
    attempted,
    begun,
    called,
    cut_off,
    ran,
    succeeded,
    value_or_code,
)

MOST_STEPS = 60
"""More than a round of one call takes of the event loop's."""


class Sleeps(Works):
    """Waits for as long as it is asked to."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(SleepOutcome())
        self._clock = clock

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        assert isinstance(envelope.command, SleepCommand)
        await self._clock.sleep(envelope.command.duration_ms / 1000)
        return await super().execute(envelope)


async def cut_off_in_a_call(
    effect_runs: EffectRuns, on_unknown: OnUnknown = OnUnknown.REPORT, scope: TurnScope = SCOPE
) -> None:
    """A run that ends in the middle of a call."""
    executor = Hangs(succeeded(), on_unknown)
    async with effect_runs(scope) as controller:
        await cut_off(executor, ran(controller, (a_call(), executor), scope=scope))


class RecordedEffectConformance(EffectCase):
    """For hosts whose controllers keep a record. Holds with `EffectHostConformance`.

    A model call is on record once a call that it has asked for has begun.
    """

    async def test_a_recorded_attempt_is_answered_without_running_it(
        self, effect_runs: EffectRuns
    ) -> None:
        """Whatever came of it, and exactly as it came."""
        outcomes = [succeeded(), succeeded(None), FAILED_ATTEMPT, FINAL_ATTEMPT]
        first = [(a_call(at=at), Works(outcome)) for at, outcome in enumerate(outcomes)]
        async with effect_runs(SCOPE) as controller:
            done = await ran(controller, *first)
        for _ in range(2):
            again = [(child, Works(succeeded("anew"))) for child, _ in first]
            async with effect_runs(SCOPE) as controller:
                assert await ran(controller, *again) == done
            assert [executor.runs for _, executor in again] == [[]] * len(outcomes)
        assert list(done) == [outcome.done for outcome in outcomes]

    async def test_a_models_answer_is_on_record_once_a_call_has_begun(
        self, effect_runs: EffectRuns
    ) -> None:
        """The call is what the answer has led to: another answer would make nonsense of it."""
        for at, outcome in enumerate((FULL_ANSWER, FAILED_CALL, answered(""))):
            scope = TurnScope(session_id=f"s{at}", turn_id="t")
            async with effect_runs(scope) as controller:
                await called(controller, Works(outcome), scope=scope)
                await ran(controller, (a_call(), Works(succeeded())), scope=scope)
            async with effect_runs(scope) as controller:
                again = Works(answered("something else"))
                assert await called(controller, again, scope=scope) == outcome
            assert again.runs == []

    async def test_a_models_answer_is_on_record_when_its_call_is_cut_off(
        self, effect_runs: EffectRuns
    ) -> None:
        """Reserving is what takes it along."""
        async with effect_runs(SCOPE) as controller:
            await called(controller, Works(FULL_ANSWER))
            executor = Hangs(succeeded())
            await cut_off(executor, ran(controller, (a_call(), executor)))
        async with effect_runs(SCOPE) as controller:
            again = Works(answered("something else"))
            assert await called(controller, again) == FULL_ANSWER
        assert again.runs == []

    async def test_each_attempt_has_a_record_of_its_own(self, effect_runs: EffectRuns) -> None:
        """A second attempt is no answer to the first."""
        child = a_call()
        async with effect_runs(SCOPE) as controller:
            await ran(controller, (child, Works(FAILED_ATTEMPT)))
        async with effect_runs(SCOPE) as controller:
            first, second = Works(succeeded("anew")), Works(succeeded("second"))

            async def both() -> ToolCallDone:
                assert await attempted(controller, child, first) == FAILED_ATTEMPT.done
                return await attempted(controller, child, second, attempt=2)

            answer = await controller.execute_effect(a_round(child), Asks(both))
            done = expect_outcome(a_round(child).command, answer, ToolBatchOutcome).launches
        assert [each.output.value_for_projection() for each in done] == ["second"]
        assert (first.runs, second.runs) == ([], [1])

    async def test_a_scope_is_answered_from_its_own_record(self, effect_runs: EffectRuns) -> None:
        """Also where another scope has asked under the very same key."""
        async with effect_runs(SCOPE) as controller:
            await ran(controller, (a_call(), Works(succeeded())))
        executor = Works(succeeded("mine"))
        async with effect_runs(TurnScope(session_id="other", turn_id="t1")) as controller:
            done = await ran(controller, (a_call(), executor))
        assert executor.runs == [1]
        assert list(done) == [succeeded("mine").done]

    async def test_a_round_that_was_cut_off_runs_what_had_not_begun(
        self, effect_runs: EffectRuns
    ) -> None:
        """What is on record is not paid for again."""
        first, second = a_call(at=0), a_call(at=1)
        async with effect_runs(SCOPE) as controller:

            async def dies() -> ToolCallDone:
                raise asyncio.CancelledError

            with pytest.raises(asyncio.CancelledError):
                await controller.execute_effect(
                    a_round(first, second),
                    Asks(lambda: attempted(controller, first, Works(succeeded("one"))), dies),
                )
        again, fresh = Works(succeeded("anew")), Works(succeeded("two"))
        async with effect_runs(SCOPE) as controller:
            done = await ran(controller, (first, again), (second, fresh))
        assert [each.output.value_for_projection() for each in done] == ["one", "two"]
        assert (again.runs, fresh.runs) == ([], [1])

    async def test_a_call_that_was_cut_off_is_not_run_again_by_itself(
        self, effect_runs: EffectRuns
    ) -> None:
        """It may have happened. The model is told so, once and for all."""
        await cut_off_in_a_call(effect_runs)
        told = []
        for _ in range(2):
            executor = Works(succeeded())
            async with effect_runs(SCOPE) as controller:
                (done,) = await ran(controller, (a_call(), executor))
            assert executor.runs == []
            told.append(done)
        outcome = told[0].output.outcome
        assert isinstance(outcome, ToolFailed)
        assert outcome.payload.code == "tool_outcome_unknown"
        assert told[0] == told[1]

    async def test_a_call_that_may_be_run_again_is_run_again(self, effect_runs: EffectRuns) -> None:
        """It is told that it has been begun before; then its outcome is on record."""
        await cut_off_in_a_call(effect_runs, OnUnknown.RERUN)
        await cut_off_in_a_call(effect_runs, OnUnknown.RERUN)
        executor, again = Works(succeeded(), OnUnknown.RERUN), Works(succeeded("anew"))
        async with effect_runs(SCOPE) as controller:
            (done,) = await ran(controller, (a_call(), executor))
        async with effect_runs(SCOPE) as controller:
            (same,) = await ran(controller, (a_call(), again))
        assert done == same == succeeded().done
        assert executor.runs == [3]
        assert again.runs == []

    async def test_a_model_call_that_was_cut_off_is_made_again(
        self, effect_runs: EffectRuns
    ) -> None:
        """Being cancelled is no answer."""
        async with effect_runs(SCOPE) as controller:
            executor = Hangs(answered())
            await cut_off(executor, called(controller, executor))
        async with effect_runs(SCOPE) as controller:
            again = Works(answered("again"))
            assert await called(controller, again) == answered("again")
            await ran(controller, (a_call(), Works(succeeded())))
        async with effect_runs(SCOPE) as controller:
            assert await called(controller, Works(answered("anew"))) == answered("again")

    async def test_a_sleep_ends_when_it_was_due(
        self, effect_runs: EffectRuns, clock: ManualClock
    ) -> None:
        """However many runs have waited for it, and at once if that has passed."""
        child = a_call()

        async def nap(runs: EffectRuns) -> None:
            async with runs(SCOPE) as controller:

                async def step() -> ToolCallDone:
                    await controller.execute_effect(a_nap(child, 10_000), Sleeps(clock))
                    return succeeded().done

                await controller.execute_effect(a_round(child), Asks(step))

        for _ in range(2):
            cut_short = begun(nap(effect_runs))
            await clock.wait_for_sleepers()
            clock.advance(4)
            await stopped(cut_short)
            assert cut_short.task.cancelled()
        whole = begun(nap(effect_runs))
        await clock.wait_for_sleepers()
        clock.advance(1.999)
        assert clock.sleeping == 1
        clock.advance(0.001)
        with anyio.fail_after(5):
            await ended(whole)
            assert whole.verdict == Ok(None)
            await nap(effect_runs)

    async def test_a_sleep_whose_time_has_passed_is_over(
        self, effect_runs: EffectRuns, clock: ManualClock
    ) -> None:
        """Nobody was there when it ended."""
        child, sleeps = a_call(), Sleeps(clock)

        async def nap(runs: EffectRuns) -> None:
            async with runs(SCOPE) as controller:

                async def step() -> ToolCallDone:
                    await controller.execute_effect(a_nap(child, 10_000), sleeps)
                    return succeeded().done

                await controller.execute_effect(a_round(child), Asks(step))

        cut_short = begun(nap(effect_runs))
        await clock.wait_for_sleepers()
        await stopped(cut_short)
        assert cut_short.task.cancelled()
        clock.advance(10)
        with anyio.fail_after(5):
            await nap(effect_runs)

    async def test_an_error_of_the_seam_is_not_recorded(self, effect_runs: EffectRuns) -> None:
        """What went wrong with one run says nothing about the next."""
        async with effect_runs(SCOPE) as controller:
            with pytest.raises(EffectControllerError):
                await called(controller, Raises(EffectControllerError("gone", "away")))
            with pytest.raises(EffectControllerError):
                await ran(controller, (a_call(), Raises(EffectControllerError("gone", "away"))))
        async with effect_runs(SCOPE) as controller:
            assert await called(controller, Works(answered())) == answered()
            (done,) = await ran(controller, (a_call(), Works(succeeded(), OnUnknown.RERUN)))
        assert done == succeeded().done

    async def test_an_answer_of_another_kind_is_not_recorded(self, effect_runs: EffectRuns) -> None:
        """It would be given to every run there is, and none could go on with it."""
        async with effect_runs(SCOPE) as controller:
            ended = await value_or_code(called(controller, Works(succeeded())))
            assert ended in ("runtime_effect_wrong_outcome", succeeded())
            ended = await value_or_code(ran(controller, (a_call(), Works(answered()))))
            assert ended == "runtime_effect_wrong_outcome"
            await ran(controller, (a_call(at=1), Works(succeeded())))
        async with effect_runs(SCOPE) as controller:
            assert await called(controller, Works(answered())) == answered()
            (done,) = await ran(controller, (a_call(), Works(succeeded(), OnUnknown.RERUN)))
        assert done == succeeded().done

    async def test_a_recorded_answer_wins_over_another_request(
        self, effect_runs: EffectRuns
    ) -> None:
        """A new release asks a little differently, and must be able to go on."""
        async with effect_runs(SCOPE) as controller:
            await called(controller, Works(FULL_ANSWER))
            await ran(controller, (a_call(), Works(succeeded())))
        async with effect_runs(SCOPE) as controller:
            again = Works(answered("anew"))
            other = a_request("hello", "politely", model="m2")
            assert await called(controller, again, other) == FULL_ANSWER
        assert again.runs == []

    async def test_another_call_under_a_recorded_key_is_refused(
        self, effect_runs: EffectRuns
    ) -> None:
        """Another tool, or other arguments: it is not the same turn any more, and neither is run
        nor answered."""
        for state in ("recorded", "cut off"):
            scope = TurnScope(session_id=state, turn_id="t")
            if state == "recorded":
                async with effect_runs(scope) as controller:
                    await ran(controller, (a_call(), Works(succeeded())), scope=scope)
            else:
                await cut_off_in_a_call(effect_runs, scope=scope)
            for other in (a_call("give"), a_call(args={"what": "hat"}), a_call(args={"n": 1})):
                executor = Works(succeeded(), OnUnknown.RERUN)
                async with effect_runs(scope) as controller:
                    with pytest.raises(EffectControllerError) as raised:
                        await ran(controller, (other, executor), scope=scope)
                assert raised.value.code == "turn_replay_mismatch"
                assert executor.runs == []

    async def test_an_effect_of_another_kind_in_a_recorded_place_is_refused(
        self, effect_runs: EffectRuns
    ) -> None:
        """A model call where a round of tools is on record, and a round where a model call is."""
        async with effect_runs(SCOPE) as controller:
            await called(controller, Works(answered()))
            await ran(controller, (a_call(), Works(succeeded())))
        executor = Works(answered())
        async with effect_runs(SCOPE) as controller:
            with pytest.raises(EffectControllerError) as raised:
                await controller.execute_effect(
                    an_effect(LlmCallCommand(a_request()), ROUND), executor
                )
            assert raised.value.code == "turn_replay_mismatch"
        assert executor.runs == []

    async def test_a_call_that_is_cancelled_at_any_step_is_not_run_twice(
        self, effect_runs: EffectRuns
    ) -> None:
        """Before it is reserved, while it runs, and while it is put on record."""
        for steps in range(MOST_STEPS):
            scope = TurnScope(session_id=f"s{steps}", turn_id="t")
            executors = [Works(succeeded()) for _ in range(3)]
            async with effect_runs(scope) as controller:
                asked = begun(ran(controller, (a_call(), executors[0]), scope=scope))
                for _ in range(steps):
                    await checkpoint()
                await stopped(asked)
            for executor in executors[1:]:
                async with effect_runs(scope) as controller:
                    (done,) = await ran(controller, (a_call(), executor), scope=scope)
                assert not isinstance(done.output.outcome, ToolCancelled)
            assert sum(len(executor.runs) for executor in executors) <= 1
            if not asked.task.cancelled():
                return

    async def test_what_has_happened_is_recorded_though_its_run_is_ending(
        self, effect_runs: EffectRuns
    ) -> None:
        """A scope that is cancelled just as a call ends must not forget the call."""

        class Ends(Works):
            async def _work(self) -> None:
                scope.cancel()

        async with effect_runs(SCOPE) as controller:
            with anyio.CancelScope() as scope:
                await ran(controller, (a_call(), Ends(succeeded())))
                await checkpoint()
            assert scope.cancelled_caught
        again = Works(succeeded("anew"))
        async with effect_runs(SCOPE) as controller:
            (done,) = await ran(controller, (a_call(), again))
        assert done == succeeded().done
        assert again.runs == []
