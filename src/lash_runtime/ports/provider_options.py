"""How a provider is used: timeouts, retries, rate limits, and what is asked of the model.

All values are frozen, serialise without their defaults, and refuse unknown keys; `{}` is the
default in full. Durations are in milliseconds.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from ..model._value import Value

DEFAULT_REQUEST_TIMEOUT_MS = 300_000
DEFAULT_CHUNK_TIMEOUT_MS = 120_000
DEFAULT_STREAM_TIMEOUT_MS = 1_800_000
DEFAULT_WINDOW_MS = 60_000


class CacheRetention(StrEnum):
    """How long an endpoint that caches prompts is asked to keep them."""

    NONE = "none"
    SHORT = "short"
    LONG = "long"


class AfterOutput(StrEnum):
    """Whether a call that had begun to answer may be tried again: it may already be billed."""

    ALLOW = "allow"
    DENY = "deny"


class _Options(Value):
    """A value whose fields are left out of the JSON while they have their defaults."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dumped.items()
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }


def _check_timeout(value: Any) -> Any:
    # `True` is an int to Python, and `0 == False`: both would slip through the union below.
    if value is None or value is False:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a timeout is a positive number of milliseconds, or false to disable it")
    return value


Timeout = Annotated[int | Literal[False] | None, BeforeValidator(_check_timeout)]
"""Milliseconds, `False` for no limit, `None` for the default."""


class ProviderRetryPolicy(_Options):
    """When and how often a failed attempt is repeated.

    `jitter_ms` bounds a random addition to each backoff. `retry_after_cap_ms` bounds what an
    endpoint may ask for (`None`: unbounded). Within `throttle_wait_budget_ms` a throttled call
    waits as asked without using up an attempt; 0 switches that off.
    """

    enabled: bool = True
    max_attempts: int = Field(default=4, ge=0)
    base_delay_ms: int = Field(default=2_000, ge=0)
    max_delay_ms: int = Field(default=10_000, ge=0)
    jitter_ms: int = Field(default=0, ge=0)
    retry_after_cap_ms: int | None = Field(default=60_000, ge=0)
    throttle_wait_budget_ms: int = Field(default=90_000, ge=0)
    after_output: AfterOutput = AfterOutput.ALLOW

    @classmethod
    def disabled(cls) -> Self:
        """One attempt, no waiting."""
        return cls(
            enabled=False,
            max_attempts=1,
            base_delay_ms=0,
            max_delay_ms=0,
            retry_after_cap_ms=None,
            throttle_wait_budget_ms=0,
        )


class ProviderRateLimitPolicy(_Options):
    """What this process allows itself; `None` or 0 is unlimited, windows are fixed."""

    max_concurrency: int | None = Field(default=None, ge=0)
    requests_per_window: int | None = Field(default=None, ge=0)
    request_window_ms: int | None = Field(default=None, ge=0)
    tokens_per_window: int | None = Field(default=None, ge=0)
    token_window_ms: int | None = Field(default=None, ge=0)

    def is_unlimited(self) -> bool:
        return not (self.max_concurrency or self.requests_per_window or self.tokens_per_window)


class ProviderReliability(_Options):
    """Deadlines of one attempt, and what happens after it failed."""

    request_timeout_ms: Timeout = None
    chunk_timeout_ms: int | None = Field(default=None, ge=0)
    stream_timeout_ms: Timeout = None
    retry: ProviderRetryPolicy = ProviderRetryPolicy.defaults()
    rate_limits: ProviderRateLimitPolicy = ProviderRateLimitPolicy.defaults()

    @classmethod
    def disabled(cls) -> Self:
        """The default deadlines, and no retries."""
        return cls(retry=ProviderRetryPolicy.disabled())

    def request_timeout_s(self) -> float | None:
        """Seconds until a whole answer, or the headers of a stream, must be there."""
        return _seconds(self.request_timeout_ms, DEFAULT_REQUEST_TIMEOUT_MS)

    def chunk_timeout_s(self) -> float:
        """Seconds that may pass between two pieces of a stream."""
        return (self.chunk_timeout_ms or DEFAULT_CHUNK_TIMEOUT_MS) / 1000

    def stream_timeout_s(self) -> float | None:
        """Seconds a whole stream may take."""
        return _seconds(self.stream_timeout_ms, DEFAULT_STREAM_TIMEOUT_MS)


class ProviderOptions(_Options):
    """How a host wants a provider used; read anew at the start of every call.

    `expose_thinking` shows reasoning in live streams; without it reasoning is only kept for
    replay. `max_output_tokens` is sent unless a request carries its own cap.
    """

    reliability: ProviderReliability = ProviderReliability.defaults()
    expose_thinking: bool = False
    max_output_tokens: int | None = Field(default=None, ge=1)
    cache_retention: CacheRetention = CacheRetention.SHORT


def _seconds(value: int | Literal[False] | None, default_ms: int) -> float | None:
    if value is False:
        return None
    return (default_ms if value is None else value) / 1000
