"""One provider, ready to be called: a request goes in, retries and waiting happen inside.

Rule 1: a rate-limit permit is held for one attempt and never while sleeping before the next.
Rule 2: cancellation leaves as it came, with the permit returned.
Rule 3: whatever else a provider raises leaves as a classified `ProviderFailure`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

from ..model.llm import LlmRequest, LlmResponse, ProviderFailureKind
from ..model.llm_attempts import RetryReason
from ..ports.clock import Clock, SystemClock
from ..ports.ids import IdSource, SystemIds
from ..ports.provider import Provider, ProviderFailure, ProviderOptions
from .attempts import Attempt
from .components import ProviderComponents
from .ladder import GiveUp, Ladder
from .limiter import RateLimiter
from .redaction import redacted
from .spec import ProviderSpec
from .unconfigured import UnconfiguredProvider


class ProviderHandle:
    """A provider with its retry ladder, rate limits and failure classifier around it.

    Shared by all sessions that use the provider and safe to call concurrently; the limits hold
    over all of them. Two handles are equal when their kinds and their configurations are.
    """

    def __init__(
        self,
        components: ProviderComponents,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self._components = components
        self._provider = components.provider
        self._clock: Clock = SystemClock() if clock is None else clock
        self._ids: IdSource = SystemIds() if ids is None else ids
        self._limiter = RateLimiter(self.options().reliability.rate_limits, self._clock)

    @classmethod
    def of(
        cls, provider: Provider, *, clock: Clock | None = None, ids: IdSource | None = None
    ) -> Self:
        """A handle on `provider` alone, with the default classifier and no known variants."""
        return cls(ProviderComponents(provider=provider), clock=clock, ids=ids)

    @classmethod
    def unconfigured(cls) -> Self:
        """A handle whose every call fails and says that a provider has to be configured."""
        return cls.of(UnconfiguredProvider())

    def with_clock(self, clock: Clock) -> Self:
        """The same handle telling time by `clock`; rate limits stay shared with this one."""
        return self.with_time(clock, self._ids)

    def with_time(self, clock: Clock, ids: IdSource) -> Self:
        """As `with_clock`, drawing jitter from `ids` as well."""
        handle = copy.copy(self)
        handle._use_time(clock, ids)  # noqa: SLF001 - a copy of this very object
        return handle

    def _use_time(self, clock: Clock, ids: IdSource) -> None:
        self._clock, self._ids = clock, ids
        self._limiter.use_clock(clock)

    @property
    def kind(self) -> str:
        return self._provider.kind

    @property
    def requires_streaming(self) -> bool:
        return self._provider.requires_streaming

    @property
    def components(self) -> ProviderComponents:
        """What this handle was made of, to build a decorated one."""
        return self._components

    def options(self) -> ProviderOptions:
        return self._provider.options()

    def set_options(self, options: ProviderOptions) -> None:
        """Use `options` from the next call on; limits first, so that no call slips between."""
        self._limiter.configure(options.reliability.rate_limits)
        self._provider.set_options(options)

    def serialize_config(self) -> Mapping[str, Any]:
        """The provider's configuration, credentials included: keep it out of logs."""
        return self._provider.serialize_config()

    def to_spec(self) -> ProviderSpec:
        """What it takes to build the provider again, credentials included: keep it out of logs.

        What `map_provider` has put around it is not part of that, unless it says so itself.
        """
        return ProviderSpec(self.kind, dict(self.serialize_config()))

    def supported_variants(self, model: str) -> Sequence[str]:
        return self._components.model_policy.supported_variants(model)

    def validate_variant(self, model: str, variant: str) -> None:
        """Raises `ValueError` when `model` does not take `variant`, naming those it takes."""
        known = self.supported_variants(model)
        if not known:
            raise ValueError(f"model {model!r} on provider {self.kind!r} has no variants to choose")
        if variant not in known:
            raise ValueError(
                f"model {model!r} on provider {self.kind!r} has no variant {variant!r}; "
                f"available: {', '.join(known)}"
            )

    @staticmethod
    def validate_model_name(name: str) -> None:
        """Raises `ValueError` for an empty name and for one that contains whitespace."""
        if not name or any(character.isspace() for character in name):
            raise ValueError(f"a model name is not empty and has no whitespace, got {name!r}")

    async def complete(self, request: LlmRequest) -> LlmResponse:
        """Call the model until it answers or the failure is final.

        Raises the classified `ProviderFailure` of the last attempt. Before a retry the stream
        carries `AttemptReset`, if the failed attempt had emitted anything, and `RetryStatus`;
        `request.attempt_ended` is told of each attempt, a cancelled one included.
        Cancellation ends the running attempt, a wait for a permit, or the sleep in between.
        """
        ladder = Ladder(self.options().reliability.retry, self._ids)
        ordinal = 0
        while True:
            ordinal += 1
            attempt = Attempt(
                request,
                ordinal=ordinal,
                needs_stream=self._provider.requires_streaming,
                clock=self._clock,
            )
            try:
                async with self._limiter.admitted(request):
                    attempt.begin()
                    answer = await self._provider.complete(attempt.request())
                    attempt.completed(answer)
                    return answer
            except ProviderFailure as raised:
                failure = self._components.failure_classifier.classify(raised)
                step = ladder.after(failure, output_seen=attempt.output_seen)
                attempt.failed(failure, step)
            except Exception as error:
                unexpected = _unexpected(self.kind, error)
                attempt.failed(unexpected, GiveUp(RetryReason.NOT_RETRYABLE))
                raise unexpected from error
            finally:
                attempt.left()
            if isinstance(step, GiveUp):
                raise failure
            attempt.announce(step, failure)
            await self._clock.sleep(step.delay_s)

    async def close(self) -> None:
        """Release what the provider holds; idempotent."""
        await self._provider.close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProviderHandle):
            return NotImplemented
        return self.kind == other.kind and self.serialize_config() == other.serialize_config()

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"ProviderHandle(kind={self.kind!r})"


def as_handle(
    provider: ProviderHandle | ProviderComponents | Provider,
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> ProviderHandle:
    """The handle for what a host passed: its own handle as it is, anything else wrapped.

    A provider that brings its own model policy or classifier offers `components()`.
    """
    if isinstance(provider, ProviderHandle):
        return provider
    if isinstance(provider, ProviderComponents):
        return ProviderHandle(provider, clock=clock, ids=ids)
    bundled = getattr(provider, "components", None)
    components = bundled() if callable(bundled) else ProviderComponents(provider=provider)
    return ProviderHandle(components, clock=clock, ids=ids)


def _unexpected(kind: str, error: Exception) -> ProviderFailure:
    detail = redacted(str(error))[:200]
    return ProviderFailure(
        f"provider {kind!r} raised {type(error).__name__}" + (f": {detail}" if detail else ""),
        kind=ProviderFailureKind.UNKNOWN,
        code="provider_panicked",
        retryable=False,
    )
