"""Work that waits for a session: process wakes and session commands, in claimable batches.

All payloads of a batch are of one class. It is claimed, completed and cancelled as a whole.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from ..kernel.queue_rules import DeliveryPolicy as DeliveryPolicy
from ..kernel.queue_rules import QueuedWorkClaimBoundary as QueuedWorkClaimBoundary
from ..kernel.queue_rules import QueuedWorkClass as QueuedWorkClass
from ..kernel.queue_rules import SlotPolicy as SlotPolicy
from ..kernel.turn_causes import wake_cause
from ..model._value import Value, omitted_when_none
from ..model.causes import CausalRef, ProcessOrigin, TurnCause
from ..model.records import dataclass
from .claims import QueuedWorkCompletion
from .leases import LeaseOwnerIdentity


class MergeGroup(Value):
    group: str


MergeKey = Literal["never", "payload_default"] | MergeGroup


class RefreshToolCatalog(Value):
    kind: Literal["refresh_tool_catalog"] = "refresh_tool_catalog"
    reason: str


class ResetSession(Value):
    kind: Literal["reset_session"] = "reset_session"
    reason: str


SessionCommand = Annotated[RefreshToolCatalog | ResetSession, Field(discriminator="kind")]


class ProcessWakeDelivery(Value):
    wake_id: str
    target_session_id: str
    target_scope_id: str
    process_id: str
    sequence: int
    event_type: str = "process.wake"
    event_invocation: Any = omitted_when_none()
    process_caused_by: CausalRef | None = omitted_when_none()
    dedupe_key: str
    input: Any
    created_at_ms: int

    def origin(self) -> ProcessOrigin:
        return ProcessOrigin(
            process_id=self.process_id,
            event_type=self.event_type,
            sequence=self.sequence,
            wake_id=self.wake_id,
            caused_by=self.process_caused_by,
        )


class ProcessWakePayload(Value):
    type: Literal["process_wake"] = "process_wake"
    wake: ProcessWakeDelivery

    @property
    def work_class(self) -> QueuedWorkClass:
        return QueuedWorkClass.TURN_WORK


class SessionCommandPayload(Value):
    type: Literal["session_command"] = "session_command"
    command: SessionCommand

    @property
    def work_class(self) -> QueuedWorkClass:
        return QueuedWorkClass.SESSION_COMMAND


QueuedWorkPayload = Annotated[
    ProcessWakePayload | SessionCommandPayload, Field(discriminator="type")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkBatchDraft:
    """Work to enqueue. A `source_key` makes enqueueing idempotent while the batch exists.

    `available_at_ms` is the first instant at which the batch may be claimed; 0 is at once.
    """

    session_id: str
    payloads: tuple[QueuedWorkPayload, ...]
    delivery_policy: DeliveryPolicy
    slot_policy: SlotPolicy
    merge_key: MergeKey = "never"
    source_key: str | None = None
    available_at_ms: int = 0

    @property
    def work_class(self) -> QueuedWorkClass | None:
        """What all payloads have in common; `None` for none, or for a mixture."""
        return _common_class(self.payloads)

    @classmethod
    def for_wake(cls, wake: ProcessWakeDelivery) -> Self:
        """A wake is told to a running turn as soon as that is safe, and by itself."""
        return cls(
            session_id=wake.target_session_id,
            payloads=(ProcessWakePayload(wake=wake),),
            delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
            slot_policy=SlotPolicy.EXCLUSIVE,
            source_key=f"process:{wake.process_id}:event:{wake.sequence}:wake",
        )

    @classmethod
    def for_command(cls, session_id: str, command: SessionCommand, idempotency_key: str) -> Self:
        """A command is applied between turns, alone, and once for each key.

        Raises `ValueError` for a blank key.
        """
        if not idempotency_key.strip():
            raise ValueError("the idempotency key of a session command must not be blank")
        return cls(
            session_id=session_id,
            payloads=(SessionCommandPayload(command=command),),
            delivery_policy=DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT,
            slot_policy=SlotPolicy.EXCLUSIVE,
            source_key=f"command:{command.kind}:{idempotency_key}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkItem:
    """One payload. `item_id` is `{batch_id}:item:{index}`."""

    item_id: str
    payload: QueuedWorkPayload


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkBatch:
    """A stored batch. `enqueue_seq` rises with each batch that a store takes; none repeats."""

    batch_id: str
    session_id: str
    enqueue_seq: int
    source_key: str | None
    delivery_policy: DeliveryPolicy
    slot_policy: SlotPolicy
    merge_key: MergeKey
    available_at_ms: int
    enqueued_at_ms: int
    items: tuple[QueuedWorkItem, ...]

    @property
    def work_class(self) -> QueuedWorkClass | None:
        """What all items have in common; `None` for none, or for a mixture."""
        return _common_class(item.payload for item in self.items)

    @classmethod
    def of(
        cls, draft: QueuedWorkBatchDraft, *, batch_id: str, enqueue_seq: int, enqueued_at_ms: int
    ) -> Self:
        return cls(
            batch_id=batch_id,
            session_id=draft.session_id,
            enqueue_seq=enqueue_seq,
            source_key=draft.source_key,
            delivery_policy=draft.delivery_policy,
            slot_policy=draft.slot_policy,
            merge_key=draft.merge_key,
            available_at_ms=draft.available_at_ms,
            enqueued_at_ms=enqueued_at_ms,
            items=items_of(batch_id, draft.payloads),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWorkClaim:
    """Batches taken to be worked on, in the order of the queue.

    `fencing_token` is one more than the claims that the first of them has seen before. The claim
    lives as long as the lease that backed it; `expires_at_epoch_ms` frees nothing, it says
    until when its owner has promised to renew.
    """

    session_id: str
    claim_id: str
    owner: LeaseOwnerIdentity
    lease_token: str
    fencing_token: int
    claimed_at_epoch_ms: int
    expires_at_epoch_ms: int
    batches: tuple[QueuedWorkBatch, ...]

    def completion(self) -> QueuedWorkCompletion:
        return QueuedWorkCompletion(
            session_id=self.session_id,
            claim_id=self.claim_id,
            lease_token=self.lease_token,
            batch_ids=tuple(batch.batch_id for batch in self.batches),
        )

    def materialize_for_turn(self) -> tuple[TurnCause, ...]:
        """What a turn, or a checkpoint of one, tells the model of the claim: a cause for each
        wake, in the order of the queue. Commands are applied and never told."""
        wakes = (
            item.payload.wake
            for batch in self.batches
            for item in batch.items
            if isinstance(item.payload, ProcessWakePayload)
        )
        return tuple(wake_cause(wake.origin(), wake.wake_id, wake.input) for wake in wakes)

    def exclusive_session_command(self) -> SessionCommand | None:
        """The command, if the claim is for exactly one and nothing else."""
        match self.batches:
            case (
                QueuedWorkBatch(
                    slot_policy=SlotPolicy.EXCLUSIVE,
                    items=(QueuedWorkItem(payload=SessionCommandPayload(command=command)),),
                ),
            ):
                return command
            case _:
                return None


def items_of(batch_id: str, payloads: Iterable[QueuedWorkPayload]) -> tuple[QueuedWorkItem, ...]:
    return tuple(
        QueuedWorkItem(item_id=f"{batch_id}:item:{index}", payload=payload)
        for index, payload in enumerate(payloads)
    )


def _common_class(payloads: Iterable[QueuedWorkPayload]) -> QueuedWorkClass | None:
    classes = {payload.work_class for payload in payloads}
    return classes.pop() if len(classes) == 1 else None
