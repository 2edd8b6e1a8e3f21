"""Taking an input back: what can still be cancelled, and what every outcome says."""

import anyio

from ...model.checkpoints import CheckpointKind
from ...ports.storage import Storage
from ...ports.turn_inputs import (
    InputAlreadyCancelled,
    InputAlreadyClaimed,
    InputAlreadyCompleted,
    InputCancelled,
    InputIdTarget,
    InputNotFound,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    SourceKeyTarget,
    SuffixAnchorNotFound,
    SuffixCancelled,
    TurnInputCheckpointBoundary,
    TurnInputClaimDiagnostics,
    TurnInputState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._samples import BOB, TTL_MS, a_commit, a_store, hold
from ._waiting_samples import (
    MANY,
    claimed_inputs,
    for_next_turn,
    for_turn,
    ids,
    next_inputs,
    pending_inputs,
    steering,
    submitted,
)


class TurnInputCancelConformance(StorageCase):
    """What no turn has yet can be taken back, and every outcome says what was found."""

    async def test_a_waiting_input_can_be_cancelled(self, storage: Storage) -> None:
        """It keeps where it was going, and nobody gets it any more."""
        store = await a_store(storage)
        lease = await hold(store)
        steer, following = await submitted(store, for_turn("t1"), for_next_turn())
        before = {row.input_id: row for row in await store.list_pending_turn_inputs("s")}
        for name in (steer, following):
            outcome = await store.cancel_pending_turn_input("s", name)
            assert isinstance(outcome, InputCancelled)
            assert outcome.input.state is TurnInputState.CANCELLED
            assert outcome.input.ingress == before[name].ingress
            assert outcome.input.input == before[name].input
        assert await pending_inputs(store) == []
        assert await steering(store, lease) is None
        assert await next_inputs(store, lease) is None

    async def test_cancelling_again_says_so(self, storage: Storage) -> None:
        """The first call did it; the second one sees it."""
        store = await a_store(storage)
        (name,) = await submitted(store, for_next_turn())
        first = await store.cancel_pending_turn_input("s", name)
        assert isinstance(first, InputCancelled)
        again = await store.cancel_pending_turn_input("s", name)
        assert again == InputAlreadyCancelled(first.input)

    async def test_an_unknown_input_is_not_found(self, storage: Storage) -> None:
        """Neither by an id that never was nor by one of another session."""
        store = await a_store(storage)
        (theirs,) = await submitted(store, for_next_turn(session_id="other", key="k"))
        assert await store.cancel_pending_turn_input("s", "never") == InputNotFound()
        assert await store.cancel_pending_turn_input("s", theirs) == InputNotFound()
        (result,) = await store.cancel_pending_turn_inputs("s", [SourceKeyTarget(value="k")])
        assert result.outcome == InputNotFound()
        assert await pending_inputs(store, "other") == [theirs]

    async def test_a_claimed_input_cannot_be_cancelled(self, storage: Storage) -> None:
        """The outcome says whose it is; the claim goes on as if nobody had asked."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, for_next_turn())
        claim = await store.claim_next_turn_inputs("s", lease.fence(), BOB, 1_000, MANY)
        assert claim is not None
        row = claim.inputs[0]
        assert await store.cancel_pending_turn_input("s", row.input_id) == InputAlreadyClaimed(
            row,
            TurnInputClaimDiagnostics(
                state=TurnInputState.DEFERRED_NEXT_TURN,
                claim_fencing_token=claim.fencing_token,
                claim_id=claim.claim_id,
                claim_owner=BOB,
                claim_expires_at_ms=claim.expires_at_epoch_ms,
            ),
        )
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(claim.completion(),))
        )

    async def test_an_overdue_claim_still_protects_its_inputs(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """While its lease lives the turn goes on; only the end of the lease sets them free."""
        store = await a_store(storage)
        lease = await hold(store)
        (name,) = await submitted(store, for_next_turn())
        await claimed_inputs(store, lease, ttl_ms=1)
        clock.advance(1)
        assert isinstance(await store.cancel_pending_turn_input("s", name), InputAlreadyClaimed)
        await store.release_session_execution_lease(lease.fence())
        assert isinstance(await store.cancel_pending_turn_input("s", name), InputCancelled)

    async def test_an_accepted_input_cannot_be_cancelled(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A model may have seen it, whatever became of the lease."""
        store = await a_store(storage)
        lease = await hold(store)
        (name,) = await submitted(store, for_turn("t1"))
        await steering(store, lease)
        assert isinstance(await store.cancel_pending_turn_input("s", name), InputAlreadyClaimed)
        clock.advance(TTL_MS / 1000)
        outcome = await store.cancel_pending_turn_input("s", name)
        assert isinstance(outcome, InputAlreadyClaimed)
        assert outcome.input.state is TurnInputState.ACCEPTED

    async def test_an_answered_input_cannot_be_cancelled(self, storage: Storage) -> None:
        """It is in the history by then."""
        store = await a_store(storage)
        lease = await hold(store)
        (name,) = await submitted(store, for_next_turn())
        claim = await claimed_inputs(store, lease)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(claim.completion(),))
        )
        outcome = await store.cancel_pending_turn_input("s", name)
        assert isinstance(outcome, InputAlreadyCompleted)
        assert outcome.input.state is TurnInputState.COMPLETED

    async def test_many_targets_have_one_outcome_each(self, storage: Storage) -> None:
        """In the order asked, by id or by key; a target named twice sees the first time."""
        store = await a_store(storage)
        lease = await hold(store)
        (held,) = await submitted(store, for_next_turn("held"))
        await claimed_inputs(store, lease)
        await submitted(
            store, for_next_turn(input_id="i", key="k"), for_turn(input_id="j", key="i")
        )
        targets: list[PendingTurnInputCancelTarget] = [
            InputIdTarget(value="i"),
            SourceKeyTarget(value="k"),
            InputIdTarget(value="never"),
            SourceKeyTarget(value="i"),
            InputIdTarget(value=held),
            SourceKeyTarget(value="j"),
        ]
        results = await store.cancel_pending_turn_inputs("s", targets)
        assert [result.target for result in results] == targets
        assert [type(result.outcome) for result in results] == [
            InputCancelled,
            InputAlreadyCancelled,
            InputNotFound,
            InputCancelled,
            InputAlreadyClaimed,
            InputNotFound,
        ]
        assert all(isinstance(result, PendingTurnInputCancelResult) for result in results)
        assert list(await store.cancel_pending_turn_inputs("s", [])) == []

    async def test_a_suffix_is_cancelled_from_its_anchor_on(self, storage: Storage) -> None:
        """An edited message takes back what was said after it, and nothing before."""
        store = await a_store(storage)
        await submitted(
            store,
            for_next_turn(input_id="a"),
            for_next_turn(input_id="b", key="k"),
            for_turn(input_id="c"),
            for_next_turn(input_id="d"),
        )
        await submitted(store, for_next_turn(input_id="theirs", session_id="other"))
        anchor = SourceKeyTarget(value="k")
        outcome = await store.cancel_pending_turn_input_suffix("s", anchor)
        assert isinstance(outcome, SuffixCancelled)
        assert outcome.anchor == anchor
        assert [type(each) for each in outcome.outcomes] == [InputCancelled] * 3
        assert await pending_inputs(store) == ["a"]
        assert await pending_inputs(store, "other") == ["theirs"]

    async def test_a_suffix_tells_what_became_of_each(self, storage: Storage) -> None:
        """Also of those that are over or claimed, in their order, the anchor among them."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(store, *(for_next_turn(input_id=name) for name in "abc"))
        done = await claimed_inputs(store, lease, most=1)
        await claimed_inputs(store, lease, most=1)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(done.completion(),))
        )
        await store.cancel_pending_turn_input("s", "c")
        await submitted(store, for_next_turn(input_id="d"))
        outcome = await store.cancel_pending_turn_input_suffix("s", InputIdTarget(value="a"))
        assert isinstance(outcome, SuffixCancelled)
        assert [type(each) for each in outcome.outcomes] == [
            InputAlreadyCompleted,
            InputAlreadyClaimed,
            InputAlreadyCancelled,
            InputCancelled,
        ]
        names = [each.input.input_id for each in outcome.outcomes if hasattr(each, "input")]
        assert names == ["a", "b", "c", "d"]

    async def test_a_suffix_without_its_anchor_changes_nothing(self, storage: Storage) -> None:
        """An unknown anchor, or one of another session, is told from an empty suffix."""
        store = await a_store(storage)
        names = await submitted(store, for_next_turn(), for_turn())
        (theirs,) = await submitted(store, for_next_turn(session_id="other"))
        for anchor in (
            InputIdTarget(value="never"),
            InputIdTarget(value=theirs),
            SourceKeyTarget(value=names[0]),
        ):
            outcome = await store.cancel_pending_turn_input_suffix("s", anchor)
            assert outcome == SuffixAnchorNotFound(anchor)
        assert await pending_inputs(store) == names

    async def test_an_input_is_cancelled_or_claimed_and_never_both(self, storage: Storage) -> None:
        """Whoever comes first has it, however close the other is."""
        store = await a_store(storage)
        lease = await hold(store)
        names = await submitted(store, *(for_next_turn(f"words {at}") for at in range(16)))
        taken: list[str] = []
        cancelled: list[str] = []

        async def take() -> None:
            taken.extend(ids(await next_inputs(store, lease, most=1)))

        async def cancel(name: str) -> None:
            if isinstance(await store.cancel_pending_turn_input("s", name), InputCancelled):
                cancelled.append(name)

        async with anyio.create_task_group() as tasks:
            for name in reversed(names):
                tasks.start_soon(take)
                tasks.start_soon(cancel, name)
        assert sorted(taken + cancelled) == sorted(names)
        assert await pending_inputs(store) == []

    async def test_what_is_due_is_decided_by_the_checkpoint(self, storage: Storage) -> None:
        """Cancelling reaches what a checkpoint has not admitted yet."""
        store = await a_store(storage)
        lease = await hold(store)
        early, late = await submitted(
            store,
            for_turn(),
            for_turn(boundary=TurnInputCheckpointBoundary.BEFORE_COMPLETION),
        )
        assert ids(await steering(store, lease, CheckpointKind.AFTER_WORK)) == [early]
        assert isinstance(await store.cancel_pending_turn_input("s", late), InputCancelled)
        assert await steering(store, lease, CheckpointKind.BEFORE_COMPLETION) is None
