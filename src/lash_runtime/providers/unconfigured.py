"""The provider of a host that has configured none: it is there, and every call says so."""

from collections.abc import Mapping
from typing import Any

from ..model.llm import LlmRequest, LlmResponse, ProviderFailureKind
from ..ports.provider import ProviderFailure, ProviderOptions


class UnconfiguredProvider:
    """Fails every call with code `provider_unconfigured`."""

    kind = "unconfigured"
    requires_streaming = False

    def __init__(self) -> None:
        self._options = ProviderOptions()

    def options(self) -> ProviderOptions:
        return self._options

    def set_options(self, options: ProviderOptions) -> None:
        self._options = options

    def serialize_config(self) -> Mapping[str, Any]:
        return {}

    async def complete(self, request: LlmRequest) -> LlmResponse:
        raise ProviderFailure(
            "no provider is configured: give the core or the session one",
            kind=ProviderFailureKind.UNSUPPORTED,
            code="provider_unconfigured",
            retryable=False,
        )

    async def close(self) -> None:
        return None
