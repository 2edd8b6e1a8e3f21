"""What waits for a session: which of it a claim takes, and what a claim protects.

Rule 1: a claim belongs to the generation of the lane under which it was made. It holds its rows
exactly as long as the lane is live with that generation: expiry alone frees nothing, and the
end of the lease frees everything.
Rule 2: batches are taken from the front of the ready ones, in the order of enqueueing. Commands
and turn work never overtake each other. Held and not yet available batches are passed over.
Rule 3: inputs are filtered, not grouped: what does not match stands in nobody's way.
Rule 4: no clock and no SQL; a store passes what it knows and applies the answer in its
transaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, StrEnum
from typing import Final, NamedTuple, Protocol

from ..model.checkpoints import CheckpointKind

ORPHAN_GRACE_MS: Final = 30_000
"""How long an input may wait for a turn that has not started yet: one default lease."""

MOST_CLAIMED: Final = 64
"""How many batches, or inputs for the next or for the running turn, one step of a session takes."""

_FIRST_POLL_MS: Final = 25
_LONGEST_POLL_MS: Final = 400


class QueuedWorkClass(StrEnum):
    SESSION_COMMAND = "session_command"
    TURN_WORK = "turn_work"


class DeliveryPolicy(StrEnum):
    EARLIEST_SAFE_BOUNDARY = "earliest_safe_boundary"
    AFTER_CURRENT_TURN_COMMIT = "after_current_turn_commit"


class SlotPolicy(StrEnum):
    JOIN = "join"
    EXCLUSIVE = "exclusive"


class QueuedWorkClaimBoundary(StrEnum):
    ACTIVE_TURN_CHECKPOINT = "active_turn_checkpoint"
    IDLE = "idle"


class TurnInputCheckpointBoundary(StrEnum):
    """The first checkpoint at which an input may join a running turn."""

    AFTER_WORK = "after_work"
    BEFORE_COMPLETION = "before_completion"

    def admits(self, checkpoint: CheckpointKind) -> bool:
        return (
            self is TurnInputCheckpointBoundary.AFTER_WORK
            or checkpoint is CheckpointKind.BEFORE_COMPLETION
        )


class TurnInputState(StrEnum):
    """Where an input is in its life. The last two are final."""

    PENDING_ACTIVE = "pending_active"
    DEFERRED_NEXT_TURN = "deferred_next_turn"
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


def is_held(claimed_under: int | None, live_generation: int | None) -> bool:
    """Whether a claim protects its rows.

    `claimed_under` is the fencing token of the lease that backed the claim, `None` for a row
    without one; `live_generation` that of the lane's live lease, `None` for an open lane.
    """
    return claimed_under is not None and claimed_under == live_generation


class ReadyBatch(Protocol):
    """A batch that is available and not held, as the selection sees it."""

    @property
    def work_class(self) -> QueuedWorkClass | None: ...
    @property
    def slot_policy(self) -> SlotPolicy: ...
    @property
    def delivery_policy(self) -> DeliveryPolicy: ...
    @property
    def merge_key(self) -> object: ...


def leads_with_a_command(ready: Iterable[ReadyBatch]) -> bool:
    """Whether the first ready batch is a session command; commands are taken one at a time."""
    head = next(iter(ready), None)
    return head is not None and head.work_class is QueuedWorkClass.SESSION_COMMAND


def commands_go_first(
    command_at_ms: int, input_at_ms: int | None, *, work_was_chosen: bool = False
) -> bool:
    """Whether a drain applies the commands that lead the queue before it takes inputs.

    The two times are those of enqueueing, of the first command and of the first input that waits
    for the next turn; `None` where none does. What came first goes first, and of two at the same
    instant the input. A drain of work that its caller has chosen takes no input, so that nothing
    stands in the way of commands.
    """
    return work_was_chosen or input_at_ms is None or command_at_ms < input_at_ms


def poll_delays_ms() -> Iterator[int]:
    """How long to wait before each further look at a queue that others empty; without end."""
    delay = _FIRST_POLL_MS
    while True:
        yield delay
        delay = min(2 * delay, _LONGEST_POLL_MS)


def turn_work_prefix(
    ready: Iterable[ReadyBatch], boundary: QueuedWorkClaimBoundary, most: int
) -> int:
    """How many batches from the front one claim takes, at most `most`.

    `ready` is consumed only as far as the answer needs it.
    """
    if most < 1:
        return 0
    head: ReadyBatch | None = None
    taken = 0
    for batch in ready:
        if head is None:
            if not _may_lead(batch, boundary):
                return 0
            head = batch
        elif not _joins(head, batch):
            break
        taken += 1
        if taken == most or batch.slot_policy is SlotPolicy.EXCLUSIVE:
            break
    return taken


def _may_lead(batch: ReadyBatch, boundary: QueuedWorkClaimBoundary) -> bool:
    return batch.work_class is QueuedWorkClass.TURN_WORK and (
        boundary is QueuedWorkClaimBoundary.IDLE
        or batch.delivery_policy is DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
    )


def _joins(head: ReadyBatch, batch: ReadyBatch) -> bool:
    return (
        batch.work_class is QueuedWorkClass.TURN_WORK
        and batch.slot_policy is SlotPolicy.JOIN
        and batch.delivery_policy is head.delivery_policy
        and batch.merge_key == head.merge_key
    )


class InputCancelVerdict(Enum):
    """What cancelling an input comes to. Only `CANCELS` changes anything."""

    CANCELS = "cancels"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class InputFound(NamedTuple):
    """An input as a cancel finds it."""

    state: TurnInputState
    is_held: bool


CANCEL: Final[Mapping[InputFound, InputCancelVerdict]] = {
    InputFound(TurnInputState.PENDING_ACTIVE, False): InputCancelVerdict.CANCELS,
    InputFound(TurnInputState.PENDING_ACTIVE, True): InputCancelVerdict.CLAIMED,
    InputFound(TurnInputState.DEFERRED_NEXT_TURN, False): InputCancelVerdict.CANCELS,
    InputFound(TurnInputState.DEFERRED_NEXT_TURN, True): InputCancelVerdict.CLAIMED,
    # A model may have seen it, whatever became of the lease.
    InputFound(TurnInputState.ACCEPTED, False): InputCancelVerdict.CLAIMED,
    InputFound(TurnInputState.ACCEPTED, True): InputCancelVerdict.CLAIMED,
    InputFound(TurnInputState.CANCELLED, False): InputCancelVerdict.CANCELLED,
    InputFound(TurnInputState.CANCELLED, True): InputCancelVerdict.CANCELLED,
    InputFound(TurnInputState.COMPLETED, False): InputCancelVerdict.COMPLETED,
    InputFound(TurnInputState.COMPLETED, True): InputCancelVerdict.COMPLETED,
}


def after_abandon(state: TurnInputState) -> TurnInputState:
    """Where an abandoned claim leaves its input: waiting, as before the claim."""
    return TurnInputState.PENDING_ACTIVE if state is TurnInputState.ACCEPTED else state


def is_orphan(
    state: TurnInputState,
    *,
    turn_id: str | None,
    is_held: bool,
    age_ms: int,
    resumable_turn_id: str | None,
) -> bool:
    """Whether an input waits for a turn that nobody will run any more.

    `turn_id` is the turn it was meant for. Young ones are left alone: a host may enqueue for a
    turn that it is about to start.
    """
    if is_held or turn_id is None or _is_turn_or_frame(turn_id, resumable_turn_id):
        return False
    if state is TurnInputState.PENDING_ACTIVE:
        return age_ms >= ORPHAN_GRACE_MS
    return state is TurnInputState.ACCEPTED


def _is_turn_or_frame(turn_id: str, root: str | None) -> bool:
    """Whether `turn_id` is the turn `root`, or one of the frames that continue it."""
    if root is None:
        return False
    return turn_id == root or turn_id.startswith(f"{root}:agent-frame:")


def queue_claim_id(head_seq: int, fencing_token: int) -> str:
    return f"qwc:{head_seq}:{fencing_token}"


def input_claim_id(head_seq: int, fencing_token: int) -> str:
    return f"tic:{head_seq}:{fencing_token}"
