"""One attempt at a call: its request, watched for what is streamed, and the record of its end.

Whoever asked for records gets one for each attempt that was begun, whichever way it ended. For a
request without anyone to tell, nothing is timed and nothing is made.
"""

from typing import Final

from ..model.llm import (
    AttemptReset,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    RetryStatus,
    UsageDelta,
)
from ..model.llm_attempts import (
    AttemptError,
    AttemptOutcome,
    AttemptRecord,
    ProtocolPosition,
    RetryDecision,
)
from ..model.records import replace
from ..model.usage import LlmUsage
from ..ports.clock import Clock
from ..ports.provider import ProviderFailure
from .ladder import LONGEST_WAIT_S, GiveUp, Retry
from .redaction import redacted

DIAGNOSTIC_CHARS: Final = 512

REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id")


class Attempt:
    """One call of a provider, as those who asked for it are told of it."""

    __slots__ = (
        "_asked",
        "_clock",
        "_needs_stream",
        "_open",
        "_ordinal",
        "_started",
        "_started_at_ms",
        "_streamed_usage",
        "output_seen",
        "position",
    )

    def __init__(
        self, asked: LlmRequest, *, ordinal: int, needs_stream: bool, clock: Clock
    ) -> None:
        self.output_seen = False
        """Whether any event was sent, of whatever kind."""
        self.position = ProtocolPosition.NO_RESPONSE
        self._asked = asked
        self._ordinal = ordinal
        self._clock = clock
        self._open = False
        self._started = 0.0
        self._started_at_ms = 0
        self._streamed_usage: LlmUsage | None = None
        self._needs_stream = needs_stream

    def request(self) -> LlmRequest:
        """What the provider is given; its events pass through here.

        Not kept: it leads back here, and what leads to itself waits for the collector.
        """
        asked = self._asked
        streams = asked.stream_events is not None or self._needs_stream
        if not streams and asked.attempt_ended is None:
            return asked
        # A handle further in keeps its own count: here this is one attempt.
        return replace(asked, stream_events=self._forward if streams else None, attempt_ended=None)

    def begin(self) -> None:
        """The permit is there; time counts from now."""
        if self._asked.attempt_ended is not None:
            self._open = True
            self._started = self._clock.now()
            self._started_at_ms = self._clock.timestamp_ms()

    def completed(self, answer: object) -> None:
        if not self._open:
            return
        if not isinstance(answer, LlmResponse):  # an adapter that is not typed
            self._end(
                AttemptOutcome.FAILED,
                error=AttemptError(
                    kind=ProviderFailureKind.UNKNOWN, provider_code="provider_returned_no_response"
                ),
            )
            return
        self.position = ProtocolPosition.TERMINAL_OBSERVED
        self._end(AttemptOutcome.COMPLETED, answer=answer)

    def failed(self, failure: ProviderFailure, decision: Retry | GiveUp) -> None:
        if not self._open:
            return
        self.position = _position(failure, self.position)
        self._end(
            AttemptOutcome.FAILED,
            answer=failure.partial,
            error=_error_of(failure),
            decision=RetryDecision(
                scheduled=isinstance(decision, Retry),
                reason=decision.reason,
                delay_ms=round(decision.delay_s * 1000) if isinstance(decision, Retry) else None,
            ),
            counted=not isinstance(decision, Retry) or decision.counted,
        )

    def left(self) -> None:
        """The attempt is over, one way or another; it was interrupted unless it ended before."""
        if self._open:
            self._end(AttemptOutcome.INTERRUPTED)

    def announce(self, retry: Retry, failure: ProviderFailure) -> None:
        """Tell readers of the stream that there will be another attempt."""
        callback = self._asked.stream_events
        if callback is None:
            return
        if self.output_seen:
            callback(AttemptReset())
        callback(
            RetryStatus(
                wait_seconds=int(retry.delay_s),
                attempt=retry.attempt,
                max_attempts=retry.max_attempts,
                reason=failure.message,
            )
        )

    def _forward(self, event: LlmStreamEvent) -> None:
        self.output_seen = True
        if self.position is not ProtocolPosition.OUTPUT_STARTED or isinstance(event, UsageDelta):
            self._note(event)
        callback = self._asked.stream_events
        if callback is not None:
            callback(event)

    def _note(self, event: LlmStreamEvent) -> None:
        if isinstance(event, UsageDelta):
            self._streamed_usage = event.usage
            if self.position is ProtocolPosition.NO_RESPONSE:
                self.position = ProtocolPosition.RESPONSE_OBSERVED
        elif not isinstance(event, RetryStatus | AttemptReset):
            self.position = ProtocolPosition.OUTPUT_STARTED

    def _end(
        self,
        outcome: AttemptOutcome,
        *,
        answer: LlmResponse | None = None,
        error: AttemptError | None = None,
        decision: RetryDecision | None = None,
        counted: bool = True,
    ) -> None:
        self._open = False
        tell = self._asked.attempt_ended
        if tell is None:
            return
        usage = self._streamed_usage
        if answer is not None and not answer.usage.is_zero():
            usage = answer.usage
        tell(
            AttemptRecord(
                ordinal=self._ordinal,
                started_at_ms=self._started_at_ms,
                duration_ms=round((self._clock.now() - self._started) * 1000),
                outcome=outcome,
                protocol_position=self.position,
                retry_budget_consumed=counted,
                retry_decision=decision,
                error=error,
                evidence=None if answer is None else answer.evidence,
                usage=usage,
            )
        )


def _position(failure: ProviderFailure, seen: ProtocolPosition) -> ProtocolPosition:
    """How far the attempt got, by the events that were seen and by what the failure says."""
    partial = failure.partial
    if partial is not None:
        evidence = partial.evidence
        if evidence is not None and evidence.provider_finish_reason:
            return ProtocolPosition.TERMINAL_OBSERVED
        if partial.full_text or partial.parts:
            return ProtocolPosition.OUTPUT_STARTED
    if seen is ProtocolPosition.NO_RESPONSE and failure.status is not None:
        return ProtocolPosition.RESPONSE_OBSERVED
    return seen


def _error_of(failure: ProviderFailure) -> AttemptError:
    headers = {name.lower(): value for name, value in failure.headers}
    request_id = next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None)
    after = failure.retry_after
    return AttemptError(
        kind=failure.kind,
        provider_code=failure.code,
        http_status=failure.status,
        provider_request_id=request_id,
        retry_after_ms=None if after is None else round(min(after, LONGEST_WAIT_S) * 1000),
        diagnostic=redacted(failure.message)[:DIAGNOSTIC_CHARS] or None,
    )
