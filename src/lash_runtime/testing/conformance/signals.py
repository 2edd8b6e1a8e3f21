"""Signals: whoever listens is told what was committed, and nobody has to keep up.

That a signal may get lost on its way to another storage is no excuse within one: there it has
arrived when the call that caused it returns.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...ports.signals import (
    SignalFilter,
    SignalKind,
    SignalSubscription,
    StoreSignal,
)
from ...ports.storage import Storage
from ...ports.store_errors import HeadRevisionConflict, StoreBackendError
from ...ports.turn_ledger import TurnKnown, TurnRefused, TurnRow
from ...ports.turn_persistence import TurnPersistence
from ...ports.waiting import wait_until
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
    ODD_IDS,
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_failed,
    hold,
)

ACCEPTED = SignalFilter.of(SignalKind.TURN_ACCEPTED, session_id="s")
SETTLED = SignalFilter.of(SignalKind.TURN_SETTLED, session_id="s")
FREE = SignalFilter.of(SignalKind.LANE_FREE, session_id="s")
LANE_FREE = StoreSignal(SignalKind.LANE_FREE, "s")

WITHIN_S = 10
"""Until a wait that goes on for ever is given up."""


async def free_the_lane(store: TurnPersistence, session_id: str = "s") -> None:
    """Something that everybody who listens to free lanes is told."""
    lease = await hold(store, session_id)
    await store.release_session_execution_lease(lease.fence())


async def waited(subscription: SignalSubscription) -> bool:
    """What a wait for something that has happened says; `False`, too, if it goes on for ever."""
    with anyio.move_on_after(WITHIN_S):
        return await subscription.wait()
    return False


async def is_quiet(subscription: SignalSubscription, happens: Callable[[], Awaitable[Any]]) -> bool:
    """Whether something can happen without a look. A signal may be about nothing, but not
    always."""
    for _ in range(5):
        subscription.take()
        await happens()
        if not subscription.take():
            return True
    return False


class _Waiter:
    """Somebody who waits in a task of their own; `looks` counts what they were told."""

    def __init__(self, subscription: SignalSubscription) -> None:
        self._subscription = subscription
        self.looks = 0
        self.is_over = False
        self.is_refused = False

    async def wait_once(self) -> None:
        try:
            self.looks += await waited(self._subscription)
        except RuntimeError:
            self.is_refused = True

    async def wait_for_the_end(self) -> None:
        with anyio.move_on_after(WITHIN_S):
            async for _ in self._subscription:
                self.looks += 1
            self.is_over = True


class SignalConformance(StorageCase):
    """What is committed is announced; a subscription says once that there is something to see."""

    @pytest.mark.usefixtures("needs_signals")
    async def test_an_accepted_turn_is_announced(self, storage: Storage) -> None:
        """Whoever runs turns of others need not ask for them again and again."""
        store = await a_store(storage)
        with storage.signals.listen(ACCEPTED) as told:
            assert not told.take()
            await accepted(store, an_acceptance())
            assert told.take()
            assert isinstance(await store.accept_turn(an_acceptance()), TurnKnown)
            assert await is_quiet(told, lambda: store.accept_turn(an_acceptance()))

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_settled_turn_is_announced(self, storage: Storage) -> None:
        """Whether it ends with a commit or without one; a commit of progress ends nothing."""
        store = await a_store(storage)
        one = await accepted(store, an_acceptance())
        with storage.signals.listen(SETTLED) as told:
            fence = one.lease.fence()
            assert await is_quiet(told, lambda: store.commit_runtime_state(a_commit(fence)))
            await store.commit_runtime_state(a_commit(fence, turn_settlement=as_committed()))
            assert told.take()
            await accepted(store, an_acceptance("t2"))
            await store.settle_turn(fence, as_failed("t2"), release=False)
            assert told.take()

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_turn_that_was_discarded_is_announced(self, storage: Storage) -> None:
        """Starting over ends what is unfinished, and whoever waited for that has to hear it."""
        store = await a_store(storage)
        await accepted(store, an_acceptance("lost"))
        lost = SignalFilter.of(SignalKind.TURN_SETTLED, session_id="s", turn_id="lost")
        with storage.signals.listen(lost) as told:
            await accepted(store, an_acceptance("anew", replace_session=True))
            assert told.take()
        row = await store.load_turn("s", "lost")
        assert row is not None
        assert row.state.is_settled

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_lane_that_was_given_back_is_announced(self, storage: Storage) -> None:
        """By itself, with a commit, or with the end of a turn; a renewal gives nothing back."""
        store = await a_store(storage)
        with storage.signals.listen(FREE) as told:
            fence = (await hold(store)).fence()
            assert await is_quiet(told, lambda: store.renew_session_execution_lease(fence, 60_000))
            await store.release_session_execution_lease(fence)
            assert told.take()
            fence = (await hold(store)).fence()
            await store.commit_runtime_state(a_commit(fence, release_session_execution_lease=fence))
            assert told.take()
            turn = await accepted(store, an_acceptance())
            await store.settle_turn(turn.lease.fence(), as_failed(), release=True)
            assert told.take()

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_deleted_session_is_announced_to_all_who_listen_to_it(
        self, storage: Storage
    ) -> None:
        """It ends what they wait for, whatever that is, and nobody has to think of it."""

        async def begin_and_delete() -> None:
            await a_store(storage)
            await storage.session_stores.delete_session("s")

        a_turn = SignalFilter.of(SignalKind.WAIT_RESOLVED, session_id="s", turn_id="t1")
        anywhere = SignalFilter.of(SignalKind.SESSION_DELETED)
        with (
            storage.signals.listen(a_turn) as of_it,
            storage.signals.listen(anywhere) as of_any,
            storage.signals.listen(SignalFilter.of(SignalKind.WAIT_RESOLVED)) as of_others,
        ):
            assert await is_quiet(of_others, begin_and_delete)
            assert of_it.take()
            assert of_any.take()

    @pytest.mark.usefixtures("needs_signals")
    async def test_what_was_refused_announces_nothing(self, storage: Storage) -> None:
        """A turn for a busy lane, and a commit that came too late, have left nothing to see."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        fence = turn.lease.fence()
        late = a_commit(
            fence,
            expected_head_revision=7,
            turn_settlement=as_committed(),
            release_session_execution_lease=fence,
        )

        async def be_refused() -> None:
            refused = await store.accept_turn(an_acceptance("t2", owner=BOB))
            assert refused == TurnRefused(turn.lease)
            await raised_by(store.commit_runtime_state(late), HeadRevisionConflict)

        everything = SignalFilter.of(*SignalKind, session_id="s")
        with storage.signals.listen(everything) as told:
            assert await is_quiet(told, be_refused)
        assert list(await store.list_unfinished_turns("s")) == [turn.row]

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_listener_hears_of_what_it_asked_for(self, storage: Storage) -> None:
        """Other sessions and other turns wake nobody; all sessions are one choice."""
        store, other = await a_store(storage), await a_store(storage, "other")

        async def settle(session_id: str, turn_id: str) -> None:
            stored = store if session_id == "s" else other
            turn = await accepted(stored, an_acceptance(turn_id, session_id=session_id))
            await stored.settle_turn(turn.lease.fence(), as_failed(turn_id), release=True)

        numbers = count()
        one_turn = SignalFilter.of(SignalKind.TURN_SETTLED, session_id="s", turn_id="t")
        with (
            storage.signals.listen(SETTLED) as of_session,
            storage.signals.listen(one_turn) as of_turn,
            storage.signals.listen(SignalFilter.of(SignalKind.TURN_SETTLED)) as of_all,
        ):
            assert await is_quiet(of_session, lambda: settle("other", f"{next(numbers)}"))
            assert of_all.take()
            assert await is_quiet(of_turn, lambda: settle("s", f"{next(numbers)}"))
            assert of_session.take()
            assert of_all.take()
            await settle("s", "t")
            assert of_turn.take()
            assert of_session.take()
            assert of_all.take()

    @pytest.mark.usefixtures("needs_signals")
    async def test_any_session_can_be_listened_to(self, storage: Storage) -> None:
        """Ids are compared whole, however long and odd they are."""
        kind = SignalKind.LANE_FREE
        for session_id in ODD_IDS:
            store = await a_store(storage, session_id)
            near = SignalFilter.of(kind, session_id=f"{session_id}s")
            with (
                storage.signals.listen(SignalFilter.of(kind, session_id=session_id)) as told,
                storage.signals.listen(near) as of_another,
            ):
                assert await is_quiet(of_another, partial(free_the_lane, store, session_id))
                assert told.take()

    @pytest.mark.usefixtures("needs_signals")
    async def test_however_much_happens_is_one_look(self, storage: Storage) -> None:
        """A slow listener is not owed a list, and what came in the meantime is not lost."""
        store = await a_store(storage)
        with storage.signals.listen(FREE) as told:
            for _ in range(50):
                await free_the_lane(store)
            assert told.take()
            assert not told.take()
            await free_the_lane(store)
            assert await waited(told)

    @pytest.mark.usefixtures("needs_signals")
    async def test_a_cancelled_wait_loses_nothing(self, storage: Storage) -> None:
        """What happens while nobody waits is told to whoever waits next."""
        store = await a_store(storage)
        with storage.signals.listen(FREE) as told:
            with anyio.move_on_after(0) as given_up:
                await told.wait()
            assert given_up.cancelled_caught
            await free_the_lane(store)
            assert told.take()

    async def test_one_who_waits_is_woken_from_any_thread(self, storage: Storage) -> None:
        """Whoever has committed need not be on the event loop of whoever waits."""
        signals = storage.signals
        with signals.listen(FREE) as told:
            waiter = _Waiter(told)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiter.wait_once)
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(signals.announce, LANE_FREE)
            assert waiter.looks == 1

    async def test_iteration_is_one_look_after_the_other(self, storage: Storage) -> None:
        """It goes on until the subscription is closed."""
        signals = storage.signals
        looks = 0
        with signals.listen(FREE) as told:
            signals.announce(LANE_FREE)
            with anyio.move_on_after(WITHIN_S) as given_up:
                async for _ in told:
                    looks += 1
                    if looks < 3:
                        signals.announce(LANE_FREE)
                    else:
                        told.close()
        assert looks == 3
        assert not given_up.cancelled_caught

    async def test_a_second_waiter_is_refused(self, storage: Storage) -> None:
        """One of the two would be told, and nobody could say which."""
        with storage.signals.listen(FREE) as told:
            waiter = _Waiter(told)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiter.wait_for_the_end)
                await anyio.wait_all_tasks_blocked()
                second = _Waiter(told)
                await second.wait_once()
                told.close()
            assert second.is_refused
            assert waiter.is_over

    async def test_closing_ends_a_wait_and_may_be_repeated(self, storage: Storage) -> None:
        """Also from another task. From then on nothing is told, and no wait waits."""
        with storage.signals.listen(FREE) as told:
            waiter = _Waiter(told)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiter.wait_for_the_end)
                await anyio.wait_all_tasks_blocked()
                told.close()
            assert waiter.is_over
            told.close()
            storage.signals.announce(LANE_FREE)
            assert not told.take()
            assert await waited(told) is False

    async def test_closing_the_storage_ends_every_wait(self, storage: Storage) -> None:
        """Nobody waits for a storage that is gone, and only an open one can be listened to."""
        with storage.signals.listen(FREE) as told:
            waiter = _Waiter(told)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiter.wait_for_the_end)
                await anyio.wait_all_tasks_blocked()
                await storage.aclose()
            assert waiter.is_over
        storage.signals.announce(LANE_FREE)
        with pytest.raises(StoreBackendError):
            storage.signals.listen(FREE).close()

    async def test_waiting_ends_when_the_store_has_it(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """With signals or without: then by looking again, as time goes on."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        found: list[TurnRow] = []

        async def settled() -> TurnRow | None:
            row = await store.load_turn("s", "t1")
            return row if row is not None and row.state.is_settled else None

        async def wait() -> None:
            found.append(await wait_until(settled, storage.signals, SETTLED, clock=clock))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await clock.wait_for_sleepers()
            assert found == []
            await store.settle_turn(turn.lease.fence(), as_failed(), release=True)
            with anyio.move_on_after(WITHIN_S):
                while not found:
                    if not storage.signals.hears_all:
                        clock.advance(1)
                    await checkpoint()
            tasks.cancel_scope.cancel()
        assert found, "it went on waiting"
        assert found[0].failure == as_failed().failure
        assert clock.sleeping == 0
