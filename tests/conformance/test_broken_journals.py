"""Journals that break one rule each, and the cases that notice.

Each broken store wraps that of SQLite and gets one thing wrong. The cases that are named beside it
must pass on the intact store and fail on the broken one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.journal import (
    AdoptedTurn,
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    JournalWrite,
)
from lash_runtime.ports.leases import LeaseAcquired, SessionExecutionLeaseFence
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.ports.turn_ledger import (
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnRow,
    TurnSettlement,
)
from lash_runtime.stores.sqlite import SqliteStorage

pytestmark = pytest.mark.anyio

Fence = SessionExecutionLeaseFence


def sqlite() -> SqliteStorage:
    return SqliteStorage(":memory:")


class WritesOneByOne(Wrapped):
    """What was written before something went wrong stays."""

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        for write in writes:
            await self.intact.write_journal(fence, turn_id, [write])


class TakesTheLastRecord(Wrapped):
    """A second record replaces the first, here by refusing to know that there is one."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.records: dict[str, EffectRecorded] = {}

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        await self.intact.write_journal(fence, turn_id, writes)
        for write in writes:
            if isinstance(write, EffectRecorded):
                self.records[write.effect.replay_key] = write

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        return [
            entry
            if entry.outcome is None
            else replace(entry, outcome=self.records[entry.effect.replay_key].outcome)
            for entry in await self.intact.load_journal(session_id, turn_id)
        ]


class CountsNoRuns(Wrapped):
    """A reservation that is there is left alone."""

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        for write in writes:
            known = await self.intact.load_journal(fence.session_id, turn_id)
            keys = {entry.effect.replay_key for entry in known}
            if isinstance(write, EffectRecorded) or write.effect.replay_key not in keys:
                await self.intact.write_journal(fence, turn_id, [write])


class SleepsAnew(Wrapped):
    """A sleep that is begun again begins again."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.due: dict[str, int] = {}

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        for write in writes:
            if isinstance(write, EffectReserved) and write.due_at_ms is not None:
                self.due[write.effect.replay_key] = write.due_at_ms
        await self.intact.write_journal(fence, turn_id, writes)

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        return [
            replace(entry, due_at_ms=self.due.get(entry.effect.replay_key, entry.due_at_ms))
            for entry in await self.intact.load_journal(session_id, turn_id)
        ]


class OrdersByKey(Wrapped):
    """Entries come as an index has them."""

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        entries = await self.intact.load_journal(session_id, turn_id)
        return sorted(entries, key=lambda entry: entry.effect.replay_key)


class TrustsAnyFence(Wrapped):
    """Whoever knows the number of the lease may write and take over."""

    async def _live(self, fence: Fence) -> Fence:
        claimed = await self.intact.try_claim_session_execution_lease(
            fence.session_id, fence.owner, 30_000
        )
        if isinstance(claimed, LeaseAcquired):
            return claimed.lease.fence()
        return claimed.holder.fence()

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        await self.intact.write_journal(await self._live(fence), turn_id, writes)

    async def adopt_turn(self, fence: Fence, turn_id: str) -> AdoptedTurn:
        adopted: AdoptedTurn = await self.intact.adopt_turn(await self._live(fence), turn_id)
        return adopted

    async def leave_turn(self, fence: Fence, turn_id: str) -> None:
        await self.intact.leave_turn(await self._live(fence), turn_id)


class WritesForAnyTurn(Wrapped):
    """The lane is enough; whose turn it is, is not looked at."""

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        try:
            await self.intact.write_journal(fence, turn_id, writes)
        except StoreBackendError:
            return


class CountsNoAdoption(Wrapped):
    """A turn looks as if it ran for the first time."""

    async def adopt_turn(self, fence: Fence, turn_id: str) -> AdoptedTurn:
        adopted: AdoptedTurn = await self.intact.adopt_turn(fence, turn_id)
        return replace(adopted, row=replace(adopted.row, attempt=1, deaths=0))


class TakesLeavingForDeath(Wrapped):
    """The lane is given back and nothing is noted."""

    async def leave_turn(self, fence: Fence, turn_id: str) -> None:
        await self.intact.release_session_execution_lease(fence)


class LeavesWithTheLane(Wrapped):
    """It is noted that nobody died, and the lane is kept."""

    async def leave_turn(self, fence: Fence, turn_id: str) -> None:
        await self.intact.leave_turn(fence, turn_id)
        await self.intact.try_claim_session_execution_lease(fence.session_id, fence.owner, 30_000)


class KeepsNoSummary(Wrapped):
    """What a turn did is gone with its journal."""

    async def settle_turn(self, fence: Fence, settlement: TurnSettlement, *, release: bool) -> None:
        await self.intact.settle_turn(fence, replace(settlement, effects=()), release=release)

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        if commit.turn_settlement is not None:
            bare = replace(commit.turn_settlement, effects=())
            commit = replace(commit, turn_settlement=bare)
        result: RuntimeCommitResult = await self.intact.commit_runtime_state(commit)
        return result


class KeepsJournalsForEver(Wrapped):
    """What was on record once can always be read."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.seen: dict[str, Sequence[JournalEntry]] = {}

    async def write_journal(
        self, fence: Fence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> None:
        await self.intact.write_journal(fence, turn_id, writes)
        self.seen[turn_id] = await self.intact.load_journal(fence.session_id, turn_id)

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        entries: Sequence[JournalEntry] = await self.intact.load_journal(session_id, turn_id)
        return entries or self.seen.get(turn_id, ())


class ForgetsThePolicy(Wrapped):
    """A turn would be finished with whatever its session has become since."""

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        outcome: TurnAcceptanceOutcome = await self.intact.accept_turn(
            replace(acceptance, policy=None)
        )
        return outcome


class KeepsTheInput(Wrapped):
    """The words of a turn outlive it, in a row that nobody clears."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.rows: dict[str, TurnRow] = {}

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None:
        row: TurnRow | None = await self.intact.load_turn(session_id, turn_id)
        if row is None:
            return None
        first = self.rows.setdefault(turn_id, row)
        return replace(row, input=first.input, policy=first.policy)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (WritesOneByOne, "test_a_cancelled_write_is_there_whole_or_not_at_all"),
        (TakesTheLastRecord, "test_the_first_record_of_a_key_stands"),
        (TakesTheLastRecord, "test_an_empty_outcome_is_an_outcome"),
        (CountsNoRuns, "test_reserving_again_counts_one_more_run"),
        (CountsNoRuns, "test_a_holder_can_adopt_what_it_left_itself"),
        (SleepsAnew, "test_a_sleep_ends_when_it_was_first_due"),
        (OrdersByKey, "test_what_is_written_is_on_record_in_the_order_it_was_begun"),
        (TrustsAnyFence, "test_a_write_needs_the_live_lease"),
        (TrustsAnyFence, "test_whoever_was_adopted_from_writes_no_more"),
        (TrustsAnyFence, "test_adopting_needs_the_live_lease"),
        (TrustsAnyFence, "test_leaving_needs_the_live_lease"),
        (WritesForAnyTurn, "test_only_the_turn_that_runs_under_the_lease_is_written_for"),
        (CountsNoAdoption, "test_the_next_holder_adopts_a_turn_with_its_journal"),
        (CountsNoAdoption, "test_deaths_at_one_point_are_counted"),
        (TakesLeavingForDeath, "test_a_turn_that_was_left_has_nobody_who_died"),
        (LeavesWithTheLane, "test_leaving_gives_the_lane_back_and_keeps_the_turn"),
        (KeepsNoSummary, "test_what_ends_a_turn_takes_its_journal_along"),
        (KeepsJournalsForEver, "test_what_ends_a_turn_takes_its_journal_along"),
        (KeepsJournalsForEver, "test_each_turn_of_each_session_has_a_journal_of_its_own"),
        (KeepsJournalsForEver, "test_replacing_a_session_discards_its_journals"),
        (ForgetsThePolicy, "test_a_journaled_turn_keeps_what_it_is_finished_with"),
        (KeepsTheInput, "test_a_journaled_turn_keeps_what_it_is_finished_with"),
    ],
)
async def test_a_broken_journal_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, sqlite)
    assert not await passes(case, lambda: BrokenStorage(broken, sqlite))
