"""Rounds of tools under a journal: one process after another runs the same round."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lash_runtime.effects.journal import JournalEffectController
from lash_runtime.model.records import replace
from lash_runtime.model.tool_results import CompletedToolCall, PendingToolCall, ToolFailed
from lash_runtime.ports.clock import Clock
from lash_runtime.ports.journal import JournalEntry
from lash_runtime.runtime.children import Child, stopped
from lash_runtime.testing import ManualClock, MemoryEffectJournal
from tools.dispatching import BATCH_KEY, Batches


class Lives:
    """The processes that run one round of `tools`, each over what the last one left on record."""

    def __init__(self, *tools: Any, clock: Clock | None = None) -> None:
        self.tools = tools
        self.clock: Clock = clock or ManualClock()
        self.journal = MemoryEffectJournal(clock=self.clock)
        self._begin(replay_only=False)

    def next_life(
        self, entries: Iterable[JournalEntry] | None = None, *, replay_only: bool = False
    ) -> Batches:
        """A process that finds `entries`, or what the one before it has left."""
        if entries is None:
            self.journal = self.journal.next_run()
        else:
            self.journal = MemoryEffectJournal(entries, clock=self.clock)
        self._begin(replay_only=replay_only)
        return self.batches

    async def run(self, *wanted: PendingToolCall) -> tuple[CompletedToolCall, ...]:
        return await self.batches.run(*wanted)

    @asynccontextmanager
    async def cut_off(
        self, *wanted: PendingToolCall
    ) -> AsyncIterator[Child[tuple[CompletedToolCall, ...]]]:
        """A process that runs the round, and dies at the end of the block."""
        running = Child(self.batches.run(*wanted), name="lash-round")
        try:
            yield running
        finally:
            await stopped(running)

    def _begin(self, *, replay_only: bool) -> None:
        self.controller = JournalEffectController(self.journal, replay_only=replay_only)
        self.batches = Batches(*self.tools, controller=self.controller, clock=self.clock)

    @property
    def record(self) -> Mapping[str, tuple[int, bool]]:
        """How often each effect was begun, and whether it is on record."""
        return {
            entry.effect.replay_key.removeprefix(f"{BATCH_KEY}:"): (
                entry.runs,
                entry.outcome is not None,
            )
            for entry in self.journal.entries
        }


def attempt(index: int, number: int = 1) -> str:
    """The key of an attempt at the `index`-th call, as `Lives.record` has it."""
    return f"child:{index}:c{index}:attempt:{number}"


def finished(entry: JournalEntry) -> JournalEntry:
    return entry


def begun_only(entry: JournalEntry) -> JournalEntry:
    return replace(entry, outcome=None)


Left = Callable[[JournalEntry], JournalEntry | None]


def never_begun(entry: JournalEntry) -> None:
    return None


def outcome_of(completed: CompletedToolCall) -> Any:
    """The value of a call, or the code of its failure."""
    outcome = completed.output.outcome
    if isinstance(outcome, ToolFailed):
        return outcome.payload.code
    return completed.output.value_for_projection()
