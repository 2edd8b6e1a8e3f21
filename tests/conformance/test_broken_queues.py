"""The suites of queues and inputs, held to their own purpose: a store that breaks a rule is caught.

Each broken store wraps the memory store and gets one thing wrong. The case that is named beside
it must pass on the intact store and fail on the broken one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseOwnerIdentity,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.queued_work import (
    DeliveryPolicy,
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
    SlotPolicy,
)
from lash_runtime.ports.store_errors import (
    PendingTurnInputSourceKeyConflict,
    QueuedWorkClaimExpired,
    TurnInputClaimExpired,
)
from lash_runtime.ports.turn_inputs import (
    InputAlreadyClaimed,
    InputCancelled,
    NextTurnIngress,
    PendingTurnInput,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    PendingTurnInputSuffixCancelOutcome,
    SuffixCancelled,
    TurnInputClaim,
)
from lash_runtime.ports.turn_ledger import TurnAcceptance, TurnAcceptanceOutcome
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class ClaimsTwice(Wrapped):
    """A claim is handed out and forgotten: the next one gets the same."""

    async def claim_ready_queued_work(self, *asked: Any) -> QueuedWorkClaim | None:
        claim = await self.intact.claim_ready_queued_work(*asked)
        if claim is not None:
            await self.intact.abandon_queued_work_claim(claim)
        return claim

    async def claim_next_turn_inputs(self, *asked: Any) -> TurnInputClaim | None:
        claim = await self.intact.claim_next_turn_inputs(*asked)
        if claim is not None:
            await self.intact.abandon_turn_input_claim(claim)
        return claim


class ForgetsTheGeneration(Wrapped):
    """What was claimed once stays claimed, whatever became of the lease."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.claimed: set[str] = set()

    async def claim_ready_queued_work(self, *asked: Any) -> QueuedWorkClaim | None:
        claim = await self.intact.claim_ready_queued_work(*asked)
        if claim is not None:
            self.claimed.update(claim.completion().batch_ids)
        return claim

    async def claim_next_turn_inputs(self, *asked: Any) -> TurnInputClaim | None:
        claim = await self.intact.claim_next_turn_inputs(*asked)
        if claim is not None:
            self.claimed.update(claim.completion().input_ids)
        return claim

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        listed = await self.intact.list_pending_queued_work(session_id)
        return [batch for batch in listed if batch.batch_id not in self.claimed]

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]:
        listed = await self.intact.list_pending_turn_inputs(session_id)
        return [row for row in listed if row.input_id not in self.claimed]


class FreesByTheClock(Wrapped):
    """A claim ends with its own time, also in the middle of a turn that goes on."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.work: list[QueuedWorkClaim] = []
        self.inputs: list[TurnInputClaim] = []

    async def claim_ready_queued_work(self, *asked: Any) -> QueuedWorkClaim | None:
        await self.free()
        claim = await self.intact.claim_ready_queued_work(*asked)
        if claim is not None:
            self.work.append(claim)
        return claim

    async def claim_next_turn_inputs(self, *asked: Any) -> TurnInputClaim | None:
        await self.free()
        claim = await self.intact.claim_next_turn_inputs(*asked)
        if claim is not None:
            self.inputs.append(claim)
        return claim

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        await self.free()
        return await self.intact.list_pending_queued_work(session_id)

    async def list_pending_turn_inputs(self, session_id: str) -> Sequence[PendingTurnInput]:
        await self.free()
        return await self.intact.list_pending_turn_inputs(session_id)

    async def cancel_queued_work_batch(
        self, session_id: str, batch_id: str
    ) -> QueuedWorkBatch | None:
        await self.free()
        return await self.intact.cancel_queued_work_batch(session_id, batch_id)

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        await self.free()
        return await self.intact.cancel_pending_turn_input(session_id, input_id)

    async def free(self) -> None:
        """Whatever was claimed for no more than a second is taken to be overdue."""
        for work in self.work:
            if work.expires_at_epoch_ms - work.claimed_at_epoch_ms <= 1_000:
                await self.intact.abandon_queued_work_claim(work)
        for inputs in self.inputs:
            if inputs.expires_at_epoch_ms - inputs.claimed_at_epoch_ms <= 1_000:
                await self.intact.abandon_turn_input_claim(inputs)


class DropsSourceKeys(Wrapped):
    """Everything that is enqueued is new."""

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        batch = await self.intact.enqueue_queued_work(replace(draft, source_key=None))
        return replace(batch, source_key=draft.source_key)

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        row = await self.intact.enqueue_pending_turn_input(replace(draft, source_key=None))
        return replace(row, source_key=draft.source_key)


class AnswersAnyContent(Wrapped):
    """A known key answers whatever was said under it."""

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        try:
            return await self.intact.enqueue_pending_turn_input(draft)
        except PendingTurnInputSourceKeyConflict as conflict:
            outcome = await self.intact.cancel_pending_turn_input(
                draft.session_id, conflict.existing_input_id
            )
            return outcome.input


class ComparesWhatBecameOfIt(Wrapped):
    """A resubmission is compared with the row as it is now, not as it was submitted."""

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        row = await self.intact.enqueue_pending_turn_input(draft)
        if row.ingress != draft.ingress:
            raise PendingTurnInputSourceKeyConflict(
                session_id=draft.session_id,
                source_key=draft.source_key or "",
                existing_input_id=row.input_id,
            )
        return row


class AsksForNoLease(Wrapped):
    """Whoever claims gets it, as long as anybody at all holds the lane."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.fences: dict[str, SessionExecutionLeaseFence] = {}

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        outcome = await self.intact.try_claim_session_execution_lease(
            session_id, owner, lease_ttl_ms
        )
        if isinstance(outcome, LeaseAcquired):
            self.fences[session_id] = outcome.lease.fence()
        return outcome

    async def claim_ready_queued_work(
        self, session_id: str, fence: SessionExecutionLeaseFence, *asked: Any
    ) -> QueuedWorkClaim | None:
        return await self.intact.claim_ready_queued_work(
            session_id, self.fences[session_id], *asked
        )

    async def claim_next_turn_inputs(
        self, session_id: str, fence: SessionExecutionLeaseFence, *asked: Any
    ) -> TurnInputClaim | None:
        return await self.intact.claim_next_turn_inputs(session_id, self.fences[session_id], *asked)


class PicksFromTheMiddle(Wrapped):
    """A claim by ids goes looking for them, past what is next in line."""

    async def claim_ready_queued_work_by_batch_ids(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        lease_ttl_ms: int,
        batch_ids: Sequence[str],
    ) -> QueuedWorkClaim | None:
        while True:
            claim = await self.intact.claim_ready_queued_work(
                session_id, fence, owner, boundary, lease_ttl_ms, 1
            )
            if claim is None or [batch.batch_id for batch in claim.batches] == list(batch_ids):
                return claim


class MergesEverything(Wrapped):
    """All turn work joins all turn work."""

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        return await self.intact.enqueue_queued_work(
            replace(
                draft,
                slot_policy=SlotPolicy.JOIN,
                merge_key="never",
                delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
            )
        )


class KnowsNoCheckpoint(Wrapped):
    """Every boundary is that of an idle session."""

    async def claim_ready_queued_work(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        boundary: QueuedWorkClaimBoundary,
        *asked: Any,
    ) -> QueuedWorkClaim | None:
        return await self.intact.claim_ready_queued_work(
            session_id, fence, owner, QueuedWorkClaimBoundary.IDLE, *asked
        )

    async def claim_active_turn_inputs(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        turn_id: str,
        checkpoint: CheckpointKind,
        *asked: Any,
    ) -> TurnInputClaim | None:
        return await self.intact.claim_active_turn_inputs(
            session_id, fence, owner, turn_id, CheckpointKind.BEFORE_COMPLETION, *asked
        )


class IsImpatient(Wrapped):
    """Work for later is ready at once."""

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        return await self.intact.enqueue_queued_work(replace(draft, available_at_ms=0))


class CompletesBySubset(Wrapped):
    """A completion may name fewer than its claim owns; the rest goes with it."""

    def __init__(self, intact: Any) -> None:
        super().__init__(intact)
        self.claims: dict[str, Any] = {}

    async def claim_ready_queued_work(self, *asked: Any) -> QueuedWorkClaim | None:
        claim = await self.intact.claim_ready_queued_work(*asked)
        if claim is not None:
            self.claims[claim.claim_id] = claim.completion()
        return claim

    async def claim_next_turn_inputs(self, *asked: Any) -> TurnInputClaim | None:
        claim = await self.intact.claim_next_turn_inputs(*asked)
        if claim is not None:
            self.claims[claim.claim_id] = claim.completion()
        return claim

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(
            replace(
                commit,
                completed_queue_claims=tuple(
                    self.claims.get(done.claim_id, done) for done in commit.completed_queue_claims
                ),
                completed_turn_input_claims=tuple(
                    self.claims.get(done.claim_id, done)
                    for done in commit.completed_turn_input_claims
                ),
            )
        )


class CompletesWhatIsLost(Wrapped):
    """A completion whose claim is lost is left out without a word."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        while True:
            try:
                return await self.intact.commit_runtime_state(commit)
            except QueuedWorkClaimExpired as lost:
                kept = tuple(
                    done for done in commit.completed_queue_claims if done.claim_id != lost.claim_id
                )
                commit = replace(commit, completed_queue_claims=kept)
            except TurnInputClaimExpired as lost:
                kept_inputs = tuple(
                    done
                    for done in commit.completed_turn_input_claims
                    if done.claim_id != lost.claim_id
                )
                commit = replace(commit, completed_turn_input_claims=kept_inputs)


class ForgetsCompletions(Wrapped):
    """The commit goes through, and the work stays in the queue."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(
            replace(commit, completed_queue_claims=(), completed_turn_input_claims=())
        )


class ForgetsToDefer(Wrapped):
    """What came too late for its turn waits for it for ever."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(
            replace(commit, interrupted_turn_input_turn_id=None)
        )

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int:
        return 0


class SparesNobody(Wrapped):
    """Looking for orphans, it takes the inputs of the turn that goes on along."""

    async def defer_orphaned_active_turn_inputs(
        self,
        session_id: str,
        fence: SessionExecutionLeaseFence,
        resumable_turn_id: str | None = None,
    ) -> int:
        count: int = await self.intact.defer_orphaned_active_turn_inputs(session_id, fence)
        return count


class RenewsAnything(Wrapped):
    """A renewal is a promise, and never checked."""

    async def renew_queued_work_claim(
        self, claim: QueuedWorkClaim, lease_ttl_ms: int
    ) -> QueuedWorkClaim:
        try:
            return await self.intact.renew_queued_work_claim(claim, lease_ttl_ms)
        except QueuedWorkClaimExpired:
            return claim

    async def renew_turn_input_claim(
        self, claim: TurnInputClaim, lease_ttl_ms: int
    ) -> TurnInputClaim:
        try:
            return await self.intact.renew_turn_input_claim(claim, lease_ttl_ms)
        except TurnInputClaimExpired:
            return claim


class CancelsOneByOne(Wrapped):
    """The suffix is the anchor alone, and a repeated target is cancelled again."""

    async def cancel_pending_turn_inputs(
        self, session_id: str, targets: Sequence[PendingTurnInputCancelTarget]
    ) -> Sequence[PendingTurnInputCancelResult]:
        results = await self.intact.cancel_pending_turn_inputs(session_id, targets)
        return sorted(results, key=lambda result: result.target.value)

    async def cancel_pending_turn_input_suffix(
        self, session_id: str, anchor: PendingTurnInputCancelTarget
    ) -> PendingTurnInputSuffixCancelOutcome:
        (result,) = await self.intact.cancel_pending_turn_inputs(session_id, [anchor])
        return SuffixCancelled(anchor, (result.outcome,))


class CancelsWhatIsRunning(Wrapped):
    """A claim does not stop anybody from taking an input back."""

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        outcome = await self.intact.cancel_pending_turn_input(session_id, input_id)
        return (
            InputCancelled(outcome.input) if isinstance(outcome, InputAlreadyClaimed) else outcome
        )


class TurnsInputsAround(Wrapped):
    """A cancelled input forgets where it was going."""

    async def cancel_pending_turn_input(
        self, session_id: str, input_id: str
    ) -> PendingTurnInputCancelOutcome:
        outcome = await self.intact.cancel_pending_turn_input(session_id, input_id)
        if isinstance(outcome, InputCancelled):
            return InputCancelled(replace(outcome.input, ingress=NextTurnIngress()))
        return outcome


class KeepsWhatWasSaid(Wrapped):
    """A session that is replaced keeps its queue."""

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        return await self.intact.accept_turn(replace(acceptance, replace_session=False))


class MixesSessions(Wrapped):
    """All sessions share one queue."""

    async def enqueue_queued_work(self, draft: QueuedWorkBatchDraft) -> QueuedWorkBatch:
        return await self.intact.enqueue_queued_work(replace(draft, session_id="s"))

    async def enqueue_pending_turn_input(self, draft: PendingTurnInputDraft) -> PendingTurnInput:
        return await self.intact.enqueue_pending_turn_input(replace(draft, session_id="s"))


class HidesWhatIsClaimed(Wrapped):
    """What is being worked on looks as if it were done."""

    async def list_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]:
        return await self.intact.list_pending_queued_work(session_id)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (ClaimsTwice, "test_no_batch_is_claimed_twice"),
        (ClaimsTwice, "test_held_batches_are_passed_over"),
        (ClaimsTwice, "test_no_input_is_claimed_twice"),
        (ClaimsTwice, "test_an_input_is_cancelled_or_claimed_and_never_both"),
        (ForgetsTheGeneration, "test_the_end_of_a_lease_frees_its_claims_at_once"),
        (ForgetsTheGeneration, "test_the_next_lease_of_the_same_owner_is_another"),
        (ForgetsTheGeneration, "test_the_end_of_a_lease_frees_deferred_inputs_at_once"),
        (FreesByTheClock, "test_a_claim_outlives_its_own_time_while_its_lease_lives"),
        (FreesByTheClock, "test_a_held_batch_cannot_be_cancelled"),
        (FreesByTheClock, "test_an_input_claim_outlives_its_own_time_while_its_lease_lives"),
        (FreesByTheClock, "test_an_overdue_claim_still_protects_its_inputs"),
        (DropsSourceKeys, "test_a_known_source_key_answers_the_stored_batch"),
        (DropsSourceKeys, "test_many_enqueue_at_once"),
        (DropsSourceKeys, "test_the_same_key_and_content_is_the_same_input"),
        (DropsSourceKeys, "test_a_key_answers_in_every_state"),
        (DropsSourceKeys, "test_many_submit_at_once"),
        (AnswersAnyContent, "test_a_key_with_other_content_conflicts"),
        (ComparesWhatBecameOfIt, "test_a_deferred_input_is_compared_as_it_was_submitted"),
        (AsksForNoLease, "test_claiming_needs_the_live_lease"),
        (AsksForNoLease, "test_claiming_inputs_needs_the_live_lease"),
        (PicksFromTheMiddle, "test_a_claim_by_ids_never_picks_from_the_middle"),
        (MergesEverything, "test_exclusive_work_is_claimed_alone"),
        (MergesEverything, "test_a_group_ends_where_something_differs"),
        (KnowsNoCheckpoint, "test_a_checkpoint_admits_only_what_may_come_early"),
        (KnowsNoCheckpoint, "test_a_boundary_decides_at_which_checkpoint_an_input_joins"),
        (IsImpatient, "test_work_for_later_is_passed_over_until_then"),
        (IsImpatient, "test_work_for_later_does_not_break_up_a_group"),
        (CompletesBySubset, "test_a_completion_names_exactly_what_its_claim_owns"),
        (CompletesBySubset, "test_an_input_completion_names_exactly_what_its_claim_owns"),
        (CompletesWhatIsLost, "test_a_claim_completes_under_its_own_lease_alone"),
        (CompletesWhatIsLost, "test_one_bad_completion_leaves_the_good_ones_undone"),
        (CompletesWhatIsLost, "test_an_input_claim_completes_once"),
        (ForgetsCompletions, "test_completing_removes_the_claimed_batches_alone"),
        (ForgetsCompletions, "test_an_answered_input_cannot_be_cancelled"),
        (ForgetsToDefer, "test_a_commit_defers_what_its_turn_did_not_take"),
        (ForgetsToDefer, "test_orphans_go_to_the_next_turn"),
        (SparesNobody, "test_a_turn_that_goes_on_keeps_its_inputs"),
        (RenewsAnything, "test_only_a_claim_that_owns_everything_is_renewed"),
        (RenewsAnything, "test_only_an_input_claim_that_owns_everything_is_renewed"),
        (CancelsOneByOne, "test_many_targets_have_one_outcome_each"),
        (CancelsOneByOne, "test_a_suffix_is_cancelled_from_its_anchor_on"),
        (CancelsWhatIsRunning, "test_a_claimed_input_cannot_be_cancelled"),
        (CancelsWhatIsRunning, "test_an_accepted_input_cannot_be_cancelled"),
        (TurnsInputsAround, "test_a_waiting_input_can_be_cancelled"),
        (KeepsWhatWasSaid, "test_replacing_a_session_empties_its_queue"),
        (KeepsWhatWasSaid, "test_replacing_a_session_cancels_what_waits"),
        (MixesSessions, "test_sessions_have_queues_of_their_own"),
        (MixesSessions, "test_inputs_of_sessions_are_apart"),
        (HidesWhatIsClaimed, "test_claimed_batches_stay_listed_and_are_not_pending"),
    ],
)
async def test_a_broken_queue_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, lambda: BrokenStorage(broken))
