"""An acceptance that is made of smaller calls, cut off at each of them in every way there is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from conformance.small_calls import SmallCallStore
from lash_runtime.ports import composed_acceptance
from lash_runtime.ports.leases import LeaseAcquired, LeaseBusy
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.store_errors import StoreBackendError, StoreContended, StoreError
from lash_runtime.ports.turn_ledger import (
    LaneUnfinished,
    TurnAcceptance,
    TurnAccepted,
    TurnKnown,
    TurnRefused,
)
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance._samples import (
    ALICE,
    BOB,
    TTL_MS,
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_interrupted,
    everything,
    hold,
)
from lash_runtime.testing.conformance.acceptance import a_committed_turn

pytestmark = pytest.mark.anyio

CALLS = ["load_turn", "try_claim_session_execution_lease", "list_pending_queued_work", "start_turn"]
"""What an acceptance makes that nothing stands in the way of."""

REPLACING_CALLS = [CALLS[0], CALLS[1], CALLS[3]]
"""What waits goes with the session, so nobody looks at it."""

EACH_CALL = pytest.mark.parametrize(
    ("replacing", "at"),
    [(False, name) for name in CALLS] + [(True, name) for name in REPLACING_CALLS],
)


class Died(BaseException):
    """The process is gone: nothing that it would have done is done."""


Call = Callable[[], Awaitable[Any]]


class Interfered(SmallCallStore):
    """Small calls in whose place `interfere` is awaited, with their name and a way to make them."""

    def __init__(
        self,
        intact: Any,
        interfere: Callable[[str, Call], Awaitable[Any]],
    ) -> None:
        super().__init__(intact)
        self.made: list[str] = []
        for name in dir(self):
            call = getattr(self, name)
            if not name.startswith("_") and name != "accept_turn" and callable(call):
                setattr(self, name, self._counted(name, call, interfere))

    def _counted(self, name: str, call: Any, interfere: Any) -> Any:
        async def counted(*args: Any, **named: Any) -> Any:
            self.made.append(name)
            return await interfere(name, lambda: call(*args, **named))

        return counted


async def as_it_is(_: str, call: Call) -> Any:
    return await call()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def storage(clock: ManualClock) -> AsyncIterator[MemoryStorage]:
    storage = MemoryStorage()
    storage.bind(clock=clock, ids=FixedIdSource())
    await storage.open()
    yield storage
    await storage.aclose()


@pytest.fixture
async def intact(storage: MemoryStorage) -> RuntimePersistence:
    """A session with a history, whose lane is free."""
    store = await a_store(storage)
    await a_committed_turn(store, "t0")
    return store


async def is_free(store: RuntimePersistence) -> bool:
    outcome = await store.try_claim_session_execution_lease("s", BOB, TTL_MS)
    if isinstance(outcome, LeaseAcquired):
        await store.release_session_execution_lease(outcome.lease.fence())
    return isinstance(outcome, LeaseAcquired)


async def assert_goes_on(store: RuntimePersistence, clock: ManualClock) -> None:
    """Once whatever lease there was has run out, the next owner can use the session."""
    clock.advance(TTL_MS / 1000)
    asked = an_acceptance("next", owner=BOB)
    outcome = await store.accept_turn(asked)
    if isinstance(outcome, LaneUnfinished):
        for row in outcome.rows:
            await store.settle_turn(
                outcome.lease.fence(), as_interrupted(row.turn_id), release=False
            )
        outcome = await store.accept_turn(asked)
    assert isinstance(outcome, TurnAccepted)


REPLACING = pytest.mark.parametrize("replacing", [False, True])


@EACH_CALL
async def test_a_call_that_fails_leaves_neither_row_nor_lease(
    intact: RuntimePersistence, at: str, replacing: bool
) -> None:
    """Whichever call it is, its own error is told, and the session is as it was."""

    async def fail(name: str, call: Call) -> Any:
        if name == at:
            raise StoreBackendError(f"no {name}")
        return await call()

    store = Interfered(intact, fail)
    before = await everything(intact, "s", "t0", "t1")
    with pytest.raises(StoreBackendError, match=f"no {at}"):
        await store.accept_turn(an_acceptance(replace_session=replacing))
    assert await everything(intact, "s", "t0", "t1") == before
    assert await is_free(intact)


@REPLACING
async def test_a_start_that_happened_although_it_failed_keeps_its_lane(
    intact: RuntimePersistence, replacing: bool
) -> None:
    """The row is there, so the lease under it is not taken away; asking again finds the turn."""

    async def fail(name: str, call: Call) -> Any:
        answer = await call()
        if name == "start_turn":
            raise StoreContended("who knows")
        return answer

    store = Interfered(intact, fail)
    asked = an_acceptance(replace_session=replacing)
    with pytest.raises(StoreContended, match="who knows"):
        await store.accept_turn(asked)
    (row,) = await intact.list_unfinished_turns("s")
    outcome = await intact.try_claim_session_execution_lease("s", BOB, TTL_MS)
    assert isinstance(outcome, LeaseBusy)
    assert outcome.holder.fencing_token == row.fencing_token
    assert await store.accept_turn(asked) == TurnKnown(row)


@EACH_CALL
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_process_that_dies_leaves_a_lease_or_a_turn_to_close(
    intact: RuntimePersistence, clock: ManualClock, at: str, after: bool, replacing: bool
) -> None:
    """Before a call, or after it and before its answer: no row without its lease, no history
    gone without the row, and the next owner goes on."""

    dead = False

    async def die(name: str, call: Call) -> Any:
        nonlocal dead
        if dead or (name == at and not after):
            dead = True
            raise Died
        answer = await call()
        if name == at:
            dead = True
            raise Died
        return answer

    store = Interfered(intact, die)
    before = await everything(intact, "s")
    asked = an_acceptance(replace_session=replacing)
    with suppress(Died):
        await store.accept_turn(asked)
    row = await intact.load_turn("s", "t1")
    if row is None:
        assert await everything(intact, "s") == before
    else:
        outcome = await intact.try_claim_session_execution_lease("s", BOB, TTL_MS)
        assert isinstance(outcome, LeaseBusy)
        assert outcome.holder.fencing_token == row.fencing_token
        assert (await intact.load_node("a") is None) is replacing
    await assert_goes_on(intact, clock)


@pytest.mark.parametrize("natively", [False, True], ids=["by its scope", "natively"])
async def test_a_cancelled_acceptance_happened_or_did_not_at_every_step(
    storage: MemoryStorage, clock: ManualClock, natively: bool
) -> None:
    """Only a native cancellation, and only while the lane is being taken, leaves a lease alone."""
    left_alone = steps = 0
    finished = False
    while not finished:
        session_id = f"s{steps}"
        intact = await a_store(storage, session_id)
        store = Interfered(intact, as_it_is)
        asked = an_acceptance(session_id=session_id)
        scope = anyio.CancelScope()
        running = asyncio.ensure_future(_cancellable(store, asked, scope))
        for _ in range(steps):
            await checkpoint()
        finished = running.done()
        if natively:
            running.cancel()
        else:
            scope.cancel()
        await asyncio.wait((running,))
        row = await intact.load_turn(session_id, "t1")
        outcome = await intact.try_claim_session_execution_lease(session_id, BOB, TTL_MS)
        if row is None and isinstance(outcome, LeaseBusy):
            assert natively
            assert store.made == CALLS[:2]
            left_alone += 1
            clock.advance(TTL_MS / 1000)
            await hold(intact, session_id, BOB)
        else:
            assert isinstance(outcome, LeaseBusy) == (row is not None)
        steps += 1
    assert steps > len(CALLS)
    assert (left_alone > 0) is natively


async def _cancellable(
    store: SmallCallStore, asked: TurnAcceptance, scope: anyio.CancelScope
) -> None:
    with scope:
        await store.accept_turn(asked)


@pytest.mark.parametrize("at", range(1, 8))
async def test_a_failing_acceptance_takes_nothing_from_a_turn_that_runs(
    intact: RuntimePersistence, at: int
) -> None:
    """One owner may have two turns asked for at once; the one that is accepted keeps its lane."""
    running = await accepted(intact, an_acceptance())

    async def fail(_: str, call: Call) -> Any:
        if len(store.made) == at:
            raise StoreBackendError("gone")
        return await call()

    store = Interfered(intact, fail)
    try:
        outcome = await store.accept_turn(an_acceptance("t2"))
    except StoreError:
        pass
    else:
        assert isinstance(outcome, LaneUnfinished)
    assert await intact.load_turn("s", "t2") is None
    await intact.commit_runtime_state(
        a_commit(running.lease.fence(), turn_settlement=as_committed())
    )


@pytest.mark.parametrize("at", range(3, 8))
async def test_a_turn_of_a_holder_that_is_gone_keeps_nobody_on_its_lane(
    intact: RuntimePersistence, clock: ManualClock, at: int
) -> None:
    """It waits to be closed by the next one, which must not wait for the one that failed."""
    await accepted(intact, an_acceptance())
    clock.advance(TTL_MS / 1000)

    async def fail(_: str, call: Call) -> Any:
        if len(store.made) == at:
            raise StoreBackendError("gone")
        return await call()

    store = Interfered(intact, fail)
    with pytest.raises(StoreBackendError, match="gone"):
        await store.accept_turn(an_acceptance("t2"))
    assert await is_free(intact)


async def test_a_lane_that_is_lost_before_the_start_is_left_to_whoever_has_it(
    intact: RuntimePersistence, clock: ManualClock
) -> None:
    """The caller never knew of the lease, so it is told to try again and not that it lost one."""

    async def be_late(name: str, call: Call) -> Any:
        if name == "start_turn":
            clock.advance(TTL_MS / 1000)
            await hold(intact, owner=BOB)
        return await call()

    with pytest.raises(StoreContended, match="changed hands"):
        await Interfered(intact, be_late).accept_turn(an_acceptance())
    assert await intact.load_turn("s", "t1") is None
    assert isinstance(await intact.accept_turn(an_acceptance()), TurnRefused)


async def test_a_turn_that_ends_while_it_is_looked_at_stands_before_nothing(
    intact: RuntimePersistence,
) -> None:
    """What refused the start is gone when it is asked for: trying again will do."""
    running = await accepted(intact, an_acceptance())

    async def end_it(name: str, call: Call) -> Any:
        answer = await call()
        if name == "start_turn":
            await intact.settle_turn(running.lease.fence(), as_interrupted(), release=False)
        return answer

    store = Interfered(intact, end_it)
    with pytest.raises(StoreContended, match="changed hands"):
        await store.accept_turn(an_acceptance("t2"))
    assert await is_free(intact)
    assert isinstance(await intact.accept_turn(an_acceptance("t2")), TurnAccepted)


async def test_a_lane_that_cannot_be_given_back_does_not_hold_up_its_caller(
    intact: RuntimePersistence, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the acceptance is what counts; the lease runs out by itself."""
    monkeypatch.setattr(composed_acceptance, "GIVE_BACK_DEADLINE_S", 0.01)

    async def hang(name: str, call: Call) -> Any:
        if name == "start_turn":
            raise StoreBackendError("no start")
        if name == "release_session_execution_lease":
            await anyio.sleep_forever()
        return await call()

    with anyio.fail_after(2), pytest.raises(StoreBackendError, match="no start"):
        await Interfered(intact, hang).accept_turn(an_acceptance())
    await assert_goes_on(intact, clock)


async def test_an_error_of_giving_back_hides_no_error_of_the_acceptance(
    intact: RuntimePersistence, clock: ManualClock
) -> None:
    """A disk that fails, fails twice; the first time says what was asked for."""

    async def fail(name: str, call: Call) -> Any:
        if name in ("start_turn", "list_unfinished_turns", "release_session_execution_lease"):
            raise StoreBackendError(f"no {name}")
        return await call()

    with pytest.raises(StoreBackendError, match="no start_turn"):
        await Interfered(intact, fail).accept_turn(an_acceptance())
    await assert_goes_on(intact, clock)


async def test_an_acceptance_makes_no_call_that_it_does_not_need(
    intact: RuntimePersistence,
) -> None:
    """One read before the lane is taken, one under it, one write."""

    async def make(__: str, call: Call) -> Any:
        return await call()

    store = Interfered(intact, make)
    turn = await accepted(store, an_acceptance())  # type: ignore[arg-type]
    assert store.made == CALLS
    assert turn.lease.owner == ALICE
