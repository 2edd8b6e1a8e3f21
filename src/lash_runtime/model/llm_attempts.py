"""The attempts at a model call, as they are kept on record beside what came of it.

A record says what was seen and what was decided, and nothing that was only asked for: a fact that
nobody observed is `None`, which is not the same as zero.
"""

from enum import StrEnum

from .failure_kinds import ProviderFailureKind
from .records import dataclass
from .usage import LlmUsage


class AttemptOutcome(StrEnum):
    """How an attempt ended: by itself, or because its turn was cancelled (`aborted`), or because
    whatever ran it was (`interrupted`)."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"


class ProtocolPosition(StrEnum):
    """How far an attempt got, by what was seen of it."""

    NO_RESPONSE = "no_response"
    RESPONSE_OBSERVED = "response_observed"
    OUTPUT_STARTED = "output_started"
    TERMINAL_OBSERVED = "terminal_observed"


class RetryReason(StrEnum):
    """Why a failed attempt was repeated (the first two) or was the last one."""

    THROTTLED = "throttled"
    RETRYABLE = "retryable"
    NOT_RETRYABLE = "not_retryable"
    OUTPUT_OBSERVED = "output_observed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """What was decided after a failed attempt; `delay_ms` only if another one was scheduled."""

    scheduled: bool
    reason: RetryReason
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """Why an attempt failed, as the classifier judged it. `diagnostic` is the failure's message
    without secrets, 512 characters at most."""

    kind: ProviderFailureKind
    provider_code: str | None = None
    http_status: int | None = None
    provider_request_id: str | None = None
    retry_after_ms: int | None = None
    diagnostic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEvidence:
    """What an endpoint said of its own work, and nothing that it was merely asked for.

    Anything it did not say is `None`: no reasoning tokens (0) is something it did say.
    """

    served_model: str | None = None
    provider_response_id: str | None = None
    provider_request_id: str | None = None
    reasoning_output_tokens: int | None = None
    provider_finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. `ordinal` counts from 1; `started_at_ms` is since the Unix epoch and, like
    `duration_ms`, leaves out the wait for a permit.

    `retry_budget_consumed` is false for an attempt that a throttled endpoint had repeated without
    counting it. `usage` is what the endpoint reported, also of an attempt that failed.
    """

    ordinal: int
    started_at_ms: int
    duration_ms: int
    outcome: AttemptOutcome
    protocol_position: ProtocolPosition
    retry_budget_consumed: bool = True
    retry_decision: RetryDecision | None = None
    error: AttemptError | None = None
    evidence: ExecutionEvidence | None = None
    usage: LlmUsage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCallRecord:
    """One model call and every attempt at it; none for a call that was refused before it was made.

    `call_id` is the replay key of its effect. `provider_id` and `model` are what was asked; what
    answered is in the evidence of the attempts. `label` is what the call was for.
    """

    call_id: str
    provider_id: str
    model: str
    label: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
