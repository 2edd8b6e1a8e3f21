"""What any effect controller does: it answers in kind, and gets in the way of nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from ...ports.durability import DurabilityTier
from ...ports.effects import (
    DurableStepCommand,
    DurableStepOutcome,
    EffectControllerError,
    EffectHost,
    ExecutionScope,
    LlmCallCommand,
    ProcessScope,
    QueueDrainScope,
    RuntimeEffectController,
    RuntimeEffectOutcome,
    RuntimeOperationScope,
    SessionDeleteScope,
    TurnScope,
)
from ...runtime.children import stopped
from ._effect_case import EffectCase, EffectRuns
from ._effect_samples import (
    OF_EACH_KIND,
    SCOPE,
    Hangs,
    Raises,
    Works,
    a_call,
    a_request,
    an_effect,
    answered,
    begun,
    ran,
    succeeded,
    value_or_code,
)

SCOPES: tuple[Callable[[str], ExecutionScope], ...] = (
    lambda name: TurnScope(session_id="s", turn_id=name),
    lambda name: ProcessScope(process_id=name),
    lambda name: QueueDrainScope(session_id="s", drain_id=name),
    lambda name: SessionDeleteScope(session_id=name),
    lambda name: RuntimeOperationScope(operation_id=name),
)

Ask = Callable[[RuntimeEffectController, Works], Coroutine[Any, Any, object]]


async def in_a_round(controller: RuntimeEffectController, executor: Works) -> object:
    """The one attempt of a round."""
    return await ran(controller, (a_call(), executor))


async def directly(controller: RuntimeEffectController, executor: Works) -> object:
    """A model call."""
    return await controller.execute_effect(an_effect(LlmCallCommand(a_request())), executor)


WAYS: tuple[tuple[Ask, RuntimeEffectOutcome], ...] = (
    (directly, answered()),
    (in_a_round, succeeded()),
)


class Suspended(BaseException):
    """How an engine takes a handler out of memory."""


class EffectHostConformance(EffectCase):
    """All that holds for any host and its controllers."""

    async def test_a_scope_without_an_id_is_refused(self, effect_host: EffectHost) -> None:
        """Whatever it is a scope of: nothing would tell its record from others."""
        for make in SCOPES:
            for blank in ("", " ", "\n\t"):
                for scoped in (effect_host.scoped, effect_host.scoped_static):
                    with pytest.raises(EffectControllerError) as raised:
                        scoped(make(blank))
                    assert raised.value.code == "missing_execution_scope_id"

    async def test_a_controller_is_bound_to_what_it_executes_for(
        self, effect_host: EffectHost
    ) -> None:
        """For every kind of scope; only a turn has a turn id."""
        for make in SCOPES:
            scope = make("x")
            for scoped in (effect_host.scoped(scope), effect_host.scoped_static(scope)):
                if scoped is not None:
                    assert (scoped.execution_scope, scoped.scope_id) == (scope, "x")
                    assert scoped.turn_id == ("x" if isinstance(scope, TurnScope) else None)

    async def test_host_and_controller_declare_their_tier(
        self, effect_host: EffectHost, effect_runs: EffectRuns
    ) -> None:
        """A host is no more durable than its controllers, or turns would be promised too much."""
        async with effect_runs(SCOPE) as controller:
            assert controller.durability_tier is self.durability_tier
            assert effect_host.durability_tier in (DurabilityTier.INLINE, self.durability_tier)
            assert controller.supports_concurrent_effects in (True, False)

    async def test_what_is_asked_for_is_answered_in_kind(self, effect_runs: EffectRuns) -> None:
        """A model call that failed is an answer, too."""
        async with effect_runs(SCOPE) as controller:
            for at, (command, outcome) in enumerate(OF_EACH_KIND):
                answer = await controller.execute_effect(
                    an_effect(command, str(at)), Works(outcome)
                )
                assert answer == outcome

    async def test_an_executor_is_asked_once_for_what_was_asked(
        self, effect_runs: EffectRuns
    ) -> None:
        """It is single use, and finds its own key in the envelope."""
        async with effect_runs(SCOPE) as controller:
            for at, (command, outcome) in enumerate(OF_EACH_KIND):
                envelope, executor = an_effect(command, str(at)), Works(outcome)
                await controller.execute_effect(envelope, executor)
                (given,) = executor.asked
                assert given.replay_key == envelope.replay_key
                assert given.command.type is command.type
            executor = Works(succeeded())
            await ran(controller, (a_call(args={"what": "hat"}), executor))
            (given,) = executor.asked
            assert given.replay_key == "s:t1:1:0:tool_batch:2:child:0:c0:attempt:1"
            assert given.command.call.args == {"what": "hat"}  # type: ignore[union-attr]
            assert executor.runs == [1]

    async def test_a_round_is_answered_in_its_order(self, effect_runs: EffectRuns) -> None:
        """Each call gets its own result."""
        calls = [(a_call(at=at), Works(succeeded(f"result {at}", at))) for at in range(5)]
        async with effect_runs(SCOPE) as controller:
            done = await ran(
                controller, *calls, side_by_side=controller.supports_concurrent_effects
            )
        assert [each.output.value_for_projection() for each in done] == [
            f"result {at}" for at in range(5)
        ]
        assert [each.duration_ms for each in done] == list(range(5))

    async def test_calls_run_side_by_side_where_the_controller_says_so(
        self, effect_runs: EffectRuns
    ) -> None:
        """The first to be asked for is the last to end."""
        first, last = Hangs(succeeded("first")), Hangs(succeeded("last"))
        async with effect_runs(SCOPE) as controller:
            if not controller.supports_concurrent_effects:
                return

            async def let_go() -> None:
                for executor in (first, last):
                    await executor.entered.wait()
                last.release.set()
                first.release.set()

            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(let_go)
                    done = await ran(
                        controller,
                        (a_call(at=0), first),
                        (a_call(at=1), last),
                        side_by_side=True,
                    )
        assert [each.output.value_for_projection() for each in done] == ["first", "last"]

    async def test_tasks_that_share_a_controller_get_their_own_answers(
        self, effect_runs: EffectRuns
    ) -> None:
        """However many there are."""
        answers: dict[int, RuntimeEffectOutcome] = {}
        async with effect_runs(SCOPE) as controller:

            async def step(at: int) -> None:
                command = DurableStepCommand(f"step {at}", at)
                answers[at] = await controller.execute_effect(
                    an_effect(command, f"e{at}"), Works(DurableStepOutcome(at))
                )

            if controller.supports_concurrent_effects:
                async with anyio.create_task_group() as tasks:
                    for at in range(20):
                        tasks.start_soon(step, at)
            else:
                for at in range(20):
                    await step(at)
        assert answers == {at: DurableStepOutcome(at) for at in range(20)}

    async def test_an_error_of_the_seam_comes_out_alone(self, effect_runs: EffectRuns) -> None:
        """With the executor's code, and never in a group."""
        async with effect_runs(SCOPE) as controller:
            for at, (command, _) in enumerate(OF_EACH_KIND):
                refused = Raises(EffectControllerError("no_such_thing", "there is none"))
                with pytest.raises(EffectControllerError) as raised:
                    await controller.execute_effect(an_effect(command, f"e{at}"), refused)
                assert (raised.value.code, raised.value.message) == (
                    "no_such_thing",
                    "there is none",
                )
            refused = Raises(EffectControllerError("no_such_thing", "there is none"))
            with pytest.raises(EffectControllerError) as raised:
                await in_a_round(controller, refused)
            assert raised.value.code == "no_such_thing"

    async def test_a_mistake_of_an_executor_comes_out_alone(self, effect_runs: EffectRuns) -> None:
        """As it is, or as the seam's own error; nobody looks for it in a group."""
        async with effect_runs(SCOPE) as controller:
            for ask, _ in WAYS:
                mistake = ZeroDivisionError("a bug")
                with pytest.raises((ZeroDivisionError, EffectControllerError)) as raised:
                    await ask(controller, Raises(mistake))
                error = raised.value
                assert error is mistake or isinstance(error, EffectControllerError)

    async def test_what_is_no_exception_passes_untouched(self, effect_runs: EffectRuns) -> None:
        """An engine suspends by it, and takes anything else for a crash."""
        async with effect_runs(SCOPE) as controller:
            for ask, _ in WAYS:
                suspension = Suspended()
                with pytest.raises(Suspended) as raised:
                    await ask(controller, Raises(suspension))
                assert raised.value is suspension

    async def test_a_cancellation_from_within_is_no_outcome(self, effect_runs: EffectRuns) -> None:
        """It goes on its way, whoever has asked for it."""
        async with effect_runs(SCOPE) as controller:
            for ask, _ in WAYS:
                with pytest.raises(asyncio.CancelledError):
                    await ask(controller, Raises(asyncio.CancelledError()))

    async def test_a_cancelled_task_stops_its_executor_and_ends(
        self, effect_runs: EffectRuns
    ) -> None:
        """Nothing is left running, and the task is told as cancelled."""
        async with effect_runs(SCOPE) as controller:
            for ask, outcome in WAYS:
                executor = Hangs(outcome)
                asked = begun(ask(controller, executor), then=executor.entered.set)
                await executor.entered.wait()
                with anyio.fail_after(5):
                    await stopped(asked)
                assert asked.task.cancelled()
                assert executor.cancelled == 1

    async def test_a_cancelled_scope_is_left_at_once(self, effect_runs: EffectRuns) -> None:
        """Nothing that the controller does after its executor holds it up for long."""
        async with effect_runs(SCOPE) as controller:
            for ask, outcome in WAYS:
                executor = Hangs(outcome)

                async def cancel(executor: Hangs, scope: anyio.CancelScope) -> None:
                    await executor.entered.wait()
                    scope.cancel()

                with anyio.fail_after(5):
                    async with anyio.create_task_group() as tasks:
                        with anyio.CancelScope() as scope:
                            tasks.start_soon(cancel, executor, scope)
                            await ask(controller, executor)
                assert scope.cancelled_caught
                assert executor.cancelled == 1

    async def test_an_answer_of_another_kind_is_not_dressed_up(
        self, effect_runs: EffectRuns
    ) -> None:
        """It is refused, or handed to whoever asked, who refuses it."""
        async with effect_runs(SCOPE) as controller:
            ended = await value_or_code(directly(controller, Works(succeeded())))
            assert ended in ("runtime_effect_wrong_outcome", succeeded())
