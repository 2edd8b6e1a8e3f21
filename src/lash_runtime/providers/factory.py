"""From configuration to a provider: one factory for each kind, and the handle it comes to."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..ports.clock import Clock
from ..ports.ids import IdSource
from .components import ProviderComponents
from .handle import ProviderHandle
from .spec import ProviderSpec


class ProviderFactory(Protocol):
    """Builds the providers of one kind from their configuration."""

    @property
    def kind(self) -> str: ...

    def deserialize(self, config: Mapping[str, Any]) -> ProviderComponents:
        """Raises `ValueError` naming the key that is missing, unknown or wrong, not its value.

        A decorator that a host has put around a provider is not part of its configuration: put
        it around what comes back.
        """
        ...


def build_provider(
    spec: ProviderSpec,
    factories: Iterable[ProviderFactory],
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> ProviderHandle:
    """The provider that `spec` describes, made by the factory of its kind.

    Raises `ValueError` for a kind that no factory makes, and what the factory raises.
    """
    known = {factory.kind: factory for factory in factories}
    factory = known.get(spec.kind)
    if factory is None:
        names = ", ".join(repr(kind) for kind in sorted(known)) or "none"
        raise ValueError(f"no factory makes providers of kind {spec.kind!r}; there are: {names}")
    return ProviderHandle(factory.deserialize(spec.config), clock=clock, ids=ids)
