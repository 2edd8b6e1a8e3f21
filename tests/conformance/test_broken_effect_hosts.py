"""The suites of effect hosts, held to their own purpose: each case fails for some broken host.

Each broken controller is an intact one with one thing wrong. The case that is named beside it must
pass on the intact one and fail on the broken one, and no case may be left out.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from conformance.journaled_runs import MemoryRuns
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.effects.journal import JournalEffectController
from lash_runtime.model.llm import LlmCallError
from lash_runtime.model.records import replace
from lash_runtime.model.tools import OnUnknown
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    EffectControllerError,
    EffectHost,
    ExecutionScope,
    LlmCallCommand,
    LlmCallOutcome,
    LocalEffectExecutor,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ScopedEffectController,
    SleepCommand,
    SleepOutcome,
    ToolAttemptCommand,
    ToolBatchCommand,
    ToolBatchOutcome,
    TurnScope,
)
from lash_runtime.ports.journal import JournalEntry
from lash_runtime.testing import ManualClock, MemoryEffectJournal
from lash_runtime.testing.conformance import (
    EffectHostConformance,
    EffectRuns,
    RecordedEffectConformance,
)
from lash_runtime.testing.conformance._effect_samples import Works

pytestmark = pytest.mark.anyio


class EveryCase(EffectHostConformance, RecordedEffectConformance):
    """All that a host can be held to."""


async def is_kept(
    case: str, host: EffectHost, runs: EffectRuns, tier: DurabilityTier, clock: ManualClock
) -> bool:
    """Whether the case passes. A case that raises something of its own has noticed, too."""
    suite = EveryCase()
    type(suite).durability_tier = tier
    method = getattr(suite, case)
    given = {"effect_host": host, "effect_runs": runs, "clock": clock}
    asked = inspect.signature(method).parameters
    try:
        await method(**{name: given[name] for name in asked})
    except (Exception, BaseExceptionGroup, pytest.fail.Exception, asyncio.CancelledError):
        return False
    return True


# --- any host -------------------------------------------------------------------------------------


class Intact(InlineRuntimeEffectController):
    pass


class AnswersWithNothing(Intact):
    """Whatever was asked for has slept."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        outcome = await executor.execute(envelope)
        return outcome if isinstance(outcome, ToolBatchOutcome) else SleepOutcome()


class TakesTwoRuns(Intact):
    """To be on the safe side."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        await executor.execute(envelope)
        return await executor.execute(envelope)


class AnswersInOrderOfTheEnd(Intact):
    """The results of a round are those of other calls."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        outcome = await executor.execute(envelope)
        if isinstance(outcome, ToolBatchOutcome):
            return ToolBatchOutcome(outcome.launches[::-1])
        return outcome


class OneAtATime(Intact):
    """It says that it is not."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolBatchCommand):
            return await executor.execute(envelope)
        async with self._lock:
            return await executor.execute(envelope)


class KeepsOneAnswer(Intact):
    """What was answered last is what everybody gets who waits."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        self.answer = await executor.execute(envelope)
        await asyncio.sleep(0)
        return self.answer


class GroupsErrors(Intact):
    """A task group stands around the work."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        answers = []

        async def work() -> None:
            answers.append(await executor.execute(envelope))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
        return answers[0]


class CatchesEverything(Intact):
    """Whatever goes wrong is a failure of the seam."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        try:
            return await executor.execute(envelope)
        except BaseException as error:
            raise EffectControllerError("failed", repr(error)) from error


class RunsElsewhere(Intact):
    """The work goes on in a task that nobody stops."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolBatchCommand):
            return await executor.execute(envelope)
        return await asyncio.shield(asyncio.ensure_future(executor.execute(envelope)))


class DressesUp(Intact):
    """An answer of another kind becomes an error of the model."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        outcome = await executor.execute(envelope)
        if isinstance(envelope.command, LlmCallCommand) and not isinstance(outcome, LlmCallOutcome):
            return LlmCallOutcome(LlmCallError(message="odd"), False)
        return outcome


class AnyScope(InlineEffectHost):
    """Does not look at what it is asked to execute for."""

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        scoped = object.__new__(ScopedEffectController)
        object.__setattr__(scoped, "controller", Intact())
        object.__setattr__(scoped, "execution_scope", scope)
        return scoped

    scoped_static = scoped


class OneScope(InlineEffectHost):
    """Executes everything for the same turn."""

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        super().scoped(scope)
        return super().scoped(TurnScope(session_id="s", turn_id="x"))


class SaysItIsDurable(InlineEffectHost):
    """Its controllers are not."""

    @property
    def durability_tier(self) -> DurabilityTier:
        return DurabilityTier.DURABLE


BROKEN_HOSTS: list[tuple[type[Any], str]] = [
    (AnyScope, "test_a_scope_without_an_id_is_refused"),
    (OneScope, "test_a_controller_is_bound_to_what_it_executes_for"),
    (SaysItIsDurable, "test_host_and_controller_declare_their_tier"),
]
BROKEN_CONTROLLERS: list[tuple[type[Any], str]] = [
    (AnswersWithNothing, "test_what_is_asked_for_is_answered_in_kind"),
    (TakesTwoRuns, "test_an_executor_is_asked_once_for_what_was_asked"),
    (AnswersInOrderOfTheEnd, "test_a_round_is_answered_in_its_order"),
    (OneAtATime, "test_calls_run_side_by_side_where_the_controller_says_so"),
    (KeepsOneAnswer, "test_tasks_that_share_a_controller_get_their_own_answers"),
    (GroupsErrors, "test_an_error_of_the_seam_comes_out_alone"),
    (GroupsErrors, "test_a_mistake_of_an_executor_comes_out_alone"),
    (GroupsErrors, "test_what_is_no_exception_passes_untouched"),
    (CatchesEverything, "test_an_error_of_the_seam_comes_out_alone"),
    (CatchesEverything, "test_what_is_no_exception_passes_untouched"),
    (CatchesEverything, "test_a_cancellation_from_within_is_no_outcome"),
    (CatchesEverything, "test_a_cancelled_task_stops_its_executor_and_ends"),
    (CatchesEverything, "test_a_cancelled_scope_is_left_at_once"),
    (RunsElsewhere, "test_a_cancelled_task_stops_its_executor_and_ends"),
    (DressesUp, "test_an_answer_of_another_kind_is_not_dressed_up"),
]


@pytest.mark.parametrize(("broken", "case"), [*BROKEN_HOSTS, *BROKEN_CONTROLLERS])
async def test_a_broken_host_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    made = broken()
    broken_host = made if isinstance(made, InlineEffectHost) else InlineEffectHost(made)
    for host, passes in ((InlineEffectHost(), True), (broken_host, False)):

        @asynccontextmanager
        async def runs(
            scope: TurnScope, host: EffectHost = host
        ) -> AsyncIterator[RuntimeEffectController]:
            yield host.scoped(scope).controller

        assert await is_kept(case, host, runs, DurabilityTier.INLINE, ManualClock()) is passes


# --- hosts that keep a record ---------------------------------------------------------------------


class Journaled(JournalEffectController):
    """An intact one, over a journal that it can look into."""

    def __init__(self, journal: MemoryEffectJournal) -> None:
        super().__init__(journal)
        self.memory = journal


class KeepsNothing(Journaled):
    """Each run begins with an empty record."""

    def __init__(self, journal: MemoryEffectJournal) -> None:
        super().__init__(MemoryEffectJournal())


class RecordsNoModelCall(Journaled):
    """Paid for again by every process."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, LlmCallCommand):
            return await executor.execute(envelope)
        return await super().execute_effect(envelope, executor)


class KnowsCallsOnly(Journaled):
    """All attempts at a call have one record."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolAttemptCommand):
            key, _, _ = envelope.replay_key.partition(":attempt:")
            invocation = replace(envelope.invocation, replay_key=f"{key}:attempt:1")
            envelope = RuntimeEffectEnvelope(invocation, envelope.command)
        return await super().execute_effect(envelope, executor)


class RunsAgain(Journaled):
    """A call that was cut off is run again, whatever its tool says."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(executor, Works):
            executor.on_unknown = OnUnknown.RERUN
        return await super().execute_effect(envelope, executor)


class NeverRunsAgain(Journaled):
    """A call that was cut off is given up, whatever its tool says."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(executor, Works):
            executor.on_unknown = OnUnknown.REPORT
        return await super().execute_effect(envelope, executor)


class RecordsCancellation(Journaled):
    """A model call that was cut off has been answered: by that."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        class Swallows:
            async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
                try:
                    return await executor.execute(envelope)
                except asyncio.CancelledError:
                    return LlmCallOutcome(LlmCallError(message="cut off"), False)

        if not isinstance(envelope.command, LlmCallCommand):
            return await super().execute_effect(envelope, executor)
        outcome = await super().execute_effect(envelope, Swallows())
        for make in self.memory._riding:
            self.memory._keep(make())
        return outcome


class SleepsAnew(Journaled):
    """Every run waits for the whole time."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, SleepCommand):
            return await executor.execute(envelope)
        return await super().execute_effect(envelope, executor)


class RecordsErrors(Journaled):
    """What went wrong once goes wrong for ever."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        class Fails:
            async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
                with suppress(EffectControllerError):
                    return await executor.execute(envelope)
                return LlmCallOutcome(LlmCallError(message="gone"), False)

        if isinstance(envelope.command, LlmCallCommand):
            return await super().execute_effect(envelope, Fails())
        return await super().execute_effect(envelope, executor)


class RecordsAnything(Journaled):
    """What a model is said to have answered is not looked at."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        class Fits:
            async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
                outcome = await executor.execute(envelope)
                if isinstance(outcome, LlmCallOutcome):
                    return outcome
                return LlmCallOutcome(LlmCallError(message="odd"), False)

        if isinstance(envelope.command, LlmCallCommand):
            return await super().execute_effect(envelope, Fits())
        return await super().execute_effect(envelope, executor)


class ComparesRequests(Journaled):
    """A request that has changed is another turn's."""

    def _warn_if_other(self, entry: JournalEntry, asked: Any) -> None:
        if dict(entry.effect.components) != dict(asked):
            raise EffectControllerError("turn_replay_mismatch", "another request")


class ComparesNothing(Journaled):
    """A key is a key."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        entry = self.memory.entry(envelope.replay_key)
        if entry is not None and isinstance(envelope.command, ToolAttemptCommand):
            return await executor.execute(envelope)
        if isinstance(envelope.command, ToolBatchCommand):
            return await executor.execute(envelope)
        return await super().execute_effect(envelope, executor)

    def _check_kind(self, position: str, kind: Any) -> None:
        return


class ForgetsOnTheWayOut(Journaled):
    """A record is written if there is time."""

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        class Late:
            def __init__(self, executor: Any) -> None:
                self.executor = executor
                self.on_unknown = executor.on_unknown
                self.was_cut_off = False

            def again(self, run: int) -> "Late":
                return Late(self.executor.again(run))

            async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
                outcome: RuntimeEffectOutcome = await self.executor.execute(envelope)
                await asyncio.sleep(0)
                return outcome

        if isinstance(envelope.command, ToolAttemptCommand):
            executor = Late(executor)
        return await super().execute_effect(envelope, executor)


BROKEN_RECORDS: list[tuple[type[Journaled], str]] = [
    (KeepsNothing, "test_a_recorded_attempt_is_answered_without_running_it"),
    (RecordsNoModelCall, "test_a_models_answer_is_on_record_once_a_call_has_begun"),
    (RecordsNoModelCall, "test_a_models_answer_is_on_record_when_its_call_is_cut_off"),
    (KnowsCallsOnly, "test_each_attempt_has_a_record_of_its_own"),
    (KeepsNothing, "test_a_round_that_was_cut_off_runs_what_had_not_begun"),
    (RunsAgain, "test_a_call_that_was_cut_off_is_not_run_again_by_itself"),
    (NeverRunsAgain, "test_a_call_that_may_be_run_again_is_run_again"),
    (RecordsCancellation, "test_a_model_call_that_was_cut_off_is_made_again"),
    (SleepsAnew, "test_a_sleep_ends_when_it_was_due"),
    (SleepsAnew, "test_a_sleep_whose_time_has_passed_is_over"),
    (RecordsErrors, "test_an_error_of_the_seam_is_not_recorded"),
    (RecordsAnything, "test_an_answer_of_another_kind_is_not_recorded"),
    (ComparesRequests, "test_a_recorded_answer_wins_over_another_request"),
    (ComparesNothing, "test_another_call_under_a_recorded_key_is_refused"),
    (ComparesNothing, "test_an_effect_of_another_kind_in_a_recorded_place_is_refused"),
    (RunsAgain, "test_a_call_that_is_cancelled_at_any_step_is_not_run_twice"),
    (KeepsNothing, "test_a_call_that_is_cancelled_at_any_step_is_not_run_twice"),
    (ForgetsOnTheWayOut, "test_what_has_happened_is_recorded_though_its_run_is_ending"),
]


class BrokenRuns:
    """Runs over journals in memory, with a broken controller each. With `shared` all scopes have
    one record."""

    def __init__(
        self, controller: type[Journaled], clock: ManualClock, *, shared: bool = False
    ) -> None:
        self._controller = controller
        self._clock = clock
        self._shared = shared
        self._journals: dict[TurnScope | None, MemoryEffectJournal] = {}

    @asynccontextmanager
    async def __call__(self, scope: TurnScope) -> AsyncIterator[RuntimeEffectController]:
        key = None if self._shared else scope
        last = self._journals.get(key)
        journal = MemoryEffectJournal(clock=self._clock) if last is None else last.next_run()
        self._journals[key] = journal
        yield self._controller(journal)


async def is_kept_by(case: str, runs: Callable[[ManualClock], EffectRuns]) -> bool:
    clock = ManualClock()
    with anyio.move_on_after(5):
        return await is_kept(case, InlineEffectHost(), runs(clock), DurabilityTier.DURABLE, clock)
    return False


@pytest.mark.parametrize(("broken", "case"), BROKEN_RECORDS)
async def test_a_broken_record_is_caught(broken: type[Journaled], case: str) -> None:
    """As above, for what only a record can get wrong."""
    assert await is_kept_by(case, MemoryRuns)
    assert not await is_kept_by(case, lambda clock: BrokenRuns(broken, clock))


async def test_a_record_that_scopes_share_is_caught() -> None:
    """Another turn would be answered with what this one has bought."""
    case = "test_a_scope_is_answered_from_its_own_record"
    assert await is_kept_by(case, MemoryRuns)
    assert not await is_kept_by(case, lambda clock: BrokenRuns(Journaled, clock, shared=True))


def test_every_case_was_seen_to_fail() -> None:
    """A new case comes with a host that breaks its rule."""
    shown = {case for _, case in (*BROKEN_HOSTS, *BROKEN_CONTROLLERS, *BROKEN_RECORDS)}
    shown.add("test_a_scope_is_answered_from_its_own_record")
    assert shown == {name for name in dir(EveryCase) if name.startswith("test_")}
