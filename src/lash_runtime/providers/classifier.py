"""What a failed attempt means: its kind, whether to repeat it, how the call ended.

Rule 1: what an adapter stated explicitly stays.
Rule 2: an HTTP status decides before any text does.
Rule 3: text is read only where nothing structured speaks, because the body of an error may echo
the user's own words. The words live in the tables of this file alone.
"""

from typing import Any, Final

from ..model.llm import LlmTerminalReason, ProviderFailureKind
from ..ports.provider import ProviderFailure

RETRYABLE_STATUSES: Final = frozenset(
    # 520 to 524 come from CDN fronts, 529 from an endpoint that is overloaded.
    {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
)

STATUS_KINDS: Final = {
    400: ProviderFailureKind.VALIDATION,
    401: ProviderFailureKind.AUTH,
    403: ProviderFailureKind.AUTH,
    413: ProviderFailureKind.VALIDATION,
    422: ProviderFailureKind.VALIDATION,
    429: ProviderFailureKind.QUOTA,
}

# Error bodies can be megabytes of echoed prompt; the verdict stands at their beginning.
SCAN_LIMIT: Final = 16 * 1024

OVERFLOW_MARKERS: Final = (
    "context_length_exceeded",
    "context_length",
    "context length",
    "maximum context",
    "max context",
    "context window",
    "prompt is too long",
    "prompt too long",
    "request_too_large",
    "maximum prompt length is",
    "reduce the length of the messages",
    "reduce the length of your prompt",
    "maximum context length is",
    "model's context length",
    "models context length",
    "exceeds the available context size",
    "exceed_context_size",
    "greater than the context length",
    "exceeded model token limit",
    "too large for model with",
    "model_context_window_exceeded",
    "too many tokens",
    "exceeds the maximum number of tokens",
    "exceeds maximum number of tokens",
    "request too large",
    "input is too long",
    "token limit exceeded",
)
OVERFLOW_PAIRS: Final = (("input token count", "exceeds the maximum"),)
"""Phrases that mean an overflow only together."""

THROTTLE_WORDS: Final = (
    "rate limit",
    "rate_limit",
    "ratelimit",
    "throttle",
    "throttling",
    "too many requests",
    "tokens per minute",
    "tpm",
    "quota",
)
"""Words that mean "too fast", whatever else the text says about tokens."""

EXHAUSTED_MARKERS: Final = (
    "insufficient_quota",
    "usage_limit_reached",
    "usage_not_included",
    "credit balance is too low",
)
EXHAUSTED_PHRASE: Final = "you exceeded your current quota"
PER_MINUTE_MARKERS: Final = ("quota exceeded for metric", "retrydelay", "please retry")
"""What turns `EXHAUSTED_PHRASE` into ordinary throttling."""

FILTER_MARKERS: Final = ("content_filter", "prohibited_content", "safety", "sensitive")
UNSUPPORTED_MARKERS: Final = ("model_not_found", "unsupported model", "does not exist")


class DefaultProviderFailureClassifier:
    """The classifier of every provider that does not bring its own; has no state."""

    def classify(self, failure: ProviderFailure) -> ProviderFailure:
        """Judge by status, then by text where nothing structured speaks."""
        by_text = {} if _has_structured_verdict(failure) else text_verdict(failure)
        changes = status_verdict(failure) | by_text
        if failure.retryable_is_explicit:
            changes.pop("retryable", None)
        return failure.changed(**changes) if changes else failure


def status_verdict(failure: ProviderFailure) -> dict[str, Any]:
    """What the status says, or, without one, what the kind says."""
    status = _status(failure)
    if status is None:
        if failure.kind in (ProviderFailureKind.TRANSPORT, ProviderFailureKind.TIMEOUT):
            return {"retryable": True}
        return {}
    verdict: dict[str, Any] = {"retryable": status in RETRYABLE_STATUSES}
    if failure.kind in (ProviderFailureKind.UNKNOWN, ProviderFailureKind.HTTP):
        verdict["kind"] = STATUS_KINDS.get(status, ProviderFailureKind.HTTP)
    return verdict


def text_verdict(failure: ProviderFailure) -> dict[str, Any]:
    """What the code, the message and the beginning of the body say."""
    raw = (failure.raw or "")[:SCAN_LIMIT]
    text = f"{failure.code or ''}\n{failure.message}\n{raw}".lower()
    if _says_overflow(text):
        return {
            "kind": ProviderFailureKind.VALIDATION,
            "retryable": False,
            "terminal_reason": LlmTerminalReason.CONTEXT_OVERFLOW,
        }
    if _says_exhausted(text):
        return {"kind": ProviderFailureKind.QUOTA, "retryable": False}
    if _any_of(FILTER_MARKERS, text):
        return {"terminal_reason": LlmTerminalReason.CONTENT_FILTER}
    if _any_of(UNSUPPORTED_MARKERS, text):
        return {"kind": ProviderFailureKind.UNSUPPORTED, "retryable": False}
    return {}


def embedded_verdict(failure: ProviderFailure) -> dict[str, Any]:
    """The rules for an error inside a stream, over code and message alone.

    Such a failure has a kind of its own, so `classify` would read no text; the filter words are
    left out, since only an endpoint's structured reason may say that an answer was filtered.
    """
    text = f"{failure.code or ''}\n{failure.message}".lower()
    if _says_overflow(text) or _says_exhausted(text) or _any_of(UNSUPPORTED_MARKERS, text):
        return text_verdict(failure.changed(raw=None))
    return {}


def _has_structured_verdict(failure: ProviderFailure) -> bool:
    return (
        failure.kind not in (ProviderFailureKind.UNKNOWN, ProviderFailureKind.HTTP)
        or failure.terminal_reason is not LlmTerminalReason.PROVIDER_ERROR
        or (failure.code is not None and not failure.code.isdigit())
        or failure.retryable_is_explicit
    )


def _status(failure: ProviderFailure) -> int | None:
    if failure.status is not None:
        return failure.status
    code = failure.code
    # A bound on the length: `int` refuses thousands of digits with an error of its own.
    return int(code) if code is not None and code.isdecimal() and len(code) < 10 else None


def _says_overflow(text: str) -> bool:
    marked = _any_of(OVERFLOW_MARKERS, text) or any(
        all(word in text for word in pair) for pair in OVERFLOW_PAIRS
    )
    return marked and not _any_of(THROTTLE_WORDS, text)


def _says_exhausted(text: str) -> bool:
    if _any_of(EXHAUSTED_MARKERS, text):
        return True
    return EXHAUSTED_PHRASE in text and not _any_of(PER_MINUTE_MARKERS, text)


def _any_of(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
