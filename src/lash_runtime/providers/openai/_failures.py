"""What the SDK raises and what a stream reports, as provider failures.

An HTTP status is handed on for the classifier to judge. An error inside of a stream has no
status, so its code is judged here and the verdict is final. The user's key never gets into a
failure, whatever an endpoint or a proxy echoes.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...model.llm import ProviderFailureKind
from ...ports.provider import ProviderFailure
from ..classifier import STATUS_KINDS, embedded_verdict
from ..redaction import is_secret_header, redacted

if TYPE_CHECKING:
    from openai import APIStatusError

RAW_LIMIT: Final = 64 * 1024
DETAIL_LIMIT: Final = 200

RETRYABLE_CODES: Final = frozenset(
    {
        "server_error",
        "internal_server_error",
        "service_unavailable",
        "temporarily_unavailable",
        "overloaded",
        "rate_limit_exceeded",
        "slow_down",
    }
)
THROTTLE_CODES: Final = frozenset({"rate_limit_exceeded", "slow_down"})

NEVER_SENT: Final = frozenset({"UnsupportedProtocol", "LocalProtocolError", "InvalidURL"})
"""Errors of the HTTP library that no repetition mends: the request itself is impossible."""


def status_failure(error: "APIStatusError") -> ProviderFailure:
    """The endpoint answered with an error status."""
    raw = error.response.text[:RAW_LIMIT]
    detail = error_detail(raw)
    message = f"OpenAI-compatible request failed with {error.status_code}"
    return ProviderFailure(
        f"{message}: {detail}" if detail else message,
        kind=ProviderFailureKind.HTTP,
        status=error.status_code,
        raw=raw,
        headers=[
            (name, value)
            for name, value in error.response.headers.multi_items()
            if not is_secret_header(name)
        ],
    )


def connection_failure(error: Exception, *, streaming: bool) -> ProviderFailure:
    """There was no answer, or it broke off."""
    cause = error.__cause__ or error
    reason = str(cause) or type(cause).__name__
    if streaming:
        return ProviderFailure(
            f"Stream read failed: {reason}",
            kind=ProviderFailureKind.STREAM,
            code="stream_disconnected",
            retryable=True,
        )
    return ProviderFailure(
        f"HTTP request failed: {reason}",
        kind=ProviderFailureKind.TRANSPORT,
        retryable=type(cause).__name__ not in NEVER_SENT,
    )


def embedded_failure(error: Any) -> ProviderFailure:
    """An error that came as an event of a stream, or as a body under a status of success."""
    facts: Mapping[str, Any] = error if isinstance(error, Mapping) else {"message": error}
    codes = [str(facts[key]) for key in ("code", "type", "status") if facts.get(key) is not None]
    message = facts.get("message")
    failure = ProviderFailure(
        message if isinstance(message, str) and message else "the endpoint reported an error",
        kind=next((kind for code in codes if (kind := _kind_of(code))), ProviderFailureKind.STREAM),
        code=codes[0] if codes else "stream_error",
        retryable=any(_is_retryable(code) for code in codes),
        raw=json.dumps(error, default=str)[:RAW_LIMIT],
    )
    verdict = embedded_verdict(failure)
    return failure.changed(**verdict) if verdict else failure


def malformed_failure(raw: str | None) -> ProviderFailure:
    """The endpoint sent what is no JSON."""
    return ProviderFailure(
        "OpenAI-compatible endpoint sent malformed JSON",
        kind=ProviderFailureKind.STREAM,
        code="malformed_response",
        retryable=False,
        raw=None if raw is None else raw[:RAW_LIMIT],
    )


def unsent_failure(error: Exception) -> ProviderFailure:
    """The SDK would not even make the request: no credentials, say."""
    return ProviderFailure(
        f"the request could not be made: {error}",
        kind=ProviderFailureKind.VALIDATION,
        code="request_not_sent",
        retryable=False,
    )


def error_detail(body: str) -> str:
    """The endpoint's own words: `error.message` of a JSON body, else how the body begins."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return body[:DETAIL_LIMIT].strip()
    message = error.get("message") if isinstance(error, Mapping) else error
    return message if isinstance(message, str) else body[:DETAIL_LIMIT].strip()


def without_secrets(failure: ProviderFailure, secrets: Iterable[str]) -> ProviderFailure:
    """`failure` with every text in it cleared of `secrets`."""
    known = tuple(secrets)
    return failure.changed(
        message=redacted(failure.message, known),
        raw=None if failure.raw is None else redacted(failure.raw, known),
        headers=[(name, redacted(value, known)) for name, value in failure.headers],
    )


def _kind_of(code: str) -> ProviderFailureKind | None:
    if code in THROTTLE_CODES:
        return ProviderFailureKind.QUOTA
    return STATUS_KINDS.get(int(code)) if _is_status(code) else None


def _is_retryable(code: str) -> bool:
    if _is_status(code):
        return int(code) == 429 or int(code) >= 500
    return code in RETRYABLE_CODES


def _is_status(code: str) -> bool:
    return code.isdecimal() and len(code) == 3
