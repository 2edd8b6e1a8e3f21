"""Model endpoints: the ladder around any provider, and one package for each kind of endpoint.

Importing this loads no vendor's SDK; `lash_runtime.providers.openai` and its like do.
"""

from .classifier import DefaultProviderFailureClassifier
from .components import ProviderComponents, StaticModelPolicy
from .factory import ProviderFactory, build_provider
from .handle import ProviderHandle, as_handle
from .limiter import RateLimiter
from .resolver import EmptyProviderResolver, MapProviderResolver, SingleProviderResolver
from .spec import ProviderSpec

__all__ = [
    "DefaultProviderFailureClassifier",
    "EmptyProviderResolver",
    "MapProviderResolver",
    "ProviderComponents",
    "ProviderFactory",
    "ProviderHandle",
    "ProviderSpec",
    "RateLimiter",
    "SingleProviderResolver",
    "StaticModelPolicy",
    "as_handle",
    "build_provider",
]
