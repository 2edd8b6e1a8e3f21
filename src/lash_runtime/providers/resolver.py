"""From a recorded provider id to a handle: none, one, or one for each id."""

from collections.abc import Mapping

from ..ports.provider import MissingProviderId, Provider, ProviderBinding, UnknownProvider
from .handle import ProviderHandle, as_handle


def _stated(provider_id: str) -> str:
    stripped = provider_id.strip()
    if not stripped:
        raise MissingProviderId
    return stripped


class EmptyProviderResolver:
    """Knows no provider."""

    def resolve_provider_binding(self, provider_id: str) -> ProviderBinding:
        raise UnknownProvider(_stated(provider_id))


class MapProviderResolver:
    """Knows one handle for each id; a value, so that `with_...` returns a new resolver."""

    def __init__(self, handles: Mapping[str, ProviderHandle] | None = None) -> None:
        self._handles = dict(handles or {})

    def with_provider(self, provider: ProviderHandle | Provider) -> "MapProviderResolver":
        """Also know `provider`, under its own kind."""
        handle = as_handle(provider)
        return self.with_provider_id(handle.kind, handle)

    def with_provider_id(
        self, provider_id: str, provider: ProviderHandle | Provider
    ) -> "MapProviderResolver":
        """Also know `provider` under `provider_id`; one that is not its kind fails to bind."""
        return MapProviderResolver({**self._handles, provider_id.strip(): as_handle(provider)})

    def resolve_provider_binding(self, provider_id: str) -> ProviderBinding:
        stated = _stated(provider_id)
        handle = self._handles.get(stated)
        if handle is None:
            raise UnknownProvider(stated)
        return ProviderBinding(stated, handle)


class SingleProviderResolver:
    """Knows exactly one handle."""

    def __init__(
        self, provider: ProviderHandle | Provider, *, provider_id: str | None = None
    ) -> None:
        self.handle = as_handle(provider)
        self.provider_id = (self.handle.kind if provider_id is None else provider_id).strip()

    @classmethod
    def with_provider_id(
        cls, provider_id: str, provider: ProviderHandle | Provider
    ) -> "SingleProviderResolver":
        """Know `provider` under `provider_id`; one that is not its kind fails to bind."""
        return cls(provider, provider_id=provider_id)

    def resolve_provider_binding(self, provider_id: str) -> ProviderBinding:
        stated = _stated(provider_id)
        if stated != self.provider_id:
            raise UnknownProvider(stated)
        return ProviderBinding(stated, self.handle)
