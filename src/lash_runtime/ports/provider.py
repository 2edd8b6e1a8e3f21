"""The model endpoint as the runtime sees it: one call, one answer or one typed failure.

A `Provider` makes a single attempt. Retries, waiting, rate limits and judging failures are not
its business: a handle puts those around it. Sessions store a provider's `kind`, never the
provider, its configuration or its credentials; a resolver turns the one into the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from ..model.llm import LlmRequest, LlmResponse
from ..model.records import dataclass
from .provider_failure import Header, ProviderFailure, retry_after_seconds
from .provider_options import (
    AfterOutput,
    CacheRetention,
    ProviderOptions,
    ProviderRateLimitPolicy,
    ProviderReliability,
    ProviderRetryPolicy,
)

__all__ = [
    "AfterOutput",
    "CacheRetention",
    "Header",
    "MissingProviderId",
    "Provider",
    "ProviderBinding",
    "ProviderFailure",
    "ProviderFailureClassifier",
    "ProviderIdMismatch",
    "ProviderModelPolicy",
    "ProviderOptions",
    "ProviderRateLimitPolicy",
    "ProviderReliability",
    "ProviderResolutionError",
    "ProviderRetryPolicy",
    "ResolvedProvider",
    "RuntimeProviderResolver",
    "UnknownProvider",
    "retry_after_seconds",
]


class Provider(Protocol):
    """One kind of model endpoint. Shared by all sessions and called concurrently."""

    @property
    def kind(self) -> str:
        """Stable identity: this is what sessions store as their provider id."""
        ...

    @property
    def requires_streaming(self) -> bool:
        """Whether a request must carry a stream callback, if only one that does nothing."""
        ...

    def options(self) -> ProviderOptions:
        """The options in force."""
        ...

    def set_options(self, options: ProviderOptions) -> None:
        """Replace the options; calls already running keep what they read."""
        ...

    def serialize_config(self) -> Mapping[str, Any]:
        """All that is needed to build it again, credentials included: keep it out of logs."""
        ...

    async def complete(self, request: LlmRequest) -> LlmResponse:
        """Make one attempt.

        Stream events go to `request.stream_events` in order, on the event loop's thread.
        Raises `ProviderFailure`, which says what it knows and leaves the judgement to a
        classifier. Cancellation closes the exchange and passes through as it is.
        """
        ...

    async def close(self) -> None:
        """Release connections; a later call opens new ones.

        Idempotent, bounded in time, never raises for a gone peer.
        """
        ...


class ProviderModelPolicy(Protocol):
    """What is known about an endpoint's models."""

    def supported_variants(self, model: str) -> Sequence[str]:
        """The variants (such as reasoning efforts) that `model` takes; empty when none."""
        ...


class ProviderFailureClassifier(Protocol):
    """Decides kind, retryability and terminal reason of a failed attempt."""

    def classify(self, failure: ProviderFailure) -> ProviderFailure:
        """The judged failure; `failure` itself when there is nothing to add."""
        ...


class ResolvedProvider(Provider, Protocol):
    """A provider with the whole ladder around it: what the runtime calls.

    `complete` retries as its options say and raises the classified failure of the last attempt.
    """

    def supported_variants(self, model: str) -> Sequence[str]:
        """As the provider's model policy says."""
        ...

    def validate_variant(self, model: str, variant: str) -> None:
        """Raises `ValueError` naming what is available."""
        ...


class ProviderResolutionError(Exception):
    """Base of what resolving a provider id raises; terminal, since no retry finds another.

    - MissingProviderId: the session names no provider
    - UnknownProvider: nothing is registered under that id
    - ProviderIdMismatch: what is registered there is of another kind
    """

    code: ClassVar[str]


class MissingProviderId(ProviderResolutionError):
    """The provider id is blank."""

    code = "provider_missing_id"

    def __init__(self) -> None:
        super().__init__("no provider id is recorded: give the session or the core a provider")


class UnknownProvider(ProviderResolutionError):
    """No provider is registered under this id."""

    code = "provider_unknown"

    def __init__(self, provider_id: str) -> None:
        super().__init__(f"no provider {provider_id!r} is registered: add one of that kind")
        self.provider_id = provider_id


class ProviderIdMismatch(ProviderResolutionError):
    """The provider found under an id is of another kind than the id says."""

    code = "provider_id_mismatch"

    def __init__(self, *, expected: str, actual: str) -> None:
        super().__init__(
            f"provider id {expected!r} leads to a provider of kind {actual!r}: "
            "register it under its own kind"
        )
        self.expected, self.actual = expected, actual


@dataclass(frozen=True, slots=True)
class ProviderBinding:
    """A provider id with the provider it stands for.

    Raises `MissingProviderId` for a blank id and `ProviderIdMismatch` when the two disagree.
    """

    provider_id: str
    provider: ResolvedProvider

    def __post_init__(self) -> None:
        provider_id = self.provider_id.strip()
        if not provider_id:
            raise MissingProviderId
        if provider_id != self.provider.kind:
            raise ProviderIdMismatch(expected=provider_id, actual=self.provider.kind)
        object.__setattr__(self, "provider_id", provider_id)


class RuntimeProviderResolver(Protocol):
    """From a stored provider id to the provider; synchronous and without I/O."""

    def resolve_provider_binding(self, provider_id: str) -> ProviderBinding:
        """Raises `ProviderResolutionError`; blank ids are `MissingProviderId` everywhere."""
        ...
