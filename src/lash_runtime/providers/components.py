"""What a usable provider is put together from, before a handle is made of it."""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Self

from ..model.records import dataclass, replace
from ..ports.provider import Provider, ProviderFailureClassifier, ProviderModelPolicy
from .classifier import DefaultProviderFailureClassifier


@dataclass(frozen=True, slots=True)
class StaticModelPolicy:
    """The same variants for every model."""

    variants: tuple[str, ...] = ()

    def supported_variants(self, model: str) -> Sequence[str]:
        return self.variants


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderComponents:
    """A provider with its model policy and its classifier; each setter returns a new value."""

    provider: Provider
    model_policy: ProviderModelPolicy = StaticModelPolicy()
    failure_classifier: ProviderFailureClassifier = field(
        default_factory=DefaultProviderFailureClassifier
    )

    def map_provider(self, decorator: Callable[[Provider], Provider]) -> Self:
        """Put `decorator` around the provider: it sees every single attempt of a call.

        The place for admission control and metrics. A decorator forwards all of `Provider`,
        `close` included, and raises what it caught unchanged.
        """
        return replace(self, provider=decorator(self.provider))

    def with_failure_classifier(self, classifier: ProviderFailureClassifier) -> Self:
        return replace(self, failure_classifier=classifier)

    def with_model_policy(self, policy: ProviderModelPolicy) -> Self:
        return replace(self, model_policy=policy)
