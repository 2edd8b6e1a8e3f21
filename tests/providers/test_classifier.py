"""What a failed attempt is taken to mean."""

from typing import Any

import pytest

from lash_runtime.model.llm import LlmTerminalReason, ProviderFailureKind
from lash_runtime.ports.provider import ProviderFailure
from lash_runtime.providers import DefaultProviderFailureClassifier


def judged(message: str = "failed", **facts: Any) -> ProviderFailure:
    return DefaultProviderFailureClassifier().classify(ProviderFailure(message, **facts))


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ProviderFailureKind.VALIDATION, False),
        (401, ProviderFailureKind.AUTH, False),
        (403, ProviderFailureKind.AUTH, False),
        (404, ProviderFailureKind.HTTP, False),
        (408, ProviderFailureKind.HTTP, True),
        (425, ProviderFailureKind.HTTP, True),
        (429, ProviderFailureKind.QUOTA, True),
        (504, ProviderFailureKind.HTTP, True),
        (521, ProviderFailureKind.HTTP, True),
        (529, ProviderFailureKind.HTTP, True),
    ],
)
def test_a_status_speaks_first(status: int, kind: ProviderFailureKind, retryable: bool) -> None:
    """The same whether it comes as a status or only as a code."""
    for failure in (judged(status=status), judged(code=str(status))):
        assert (failure.kind, failure.retryable) == (kind, retryable)


@pytest.mark.parametrize("kind", [ProviderFailureKind.TRANSPORT, ProviderFailureKind.TIMEOUT])
def test_a_broken_line_may_be_tried_again(kind: ProviderFailureKind) -> None:
    """Without a status the kind decides."""
    assert judged(kind=kind).retryable
    assert not judged(kind=ProviderFailureKind.STREAM).retryable


def test_an_explicit_verdict_stays() -> None:
    """The adapter knows its endpoint better than a table does."""
    assert not judged(status=503, retryable=False).retryable
    assert judged(status=400, retryable=True).retryable


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (9) exceeds the maximum number of tokens allowed",
        "request (5000 tokens) exceeds the available context size (4096 tokens)",
    ],
)
def test_overflow_is_recognised_by_its_words(text: str) -> None:
    """Vendors have no common code for it."""
    failure = judged("failed", status=400, raw=text)
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)


def test_too_many_tokens_a_minute_is_no_overflow() -> None:
    """It passes with time, and a shorter prompt would not help."""
    failure = judged(status=429, raw="Rate limit: too many tokens per minute")
    assert failure.terminal_reason is LlmTerminalReason.PROVIDER_ERROR
    assert failure.retryable


@pytest.mark.parametrize(
    "text",
    [
        "insufficient_quota",
        "Your credit balance is too low to access the API",
        "You exceeded your current quota, please check your plan",
    ],
)
def test_an_exhausted_account_is_final(text: str) -> None:
    """However retryable the status is."""
    failure = judged(status=429, raw=text)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.QUOTA, False)


def test_a_quota_for_each_minute_is_ordinary_throttling() -> None:
    """One vendor words it as a quota that is exceeded."""
    failure = judged(
        status=429,
        raw="You exceeded your current quota. Quota exceeded for metric: x. Please retry in 7s.",
    )
    assert failure.retryable


def test_filters_and_unknown_models_are_told_apart() -> None:
    """Both end the call, for reasons of their own."""
    assert judged(raw="content_filter").terminal_reason is LlmTerminalReason.CONTENT_FILTER
    unknown = judged(status=404, raw="The model `x` does not exist")
    assert (unknown.kind, unknown.retryable) == (ProviderFailureKind.UNSUPPORTED, False)


@pytest.mark.parametrize(
    "verdict",
    [
        {"kind": ProviderFailureKind.STREAM},
        {"code": "server_error"},
        {"retryable": True},
        {"terminal_reason": LlmTerminalReason.OUTPUT_LIMIT},
    ],
)
def test_an_echoed_prompt_cannot_overrule_a_structured_verdict(verdict: dict[str, Any]) -> None:
    """The user wrote "safety" and "context length"; the endpoint only quotes it."""
    failure = judged(raw="you said: safety, context length, insufficient_quota", **verdict)
    for name, value in verdict.items():
        assert getattr(failure, name) == value
    assert failure.terminal_reason not in (
        LlmTerminalReason.CONTEXT_OVERFLOW,
        LlmTerminalReason.CONTENT_FILTER,
    )


def test_only_the_beginning_of_a_body_is_read() -> None:
    """Megabytes of echoed prompt are not evidence."""
    failure = judged(status=400, raw="x" * 20_000 + "context_length_exceeded")
    assert failure.terminal_reason is LlmTerminalReason.PROVIDER_ERROR


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("Retry-After", "7")], 7),
        ([("retry-after", "7"), ("Retry-After", "9")], 7),
        ([("Retry-After", "7"), ("Retry-After-Ms", "250")], 0.25),
        (
            [
                ("Date", "Wed, 01 Jan 2025 00:00:00 GMT"),
                ("Retry-After", "Wed, 01 Jan 2025 00:00:30 GMT"),
            ],
            30,
        ),
        (
            [
                ("Date", "Wed, 01 Jan 2025 00:01:00 GMT"),
                ("Retry-After", "Wed, 01 Jan 2025 00:00:30 GMT"),
            ],
            0,
        ),
        ([("Retry-After", "-1")], None),
        ([("Retry-After", "soon")], None),
        ([("Retry-After", "nan")], None),
        ([], None),
    ],
)
def test_the_stated_wait_is_read_from_headers(
    headers: list[tuple[str, str]], seconds: float | None
) -> None:
    """Seconds, milliseconds or a date; whatever else is no statement."""
    assert ProviderFailure("x", headers=headers).retry_after == seconds


def test_a_failure_shows_its_message_and_nothing_that_was_sent() -> None:
    """It ends up in logs."""
    failure = ProviderFailure(
        "failed", raw="SECRET", headers=[("x", "SECRET")], request_body="SECRET"
    )
    assert str(failure) == "failed"
    assert "SECRET" not in repr(failure)


def test_a_failure_of_a_kind_from_the_future_can_be_read() -> None:
    """Stored failures outlive the release that wrote them."""
    assert ProviderFailureKind("quantum") is ProviderFailureKind.UNKNOWN
