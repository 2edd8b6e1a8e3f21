"""Everybody who keeps durable waits plays the same histories, and answers the same.

What one keeps in rows others keep in objects, so a rule that either has forgotten shows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lash_runtime.effects.await_events import InlineAwaitEvents, InlineWaitRegistry
from lash_runtime.ports.await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    CustomWait,
    ResolvedOk,
)
from lash_runtime.ports.effect_errors import EffectControllerError
from lash_runtime.ports.execution_scope import (
    ExecutionScope,
    ProcessScope,
    QueueDrainScope,
    TurnScope,
)
from lash_runtime.ports.storage import AwaitEventStorage, SessionStoreCreateRequest
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance._await_event_case import Waiter, Waiters, waiters_on

HISTORIES = 40
SESSIONS = ("one", "two")
SCOPES: tuple[ExecutionScope, ...] = (
    TurnScope(session_id="one", turn_id="t"),
    QueueDrainScope(session_id="two", drain_id="d"),
    ProcessScope(process_id="one"),
)

scopes = st.sampled_from(SCOPES)
waits = st.sampled_from([CustomWait(key="a"), CustomWait(key="b")])
sessions = st.sampled_from(SESSIONS)
recent = st.integers(0, 4)
"""Which of the keys, or of the waiters, newest first."""

steps = st.one_of(
    st.tuples(st.just("key"), scopes, waits, st.sampled_from([None, 1])),  # 1 may be over
    st.tuples(st.just("wait"), recent, st.sampled_from([None, None, 500, 0])),
    st.tuples(st.just("wait"), recent, st.none()),
    st.tuples(st.just("answer"), recent, st.sampled_from([1, 2])),
    st.tuples(st.just("forge"), recent),
    st.tuples(st.just("fire"), recent),
    st.tuples(st.just("interrupt"), recent),
    st.tuples(st.just("pass"), st.sampled_from([0.4, 2.0])),
    st.tuples(st.just("cancel"), sessions),
)
ends = st.one_of(
    st.tuples(st.just("revoke"), sessions, st.sampled_from([None, None, 1, 2])),
    st.tuples(st.just("delete"), sessions),
)
OPENING = [("key", scope, CustomWait(key="a"), None) for scope in SCOPES]


class Player:
    """Plays steps to one keeper and writes down what it answers, and how its waiters stand."""

    def __init__(
        self, waits: AwaitEventResolver, storage: AwaitEventStorage | None, clock: ManualClock
    ) -> None:
        self.waits = waits
        self.storage = storage
        self.clock = clock
        self.keys: list[AwaitEventKey] = []
        self.waiting: list[Waiter] = []

    async def play(self, history: list[tuple[Any, ...]]) -> list[Any]:
        shown = []
        async with waiters_on(self.waits) as waiters:
            for step in history:
                answer = await self.answer(waiters, step)
                await waiters.settle()
                await waiters.settle()
                shown.append((answer, [await _standing(waiter) for waiter in self.waiting]))
        return shown

    async def answer(self, waiters: Waiters, step: tuple[Any, ...]) -> Any:
        match step:
            case "key", scope, wait, generation:
                key = await self.waits.await_event_key(scope, wait, generation)
                self.keys.insert(0, key)
                return key.key_id
            case "pass", seconds:
                self.clock.advance(seconds)
            case "cancel", session_id:
                await self.waits.cancel_await_events_for_session(session_id)
            case "revoke", session_id, generation:
                await self.waits.revoke_await_events_for_session(session_id, generation)
            case "delete", session_id if self.storage is not None:
                await self.storage.session_stores.delete_session(session_id)
                await self.open(session_id)
            case (("fire" | "interrupt"), number) if number < len(self.waiting):
                await self.end(step[0], self.waiting[number])
            case _, number, *rest if number < len(self.keys):
                return await self.use(waiters, step[0], self.keys[number], *rest)
        return None

    async def use(self, waiters: Waiters, kind: str, key: AwaitEventKey, *asked: Any) -> Any:
        match kind, asked:
            case "wait", (within_ms,):
                deadline_ms = None if within_ms is None else self.clock.timestamp_ms() + within_ms
                self.waiting.insert(0, await waiters.start(key, deadline_ms=deadline_ms))
            case "answer", (number,):
                return await self.waits.resolve_await_event(key, ResolvedOk(payload=number))
            case "forge", ():
                forged = key.model_copy(update={"signature": "0" * 64})
                return await self.waits.resolve_await_event(forged, ResolvedOk())
        return None

    async def end(self, kind: str, waiter: Waiter) -> None:
        if kind == "fire":
            waiter.cancel.cancel()
        elif waiter.waits:
            await waiter.interrupt()

    async def open(self, session_id: str) -> None:
        if self.storage is not None:
            request = SessionStoreCreateRequest(session_id=session_id)
            await self.storage.session_stores.create_store(request)


async def _standing(waiter: Waiter) -> Any:
    if waiter.waits:
        return "waits"
    try:
        return await waiter.answer()
    except EffectControllerError as error:
        return error.code
    except AssertionError:
        return "interrupted"


@asynccontextmanager
async def _kept_by(storage: AwaitEventStorage, clock: ManualClock) -> AsyncIterator[Player]:
    storage.bind(clock=clock, ids=FixedIdSource())
    await storage.open()
    try:
        player = Player(storage.await_events, storage, clock)
        for session_id in SESSIONS:
            await player.open(session_id)
        yield player
    finally:
        await storage.aclose()


@asynccontextmanager
async def inline(clock: ManualClock) -> AsyncIterator[Player]:
    yield Player(InlineAwaitEvents(clock=clock, registry=InlineWaitRegistry()), None, clock)


def memory(clock: ManualClock) -> AbstractAsyncContextManager[Player]:
    return _kept_by(MemoryStorage(), clock)


def sqlite(clock: ManualClock) -> AbstractAsyncContextManager[Player]:
    return _kept_by(SqliteStorage(":memory:"), clock)


def played(
    make: Callable[[ManualClock], AbstractAsyncContextManager[Player]],
    history: list[tuple[Any, ...]],
) -> list[Any]:
    async def play() -> list[Any]:
        async with make(ManualClock()) as player:
            return await player.play(history)

    return asyncio.run(play())


@settings(max_examples=HISTORIES, derandomize=True)
@given(st.lists(steps, min_size=8, max_size=20))
def test_a_process_and_a_database_keep_waits_alike(history: list[tuple[Any, ...]]) -> None:
    """Every answer, every refusal, and how each waiter stands after each step."""
    history = [*OPENING, *history]
    for step, left, right in zip(
        history, played(inline, history), played(sqlite, history), strict=True
    ):
        assert left == right, step


@settings(max_examples=HISTORIES, derandomize=True)
@given(st.lists(st.one_of(steps, steps, steps, ends), min_size=8, max_size=20))
def test_both_storages_end_waits_alike(history: list[tuple[Any, ...]]) -> None:
    """With revocations and deletions among the steps."""
    history = [*OPENING, *history]
    for step, left, right in zip(
        history, played(memory, history), played(sqlite, history), strict=True
    ):
        assert left == right, step
