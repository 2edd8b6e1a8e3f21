"""Durable waits as a host sees them: a key goes out, an answer comes in, whoever waits gets it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.places import Place, a_core, running
from lash_runtime import (
    AlreadyResolved,
    AwaitEventKey,
    CancelToken,
    CoreClosed,
    EmbedError,
    InvalidAwaitEventKey,
    LashCore,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedErr,
    ResolvedOk,
    ResolvedTimeout,
    RuntimeFailure,
    SessionDeleted,
    StoreFailure,
    UnknownOrRevoked,
)
from lash_runtime.effects.await_events import InlineAwaitEvents, InlineWaitRegistry
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.ports.await_event_stand_ins import NoAwaitEvents
from lash_runtime.ports.await_events import AwaitEventResolver, CustomWait
from lash_runtime.ports.clock import SystemClock
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    AwaitEventCommand,
    AwaitEventExecutor,
    AwaitEventOutcome,
    EffectSubject,
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeOperationScope,
    RuntimeScope,
    ScopedEffectController,
    TurnScope,
    await_events_of,
)
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, RecordingEffectHost, ScriptedProvider
from lash_runtime.testing.conformance._await_event_case import waiters_on

pytestmark = pytest.mark.anyio

PAYMENT = CustomWait(key="payment")


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


@pytest.fixture
async def core(place: Place) -> AsyncIterator[LashCore]:
    async with a_core(place, yes()) as core:
        yield core


def waits_of(core: LashCore) -> AwaitEventResolver:
    return await_events_of(core.effect_host())


async def a_key(core: LashCore, session_id: str = "s", generation: int | None = None) -> Any:
    scope = TurnScope(session_id=session_id, turn_id="t")
    return await waits_of(core).await_event_key(scope, PAYMENT, generation)


async def answer_to(core: LashCore, key: AwaitEventKey) -> Any:
    return await waits_of(core).await_await_event(key, CancelToken(), 0)


# --- answering ----------------------------------------------------------------------------------


async def test_an_answer_from_outside_reaches_who_waits(anywhere: Place) -> None:
    """Wherever the core keeps things; the key went through third parties as text."""
    async with a_core(anywhere, yes()) as core:
        operation = RuntimeOperationScope(operation_id=str(anywhere.database))
        key = await waits_of(core).await_event_key(operation, PAYMENT)
        async with waiters_on(waits_of(core)) as waiters:
            waiter = await waiters.start(key)
            outcome = await core.completions().complete(key.model_dump_json(), {"paid": True})
            assert outcome == ResolveAccepted()
            assert await waiter.answer() == ResolvedOk(payload={"paid": True})


async def test_each_kind_of_answer_can_be_given(core: LashCore) -> None:
    """And is told to whoever comes second."""
    completions = core.completions()
    for number, (give, expected) in enumerate(
        [
            (completions.complete, ResolvedOk()),
            (lambda key: completions.complete(key, [1]), ResolvedOk(payload=[1])),
            (
                lambda key: completions.fail(key, "declined", "No.", raw={"why": 1}),
                ResolvedErr(code="declined", message="No.", raw={"why": 1}),
            ),
            (lambda key: completions.resolve(key, ResolvedTimeout()), ResolvedTimeout()),
            (lambda key: completions.resolve(key, ResolvedCancelled()), ResolvedCancelled()),
        ]
    ):
        key = await a_key(core, f"session {number}")
        assert await give(key) == ResolveAccepted()
        assert await completions.complete(key, "late") == AlreadyResolved(expected)
        assert await answer_to(core, key) == expected


async def test_a_forged_key_is_unknown(core: LashCore) -> None:
    """It is no error of the program: it came from outside."""
    key = await a_key(core)
    for forged in (
        key.model_copy(update={"signature": "0" * 64}),
        key.model_copy(update={"wait": CustomWait(key="another")}).model_dump_json(),
    ):
        assert await core.completions().complete(forged) == UnknownOrRevoked()
    assert await core.completions().complete(key) == ResolveAccepted()


@pytest.mark.parametrize("text", ["", "{}", "null", "lash-await-event:0", '{"key_id": "secret"}'])
async def test_a_text_that_is_no_key_is_a_bad_request(core: LashCore, text: str) -> None:
    """Told apart by class, and not repeated: nearly a key is nearly a secret."""
    with pytest.raises(InvalidAwaitEventKey) as raised:
        await core.completions().complete(text)
    assert (raised.value.code, raised.value.is_terminal) == ("invalid_await_event_key", True)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_answering_opens_the_core_and_a_closed_one_says_so(place: Place) -> None:
    """A web hook may be the first to come, and the last."""
    async with a_core(place, yes()) as core:
        text = (await a_key(core)).model_dump_json()
    core = place.builder(yes()).build()
    try:
        assert await core.completions().complete(text) == ResolveAccepted()
    finally:
        await core.aclose()
    with pytest.raises(CoreClosed):
        await core.completions().complete(text)


async def test_any_process_with_the_database_can_answer(on_disk: Place) -> None:
    """Also while nobody is there to hear it."""
    async with a_core(on_disk, yes()) as one:
        key = await a_key(one)
    async with a_core(on_disk, yes()) as other:
        assert await other.completions().complete(key, 1) == ResolveAccepted()
    async with a_core(on_disk, yes()) as one, a_core(on_disk, yes()) as other:
        assert await answer_to(one, key) == ResolvedOk(payload=1)
        assert await other.completions().complete(key, 2) == AlreadyResolved(ResolvedOk(payload=1))


async def test_a_database_that_is_locked_is_an_error_to_try_again(database: Path) -> None:
    """Of the storage, under its own code."""
    storage = SqliteStorage(database, busy_timeout_ms=1)
    core = LashCore.standard_builder().provider(yes()).model("m").storage(storage).build()
    async with running(core):
        key = await a_key(core)
        with closing(sqlite3.connect(database, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreFailure) as raised:
                await core.completions().complete(key)
        assert (raised.value.code, raised.value.is_retryable) == ("contended", True)
        assert await core.completions().complete(key) == ResolveAccepted()


# --- who keeps them -----------------------------------------------------------------------------


def with_waits(waits: AwaitEventResolver) -> InlineEffectHost:
    return InlineEffectHost(InlineRuntimeEffectController(waits))


async def test_the_effect_host_that_was_given_keeps_the_waits(place: Place) -> None:
    """If it can. The core uses what is behind it and not its storage."""
    waits = InlineAwaitEvents(registry=InlineWaitRegistry())
    host = with_waits(waits)
    async with running(place.builder(yes()).effect_host(host).build()) as core:
        assert core.effect_host() is host
        key = await a_key(core)
        assert await core.completions().complete(key) == ResolveAccepted()
        assert await waits.resolve_await_event(key, ResolvedOk()) == AlreadyResolved(ResolvedOk())


class Worker:
    """A controller that does nothing but its work."""

    durability_tier = DurabilityTier.INLINE
    supports_concurrent_effects = True

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        return await executor.execute(envelope)


class Plain:
    """An effect host that is nothing else."""

    durability_tier = DurabilityTier.INLINE

    def __init__(self) -> None:
        self.scoped = self.scoped_static = InlineEffectHost().scoped


async def test_the_storage_keeps_the_waits_of_a_host_that_keeps_none(place: Place) -> None:
    """Whether the host was given or is the core's own."""
    for host in (None, Plain(), RecordingEffectHost(Plain()), InlineEffectHost(Worker())):
        storage = place.storage()
        builder = place.builder(yes()).storage(storage)
        core = (builder if host is None else builder.effect_host(host)).build()
        async with running(core):
            scope = RuntimeOperationScope(operation_id=f"{type(host)}")
            key = await storage.await_events.await_event_key(scope, PAYMENT)
            assert await core.completions().complete(key) == ResolveAccepted()


async def test_a_recorded_host_waits_where_answers_arrive(place: Place) -> None:
    """A test records what a core asks for, and must not wait elsewhere than the core."""
    host = RecordingEffectHost()
    async with running(place.builder(yes()).effect_host(host).build()) as core:
        scope = RuntimeOperationScope(operation_id=f"recorded {place.kind} {place.database}")
        key = await host.scoped(scope).controller.await_event_key(scope, PAYMENT)  # type: ignore[attr-defined]
        assert await core.completions().complete(key) == ResolveAccepted()


async def test_a_process_keeps_the_waits_of_who_has_nothing(database: Path) -> None:
    """A storage without waits, as simple backends are, and a host without any."""

    class Simple:
        def __init__(self) -> None:
            intact = MemoryStorage()
            self.session_stores, self.attachments = intact.session_stores, intact.attachments
            self.bind, self.open, self.aclose = intact.bind, intact.open, intact.aclose

    core = LashCore.standard_builder().provider(yes()).model("m").storage(Simple()).build()
    async with running(core):
        operation = RuntimeOperationScope(operation_id="of the process")
        key = await InlineAwaitEvents().await_event_key(operation, PAYMENT)
        assert await core.completions().complete(key) == ResolveAccepted()


async def test_a_wait_as_an_effect_is_answered_through_the_core(core: LashCore) -> None:
    """What runs effects and what takes answers are wired to the same waits."""
    key = await a_key(core)
    scoped = core.effect_host().scoped_static(key.scope)
    assert isinstance(scoped, ScopedEffectController)
    envelope = RuntimeEffectEnvelope(
        RuntimeInvocation(
            scope=RuntimeScope(session_id="s", turn_id="t"),
            subject=EffectSubject("1", RuntimeEffectKind.AWAIT_EVENT),
            replay_key="k",
        ),
        AwaitEventCommand(key),
    )
    executor = AwaitEventExecutor(CancelToken(), None, SystemClock())
    outcomes: list[Any] = []

    async def wait() -> None:
        outcomes.append(await scoped.controller.execute_effect(envelope, executor))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await core.completions().complete(key, 1)
    assert outcomes == [AwaitEventOutcome(ResolvedOk(payload=1))]


# --- ending them --------------------------------------------------------------------------------


async def test_revoking_the_waits_of_a_session_cancels_what_is_open(core: LashCore) -> None:
    """Nobody waits any longer, late answers are told, and the session goes on."""
    async with core.session("s") as session, waiters_on(waits_of(core)) as waiters:
        await session.turn("x").run()
        key = await a_key(core)
        waiter = await waiters.start(key)
        other = await waiters.start(await a_key(core, "other"))
        await session.revoke_durable_waits()
        await session.revoke_durable_waits()
        assert await waiter.answer() == ResolvedCancelled()
        assert await core.completions().complete(key) == AlreadyResolved(ResolvedCancelled())
        assert other.waits
        await session.turn("y").run()
        scope = TurnScope(session_id="s", turn_id="y")
        again = await waits_of(core).await_event_key(scope, PAYMENT)
        assert await core.completions().complete(again) == ResolveAccepted()


async def test_a_session_without_a_store_has_waits_as_well() -> None:
    """They live and end with the process."""
    async with a_core(Place("nothing", Path()), yes()) as core:
        async with core.session("not stored") as session, waiters_on(waits_of(core)) as waiters:
            waiter = await waiters.start(await a_key(core, "not stored"))
            await session.revoke_durable_waits()
            assert await waiter.answer() == ResolvedCancelled()


class Engine(NoAwaitEvents):
    """An effect host of an engine that keeps no waits, and says so."""

    durability_tier = DurabilityTier.INLINE

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return InlineEffectHost().scoped(scope)

    scoped_static = scoped


async def test_a_host_that_cannot_cancel_waits_says_so(place: Place) -> None:
    """For good: no repetition helps."""
    async with running(place.builder(yes()).effect_host(Engine()).build()) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure, match="Engine") as raised:
                await session.revoke_durable_waits()
    assert raised.value.code == "await_event_cancel_unsupported"
    assert raised.value.is_terminal


async def test_deleting_a_session_ends_its_waits(core: LashCore) -> None:
    """And what uses the id afterwards has its own, under the same names."""
    async with core.session("s") as session:
        await session.turn("x").run()
        old = await a_key(core)
        async with waiters_on(waits_of(core)) as waiters:
            waiter = await waiters.start(old)
            await core.delete_session("s")
            assert await waiter.error_code() == "await_event_unknown_or_revoked"
    async with core.session("s"):
        new = await a_key(core)
        assert new != old
        assert await core.completions().complete(old) == UnknownOrRevoked()
        assert await core.completions().complete(new) == ResolveAccepted()


async def test_deleting_a_session_ends_its_waits_wherever_they_are_kept(place: Place) -> None:
    """Also where the place that deletes the session is not the one that keeps its waits."""
    storage, elsewhere = place.storage(), MemoryStorage()
    own = InlineAwaitEvents(registry=InlineWaitRegistry())
    builder = place.builder(yes()).storage(storage)
    await elsewhere.open()
    for session_id, apart in (
        ("one", builder.effect_host(with_waits(own))),
        ("two", builder.store_factory(elsewhere.session_stores)),
    ):
        async with running(apart.build()) as core:
            async with core.session(session_id) as session:
                await session.turn("x").run()
            key = await a_key(core, session_id)
            assert await core.completions().complete(key) == ResolveAccepted()
            await core.delete_session(session_id)
            assert await core.completions().complete(key) == UnknownOrRevoked()
            later = await a_key(core, session_id, generation=2)
            assert await core.completions().complete(later) == ResolveAccepted()
    await elsewhere.aclose()


async def test_a_handle_on_a_deleted_session_cancels_nothing_of_the_next(core: LashCore) -> None:
    """It was opened for another session of that id."""
    stale = await core.session("s").open()
    await stale.turn("x").run()
    await core.delete_session("s")
    async with core.session("s") as session, waiters_on(waits_of(core)) as waiters:
        await session.turn("x").run()
        waiter = await waiters.start(await a_key(core))
        with pytest.raises(SessionDeleted):
            await stale.revoke_durable_waits()
        await waiters.settle()
        assert waiter.waits


async def test_a_handle_of_another_process_cancels_nothing_of_the_next(on_disk: Place) -> None:
    """It finds out by asking."""
    async with a_core(on_disk, yes()) as one, a_core(on_disk, yes()) as other:
        stale = await one.session("s").open()
        await other.delete_session("s")
        async with other.session("s"), waiters_on(waits_of(other)) as waiters:
            waiter = await waiters.start(await a_key(other))
            with pytest.raises(SessionDeleted):
                await stale.revoke_durable_waits()
            await waiters.settle()
            assert waiter.waits
        with pytest.raises(EmbedError):
            await stale.turn("x").run()
        await stale.close()
