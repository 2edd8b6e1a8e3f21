"""Durable waits that are kept beside the sessions: they end with their session, and live as long
as the storage."""

from typing import Final, cast

import anyio
import pytest

from ...ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventResolver,
    CustomWait,
    Resolution,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedTimeout,
    ResolveOutcome,
    UnknownOrRevoked,
)
from ...ports.execution_scope import TurnScope
from ...ports.storage import AwaitEventStorage, Storage
from ...ports.store_errors import StoreError
from ..clocks import ManualClock
from ._await_event_case import (
    NO,
    OF_OTHERS,
    OF_THE_SESSION,
    UNKNOWN,
    YES,
    AwaitEventCase,
    Waiters,
    a_key,
    answer_now,
    waiters_on,
)
from ._case import StorageCase
from ._samples import a_store
from .durable import DurableStorageConformance, OpenStorage

LATER = CustomWait(key="later")
ANSWERS: Final[tuple[Resolution, ...]] = (YES, NO)
ROUNDS: Final = 10


class AwaitEventLifetimeConformance(AwaitEventCase, StorageCase):
    """What ends together with a session, and with the time that its storage is open."""

    @pytest.fixture
    def await_events(
        self, storage: AwaitEventStorage, needs_await_events: None
    ) -> AwaitEventResolver:
        return storage.await_events

    async def test_deleting_a_session_ends_its_waits(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Those who wait are told at once; nobody waits for what nobody will ever use."""
        await a_store(storage)
        waiting = [
            await waiters.start(await a_key(await_events, scope)) for scope in OF_THE_SESSION
        ]
        await storage.session_stores.delete_session("s")
        assert [await waiter.error_code() for waiter in waiting] == [UNKNOWN] * len(waiting)

    async def test_the_keys_of_a_deleted_session_are_unknown(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """Those of before, whatever had become of them, and those that are made later."""
        await a_store(storage)
        keys = [await a_key(await_events), await a_key(await_events, wait=LATER)]
        await await_events.resolve_await_event(keys[0], YES)
        await storage.session_stores.delete_session("s")
        keys.append(await a_key(await_events, wait=CustomWait(key="made afterwards")))
        for key in keys:
            assert await await_events.resolve_await_event(key, NO) == UnknownOrRevoked()
            assert await answer_now(await_events, key, clock) == UNKNOWN

    async def test_an_id_that_is_used_again_has_waits_of_its_own(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Under the same turn id and the same call id, as in a test or a job that is repeated."""
        await a_store(storage)
        old = await a_key(await_events)
        await await_events.resolve_await_event(old, NO)
        await storage.session_stores.delete_session("s")
        await a_store(storage)
        new = await a_key(await_events)
        assert new.key_id != old.key_id
        waiter = await waiters.start(new)
        assert await await_events.resolve_await_event(old, NO) == UnknownOrRevoked()
        assert waiter.waits
        assert await await_events.resolve_await_event(new, YES) == ResolveAccepted()
        assert await waiter.answer() == YES

    async def test_a_turn_that_outlives_its_session_makes_dead_keys(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """It knows its generation, and cannot wait for what belongs to the next one."""
        await a_store(storage)
        await storage.session_stores.delete_session("s")
        await a_store(storage)
        late = await await_events.await_event_key(TurnScope(session_id="s", turn_id="t"), LATER, 1)
        assert await await_events.resolve_await_event(late, YES) == UnknownOrRevoked()
        assert await answer_now(await_events, late, clock) == UNKNOWN

    async def test_deleting_a_session_leaves_the_waits_of_others(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Of other sessions, and of what belongs to none."""
        await a_store(storage)
        await a_store(storage, "other")
        waiting = [await waiters.start(await a_key(await_events, scope)) for scope in OF_OTHERS]
        await storage.session_stores.delete_session("s")
        await waiters.settle()
        assert all(waiter.waits for waiter in waiting)
        for scope, waiter in zip(OF_OTHERS, waiting, strict=True):
            key = await a_key(await_events, scope)
            assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
            assert await waiter.answer() == YES

    async def test_closing_the_storage_ends_the_waiting(
        self, storage: AwaitEventStorage, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Nobody waits for ever for what can no longer come."""
        waiter = await waiters.start(await a_key(await_events))
        await storage.aclose()
        assert isinstance(await waiter.error(), StoreError)


class DurableAwaitEventConformance(StorageCase):
    """Each call of `storage_factory` must give a new storage over one and the same place."""

    open_storage = DurableStorageConformance.open_storage

    @pytest.fixture(autouse=True)
    def keeps_waits(self, needs_await_events: None) -> None:
        """Or says that it does not."""

    async def test_a_key_outlives_its_process(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Third parties hold it for weeks."""
        storage = await open_storage()
        await a_store(storage)
        key = await a_key(_waits(storage))
        await storage.aclose()
        waits = _waits(await open_storage())
        assert await a_key(waits) == key
        assert await waits.resolve_await_event(key, YES) == ResolveAccepted()
        assert await answer_now(waits, key, clock) == YES

    async def test_an_answer_is_kept_while_nobody_is_there(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Given to a process that knows nothing of whoever waits, and found by the next one."""
        storage = await open_storage()
        waits = _waits(storage)
        key = await a_key(waits)
        async with waiters_on(waits) as waiters:
            await (await waiters.start(key)).interrupt()
        await storage.aclose()
        storage = await open_storage()
        assert await _waits(storage).resolve_await_event(key, YES) == ResolveAccepted()
        await storage.aclose()
        waits = _waits(await open_storage())
        assert await answer_now(waits, key, clock) == YES
        assert await waits.resolve_await_event(key, NO) == AlreadyResolved(YES)

    async def test_a_deadline_outlives_its_process(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Whoever comes back does not start the time anew."""
        storage = await open_storage()
        key = await a_key(_waits(storage))
        async with waiters_on(_waits(storage)) as waiters:
            await (await waiters.start(key, deadline_ms=clock.timestamp_ms() + 60_000)).interrupt()
        await storage.aclose()
        clock.advance(59)
        waits = _waits(await open_storage())
        async with waiters_on(waits) as waiters:
            waiter = await waiters.start(key, deadline_ms=clock.timestamp_ms() + 60_000)
            assert waiter.waits
            clock.advance(1)
            assert await waiter.answer() == ResolvedTimeout()

    async def test_a_revocation_outlives_its_process(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """What was revoked stays so."""
        storage = await open_storage()
        key = await a_key(_waits(storage))
        await _waits(storage).revoke_await_events_for_session("s")
        await storage.aclose()
        waits = _waits(await open_storage())
        assert await waits.resolve_await_event(key, YES) == UnknownOrRevoked()
        assert await answer_now(waits, key, clock) == UNKNOWN

    async def test_an_answer_through_one_handle_reaches_who_waits_on_another(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Within a second, for nobody has told it."""
        here, there = await open_storage(), await open_storage()
        key = await a_key(_waits(here))
        async with waiters_on(_waits(here)) as waiters:
            waiter = await waiters.start(key)
            assert waiter.waits
            assert await _waits(there).resolve_await_event(key, YES) == ResolveAccepted()
            clock.advance(1)
            assert await waiter.answer() == YES

    async def test_what_ends_a_session_is_felt_through_every_handle(
        self, open_storage: OpenStorage, clock: ManualClock
    ) -> None:
        """Cancelling, revoking and deleting alike."""
        here, there = await open_storage(), await open_storage()
        for name in ("cancelled", "revoked", "deleted"):
            await a_store(here, name)
        async with waiters_on(_waits(here)) as waiters:
            cancelled, revoked, deleted = [
                await waiters.start(await a_key(_waits(here), TurnScope(session_id=s, turn_id="t")))
                for s in ("cancelled", "revoked", "deleted")
            ]
            await _waits(there).cancel_await_events_for_session("cancelled")
            await _waits(there).revoke_await_events_for_session("revoked")
            await there.session_stores.delete_session("deleted")
            clock.advance(1)
            assert await cancelled.answer() == ResolvedCancelled()
            assert await revoked.error_code() == UNKNOWN
            assert await deleted.error_code() == UNKNOWN

    async def test_of_answers_through_several_handles_one_is_accepted(
        self, open_storage: OpenStorage
    ) -> None:
        """At the same time; all others are told that one."""
        handles = [await open_storage() for _ in range(2)]
        for number in range(ROUNDS):
            key = await a_key(_waits(handles[0]), wait=CustomWait(key=f"round {number}"))
            outcomes: list[ResolveOutcome] = []
            async with anyio.create_task_group() as tasks:
                for storage, answer in zip(handles, ANSWERS, strict=True):
                    tasks.start_soon(_resolve, storage, key, answer, outcomes)
            refused = [each for each in outcomes if each != ResolveAccepted()]
            assert refused in ([AlreadyResolved(YES)], [AlreadyResolved(NO)])
            assert await _waits(handles[1]).resolve_await_event(key, YES) == refused[0]


async def _resolve(
    storage: Storage, key: AwaitEventKey, answer: Resolution, outcomes: list[ResolveOutcome]
) -> None:
    outcomes.append(await _waits(storage).resolve_await_event(key, answer))


def _waits(storage: Storage) -> AwaitEventResolver:
    return cast("AwaitEventStorage", storage).await_events
