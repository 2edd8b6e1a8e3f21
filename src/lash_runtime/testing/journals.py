"""The journal of a turn without a turn: in memory, one run after another."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self, assert_never

from anyio.lowlevel import checkpoint

from ..model.records import replace
from ..ports.clock import Clock
from ..ports.invocations import RuntimeEffectKind
from ..ports.journal import (
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    JournalWrite,
)
from .clocks import ManualClock

BeforeWrite = Callable[[Sequence[JournalWrite]], Awaitable[None]]


class MemoryEffectJournal:
    """An `EffectJournal` for a controller under test: `next_run()` is what the process after this
    one finds of the turn.

    `transactions` has what was written, in order. `before_write` is awaited ahead of each of them
    and may hold it up or raise, and then nothing of it is written, now or later.
    """

    def __init__(
        self,
        entries: Iterable[JournalEntry] = (),
        *,
        base: str = "t:None",
        clock: Clock | None = None,
        before_write: BeforeWrite | None = None,
    ) -> None:
        self.transactions: list[tuple[JournalWrite, ...]] = []
        self.before_write = before_write
        self._base = base
        self._clock: Clock = clock or ManualClock()
        self._found = {entry.effect.replay_key: entry for entry in entries}
        self._kept = dict(self._found)
        self._riding: list[Callable[[], JournalWrite]] = []

    @property
    def base(self) -> str:
        return self._base

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """What is on record now, in the order in which it was begun."""
        return tuple(self._kept.values())

    def next_run(self) -> Self:
        """The journal as the next process finds it. What only rode along is gone."""
        return type(self)(
            self._kept.values(),
            base=self._base,
            clock=self._clock,
            before_write=self.before_write,
        )

    def now_ms(self) -> int:
        return self._clock.timestamp_ms()

    def entry(self, replay_key: str) -> JournalEntry | None:
        return self._found.get(replay_key)

    def kind_at(self, position: str) -> RuntimeEffectKind | None:
        for entry in self._found.values():
            if entry.effect.position == position and entry.effect.kind is not (
                RuntimeEffectKind.SLEEP
            ):
                return entry.effect.kind
        return None

    def ride(self, write: Callable[[], JournalWrite]) -> None:
        self._riding.append(write)

    async def write(self, write: JournalWrite) -> None:
        await checkpoint()
        writes = (*(make() for make in self._riding), write)
        self._riding.clear()
        if self.before_write is not None:
            await self.before_write(writes)
        self.transactions.append(writes)
        for each in writes:
            self._keep(each)

    def _keep(self, write: JournalWrite) -> None:
        key = write.effect.replay_key
        known = self._kept.get(key)
        match write:
            case EffectReserved(effect=effect, due_at_ms=due_at_ms):
                self._kept[key] = (
                    JournalEntry(effect=effect, runs=1, due_at_ms=due_at_ms)
                    if known is None
                    else replace(known, runs=known.runs + 1)
                )
            case EffectRecorded(effect=effect, outcome=outcome):
                entry = known or JournalEntry(effect=effect, runs=1)
                if entry.outcome is None:
                    self._kept[key] = replace(entry, outcome=outcome)
            case _:
                assert_never(write)
