"""What queued work is put in line as, and what becomes of it when it is taken."""

import pytest

from lash_runtime.kernel.queue_rules import DeliveryPolicy, SlotPolicy
from lash_runtime.model.causes import ProcessOrigin, TurnRef
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.ports.leases import LeaseOwnerIdentity
from lash_runtime.ports.queued_work import (
    ProcessWakeDelivery,
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    RefreshToolCatalog,
    ResetSession,
)
from lash_runtime.ports.turn_inputs import (
    NextTurnClaim,
    NextTurnIngress,
    PendingTurnInput,
    TurnInputClaim,
    TurnInputState,
)

OWNER = LeaseOwnerIdentity(owner_id="alice", incarnation_id="1")


def a_wake(sequence: int = 1, given: object = "the build is green") -> ProcessWakeDelivery:
    return ProcessWakeDelivery(
        wake_id=f"w{sequence}",
        target_session_id="s",
        target_scope_id="root",
        process_id="p",
        sequence=sequence,
        process_caused_by=TurnRef(session_id="s", turn_id="t"),
        dedupe_key=f"p:{sequence}",
        input=given,
        created_at_ms=1,
    )


def claim_of(*drafts: QueuedWorkBatchDraft) -> QueuedWorkClaim:
    return QueuedWorkClaim(
        session_id="s",
        claim_id="qwc:1:1",
        owner=OWNER,
        lease_token="x",
        fencing_token=1,
        claimed_at_epoch_ms=0,
        expires_at_epoch_ms=1,
        batches=tuple(
            QueuedWorkBatch.of(draft, batch_id=f"b{seq}", enqueue_seq=seq, enqueued_at_ms=0)
            for seq, draft in enumerate(drafts)
        ),
    )


def test_a_wake_is_put_in_line_once() -> None:
    """However often its process is told to deliver it."""
    draft = QueuedWorkBatchDraft.for_wake(a_wake(7))
    assert draft.session_id == "s"
    assert draft.source_key == "process:p:event:7:wake"
    assert draft.slot_policy is SlotPolicy.EXCLUSIVE
    assert draft.delivery_policy is DeliveryPolicy.EARLIEST_SAFE_BOUNDARY


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (RefreshToolCatalog(reason="new tools"), "command:refresh_tool_catalog:k"),
        (ResetSession(reason="asked"), "command:reset_session:k"),
    ],
)
def test_a_command_is_put_in_line_once_for_each_key(
    command: RefreshToolCatalog | ResetSession, key: str
) -> None:
    """Two commands of different kinds may have the same key."""
    draft = QueuedWorkBatchDraft.for_command("s", command, "k")
    assert draft.source_key == key
    assert draft.slot_policy is SlotPolicy.EXCLUSIVE
    assert draft.delivery_policy is DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
    assert claim_of(draft).exclusive_session_command() == command


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_a_command_without_a_key_is_refused(blank: str) -> None:
    """Repeating it would apply it again."""
    with pytest.raises(ValueError, match="idempotency key"):
        QueuedWorkBatchDraft.for_command("s", ResetSession(reason="asked"), blank)


def test_wakes_become_causes_and_commands_are_not_told() -> None:
    """In the order of the queue; neither is ever a word of the user."""
    claim = claim_of(
        QueuedWorkBatchDraft.for_wake(a_wake(1)),
        QueuedWorkBatchDraft.for_command("s", ResetSession(reason="asked"), "k"),
        QueuedWorkBatchDraft.for_wake(a_wake(2, {"b": 1, "a": None})),
    )
    first, second = claim.materialize_for_turn()
    assert first.text == (
        "Background process wake\nProcess: p\nEvent: process.wake #1\n"
        "Wake input:\nthe build is green"
    )
    assert second.text.endswith('Wake input:\n{"a":null,"b":1}')
    assert (first.id, second.id) == ("w1", "w2")
    assert first.origin == ProcessOrigin(
        process_id="p",
        event_type="process.wake",
        sequence=1,
        wake_id="w1",
        caused_by=TurnRef(session_id="s", turn_id="t"),
    )


def test_a_claim_on_inputs_is_the_input_of_one_turn() -> None:
    """In the order in which they were enqueued."""
    claim = TurnInputClaim(
        session_id="s",
        claim_id="tic:1:1",
        owner=OWNER,
        lease_token="x",
        fencing_token=1,
        claimed_at_epoch_ms=0,
        expires_at_epoch_ms=1,
        mode=NextTurnClaim(),
        inputs=tuple(
            PendingTurnInput(
                input_id=f"ti:{seq}",
                session_id="s",
                enqueue_seq=seq,
                source_key=None,
                ingress=NextTurnIngress(),
                state=TurnInputState.DEFERRED_NEXT_TURN,
                enqueued_at_ms=0,
                input=TurnInput.text(text),
            )
            for seq, text in enumerate(("one", "two"))
        ),
    )
    assert claim.materialize_for_turn() == TurnInput.of("one", "two")
