"""What is on record of the attempts at one call: times, ends, what was decided, what was spent."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from lash_runtime.model.llm import (
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    UsageDelta,
)
from lash_runtime.model.llm_attempts import (
    AttemptOutcome,
    AttemptRecord,
    ExecutionEvidence,
    ProtocolPosition,
    RetryReason,
)
from lash_runtime.ports.provider import AfterOutput, ProviderFailure
from lash_runtime.providers import ProviderHandle
from lash_runtime.testing import (
    Call,
    GatedProvider,
    RecordingClock,
    TestProvider,
    stream_text,
    text_response,
    usage,
)
from providers.calls import a_handle, a_request, refused, throttled, unavailable

pytestmark = pytest.mark.anyio


def noted(records: list[AttemptRecord], **changes: Any) -> LlmRequest:
    return a_request(attempt_ended=records.append, **changes)


async def test_an_answer_at_once_is_one_attempt() -> None:
    """With its start, its usage and what the endpoint said of itself."""
    records: list[AttemptRecord] = []
    evidence = ExecutionEvidence(served_model="m-2026", provider_response_id="resp-1")
    answer = replace(text_response("x", usage=usage(3, 2)), evidence=evidence)
    clock = RecordingClock()
    handle, _ = a_handle([answer], clock)

    await handle.complete(noted(records))

    (record,) = records
    assert record.ordinal == 1
    assert record.started_at_ms == clock.timestamp_ms()
    assert record.duration_ms == 0
    assert record.outcome is AttemptOutcome.COMPLETED
    assert record.protocol_position is ProtocolPosition.TERMINAL_OBSERVED
    assert record.retry_budget_consumed
    assert record.usage == usage(3, 2)
    assert record.evidence == evidence
    assert record.error is None
    assert record.retry_decision is None


async def test_every_attempt_of_a_ladder_is_on_record() -> None:
    """A bill is explained by the attempts, not by the answer alone."""
    records: list[AttemptRecord] = []
    clock = RecordingClock()
    handle, _ = a_handle(
        [unavailable(), throttled("5"), text_response("x")], clock, base_delay_ms=2000
    )

    await handle.complete(noted(records))

    assert [record.ordinal for record in records] == [1, 2, 3]
    assert [record.outcome.value for record in records] == ["failed", "failed", "completed"]
    assert [record.retry_budget_consumed for record in records] == [True, False, True]
    first, second, _ = records
    assert first.error is not None
    assert (first.error.kind, first.error.http_status) == (ProviderFailureKind.HTTP, 503)
    assert first.retry_decision is not None
    assert (first.retry_decision.scheduled, first.retry_decision.delay_ms) == (True, 2000)
    assert first.retry_decision.reason is RetryReason.RETRYABLE
    assert second.error is not None
    assert second.error.retry_after_ms == 5000
    assert second.retry_decision is not None
    assert second.retry_decision.reason is RetryReason.THROTTLED
    assert second.retry_decision.delay_ms == 5000


@pytest.mark.parametrize(
    ("failure", "policy", "reason"),
    [
        (refused(), {}, RetryReason.NOT_RETRYABLE),
        (unavailable(), {"max_attempts": 1}, RetryReason.ATTEMPTS_EXHAUSTED),
        (unavailable(), {"enabled": False}, RetryReason.ATTEMPTS_EXHAUSTED),
    ],
)
async def test_a_final_failure_says_why_it_is_final(
    failure: ProviderFailure, policy: dict[str, Any], reason: RetryReason
) -> None:
    """An operator asks first why nothing was retried."""
    records: list[AttemptRecord] = []
    handle, _ = a_handle([failure], RecordingClock(), **policy)

    with pytest.raises(ProviderFailure):
        await handle.complete(noted(records))

    (record,) = records
    assert record.retry_decision is not None
    assert record.retry_decision.scheduled is False
    assert record.retry_decision.delay_ms is None
    assert record.retry_decision.reason is reason


async def test_output_that_forbids_a_retry_is_named() -> None:
    """The host chose not to pay twice, and finds that choice in the record."""
    records: list[AttemptRecord] = []
    handle, _ = a_handle(
        [Call(result=unavailable(), stream=stream_text("Hel"))],
        RecordingClock(),
        after_output=AfterOutput.DENY,
    )

    with pytest.raises(ProviderFailure):
        await handle.complete(noted(records, stream_events=lambda event: None))

    (record,) = records
    assert record.protocol_position is ProtocolPosition.OUTPUT_STARTED
    assert record.retry_decision is not None
    assert record.retry_decision.reason is RetryReason.OUTPUT_OBSERVED


@pytest.mark.parametrize(
    ("call", "position"),
    [
        (Call(result=ProviderFailure("gone", retryable=False)), "no_response"),
        (Call(result=refused()), "response_observed"),
        (
            Call(result=ProviderFailure("gone", retryable=False), stream=[UsageDelta(usage(1, 0))]),
            "response_observed",
        ),
        (
            Call(result=ProviderFailure("gone", retryable=False), stream=stream_text("Hel")),
            "output_started",
        ),
        (
            Call(
                result=ProviderFailure(
                    "gone", retryable=False, partial=LlmResponse(full_text="Hel")
                )
            ),
            "output_started",
        ),
        (
            Call(
                result=ProviderFailure(
                    "gone",
                    retryable=False,
                    partial=LlmResponse(
                        full_text="Hello",
                        evidence=ExecutionEvidence(provider_finish_reason="stop"),
                    ),
                )
            ),
            "terminal_observed",
        ),
    ],
)
async def test_how_far_an_attempt_got_is_what_was_seen_of_it(call: Call, position: str) -> None:
    """Whether something may have been billed depends on it."""
    records: list[AttemptRecord] = []
    handle, _ = a_handle([call], RecordingClock())

    with pytest.raises(ProviderFailure):
        await handle.complete(noted(records, stream_events=lambda event: None))

    assert [record.protocol_position.value for record in records] == [position]


async def test_tokens_of_a_failed_attempt_are_counted() -> None:
    """They were streamed, and so they were paid for; unknown is not the same as none."""
    records: list[AttemptRecord] = []
    spent = Call(result=unavailable(), stream=[*stream_text("Hel"), UsageDelta(usage(7, 1))])
    handle, _ = a_handle([spent, unavailable(), text_response("x")], RecordingClock())

    await handle.complete(noted(records, stream_events=lambda event: None))

    assert [record.usage for record in records] == [usage(7, 1), None, None]


async def test_time_counts_from_the_permit_to_the_end_of_the_attempt() -> None:
    """Neither the wait for a permit nor that for the next attempt is the endpoint's doing."""
    records: list[AttemptRecord] = []
    clock = RecordingClock()
    begin = clock.timestamp_ms()
    handle, _ = a_handle(
        [Call(result=unavailable(), delay_s=0), text_response("x")], clock, base_delay_ms=2000
    )

    await handle.complete(noted(records))

    assert [record.duration_ms for record in records] == [0, 0]
    assert [record.started_at_ms - begin for record in records] == [0, 2000]


async def test_a_diagnostic_is_short_and_holds_no_key() -> None:
    """Records are kept for years; an endpoint that echoes the request must not put a key there."""
    records: list[AttemptRecord] = []
    failure = ProviderFailure(
        "bad key sk-abcdefghijklmnop " + "x" * 2000,
        status=401,
        headers=[("X-Request-Id", "req-9")],
    )
    handle, _ = a_handle([failure], RecordingClock())

    with pytest.raises(ProviderFailure):
        await handle.complete(noted(records))

    error = records[0].error
    assert error is not None
    assert error.diagnostic is not None
    assert "sk-abc" not in error.diagnostic
    assert len(error.diagnostic) <= 512
    assert error.provider_request_id == "req-9"
    assert error.provider_code == "401"


@pytest.mark.parametrize("answer", [RuntimeError("bug"), None])
async def test_what_an_adapter_gets_wrong_is_a_failed_attempt(answer: Any) -> None:
    """Not a completed one with nothing in it."""
    records: list[AttemptRecord] = []

    def broken(request: LlmRequest) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    handle = TestProvider(broken).into_handle(clock=RecordingClock())
    if answer is None:
        assert await handle.complete(noted(records)) is None
    else:
        with pytest.raises(ProviderFailure):
            await handle.complete(noted(records))

    (record,) = records
    assert record.outcome is AttemptOutcome.FAILED
    assert record.error is not None
    assert record.error.provider_code in ("provider_panicked", "provider_returned_no_response")


async def test_a_cancelled_attempt_is_on_record_as_interrupted() -> None:
    """Its request was sent; what it cost is unknown, which is not nothing."""
    records: list[AttemptRecord] = []
    provider = GatedProvider()
    handle = ProviderHandle.of(provider)
    async with anyio.create_task_group() as group:
        group.start_soon(handle.complete, noted(records))
        await provider.entered.wait()
        group.cancel_scope.cancel()

    (record,) = records
    assert record.outcome is AttemptOutcome.INTERRUPTED
    assert record.error is None
    assert provider.cancelled == 1


async def test_a_call_cancelled_between_attempts_has_no_second_one() -> None:
    """Waiting is not an attempt."""
    records: list[AttemptRecord] = []
    handle, provider = a_handle([unavailable()], RecordingClock(), base_delay_ms=1000)

    class Stuck(RecordingClock):
        async def sleep(self, seconds: float) -> None:
            await anyio.sleep_forever()

    stuck = handle.with_clock(Stuck())
    with anyio.move_on_after(0.05):
        await stuck.complete(noted(records))

    assert [record.outcome for record in records] == [AttemptOutcome.FAILED]
    assert provider.calls == 1


async def test_a_handle_behind_a_provider_reports_to_nobody_else() -> None:
    """A router counts as one attempt at the outside, however often it asks within."""
    outer: list[AttemptRecord] = []
    inner, _ = a_handle([unavailable(), text_response("x")], RecordingClock())
    router = TestProvider(inner.complete).into_handle()

    await router.complete(noted(outer))

    assert [record.outcome for record in outer] == [AttemptOutcome.COMPLETED]


def test_a_request_is_the_same_with_and_without_someone_who_counts() -> None:
    """The callback is live: it is no part of what was asked."""
    assert noted([]) == a_request()
    assert "attempt_ended" not in repr(noted([]))
    assert LlmTerminalReason.UNKNOWN is LlmResponse().terminal_reason
    assert LlmResponse().evidence is None
