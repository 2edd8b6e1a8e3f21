"""The rules of the queue, walked through in full and compared with plainer ones at random."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.queue_rules import (
    CANCEL,
    ORPHAN_GRACE_MS,
    DeliveryPolicy,
    InputCancelVerdict,
    InputFound,
    QueuedWorkClaimBoundary,
    QueuedWorkClass,
    SlotPolicy,
    TurnInputCheckpointBoundary,
    TurnInputState,
    after_abandon,
    commands_go_first,
    input_claim_id,
    is_held,
    is_orphan,
    leads_with_a_command,
    poll_delays_ms,
    queue_claim_id,
    turn_work_prefix,
)
from lash_runtime.model.checkpoints import CheckpointKind

IDLE = QueuedWorkClaimBoundary.IDLE
CHECKPOINT = QueuedWorkClaimBoundary.ACTIVE_TURN_CHECKPOINT


@dataclass(frozen=True)
class Batch:
    work_class: QueuedWorkClass | None = QueuedWorkClass.TURN_WORK
    slot_policy: SlotPolicy = SlotPolicy.JOIN
    delivery_policy: DeliveryPolicy = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
    merge_key: object = "never"


batches = st.lists(
    st.builds(
        Batch,
        # Mostly work that joins, or groups would hardly ever be longer than one.
        work_class=st.sampled_from((*[QueuedWorkClass.TURN_WORK] * 5, *QueuedWorkClass)),
        slot_policy=st.sampled_from((*[SlotPolicy.JOIN] * 5, *SlotPolicy)),
        delivery_policy=st.sampled_from(
            (*[DeliveryPolicy.EARLIEST_SAFE_BOUNDARY] * 3, *DeliveryPolicy)
        ),
        merge_key=st.sampled_from(("never", "never", "never", "payload_default")),
    ),
    max_size=6,
)
boundaries = st.sampled_from(QueuedWorkClaimBoundary)


def is_a_group(taken: list[Batch], boundary: QueuedWorkClaimBoundary) -> bool:
    """What a claim may take, said of the whole group instead of step by step."""
    head = taken[0]
    return (
        all(batch.work_class is QueuedWorkClass.TURN_WORK for batch in taken)
        and (boundary is IDLE or head.delivery_policy is DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        and (len(taken) == 1 or len({*taken}) == 1)
        and (len(taken) == 1 or head.slot_policy is SlotPolicy.JOIN)
    )


@given(ready=batches, boundary=boundaries, most=st.integers(-1, 7))
def test_a_claim_takes_the_longest_group_at_the_front(
    ready: list[Batch], boundary: QueuedWorkClaimBoundary, most: int
) -> None:
    """Shorter would waste turns, longer would mix what does not belong together."""
    groups = [
        count
        for count in range(1, min(most, len(ready)) + 1)
        if is_a_group(ready[:count], boundary)
    ]
    assert turn_work_prefix(ready, boundary, most) == max(groups, default=0)


@given(ready=batches, boundary=boundaries)
def test_commands_and_work_take_turns(
    ready: list[Batch], boundary: QueuedWorkClaimBoundary
) -> None:
    """Never is there a choice between the two, and an idle session always gets on."""
    command = leads_with_a_command(ready)
    work = turn_work_prefix(ready, boundary, 64) > 0
    assert not (command and work)
    if ready and boundary is IDLE:
        assert command or work


def test_a_claim_looks_no_further_than_it_must() -> None:
    """A queue of ten thousand is not read for the sake of its first batch."""

    def endless() -> Iterator[Batch]:
        while True:
            yield Batch()

    assert turn_work_prefix(endless(), IDLE, 3) == 3
    exclusive = Batch(slot_policy=SlotPolicy.EXCLUSIVE)
    seen = []

    def watched() -> Iterator[Batch]:
        for batch in (exclusive, Batch(), Batch()):
            seen.append(batch)
            yield batch

    assert turn_work_prefix(watched(), IDLE, 3) == 1
    assert seen == [exclusive]


def test_a_batch_of_no_class_leads_nothing() -> None:
    """It should never have been stored; if it was, it is neither a command nor work."""
    assert turn_work_prefix([Batch(work_class=None)], IDLE, 1) == 0
    assert not leads_with_a_command([Batch(work_class=None)])


@pytest.mark.parametrize(
    ("claimed_under", "live", "held"),
    [
        (None, None, False),
        (None, 3, False),
        (3, None, False),
        (3, 3, True),
        (3, 4, False),
        (4, 3, False),
        (0, None, False),
        (0, 0, True),
    ],
)
def test_a_claim_lives_exactly_as_long_as_its_lease(
    claimed_under: int | None, live: int | None, held: bool
) -> None:
    """No clock is asked: only whether the lane is live with the claim's generation."""
    assert is_held(claimed_under, live) is held


def test_every_cancel_has_a_verdict() -> None:
    """The table is whole, and only what waits and is not held is cancelled."""
    assert set(CANCEL) == {InputFound(*found) for found in product(TurnInputState, (False, True))}
    waiting = {TurnInputState.PENDING_ACTIVE, TurnInputState.DEFERRED_NEXT_TURN}
    assert {
        found for found, verdict in CANCEL.items() if verdict is InputCancelVerdict.CANCELS
    } == {InputFound(state, is_held=False) for state in waiting}
    for found, verdict in CANCEL.items():
        if found.state is TurnInputState.COMPLETED:
            assert verdict is InputCancelVerdict.COMPLETED
        if found.state is TurnInputState.CANCELLED:
            assert verdict is InputCancelVerdict.CANCELLED
        if found.state is TurnInputState.ACCEPTED:
            assert verdict is InputCancelVerdict.CLAIMED


def test_an_abandoned_input_is_as_it_was_before() -> None:
    """An accepted one steers its turn again; a deferred one never left its state."""
    assert after_abandon(TurnInputState.ACCEPTED) is TurnInputState.PENDING_ACTIVE
    for state in set(TurnInputState) - {TurnInputState.ACCEPTED}:
        assert after_abandon(state) is state


def test_a_boundary_says_when_an_input_may_join() -> None:
    """After work also before the end; what waits for the end joins only there."""
    after_work, at_the_end = TurnInputCheckpointBoundary
    assert [after_work.admits(checkpoint) for checkpoint in CheckpointKind] == [True, True]
    assert at_the_end.admits(CheckpointKind.BEFORE_COMPLETION)
    assert not at_the_end.admits(CheckpointKind.AFTER_WORK)


@pytest.mark.parametrize("state", TurnInputState)
def test_only_what_waits_for_a_turn_can_be_an_orphan(state: TurnInputState) -> None:
    """And an accepted one at once, because the claim that accepted it is over."""

    def orphan(turn_id: str | None = "t1", *, held: bool = False, age_ms: int) -> bool:
        return is_orphan(
            state, turn_id=turn_id, is_held=held, age_ms=age_ms, resumable_turn_id=None
        )

    waits, accepted = TurnInputState.PENDING_ACTIVE, TurnInputState.ACCEPTED
    assert orphan(age_ms=ORPHAN_GRACE_MS) is (state in (waits, accepted))
    assert orphan(age_ms=ORPHAN_GRACE_MS - 1) is (state is accepted)
    assert not orphan(held=True, age_ms=ORPHAN_GRACE_MS)
    assert not orphan(None, age_ms=ORPHAN_GRACE_MS)


@pytest.mark.parametrize(
    ("turn_id", "resumable", "spared"),
    [
        ("t1", "t1", True),
        ("t1:agent-frame:1", "t1", True),
        ("t1:agent-frame:1:agent-frame:2", "t1", True),
        ("t1", None, False),
        ("t1", "t2", False),
        ("t10", "t1", False),
        ("t1:other", "t1", False),
        ("t1", "t1:agent-frame:1", False),
        ("", "t1", False),
        ("", "", True),
    ],
)
def test_a_turn_that_goes_on_keeps_its_inputs(
    turn_id: str, resumable: str | None, spared: bool
) -> None:
    """It and the frames that continue it, and nothing that is merely called alike."""
    orphan = is_orphan(
        TurnInputState.ACCEPTED,
        turn_id=turn_id,
        is_held=False,
        age_ms=0,
        resumable_turn_id=resumable,
    )
    assert orphan is not spared


def test_claim_ids_name_the_head_and_how_often_it_was_claimed() -> None:
    """So no two claims of one queue are called alike, and the two kinds are told apart."""
    assert queue_claim_id(7, 2) == "qwc:7:2"
    assert input_claim_id(7, 2) == "tic:7:2"


@pytest.mark.parametrize(
    ("command_at", "input_at", "work_was_chosen", "first"),
    [
        (10, None, False, True),
        (10, 11, False, True),
        (10, 10, False, False),
        (10, 9, False, False),
        (10, 9, True, True),
        (10, None, True, True),
    ],
)
def test_what_came_first_is_drained_first(
    command_at: int, input_at: int | None, work_was_chosen: bool, first: bool
) -> None:
    """At the same instant the user's words go first; chosen work takes none of them."""
    answer = commands_go_first(command_at, input_at, work_was_chosen=work_was_chosen)
    assert answer is first


def test_a_queue_is_looked_at_less_and_less_often() -> None:
    """Soon at first, and never so seldom that somebody would notice."""
    assert list(islice(poll_delays_ms(), 8)) == [25, 50, 100, 200, 400, 400, 400, 400]
