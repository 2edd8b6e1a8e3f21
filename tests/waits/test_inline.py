"""Waits that are kept in a process: by whom they are shared, and when they are forgotten."""

import asyncio
import gc
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
import pytest

from lash_runtime.effects.await_events import InlineAwaitEvents, InlineWaitRegistry
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.ports.await_event_stand_ins import NoAwaitEvents
from lash_runtime.ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    CustomWait,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedTimeout,
    UnknownOrRevoked,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.effects import (
    AwaitEventCommand,
    AwaitEventExecutor,
    AwaitEventOutcome,
    EffectControllerError,
    EffectSubject,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeScope,
    SleepCommand,
)
from lash_runtime.ports.store_errors import StoreContended
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance._await_event_case import (
    NO,
    OPERATION,
    TURN,
    UNKNOWN,
    YES,
    Waiters,
    a_key,
    waiters_on,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def waits(clock: ManualClock) -> InlineAwaitEvents:
    return InlineAwaitEvents(clock=clock, registry=InlineWaitRegistry())


async def started(waiters: Waiters, key: AwaitEventKey) -> Any:
    waiter = await waiters.start(key)
    assert waiter.waits
    return waiter


# --- one registry for a process -----------------------------------------------------------------


async def test_hosts_without_waits_of_their_own_share_those_of_the_process() -> None:
    """A key that one has given out is answered through another."""
    one, other = InlineEffectHost(), InlineEffectHost()
    key = await a_key(one, wait=CustomWait(key="of the process"))
    assert await other.resolve_await_event(key, YES) == ResolveAccepted()
    assert await one.resolve_await_event(key, NO) == AlreadyResolved(YES)
    own = InlineEffectHost(
        InlineRuntimeEffectController(InlineAwaitEvents(registry=InlineWaitRegistry()))
    )
    assert await own.resolve_await_event(key, YES) == UnknownOrRevoked()


async def test_a_child_of_a_process_keeps_its_own() -> None:
    """What it is told would not reach those who wait in its parent, so it accepts nothing."""
    host = InlineEffectHost()
    key = await a_key(host, wait=CustomWait(key="of the parent"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = _in_a_loop(host.resolve_await_event(key, YES))
        os.write(writing, outcome.status.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert await asyncio.to_thread(told.read) == "unknown_or_revoked"
    os.waitpid(child, 0)
    assert await host.resolve_await_event(key, YES) == ResolveAccepted()


def _in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, beside a loop that the fork has left running."""
    asyncio.events._set_running_loop(None)
    return asyncio.run(work)


def test_waiters_on_several_loops_are_woken_by_one_answer(waits: InlineAwaitEvents) -> None:
    """An application may run a loop in each of its threads."""
    key = asyncio.run(waits.await_event_key(TURN, CustomWait(key="k")))
    waiting = threading.Barrier(4, timeout=10)
    answers: list[Any] = []

    async def wait() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_arrive, waiting)
            answers.append(await waits.await_await_event(key, CancelToken(), None))

    threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting.wait()
    assert asyncio.run(waits.resolve_await_event(key, YES)) == ResolveAccepted()
    for thread in threads:
        thread.join(10)
    assert answers == [YES] * 3


async def _arrive(waiting: threading.Barrier) -> None:
    await asyncio.to_thread(waiting.wait)


def test_of_answers_from_several_loops_one_is_accepted(waits: InlineAwaitEvents) -> None:
    """Each loop runs in a thread of its own, at the same time as the others."""
    for number in range(50):
        key = asyncio.run(waits.await_event_key(TURN, CustomWait(key=f"k{number}")))
        together = threading.Barrier(4, timeout=10)
        outcomes: list[Any] = []

        async def answer() -> None:
            together.wait()
            outcomes.append(await waits.resolve_await_event(key, YES))

        threads = [threading.Thread(target=lambda: asyncio.run(answer())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(outcome.status for outcome in outcomes) == [
            "accepted",
            *["already_resolved"] * 3,
        ]


def test_a_waiter_whose_loop_has_ended_is_no_trouble(waits: InlineAwaitEvents) -> None:
    """A loop that was closed under its tasks leaves them listening."""
    key = asyncio.run(waits.await_event_key(TURN, CustomWait(key="k")))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # that the task never ends is the point
    task = loop.create_task(waits.await_await_event(key, CancelToken(), None))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert asyncio.run(waits.resolve_await_event(key, YES)) == ResolveAccepted()
    del task
    gc.collect()


# --- forgetting ---------------------------------------------------------------------------------


async def test_the_waits_of_a_scope_that_is_over_are_forgotten(waits: InlineAwaitEvents) -> None:
    """A process that runs for months would remember each of them otherwise."""
    answered, open_, other = [
        await a_key(waits, scope, CustomWait(key=name))
        for scope, name in ((TURN, "a"), (TURN, "b"), (OPERATION, "a"))
    ]
    for key in (answered, other):
        await waits.resolve_await_event(key, YES)
    waits.forget(TURN)
    for key in (answered, open_):
        assert await waits.resolve_await_event(key, NO) == UnknownOrRevoked()
    assert await waits.resolve_await_event(other, NO) == AlreadyResolved(YES)


async def test_a_wait_is_not_forgotten_under_those_who_wait(waits: InlineAwaitEvents) -> None:
    """The last of them takes it along, whatever it was told."""
    for ends_by_answer in (True, False):
        key = await a_key(waits)
        async with waiters_on(waits) as waiters:
            one, other = [await started(waiters, key) for _ in range(2)]
            waits.forget(TURN)
            await one.interrupt()
            if ends_by_answer:
                assert await waits.resolve_await_event(key, YES) == ResolveAccepted()
                assert await other.answer() == YES
            else:
                await other.interrupt()
        assert await waits.resolve_await_event(key, NO) == UnknownOrRevoked()


async def test_what_is_revoked_takes_no_room(waits: InlineAwaitEvents) -> None:
    """But for the note that it was."""
    before = _live_entries()
    for number in range(100):
        key = await a_key(waits, wait=CustomWait(key=f"k{number}"))
        await waits.resolve_await_event(key, YES)
    assert _live_entries() == before + 100
    await waits.revoke_await_events_for_session("s")
    assert _live_entries() == before


def _live_entries() -> int:
    gc.collect()
    return sum(type(each).__name__ == "_Entry" for each in gc.get_objects())


# --- as an effect -------------------------------------------------------------------------------


def asked_for(key: AwaitEventKey) -> RuntimeEffectEnvelope:
    return RuntimeEffectEnvelope(
        RuntimeInvocation(
            scope=RuntimeScope(session_id="s", turn_id="t"),
            subject=EffectSubject("1", RuntimeEffectKind.AWAIT_EVENT),
            replay_key="s:t:1:0:await_event:1",
        ),
        AwaitEventCommand(key),
    )


async def test_a_wait_is_an_effect(clock: ManualClock) -> None:
    """With the token, the deadline and the clock that its executor brings along."""
    host = InlineEffectHost()
    controller = host.scoped(TURN).controller
    token = CancelToken()
    executor = AwaitEventExecutor(token, clock.timestamp_ms() + 1_000, clock)
    answers: list[RuntimeEffectOutcome] = []

    async def wait(name: str) -> None:
        key = await a_key(host, wait=CustomWait(key=name))
        answers.append(await controller.execute_effect(asked_for(key), executor))

    key = await a_key(host, wait=CustomWait(key="effect: answered"))
    await host.resolve_await_event(key, YES)
    await wait("effect: answered")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "effect: late")
        await clock.wait_for_sleepers()
        clock.advance(1)
    token.cancel()
    await wait("effect: cancelled")
    assert answers == [
        AwaitEventOutcome(each) for each in (YES, ResolvedTimeout(), ResolvedCancelled())
    ]


async def test_a_wait_that_is_dead_fails_as_an_effect(waits: InlineAwaitEvents) -> None:
    """With the code of the wait."""
    controller = InlineRuntimeEffectController(waits)
    key = await a_key(waits)
    await waits.revoke_await_events_for_session("s")
    executor = AwaitEventExecutor(CancelToken(), None, ManualClock())
    with pytest.raises(EffectControllerError) as raised:
        await controller.execute_effect(asked_for(key), executor)
    assert raised.value.code == UNKNOWN


async def test_a_store_that_fails_while_it_is_waited_for_fails_the_effect(
    clock: ManualClock, waits: InlineAwaitEvents
) -> None:
    """By the one error of the seam."""

    class Contended(NoAwaitEvents):
        async def await_await_event(
            self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
        ) -> Any:
            raise StoreContended("somebody has it")

    controller = InlineRuntimeEffectController(Contended())
    executor = AwaitEventExecutor(CancelToken(), None, clock)
    with pytest.raises(EffectControllerError, match="somebody has it") as raised:
        await controller.execute_effect(asked_for(await a_key(waits)), executor)
    assert raised.value.code == "runtime_store"


async def test_an_executor_that_waits_does_nothing_else(
    clock: ManualClock, waits: InlineAwaitEvents
) -> None:
    """Neither other effects, nor the waiting itself where a controller knows no better; and a wait
    that comes with another executor is left to it."""
    controller = InlineRuntimeEffectController()
    waiting: LocalEffectExecutor = AwaitEventExecutor(CancelToken(), None, clock)
    sleep = RuntimeEffectEnvelope(
        RuntimeInvocation(
            scope=RuntimeScope(session_id="s", turn_id="t"),
            subject=EffectSubject("1", RuntimeEffectKind.SLEEP),
            replay_key="k",
        ),
        SleepCommand(1),
    )
    wait = asked_for(await a_key(waits))
    for call in (controller.execute_effect(sleep, waiting), waiting.execute(wait)):
        with pytest.raises(EffectControllerError) as raised:
            await call
        assert raised.value.code == "runtime_effect_local_executor_mismatch"

    class Knows:
        async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return AwaitEventOutcome(NO)

    assert await controller.execute_effect(wait, Knows()) == AwaitEventOutcome(NO)
