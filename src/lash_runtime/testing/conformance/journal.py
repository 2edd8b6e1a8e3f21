"""The journal of a turn: written under the turn's lease, gone when the turn is over."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...ports.invocations import RuntimeEffectKind
from ...ports.journal import (
    EffectIdentity,
    EffectRecorded,
    JournalEntry,
    JournalStore,
    JournalWrite,
)
from ...ports.leases import SessionExecutionLeaseFence
from ...ports.storage import Storage
from ...ports.store_errors import (
    HeadRevisionConflict,
    SessionExecutionLeaseExpired,
    StoreBackendError,
    StoredSessionDeleted,
)
from ...ports.turn_ledger import EffectSummary, TurnSettlement, TurnState
from ..clocks import ManualClock
from ._case import StorageCase
from ._journal_samples import (
    POLICY,
    JournalCase,
    a_journal,
    a_journaled_turn,
    a_turn_with,
    begun,
    done,
    entries,
    recorded,
    reserved,
    taken_over,
)
from ._raises import raised_by
from ._samples import (
    BOB,
    ODD_IDS,
    TTL_MS,
    a_chain,
    a_commit,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_failed,
    as_interrupted,
    first,
    hold,
)

SUMMARIES: Final = (
    EffectSummary(kind=RuntimeEffectKind.LLM_CALL, subject="m1", key="0:llm_call:1"),
    EffectSummary(
        kind=RuntimeEffectKind.TOOL_ATTEMPT, subject="pay", key="0:2", runs=3, recorded=False
    ),
)


class JournalConformance(JournalCase):
    """What is on record of a turn, for as long as it is unfinished."""

    async def test_what_is_written_is_on_record_in_the_order_it_was_begun(
        self, journaling: Storage
    ) -> None:
        """A later record changes an entry and not its place."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("model"), reserved("b"), reserved("a"))
        assert await entries(store) == [done("model"), begun("b"), begun("a")]
        await store.write_journal(turn.lease.fence(), "t1", [recorded("a"), reserved("c")])
        assert await entries(store) == [done("model"), begun("b"), done("a"), begun("c")]

    async def test_an_entry_comes_back_as_it_was(self, journaling: Storage) -> None:
        """Any text can be a key, a position, a subject or a component, and none is a pattern."""
        store = await a_journal(journaling)
        effects = [
            EffectIdentity(
                replay_key=f"{at}:{odd}",
                kind=kind,
                position=odd,
                subject=odd,
                components={odd: odd, "other": str(at)},
            )
            for odd in ODD_IDS
            for at, kind in enumerate(
                (
                    RuntimeEffectKind.LLM_CALL,
                    RuntimeEffectKind.TOOL_ATTEMPT,
                    RuntimeEffectKind.SLEEP,
                )
            )
        ]
        bare = EffectIdentity(
            replay_key="", kind=RuntimeEffectKind.SLEEP, position="", subject="", components={}
        )
        effects.append(bare)
        outcomes = [f"outcome of {effect.replay_key}" for effect in effects]
        await a_turn_with(
            store,
            *(
                EffectRecorded(effect=effect, outcome=outcome)
                for effect, outcome in zip(effects, outcomes, strict=True)
            ),
        )
        assert await entries(store) == [
            JournalEntry(effect=effect, runs=1, outcome=outcome)
            for effect, outcome in zip(effects, outcomes, strict=True)
        ]

    async def test_reserving_again_counts_one_more_run(self, journaling: Storage) -> None:
        """Whoever goes on must know how often the work was begun; recording begins nothing."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        fence = turn.lease.fence()
        await store.write_journal(fence, "t1", [reserved("a")])
        await store.write_journal(fence, "t1", [reserved("a"), reserved("b")])
        assert await entries(store) == [begun("a", runs=3), begun("b")]
        await store.write_journal(fence, "t1", [recorded("a")])
        assert await entries(store) == [done("a", runs=3), begun("b")]

    async def test_a_sleep_ends_when_it_was_first_due(self, journaling: Storage) -> None:
        """However many processes have waited for it."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("nap", due_at_ms=1_000), reserved("a"))
        await store.write_journal(
            turn.lease.fence(), "t1", [reserved("nap", due_at_ms=2_000), reserved("nap")]
        )
        assert await entries(store) == [begun("nap", runs=3, due_at_ms=1_000), begun("a")]

    async def test_the_first_record_of_a_key_stands(self, journaling: Storage) -> None:
        """In the same write and in a later one; what else was written is written."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a", "first"), recorded("a", "second"))
        await store.write_journal(
            turn.lease.fence(), "t1", [recorded("a", "third"), recorded("b", "other")]
        )
        assert await entries(store) == [done("a", outcome="first"), done("b", outcome="other")]

    async def test_an_empty_outcome_is_an_outcome(self, journaling: Storage) -> None:
        """It is on record, and what comes later is not."""
        store = await a_journal(journaling)
        await a_turn_with(store, reserved("a"), recorded("a", ""), recorded("a", "later"))
        assert await entries(store) == [done("a", outcome="")]

    async def test_a_write_needs_the_live_lease(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """A forged fence, and the true one once it lapsed or was taken over: nothing of the write
        is there."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        fence = turn.lease.fence()
        writes: list[JournalWrite] = [recorded("a"), reserved("b")]
        forged = replace(fence, lease_token="forged")  # noqa: S106
        await raised_by(store.write_journal(forged, "t1", writes), SessionExecutionLeaseExpired)
        clock.advance(TTL_MS / 1000)
        await raised_by(store.write_journal(fence, "t1", writes), SessionExecutionLeaseExpired)
        await hold(store, owner=BOB)
        await raised_by(store.write_journal(fence, "t1", writes), SessionExecutionLeaseExpired)
        assert await entries(store) == [begun("a")]

    async def test_only_the_turn_that_runs_under_the_lease_is_written_for(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Not one that nobody accepted, one that is over, or one that is still an earlier
        holder's."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, reserved("a"))
        fence = turn.lease.fence()
        await raised_by(store.write_journal(fence, "never", [reserved("b")]), StoreBackendError)
        assert await entries(store, "never") == []
        later = await taken_over(store, clock)
        await raised_by(store.write_journal(later, "t1", [recorded("a")]), StoreBackendError)
        assert await entries(store) == [begun("a")]
        await store.settle_turn(later, as_interrupted(), release=False)
        await raised_by(store.write_journal(later, "t1", [reserved("b")]), StoreBackendError)
        assert await entries(store) == []

    async def test_a_cancelled_write_is_there_whole_or_not_at_all(
        self, journaling: Storage
    ) -> None:
        """However far it had come."""
        store = await a_journal(journaling)
        turn = await accepted(store, a_journaled_turn())
        for steps in range(10):
            keys = (f"one{steps}", f"two{steps}")
            before = await entries(store)
            async with anyio.create_task_group() as callers:
                callers.start_soon(
                    store.write_journal, turn.lease.fence(), "t1", [reserved(key) for key in keys]
                )
                for _ in range(steps):
                    await checkpoint()
                callers.cancel_scope.cancel()
            written = (await entries(store))[len(before) :]
            assert written in ([], [begun(key) for key in keys])

    async def test_writes_of_many_tasks_are_all_kept(self, journaling: Storage) -> None:
        """A round of tools records its calls as they end."""
        store = await a_journal(journaling)
        turn = await accepted(store, a_journaled_turn())
        keys = [f"k{at}" for at in range(12)]

        async def run(key: str) -> None:
            await store.write_journal(turn.lease.fence(), "t1", [reserved(key)])
            await store.write_journal(turn.lease.fence(), "t1", [recorded(key)])

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(run, key)
        found = {entry.effect.replay_key: entry for entry in await entries(store)}
        assert found == {key: done(key) for key in keys}

    async def test_each_turn_of_each_session_has_a_journal_of_its_own(
        self, journaling: Storage
    ) -> None:
        """Equal keys are told apart by turn and session, and a turn that nobody knows has none."""
        one, other = await a_journal(journaling), await a_journal(journaling, "other")
        turn = await a_turn_with(one, reserved("a"))
        second = await accepted(other, a_journaled_turn(session_id="other"))
        await other.write_journal(second.lease.fence(), "t1", [recorded("a")])
        assert await entries(one) == [begun("a")]
        assert await entries(other, session_id="other") == [done("a")]
        assert await entries(one, "t2") == []
        await one.settle_turn(turn.lease.fence(), as_failed(), release=True)
        await a_turn_with(one, recorded("a", "anew"), turn_id="t2")
        assert await entries(one) == []
        assert await entries(one, "t2") == [done("a", outcome="anew")]
        assert await entries(other, session_id="other") == [done("a")]

    async def test_a_journaled_turn_keeps_what_it_is_finished_with(
        self, journaling: Storage
    ) -> None:
        """The words and the session's policy of that moment, until the turn is over."""
        store = await a_journal(journaling)
        asked = a_journaled_turn()
        turn = await accepted(store, asked)
        assert (turn.row.journaled, turn.row.policy, turn.row.input) == (True, POLICY, asked.input)
        assert (turn.row.attempt, turn.row.deaths, turn.row.effects) == (1, 0, ())
        assert await store.load_turn("s", "t1") == turn.row
        await store.settle_turn(turn.lease.fence(), as_failed(), release=True)
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.journaled, row.policy, row.input) == (True, None, None)
        plain = await accepted(store, an_acceptance("t2"))
        assert (plain.row.journaled, plain.row.policy) == (False, None)

    async def test_what_ends_a_turn_takes_its_journal_along(self, journaling: Storage) -> None:
        """In the same step; the row keeps the summary that comes with the settlement."""
        store = await a_journal(journaling)

        async def settle(fence: SessionExecutionLeaseFence, end: TurnSettlement) -> None:
            await store.settle_turn(fence, end, release=False)

        async def commit(fence: SessionExecutionLeaseFence, end: TurnSettlement) -> None:
            await store.commit_runtime_state(
                a_commit(fence, turn_settlement=end, turn_commit=a_stamp(end.turn_id))
            )

        ends: Sequence[Callable[[str], TurnSettlement]] = (as_failed, as_interrupted, as_committed)
        for at, (as_end, way) in enumerate((end, way) for end in ends for way in (settle, commit)):
            turn_id = f"t{at}"
            turn = await a_turn_with(store, recorded("a"), reserved("b"), turn_id=turn_id)
            end = replace(as_end(turn_id), effects=SUMMARIES if at % 4 < 2 else ())
            await way(turn.lease.fence(), end)
            assert await entries(store, turn_id) == []
            row = await store.load_turn("s", turn_id)
            assert row is not None
            assert (row.state, row.effects) == (end.state, end.effects)

    async def test_an_end_that_is_refused_leaves_the_journal(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """Whatever it was refused for: the turn can still be finished."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a"), reserved("b"))
        fence = turn.lease.fence()
        end = replace(as_committed(), effects=SUMMARIES)
        await raised_by(
            store.commit_runtime_state(
                a_commit(fence, expected_head_revision=7, turn_settlement=end)
            ),
            HeadRevisionConflict,
        )
        later = await taken_over(store, clock)
        for expired in (
            store.commit_runtime_state(a_commit(fence, turn_settlement=end)),
            store.settle_turn(fence, end, release=True),
        ):
            await raised_by(expired, SessionExecutionLeaseExpired)
        await raised_by(store.settle_turn(later, end, release=True), StoreBackendError)
        assert await store.load_turn("s", "t1") == turn.row
        assert await entries(store) == [done("a"), begun("b")]

    async def test_a_settled_turn_keeps_its_first_summary(self, journaling: Storage) -> None:
        """Settling it once more changes nothing."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a"))
        fence = turn.lease.fence()
        await store.settle_turn(fence, replace(as_failed(), effects=SUMMARIES), release=False)
        row = await store.load_turn("s", "t1")
        await store.settle_turn(fence, replace(as_failed(), effects=SUMMARIES[:1]), release=False)
        assert await store.load_turn("s", "t1") == row

    async def test_a_progress_commit_keeps_the_journal(self, journaling: Storage) -> None:
        """Only what ends a turn ends its record."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a"), reserved("b"))
        await store.commit_runtime_state(
            a_commit(turn.lease.fence(), graph=first(*a_chain("a", "b")))
        )
        assert await entries(store) == [done("a"), begun("b")]

    async def test_replacing_a_session_discards_its_journals(
        self, journaling: Storage, clock: ManualClock
    ) -> None:
        """A turn of the old history is over, and nothing of it is run again."""
        store = await a_journal(journaling)
        await a_turn_with(store, recorded("a"), reserved("b"))
        clock.advance(TTL_MS / 1000)
        turn = await accepted(store, a_journaled_turn("t2", owner=BOB, replace_session=True))
        assert await entries(store) == []
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.policy) == (TurnState.INTERRUPTED, None)
        await raised_by(store.adopt_turn(turn.lease.fence(), "t1"), StoreBackendError)
        await store.write_journal(turn.lease.fence(), "t2", [recorded("c")])
        assert await entries(store, "t2") == [done("c")]

    async def test_a_deleted_session_takes_its_journals_along(self, journaling: Storage) -> None:
        """The next session under that id begins with none, and the old store has no access."""
        store = await a_journal(journaling)
        turn = await a_turn_with(store, recorded("a"), reserved("b"))
        fence = turn.lease.fence()
        await journaling.session_stores.delete_session("s")
        anew = await a_journal(journaling)
        for call in (
            store.write_journal(fence, "t1", [recorded("b")]),
            store.adopt_turn(fence, "t1"),
            store.leave_turn(fence, "t1"),
            store.load_journal("s", "t1"),
        ):
            await raised_by(call, StoredSessionDeleted)
        again = await accepted(anew, a_journaled_turn())
        assert await entries(anew) == []
        await anew.write_journal(again.lease.fence(), "t1", [reserved("a")])
        assert await entries(anew) == [begun("a")]


class NoJournalConformance(StorageCase):
    """For stores that keep no journal."""

    @pytest.mark.usefixtures("needs_no_journal")
    async def test_a_store_without_a_journal_does_not_claim_one(self, storage: Storage) -> None:
        """A turn that was promised to be finished from there would be lost."""
        assert not isinstance(await a_store(storage), JournalStore)
