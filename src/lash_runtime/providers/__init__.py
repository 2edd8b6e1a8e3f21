"""Model endpoints: the ladder around any provider, and one package for each kind of endpoint.

Importing this loads no vendor's SDK; `lash_runtime.providers.openai` and its like do.
"""

from .classifier import DefaultProviderFailureClassifier
from .components import ProviderComponents, StaticModelPolicy
from .handle import ProviderHandle, as_handle
from .limiter import RateLimiter
from .resolver import EmptyProviderResolver, MapProviderResolver, SingleProviderResolver

__all__ = [
    "DefaultProviderFailureClassifier",
    "EmptyProviderResolver",
    "MapProviderResolver",
    "ProviderComponents",
    "ProviderHandle",
    "RateLimiter",
    "SingleProviderResolver",
    "StaticModelPolicy",
    "as_handle",
]
