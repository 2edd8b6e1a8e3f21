"""Runs of journaled turns: one after another of the same turn, as processes that die."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lash_runtime.effects.journal import JournalEffectHost
from lash_runtime.ports.effects import RuntimeEffectController, TurnScope
from lash_runtime.ports.journal import JournalEntry, JournalStore
from lash_runtime.ports.leases import LeaseOwnerIdentity
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.runtime.lease_keeper import LeaseGuard
from lash_runtime.runtime.turn.journal import TurnJournal
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock, MemoryEffectJournal
from lash_runtime.testing.conformance._samples import accepted, an_acceptance, hold


class StoredRuns:
    """Over one database, opened again by each run: it accepts the turn, or adopts it."""

    def __init__(self, database: Path, clock: ManualClock) -> None:
        self._database = database
        self._clock = clock
        self._lives = 0

    @asynccontextmanager
    async def __call__(self, scope: TurnScope) -> AsyncIterator[RuntimeEffectController]:
        self._lives += 1
        storage = SqliteStorage(self._database, synchronous="normal")
        storage.bind(clock=self._clock, ids=FixedIdSource(self._lives))
        await storage.open()
        try:
            async with self._run(storage, scope) as controller:
                yield controller
        finally:
            await storage.aclose()

    @asynccontextmanager
    async def _run(
        self, storage: SqliteStorage, scope: TurnScope
    ) -> AsyncIterator[RuntimeEffectController]:
        store = await storage.session_stores.create_store(
            SessionStoreCreateRequest(session_id=scope.session_id)
        )
        assert isinstance(store, JournalStore)
        owner = LeaseOwnerIdentity(owner_id=f"life-{self._lives}", incarnation_id="1")
        entries: tuple[JournalEntry, ...] = ()
        if await store.load_turn(scope.session_id, scope.turn_id) is None:
            asked = an_acceptance(
                scope.turn_id, session_id=scope.session_id, owner=owner, journaled=True
            )
            turn = await accepted(store, asked)
            lease, row = turn.lease, turn.row
        else:
            lease = await hold(store, scope.session_id, owner)
            adopted = await store.adopt_turn(lease.fence(), scope.turn_id)
            row, entries = adopted.row, adopted.entries
        guard = LeaseGuard(store, lease, lambda: None, lambda _: None, self._clock)
        journal = TurnJournal(store, row, guard, self._clock, entries)
        try:
            yield JournalEffectHost().journaled(scope, journal).controller
        finally:
            await store.release_session_execution_lease(lease.fence())


class MemoryRuns:
    """Over the test kit's journal."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._journals: dict[TurnScope, MemoryEffectJournal] = {}

    @asynccontextmanager
    async def __call__(self, scope: TurnScope) -> AsyncIterator[RuntimeEffectController]:
        last = self._journals.get(scope)
        journal = MemoryEffectJournal(clock=self._clock) if last is None else last.next_run()
        self._journals[scope] = journal
        yield JournalEffectHost().journaled(scope, journal).controller
