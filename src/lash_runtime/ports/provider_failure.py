"""How a model call fails: one exception type, raised by adapters and judged by a classifier.

Rule 1: what an adapter states explicitly (`retryable=`) is its verdict and survives judgement;
what it leaves open is decided from status and text.
Rule 2: the text of the exception is its message alone. Headers, bodies and what was sent stay
out of `str` and `repr`, because those end up in logs.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Self

from ..model.llm import LlmCallError, LlmResponse, LlmTerminalReason, ProviderFailureKind

Header = tuple[str, str]


class ProviderFailure(Exception):
    """One attempt at a model call failed.

    `retry_after` is what the endpoint asked for, in seconds. `partial` is what had arrived by
    then: it may be counted, never shown as a result, and its tool calls are never executed.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ProviderFailureKind = ProviderFailureKind.UNKNOWN,
        retryable: bool | None = None,
        status: int | None = None,
        code: str | None = None,
        raw: str | None = None,
        terminal_reason: LlmTerminalReason = LlmTerminalReason.PROVIDER_ERROR,
        headers: Iterable[Header] = (),
        retry_after: float | None = None,
        request_body: str | None = None,
        partial: LlmResponse | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.status = status
        self.code = str(status) if code is None and status is not None else code
        self.raw = raw
        self.terminal_reason = terminal_reason
        self.headers = tuple(headers)
        self.retry_after = (
            retry_after if retry_after is not None else retry_after_seconds(self.headers)
        )
        self.request_body = request_body
        self.partial = partial
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """Whether trying again can help; `False` while nobody has said so."""
        return bool(self._retryable)

    @property
    def retryable_is_explicit(self) -> bool:
        """Whether somebody has decided `retryable`, so that a classifier must leave it."""
        return self._retryable is not None

    def changed(self, **changes: Any) -> Self:
        """A copy with the named constructor arguments replaced and the same cause."""
        facts: dict[str, Any] = {
            "message": self.message,
            "kind": self.kind,
            "retryable": self._retryable,
            "status": self.status,
            "code": self.code,
            "raw": self.raw,
            "terminal_reason": self.terminal_reason,
            "headers": self.headers,
            "retry_after": self.retry_after,
            "request_body": self.request_body,
            "partial": self.partial,
        }
        copy = type(self)(**(facts | changes))
        copy.__cause__ = self.__cause__
        copy.__suppress_context__ = self.__suppress_context__
        return copy

    def to_call_error(self) -> LlmCallError:
        """The failure as stored data, without headers and without what had arrived."""
        return LlmCallError(
            message=self.message,
            retryable=self.retryable,
            kind=self.kind,
            raw=self.raw,
            code=self.code,
            terminal_reason=self.terminal_reason,
            request_body=self.request_body,
        )

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return (
            f"ProviderFailure({self.message!r}, kind={self.kind.value!r}, code={self.code!r}, "
            f"status={self.status!r}, retryable={self.retryable})"
        )


def retry_after_seconds(headers: Iterable[Header], now: datetime | None = None) -> float | None:
    """The wait that response headers ask for, in seconds and never negative.

    `retry-after-ms` is finer and wins over `retry-after`, which may hold seconds or a date. A
    date counts from the response's `date` header, or from `now`; without either, and where
    anything else cannot be read, there is no answer.
    """
    named: dict[str, str] = {}
    for name, value in headers:
        named.setdefault(name.lower(), value.strip())
    milliseconds = _digits(named.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = named.get("retry-after")
    seconds = _digits(stated)
    if seconds is not None or stated is None:
        return seconds
    when = _date_of(stated)
    if when is None:
        return None
    # The response's own date is the better base: the two clocks differ, and an endpoint that
    # states an instant nearly always states its time as well.
    base = _date_of(named.get("date")) or now
    return None if base is None else max(0.0, (when - base).total_seconds())


def _date_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    # Loaded here: the package is large, and hardly any failure states a date.
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _digits(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    # A number with thousands of digits would not fit a float; any such wait is "too long".
    return float(text) if len(text) <= 300 else float("inf")
