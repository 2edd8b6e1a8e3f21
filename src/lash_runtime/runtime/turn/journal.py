"""The journal of the turn that is running: what earlier runs have left, and what this one adds.

Writes go through the session's own store, under the turn's own lease, so that those of an owner
who was replaced are refused like its commits.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import anyio

from ...ports.clock import Clock
from ...ports.invocations import RuntimeEffectKind
from ...ports.journal import (
    EffectIdentity,
    EffectReserved,
    JournalEntry,
    JournalStore,
    JournalWrite,
)
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import EffectSummary, TurnRow
from ..faults import RuntimeFault, fault_of_commit
from ..lease_keeper import LeaseGuard


class _Seen(NamedTuple):
    """What the turn's row is to say of one effect."""

    effect: EffectIdentity
    runs: int
    recorded: bool


class TurnJournal:
    """An `EffectJournal` over the session's store."""

    def __init__(
        self,
        store: JournalStore,
        row: TurnRow,
        guard: LeaseGuard,
        clock: Clock,
        entries: Iterable[JournalEntry] = (),
    ) -> None:
        self._store = store
        self._row = row
        self._guard = guard
        self._clock = clock
        self._entries = {entry.effect.replay_key: entry for entry in entries}
        self._positions = {
            entry.effect.position: entry.effect.kind
            for entry in self._entries.values()
            if entry.effect.kind is not RuntimeEffectKind.SLEEP
        }
        self._seen = {
            key: _Seen(entry.effect, entry.runs, entry.outcome is not None)
            for key, entry in self._entries.items()
        }
        self._riding: list[Callable[[], JournalWrite]] = []
        self._pending: list[JournalWrite] = []
        self._asked = 0
        self._written = 0
        self._writing = anyio.Lock(fast_acquire=True)
        self._fault: RuntimeFault | None = None

    @property
    def base(self) -> str:
        return f"{self._row.turn_id}:{self._row.base_revision}"

    def now_ms(self) -> int:
        return self._clock.timestamp_ms()

    def entry(self, replay_key: str) -> JournalEntry | None:
        return self._entries.get(replay_key)

    def kind_at(self, position: str) -> RuntimeEffectKind | None:
        return self._positions.get(position)

    def ride(self, write: Callable[[], JournalWrite]) -> None:
        self._riding.append(write)

    async def write(self, write: JournalWrite) -> None:
        """Raises `RuntimeFault` when the store refuses, and from then on for every write: a turn
        with a hole in its journal must not go on."""
        self._pending.append(write)
        self._asked += 1
        number = self._asked
        try:
            await asyncio.sleep(0)  # whoever writes at the same instant joins
            async with self._writing:
                if self._fault is not None:
                    raise self._fault
                if self._written < number:
                    await self._write_pending()
        except asyncio.CancelledError:
            if isinstance(write, EffectReserved):
                # It will not begin, and must not be taken for one that may have happened.
                self._pending = [each for each in self._pending if each is not write]
            raise
        # A process that was suspended meanwhile must not begin what it has reserved.
        self._guard.ensure_held()

    def summary(self) -> tuple[EffectSummary, ...]:
        """What the turn's row keeps. Nothing of a turn that only called its model: its messages
        say as much."""
        if not self._seen:
            return ()
        for make in self._riding:
            self._note(make())
        return tuple(self._summarised(seen) for seen in self._seen.values())

    def close(self) -> None:
        """Let go of what is not written any more: it refers to whoever wanted to write it."""
        self._riding.clear()
        self._pending.clear()

    async def _write_pending(self) -> None:
        writes = [*(make() for make in self._riding), *self._pending]
        upto = self._asked
        self._riding.clear()
        self._pending.clear()
        stored = False
        try:
            self._guard.ensure_held()
            asked = await self._store.write_journal(self._guard.fence(), self._row.turn_id, writes)
            stored = True
            if asked is not None:
                self._guard.on_cancel(asked)
        except StoreError as error:
            self._fault = fault_of_commit(error, self._row.session_id)
            raise self._fault from error
        except RuntimeFault as fault:
            self._fault = fault
            raise
        finally:
            if not stored:
                self._pending[:0] = writes
        self._written = upto
        for write in writes:
            self._note(write)

    def _note(self, write: JournalWrite) -> None:
        """Keep the summary in step with what is written."""
        key = write.effect.replay_key
        seen = self._seen.get(key) or _Seen(write.effect, 0, False)
        if isinstance(write, EffectReserved):
            self._seen[key] = _Seen(seen.effect, seen.runs + 1, seen.recorded)
        else:
            self._seen[key] = _Seen(seen.effect, max(1, seen.runs), True)

    def _summarised(self, seen: _Seen) -> EffectSummary:
        return _summarised(self._row, seen.effect, seen.runs, seen.recorded)


def summary_of(row: TurnRow, entries: Iterable[JournalEntry]) -> tuple[EffectSummary, ...]:
    """What the row of a turn keeps of its journal."""
    return tuple(
        _summarised(row, entry.effect, entry.runs, entry.outcome is not None) for entry in entries
    )


def _summarised(row: TurnRow, effect: EffectIdentity, runs: int, recorded: bool) -> EffectSummary:
    """The key without what it has in common with those of the whole turn."""
    key = effect.replay_key.removeprefix(f"{row.session_id}:{row.turn_id}:{row.turn_index}:")
    return EffectSummary(
        kind=effect.kind, subject=effect.subject, key=key, runs=runs, recorded=recorded
    )
