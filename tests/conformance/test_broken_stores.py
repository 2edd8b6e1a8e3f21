"""The conformance suite, held to its own purpose: a store that breaks a rule is caught.

Each broken store wraps the memory store and gets one thing wrong. The case that is named beside
it must pass on the intact store and fail on the broken one.
"""

from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from lash_runtime.model.attachments import AttachmentCreateMeta, AttachmentRef
from lash_runtime.model.frames import AgentFrameRecord
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.session_state import (
    ActivePath,
    FullGraph,
    PersistedSessionRead,
    SessionReadScope,
)
from lash_runtime.ports.store_errors import (
    QueuedWorkClaimExpired,
    SessionExecutionLeaseExpired,
    StoreError,
)
from lash_runtime.ports.turn_ledger import (
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnAccepted,
    TurnKnown,
    TurnRefused,
    TurnRow,
    TurnSettlement,
    TurnStarted,
    TurnState,
)
from lash_runtime.ports.turn_persistence import TurnPersistence
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class ForgetsTheFence(Wrapped):
    """Any commit goes through, as long as anybody at all holds the lane."""

    def __init__(self, intact: TurnPersistence) -> None:
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

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(
            replace(commit, session_execution_lease=self.fences.get(commit.session_id))
        )


class IgnoresTheRevision(Wrapped):
    """The last writer wins."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(replace(commit, expected_head_revision=None))


class ForgetsStamps(Wrapped):
    """A repeated final commit is one more commit."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(replace(commit, turn_commit=None))


class LosesRefs(Wrapped):
    """Components without a payload are dropped instead of carried forward."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        bare = replace(
            commit.checkpoint,
            tool_state_ref=None,
            plugin_snapshot_ref=None,
            execution_state_ref=None,
        )
        return await self.intact.commit_runtime_state(replace(commit, checkpoint=bare))


class WritesBeforeItChecks(Wrapped):
    """A commit that fails on its claims has written its history by then."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        result = await self.intact.commit_runtime_state(replace(commit, completed_queue_claims=()))
        for claim in commit.completed_queue_claims:
            raise QueuedWorkClaimExpired(session_id=claim.session_id, claim_id=claim.claim_id)
        return result


class ChecksTheLeaseFirst(Wrapped):
    """The order of checks is turned round: a lost lease hides that the turn is committed."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        if commit.session_execution_lease is None:
            raise SessionExecutionLeaseExpired(session_id=commit.session_id)
        return await self.intact.commit_runtime_state(commit)


class KeepsTheLane(Wrapped):
    """The release that rides on a commit is forgotten."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return await self.intact.commit_runtime_state(
            replace(commit, release_session_execution_lease=None)
        )


class ShortensLeases(Wrapped):
    """Entering again sets the expiry anew, also backwards."""

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        outcome = await self.intact.try_claim_session_execution_lease(
            session_id, owner, lease_ttl_ms
        )
        if isinstance(outcome, LeaseAcquired) and lease_ttl_ms:
            fence = outcome.lease.fence()
            renewed = await self.intact.renew_session_execution_lease(fence, lease_ttl_ms)
            return LeaseAcquired(renewed.lease)
        return outcome


class TakesOverTheLiving(Wrapped):
    """Seeing a holder is taken for the proof that it is dead."""

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome:
        await self.intact.release_session_execution_lease(observed_holder)
        return await self.intact.try_claim_session_execution_lease(session_id, owner, lease_ttl_ms)


class MistakesIncarnations(Wrapped):
    """An owner is told by its name alone, so a restarted process inherits a lease."""

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        outcome = await self.intact.try_claim_session_execution_lease(
            session_id, owner, lease_ttl_ms
        )
        if isinstance(outcome, LeaseBusy) and outcome.holder.owner.owner_id == owner.owner_id:
            return LeaseAcquired(outcome.holder)
        return outcome


class AcceptsTwice(Wrapped):
    """A turn that is known is accepted once more, and would be paid for once more."""

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        outcome = await self.intact.accept_turn(acceptance)
        if not isinstance(outcome, TurnKnown):
            return outcome
        claimed = await self.intact.try_claim_session_execution_lease(
            acceptance.session_id, acceptance.owner, acceptance.lease_ttl_ms
        )
        if isinstance(claimed, LeaseBusy):
            return TurnRefused(claimed.holder)
        head = await self.intact.load_head_stamp()
        return TurnAccepted(lease=claimed.lease, row=outcome.row, head=head)


class LeavesARowBehind(Wrapped):
    """A refused turn has been written all the same."""

    row: TurnRow | None = None

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        outcome = await self.intact.accept_turn(acceptance)
        if isinstance(outcome, TurnRefused):
            self.row = TurnRow(
                session_id=acceptance.session_id,
                generation=1,
                turn_id=acceptance.turn_id,
                seq=99,
                state=TurnState.ACCEPTED,
                content_hash=acceptance.content_hash,
                turn_index=1,
                base_revision=None,
                options=acceptance.options,
                required_wiring=acceptance.required_wiring,
                members=(acceptance.turn_id,),
                input=acceptance.input,
                fencing_token=0,
                accepted_at_ms=0,
            )
        return outcome

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None:
        return await self.intact.load_turn(session_id, turn_id) or self.row


class StartsBesideAnother(Wrapped):
    """What somebody else has started is pushed aside without a word."""

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        start: TurnStarted | None = await self.intact.start_turn(fence, acceptance)
        if start is None:
            for row in await self.intact.list_unfinished_turns(acceptance.session_id):
                settlement = TurnSettlement(turn_id=row.turn_id, state=TurnState.INTERRUPTED)
                await self.intact.settle_turn(fence, settlement, release=False)
            start = await self.intact.start_turn(fence, acceptance)
        return start


class StartsForAnybody(Wrapped):
    """Whoever asks is taken for whoever holds the lane."""

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        claimed = await self.intact.try_claim_session_execution_lease(
            acceptance.session_id, acceptance.owner, acceptance.lease_ttl_ms
        )
        lease = claimed.lease if isinstance(claimed, LeaseAcquired) else claimed.holder
        start: TurnStarted | None = await self.intact.start_turn(lease.fence(), acceptance)
        return start


class StartsAgain(Wrapped):
    """A known turn is handed out as if it had just been started."""

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        start = await self.intact.start_turn(fence, acceptance)
        row = await self.intact.load_turn(acceptance.session_id, acceptance.turn_id)
        if start is not None or row is None:
            return start
        return TurnStarted(row=row, head=await self.intact.load_head_stamp())


class KeepsWhatIsReplaced(Wrapped):
    """A start never empties the session."""

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        kept = replace(acceptance, replace_session=False)
        start: TurnStarted | None = await self.intact.start_turn(fence, kept)
        return start


class EmptiesFirst(Wrapped):
    """A session that is to be replaced is empty before anybody has looked whether it may be."""

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        if acceptance.replace_session:
            nodes = (await self.intact.load_session(FullGraph())).nodes
            await self.intact.tombstone_nodes([node.node_id for node in nodes])
        start: TurnStarted | None = await self.intact.start_turn(fence, acceptance)
        return start


class SwallowsIllegalMoves(Wrapped):
    """A settlement that the table forbids is passed over without a word."""

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: TurnSettlement, *, release: bool
    ) -> None:
        try:
            await self.intact.settle_turn(fence, settlement, release=release)
        except StoreError as error:
            if error.code != "backend":
                raise


class ShowsBranches(Wrapped):
    """The active path is everything there is."""

    async def load_session(self, scope: FullGraph | ActivePath) -> PersistedSessionRead | None:
        return await self.intact.load_session(FullGraph())


class HealsOnItsOwn(Wrapped):
    """A dangling leaf is hidden from the reader."""

    async def load_session(self, scope: FullGraph | ActivePath) -> PersistedSessionRead | None:
        read = await self.intact.load_session(scope)
        if read is None or any(node.node_id == read.leaf_node_id for node in read.nodes):
            return read
        return replace(read, leaf_node_id=None)


class StoresScratch(Wrapped):
    """What a caller hands back with a frame is taken for the frame's own state."""

    def __init__(self, intact: RuntimePersistence) -> None:
        super().__init__(intact)
        self.frames: tuple[AgentFrameRecord, ...] = ()

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        self.frames = commit.agent_frames
        result: RuntimeCommitResult = await self.intact.commit_runtime_state(commit)
        return result

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        read: PersistedSessionRead | None = await self.intact.load_session(scope)
        return None if read is None else replace(read, agent_frames=self.frames)


class NamesAttachmentsItself:
    """Ids are counted instead of computed from the bytes."""

    def __init__(self, intact: Any) -> None:
        self._intact = intact
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)

    async def put(self, data: bytes, meta: AttachmentCreateMeta) -> AttachmentRef:
        ref: AttachmentRef = await self._intact.put(data, meta)
        self._count += 1
        return ref.model_copy(update={"id": f"{self._count:064x}"})


def a_broken_storage(broken: type[Any]) -> BrokenStorage:
    storage = BrokenStorage(broken)
    if broken is NamesAttachmentsItself:
        storage.attachments = broken(storage.intact.attachments)
    return storage


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (ForgetsTheFence, "test_only_the_live_lease_backs_a_commit"),
        (ForgetsTheFence, "test_a_fenced_out_writer_cannot_commit"),
        (ForgetsTheFence, "test_each_check_refuses_a_commit_alone"),
        (IgnoresTheRevision, "test_a_wrong_revision_is_refused_with_the_actual_one"),
        (IgnoresTheRevision, "test_a_state_from_before_a_replacement_cannot_be_committed"),
        (ForgetsStamps, "test_a_repeated_stamp_answers_the_stored_result"),
        (ForgetsStamps, "test_a_stamp_with_other_content_conflicts"),
        (LosesRefs, "test_a_ref_without_a_payload_carries_the_component_forward"),
        (LosesRefs, "test_a_ref_to_nothing_is_an_error"),
        (WritesBeforeItChecks, "test_each_check_refuses_a_commit_alone"),
        (WritesBeforeItChecks, "test_a_refused_first_commit_leaves_no_head"),
        (ChecksTheLeaseFirst, "test_of_two_violations_the_earlier_check_answers"),
        (ChecksTheLeaseFirst, "test_a_repeated_stamp_is_asked_no_other_question"),
        (KeepsTheLane, "test_a_commit_may_give_the_lane_back"),
        (KeepsTheLane, "test_a_replay_still_gives_the_lane_back"),
        (ShortensLeases, "test_entering_again_never_shortens_a_lease"),
        (TakesOverTheLiving, "test_what_is_not_proven_dead_is_waited_for"),
        (TakesOverTheLiving, "test_opaque_owners_prove_nothing"),
        (MistakesIncarnations, "test_another_incarnation_is_another_owner"),
        (AcceptsTwice, "test_the_same_turn_again_is_known"),
        (AcceptsTwice, "test_a_settled_turn_is_known_with_its_result"),
        (LeavesARowBehind, "test_a_busy_lane_refuses_and_leaves_no_row"),
        (StartsBesideAnother, "test_a_started_turn_stands_before_the_next"),
        (StartsBesideAnother, "test_of_starts_at_once_under_one_lease_one_is_made"),
        (StartsForAnybody, "test_only_the_live_lease_starts_a_turn"),
        (StartsForAnybody, "test_a_lease_starts_no_turn_of_another_session"),
        (StartsAgain, "test_a_known_turn_is_not_started_again"),
        (KeepsWhatIsReplaced, "test_a_start_may_replace_the_session_in_the_same_step"),
        (EmptiesFirst, "test_a_start_that_is_refused_replaces_nothing"),
        (EmptiesFirst, "test_a_known_turn_is_not_started_again"),
        (SwallowsIllegalMoves, "test_only_moves_of_the_table_are_made"),
        (ShowsBranches, "test_the_active_path_is_the_leafs_ancestors_root_first"),
        (HealsOnItsOwn, "test_a_leaf_that_does_not_exist_gives_no_nodes_and_is_kept"),
        (StoresScratch, "test_the_current_frame_has_the_execution_state"),
        (NamesAttachmentsItself, "test_equal_bytes_are_stored_once"),
    ],
)
async def test_a_broken_store_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, lambda: a_broken_storage(broken))
