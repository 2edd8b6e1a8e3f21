"""User input that waits for a session: for the turn that runs, or for the next one."""

from typing import Annotated, Literal

from pydantic import Field

from ..kernel.queue_rules import TurnInputCheckpointBoundary as TurnInputCheckpointBoundary
from ..kernel.queue_rules import TurnInputState as TurnInputState
from ..kernel.waiting_inputs import join_inputs
from ..model._value import Value
from ..model.canonical import canonical_json
from ..model.checkpoints import CheckpointKind
from ..model.records import dataclass
from ..model.turn_input import TurnInput
from .claims import TurnInputCompletion
from .leases import LeaseOwnerIdentity


class ActiveTurnIngress(Value):
    scope: Literal["active_turn"] = "active_turn"
    turn_id: str
    min_boundary: TurnInputCheckpointBoundary = TurnInputCheckpointBoundary.AFTER_WORK


class NextTurnIngress(Value):
    scope: Literal["next_turn"] = "next_turn"


TurnInputIngress = Annotated[ActiveTurnIngress | NextTurnIngress, Field(discriminator="scope")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTurnInputDraft:
    """Input to enqueue. The same `source_key` with the same content is the same input."""

    session_id: str
    ingress: TurnInputIngress
    input: TurnInput
    input_id: str | None = None
    source_key: str | None = None

    @property
    def first_state(self) -> TurnInputState:
        if isinstance(self.ingress, ActiveTurnIngress):
            return TurnInputState.PENDING_ACTIVE
        return TurnInputState.DEFERRED_NEXT_TURN

    def repeats(self, submitted_ingress: TurnInputIngress, submitted_input: TurnInput) -> bool:
        """Whether the same was submitted before, compared as JSON."""
        return (canonical_json(self.ingress), canonical_json(self.input)) == (
            canonical_json(submitted_ingress),
            canonical_json(submitted_input),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTurnInput:
    """A stored input. `enqueue_seq` rises with each input that a store takes; none repeats.

    `ingress` is where it goes now: deferral turns it to the next turn.
    """

    input_id: str
    session_id: str
    enqueue_seq: int
    source_key: str | None
    ingress: TurnInputIngress
    state: TurnInputState
    enqueued_at_ms: int
    input: TurnInput


class InputIdTarget(Value):
    kind: Literal["input_id"] = "input_id"
    value: str


class SourceKeyTarget(Value):
    kind: Literal["source_key"] = "source_key"
    value: str


PendingTurnInputCancelTarget = Annotated[
    InputIdTarget | SourceKeyTarget, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInputClaimDiagnostics:
    """Who has an input that could not be cancelled, and until when."""

    state: TurnInputState
    claim_fencing_token: int
    claim_id: str | None = None
    claim_owner: LeaseOwnerIdentity | None = None
    claim_expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class InputCancelled:
    input: PendingTurnInput


@dataclass(frozen=True, slots=True)
class InputAlreadyClaimed:
    """A turn has it. `claim` says whose it is, if its row still names a claim."""

    input: PendingTurnInput
    claim: TurnInputClaimDiagnostics | None = None


@dataclass(frozen=True, slots=True)
class InputAlreadyCompleted:
    input: PendingTurnInput


@dataclass(frozen=True, slots=True)
class InputAlreadyCancelled:
    input: PendingTurnInput


@dataclass(frozen=True, slots=True)
class InputNotFound:
    """No such input in this session."""


PendingTurnInputCancelOutcome = (
    InputCancelled
    | InputAlreadyClaimed
    | InputAlreadyCompleted
    | InputAlreadyCancelled
    | InputNotFound
)


@dataclass(frozen=True, slots=True)
class PendingTurnInputCancelResult:
    target: PendingTurnInputCancelTarget
    outcome: PendingTurnInputCancelOutcome


@dataclass(frozen=True, slots=True)
class SuffixAnchorNotFound:
    anchor: PendingTurnInputCancelTarget


@dataclass(frozen=True, slots=True)
class SuffixCancelled:
    anchor: PendingTurnInputCancelTarget
    outcomes: tuple[PendingTurnInputCancelOutcome, ...]


PendingTurnInputSuffixCancelOutcome = SuffixAnchorNotFound | SuffixCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveTurnClaim:
    turn_id: str
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True)
class NextTurnClaim:
    """Inputs taken for the turn that is about to start."""


TurnInputClaimMode = ActiveTurnClaim | NextTurnClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInputClaim:
    """Inputs taken for a turn, in the order in which they were enqueued.

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
    mode: TurnInputClaimMode
    inputs: tuple[PendingTurnInput, ...]

    def completion(self) -> TurnInputCompletion:
        return TurnInputCompletion(
            session_id=self.session_id,
            claim_id=self.claim_id,
            lease_token=self.lease_token,
            input_ids=tuple(item.input_id for item in self.inputs),
        )

    def materialize_for_turn(self) -> TurnInput:
        """All of them as the input of one turn."""
        return join_inputs(item.input for item in self.inputs)
