"""The row of a turn: accepted before any model is called, settled with the turn's commit."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ..kernel.turn_states import TurnState as TurnState
from ..model._value import Value, omitted_when_empty, omitted_when_none
from ..model.cancelling import CancelRequest, CancelVerdict
from ..model.outcome import ExecutionSummary, StopReason, TurnIssue, TurnOutcome, stopped
from ..model.policy import ModelSpec, SessionPolicy
from ..model.prompt import PromptLayer
from ..model.records import dataclass
from ..model.turn_input import TurnInput
from ..model.usage import TokenUsage
from .invocations import RuntimeEffectKind
from .leases import LeaseOwnerIdentity, SessionExecutionLease, SessionExecutionLeaseFence
from .session_state import HeadStamp
from .store_errors import TurnContentConflict


class StoredTurnOptions(Value):
    """What a turn was asked to run with, as far as it differs from its session.

    `starts_over` says that the turn was the first of a new history, which replaced the session's
    when it was accepted. It is no part of what a repeated turn id is compared by.
    """

    provider_id: str | None = omitted_when_none()
    model: ModelSpec | None = omitted_when_none()
    prompt: PromptLayer | None = omitted_when_none()
    max_turns: int | None = omitted_when_none()
    plugin_inputs: Mapping[str, Any] = omitted_when_empty({})
    starts_over: bool = omitted_when_empty(False)


class RequiredWiring(Value):
    """What a core must have to run this turn."""

    protocol: str
    provider_id: str = ""
    tool_names: tuple[str, ...] = omitted_when_empty(())
    plugin_ids: tuple[str, ...] = omitted_when_empty(())


class TurnFailure(Value):
    """Why a turn was settled as failed; attaching to it raises the same error."""

    code: str
    message: str


class SettledCall(Value):
    """How one tool call of a settled turn ended; its words are in the transcript."""

    call_id: str
    status: str
    duration_ms: int = omitted_when_empty(0)


class EffectSummary(Value):
    """What is left of a journal's entry when its turn is over: what was done, with what, and how
    often it was begun.

    `key` is the effect's replay key without the part that all effects of its turn have in common.
    `recorded` is false for an effect of which nobody knows whether it has happened.
    """

    kind: RuntimeEffectKind
    subject: str
    key: str
    runs: int = Field(default=1, exclude_if=lambda runs: runs == 1)
    recorded: bool = Field(default=True, exclude_if=bool)


class TurnResultRecord(Value):
    """A settled turn's result, with references instead of text.

    `outcome` has an empty text when the answer is the text of the message
    `assistant_message_id`. `message_ids` are the messages the turn added, in order. A turn that
    was cancelled by a request has that request, and as its message the answer that it had by then.
    """

    outcome: TurnOutcome
    assistant_message_id: str | None = omitted_when_none()
    message_ids: tuple[str, ...] = omitted_when_empty(())
    usage: TokenUsage = TokenUsage.defaults()
    issues: tuple[TurnIssue, ...] = omitted_when_empty(())
    calls: tuple[SettledCall, ...] = omitted_when_empty(())
    execution: ExecutionSummary = ExecutionSummary.defaults()
    cancellation: CancelRequest | None = omitted_when_none()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """One turn of a session. `input` and `policy` are gone once it is settled; the hash stays.

    `policy` is what the session ran with when the turn was accepted. `journaled` says that what
    the turn does is on record until it is over, so that another process can finish it; `attempt`
    counts the processes that have begun to, from 1, and `deaths` those that died since anything new
    was put on record. `cancel_request` is the first that came before the turn was settled; a row
    that has one is never settled as completed.
    """

    session_id: str
    generation: int
    turn_id: str
    seq: int
    state: TurnState
    content_hash: str
    turn_index: int
    base_revision: int | None
    options: StoredTurnOptions
    required_wiring: RequiredWiring
    members: tuple[str, ...]
    input: TurnInput | None
    fencing_token: int
    accepted_at_ms: int
    policy: SessionPolicy | None = None
    journaled: bool = False
    attempt: int = 1
    deaths: int = 0
    settled_at_ms: int | None = None
    result: TurnResultRecord | None = None
    failure: TurnFailure | None = None
    effects: tuple[EffectSummary, ...] = ()
    cancel_request: CancelRequest | None = None

    @property
    def outcome(self) -> TurnOutcome | None:
        return None if self.result is None else self.result.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUnfinishedTurn:
    """A turn of any session that is not settled, as whoever may finish it looks for it.

    `lease` is the one that is on its lane, which may have lapsed; `None` for a free lane.
    """

    session_id: str
    seq: int
    turn_id: str
    state: TurnState
    journaled: bool
    attempt: int
    accepted_at_ms: int
    required_wiring: RequiredWiring
    lease: SessionExecutionLease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAcceptance:
    """A turn that asks for its lane.

    `content_hash` covers the input and the options. `observed_holder` is a busy holder that
    the caller believes dead: the store takes the lane over only if that very lease still holds
    it and its death is proven. `replace_session` empties the session in the same transaction:
    inputs that wait are cancelled and queued work is removed, too.
    """

    session_id: str
    turn_id: str
    input: TurnInput
    options: StoredTurnOptions
    required_wiring: RequiredWiring
    content_hash: str
    owner: LeaseOwnerIdentity
    lease_ttl_ms: int
    policy: SessionPolicy | None = None
    journaled: bool = False
    observed_holder: SessionExecutionLeaseFence | None = None
    replace_session: bool = False

    def known_as(self, row: TurnRow) -> "TurnKnown":
        """The answer where `row` has this turn's id.

        Raises `TurnContentConflict` where it has other content.
        """
        if row.content_hash != self.content_hash:
            raise TurnContentConflict(session_id=self.session_id, turn_id=self.turn_id)
        return TurnKnown(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAccepted:
    """The row is durable, started, and the caller holds the lane.

    `head` says what the store's head was at that instant (`None` without one), so that a
    current state in memory need not be read again. `command_leads` says that a session command
    waits that must be applied before this turn runs.
    """

    lease: SessionExecutionLease
    row: TurnRow
    head: HeadStamp | None
    command_leads: bool = False


@dataclass(frozen=True, slots=True)
class TurnRefused:
    """Another owner holds the lane; nothing was written."""

    holder: SessionExecutionLease


@dataclass(frozen=True, slots=True)
class TurnKnown:
    """The same turn with the same content was accepted before; nothing was written."""

    row: TurnRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneUnfinished:
    """The caller now holds the lane, and turns that an earlier holder started are unfinished.

    Nothing was accepted. Close `rows` under `lease`, then ask again.
    """

    lease: SessionExecutionLease
    rows: tuple[TurnRow, ...]
    head: HeadStamp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """The row is durable, under a lease that its starter held before. `head` is the store's head
    at that instant, `None` without one."""

    row: TurnRow
    head: HeadStamp | None


TurnAcceptanceOutcome = TurnAccepted | TurnRefused | TurnKnown | LaneUnfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettlement:
    """How a row ends: `committed` and `interrupted` with a result, `failed` with a failure.

    `effects` are what the row keeps of the turn's journal, whose entries go with it.
    """

    turn_id: str
    state: TurnState
    result: TurnResultRecord | None = None
    failure: TurnFailure | None = None
    effects: tuple[EffectSummary, ...] = ()

    @property
    def outcome(self) -> TurnOutcome | None:
        return None if self.result is None else self.result.outcome


@dataclass(frozen=True, slots=True)
class TurnCancelAnswer:
    """What a request to cancel has come to, and the request that the row keeps: the first."""

    verdict: CancelVerdict
    request: CancelRequest | None = None


def cancelled_before_start(request: CancelRequest) -> TurnResultRecord:
    """The result of a row that was cancelled before anything of its turn ran."""
    return TurnResultRecord(outcome=stopped(StopReason.CANCELLED), cancellation=request)
