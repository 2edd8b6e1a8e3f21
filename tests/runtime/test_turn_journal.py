"""The journal of a running turn: what becomes one transaction, and what stops the turn."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.ports.invocations import RuntimeEffectKind
from lash_runtime.ports.journal import (
    AdoptedTurn,
    EffectIdentity,
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    JournalWrite,
)
from lash_runtime.ports.leases import (
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.store_errors import (
    SessionExecutionLeaseExpired,
    StoreBackendError,
    StoreContended,
    StoredSessionDeleted,
    StoreError,
)
from lash_runtime.ports.turn_ledger import (
    EffectSummary,
    RequiredWiring,
    StoredTurnOptions,
    TurnRow,
    TurnState,
)
from lash_runtime.runtime.children import Child, ended, stopped
from lash_runtime.runtime.faults import RuntimeFault
from lash_runtime.runtime.lease_keeper import LeaseGuard
from lash_runtime.runtime.turn.journal import TurnJournal
from lash_runtime.runtime.verdict import Err, Ok
from lash_runtime.testing import ManualClock

pytestmark = pytest.mark.anyio

LEASE = SessionExecutionLease(
    session_id="s",
    owner=LeaseOwnerIdentity(owner_id="me", incarnation_id="1"),
    lease_token="token",
    fencing_token=1,
    claimed_at_epoch_ms=0,
    expires_at_epoch_ms=30_000,
)
ROW = TurnRow(
    session_id="s",
    generation=1,
    turn_id="t",
    seq=1,
    state=TurnState.RUNNING,
    content_hash="h",
    turn_index=4,
    base_revision=6,
    options=StoredTurnOptions(),
    required_wiring=RequiredWiring(protocol="p"),
    members=("t",),
    input=None,
    fencing_token=1,
    accepted_at_ms=0,
)


class Store:
    """Keeps the transactions that it was asked for. `before` is awaited ahead of each."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.asked = 0
        self.before: Callable[[], Awaitable[None]] = checkpoint

    async def write_journal(
        self, fence: SessionExecutionLeaseFence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        assert (fence, turn_id) == (LEASE.fence(), "t")
        self.asked += 1
        await self.before()
        self.transactions.append([told(write) for write in writes])

    async def adopt_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> AdoptedTurn:
        raise AssertionError

    async def leave_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> None:
        raise AssertionError

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        raise AssertionError


class Gate:
    """Holds the first transaction until it is opened."""

    def __init__(self) -> None:
        self.entered, self.open = anyio.Event(), anyio.Event()

    async def __call__(self) -> None:
        self.entered.set()
        await self.open.wait()


def a_journal(store: Store, *entries: JournalEntry) -> TurnJournal:
    guard = LeaseGuard(store, LEASE, lambda: None, lambda _: None, ManualClock(0))  # type: ignore[arg-type]
    return TurnJournal(store, ROW, guard, ManualClock(), entries)


def an_effect(key: str, kind: RuntimeEffectKind = RuntimeEffectKind.TOOL_ATTEMPT) -> EffectIdentity:
    return EffectIdentity(
        replay_key=f"s:t:4:{key}", kind=kind, position="2", subject="pay", components={}
    )


def reserved(key: str) -> EffectReserved:
    return EffectReserved(effect=an_effect(key))


def recorded(key: str) -> EffectRecorded:
    return EffectRecorded(effect=an_effect(key), outcome="{}")


def told(write: JournalWrite) -> str:
    what = "reserve" if isinstance(write, EffectReserved) else "record"
    return f"{what} {write.effect.replay_key.rpartition(':')[2]}"


async def all_at_once(journal: TurnJournal, *writes: JournalWrite) -> list[Ok[None] | Err | None]:
    """Each from a task of its own, as the calls of a round do."""
    children = [Child(journal.write(write), name="lash-write") for write in writes]
    await ended(*children)
    return [child.verdict for child in children]


class TestTransactions:
    async def test_what_is_written_at_one_instant_is_one_transaction(self) -> None:
        """A round of tools costs one reservation, however many calls it has."""
        store = Store()
        await all_at_once(a_journal(store), *map(reserved, "abc"))
        assert store.transactions == [["reserve a", "reserve b", "reserve c"]]

    async def test_what_comes_while_a_transaction_is_under_way_is_the_next_one(self) -> None:
        """Nobody waits for company, and everybody gets it."""
        store, gate = Store(), Gate()
        store.before = gate
        journal = a_journal(store)
        first = Child(journal.write(reserved("a")), name="lash-write")
        await gate.entered.wait()
        others = [Child(journal.write(recorded(key)), name="lash-write") for key in "bcd"]
        for _ in range(5):
            await checkpoint()
        assert store.transactions == []
        gate.open.set()
        await ended(first, *others)
        assert store.transactions == [["reserve a"], ["record b", "record c", "record d"]]

    async def test_a_write_has_happened_when_it_returns(self) -> None:
        """A tool starts after that."""
        store = Store()
        journal = a_journal(store)
        for key in "ab":
            await journal.write(reserved(key))
            assert store.transactions[-1] == [f"reserve {key}"]

    async def test_what_rides_along_comes_first_and_once(self) -> None:
        """In the order in which it was given, made at that moment and not before."""
        store, made = Store(), list[str]()
        journal = a_journal(store)

        def make(key: str) -> Callable[[], JournalWrite]:
            def record() -> JournalWrite:
                made.append(key)
                return recorded(key)

            return record

        journal.ride(make("m"))
        journal.ride(make("n"))
        assert made == []
        await journal.write(reserved("a"))
        await journal.write(recorded("a"))
        assert store.transactions == [["record m", "record n", "reserve a"], ["record a"]]
        assert made == ["m", "n"]


class TestCancelling:
    async def test_a_reservation_that_was_given_up_is_not_written(self) -> None:
        """What will not start must not be taken for what may have happened."""
        store, gate = Store(), Gate()
        store.before = gate
        journal = a_journal(store)
        first = Child(journal.write(recorded("a")), name="lash-write")
        await gate.entered.wait()
        given_up = Child(journal.write(reserved("b")), name="lash-write")
        for _ in range(3):
            await checkpoint()
        await stopped(given_up)
        gate.open.set()
        await ended(first)
        await journal.write(recorded("c"))
        assert store.transactions == [["record a"], ["record c"]]

    async def test_a_reservation_whose_write_was_cut_short_is_not_written_later(self) -> None:
        """Whether it was written is the store's to know; its tool has not started."""
        store, gate = Store(), Gate()
        store.before = gate
        journal = a_journal(store)
        given_up = Child(journal.write(reserved("a")), name="lash-write")
        await gate.entered.wait()
        other = Child(journal.write(recorded("b")), name="lash-write")
        for _ in range(3):
            await checkpoint()
        store.before = checkpoint
        await stopped(given_up)
        await ended(other)
        assert store.transactions == [["record b"]]

    async def test_a_record_whose_write_was_cut_short_is_written_with_the_next(self) -> None:
        """It has happened. Whoever is still there to write takes it along."""
        store, gate = Store(), Gate()
        store.before = gate
        journal = a_journal(store)
        first = Child(journal.write(recorded("a")), name="lash-write")
        await gate.entered.wait()
        store.before = checkpoint
        await stopped(first)
        assert store.transactions == []
        await journal.write(recorded("b"))
        assert store.transactions == [["record a", "record b"]]

    async def test_what_rode_along_with_a_write_that_was_cut_short_is_not_lost(self) -> None:
        """The model has been paid."""
        store, gate = Store(), Gate()
        store.before = gate
        journal = a_journal(store)
        journal.ride(lambda: recorded("m"))
        first = Child(journal.write(reserved("a")), name="lash-write")
        await gate.entered.wait()
        store.before = checkpoint
        await stopped(first)
        await journal.write(reserved("b"))
        assert store.transactions == [["record m", "reserve b"]]

    async def test_a_cancel_at_any_step_leaves_the_others_written(self) -> None:
        """Of three that write together, whichever is given up, the others return when theirs is
        stored."""
        for steps in range(12):
            for given_up in range(3):
                store = Store()
                journal = a_journal(store)
                keys = "abc"
                children = [Child(journal.write(recorded(key)), name="lash-write") for key in keys]
                for _ in range(steps):
                    await asyncio.sleep(0)
                await stopped(children[given_up])
                await ended(*children)
                stored = {line for transaction in store.transactions for line in transaction}
                kept = {f"record {key}" for at, key in enumerate(keys) if at != given_up}
                assert kept <= stored


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (StoreContended("busy"), "contended"),
            (StoreBackendError("disk full"), "store_commit_failed"),
            (SessionExecutionLeaseExpired(session_id="s"), "session_execution_lease_lost"),
            (StoredSessionDeleted(session_id="s"), "session_deleted"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_a_refused_write_is_the_last_one(self, error: StoreError, code: str) -> None:
        """A turn with a hole in its journal must not go on; whoever writes is told."""
        store = Store()

        async def refuse() -> None:
            await checkpoint()
            raise error

        store.before = refuse
        journal = a_journal(store)
        verdicts = await all_at_once(journal, *map(reserved, "abc"))
        store.before = checkpoint
        verdicts += await all_at_once(journal, recorded("d"))
        for verdict in verdicts:
            assert isinstance(verdict, Err)
            assert isinstance(verdict.error, RuntimeFault)
            assert verdict.error.code == code
        assert (store.asked, store.transactions) == (1, [])

    async def test_a_lost_lease_is_noticed_without_asking(self) -> None:
        """The keeper knows it before the store does."""
        store = Store()
        guard = LeaseGuard(store, LEASE, lambda: None, lambda _: None, ManualClock(0))  # type: ignore[arg-type]
        journal = TurnJournal(store, ROW, guard, ManualClock())
        guard.mark_lost()
        with pytest.raises(RuntimeFault) as raised:
            await journal.write(reserved("a"))
        assert raised.value.code == "session_execution_lease_lost"
        assert store.asked == 0


class TestSummary:
    async def test_it_has_each_effect_once_with_its_runs(self) -> None:
        """In the order in which they were begun, and by the end of their keys."""
        store = Store()
        entry = JournalEntry(effect=an_effect("old"), runs=2)
        done = JournalEntry(effect=an_effect("done"), runs=1, outcome="{}")
        journal = a_journal(store, entry, done)
        await journal.write(reserved("old"))
        await journal.write(reserved("new"))
        await journal.write(recorded("old"))

        def summary(key: str, runs: int, recorded: bool) -> EffectSummary:
            kind = RuntimeEffectKind.TOOL_ATTEMPT
            return EffectSummary(kind=kind, subject="pay", key=key, runs=runs, recorded=recorded)

        expected = (summary("old", 3, True), summary("done", 1, True), summary("new", 1, False))
        assert journal.summary() == expected
        assert journal.summary() == expected

    async def test_a_turn_that_only_called_its_model_has_none(self) -> None:
        """Its messages say as much."""
        journal = a_journal(Store())
        journal.ride(lambda: recorded("m"))
        assert journal.summary() == ()

    async def test_what_still_rides_is_in_it(self) -> None:
        """The last answer of a turn with tools is written by nothing but its commit."""
        journal = a_journal(Store())
        await journal.write(reserved("a"))
        journal.ride(lambda: recorded("m"))
        assert [effect.key for effect in journal.summary()] == ["a", "m"]
