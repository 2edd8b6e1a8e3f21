"""Errors of a model call as the events and issues of a turn.

The text a provider sent is kept for diagnosis, but bounded: an HTML error page must not become
a megabyte in a stored record.
"""

from typing import Final

from ..model.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from ..model.outcome import ErrorEnvelope
from ..model.session_events import ErrorEvent

LLM_PROVIDER: Final = "llm_provider"
RAW_TEXT_LIMIT: Final = 4_000


def clipped_raw_text(raw: str | None) -> str | None:
    """Trim `raw`; beyond the limit keep its two ends and say how much is missing."""
    if raw is None or not (text := raw.strip()):
        return None
    if len(text) <= RAW_TEXT_LIMIT:
        return text
    half = RAW_TEXT_LIMIT // 2
    omitted = len(text) - 2 * half
    return f"{text[:half]}\n[{omitted} characters omitted]\n{text[-half:]}"


def provider_error_event(error: LlmCallError) -> ErrorEvent:
    """A failed model call as the error event of its turn."""
    known = error.kind is not ProviderFailureKind.UNKNOWN
    return ErrorEvent(
        message=f"LLM error: {error.message}",
        envelope=ErrorEnvelope(
            kind=LLM_PROVIDER,
            code=error.code,
            terminal_reason=error.terminal_reason,
            user_message=error.message,
            raw=clipped_raw_text(error.raw),
            retryable=error.retryable,
            provider_failure_kind=error.kind if known else None,
        ),
    )


def unusable_response_event(
    message: str, *, code: str, terminal_reason: LlmTerminalReason | None = None
) -> ErrorEvent:
    """A call that the provider answered, with something no turn can go on from."""
    return ErrorEvent(
        message=message,
        envelope=ErrorEnvelope(
            kind=LLM_PROVIDER,
            code=code,
            terminal_reason=terminal_reason,
            user_message=message,
            retryable=False,
        ),
    )


def runtime_error_event(
    message: str, *, kind: str, code: str, raw: str | None = None
) -> ErrorEvent:
    """An error of the runtime itself, or of something it asked for on the turn's behalf."""
    return ErrorEvent(
        message=message,
        envelope=ErrorEnvelope(
            kind=kind, code=code, user_message=message, raw=clipped_raw_text(raw)
        ),
    )
