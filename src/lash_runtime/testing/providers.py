"""Providers for tests that need more than a script: any function, and one that stops on the way."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, ClassVar

import anyio

from ..model.llm import LlmRequest, LlmResponse
from ..ports.clock import Clock
from ..ports.ids import IdSource
from ..ports.provider import ProviderFailure, ProviderOptions
from ..providers.components import ProviderComponents, StaticModelPolicy
from ..providers.handle import ProviderHandle
from .replies import text_response

Completer = Callable[[LlmRequest], LlmResponse | Awaitable[LlmResponse]]


def _no_handler(request: LlmRequest) -> LlmResponse:
    raise AssertionError("TestProvider was called without a handler: pass `complete=`")


class TestProvider:
    """A provider made of one function, sync or async, which answers or raises."""

    __test__: ClassVar[bool] = False

    def __init__(
        self,
        complete: Completer = _no_handler,
        *,
        kind: str = "test",
        supported_variants: Sequence[str] = (),
        requires_streaming: bool = False,
        options: ProviderOptions | None = None,
        serialize_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.requires_streaming = requires_streaming
        self.closed = False
        self._complete = complete
        self._variants = tuple(supported_variants)
        self._options = options or ProviderOptions()
        self._config = dict(serialize_config or {})

    @classmethod
    def complete_error(cls, failure: ProviderFailure, **settings: Any) -> "TestProvider":
        """A provider whose every attempt fails with a fresh copy of `failure`."""

        def fail(request: LlmRequest) -> LlmResponse:
            raise failure.changed()

        return cls(fail, **settings)

    def options(self) -> ProviderOptions:
        return self._options

    def set_options(self, options: ProviderOptions) -> None:
        self._options = options

    def serialize_config(self) -> Mapping[str, Any]:
        return dict(self._config)

    async def complete(self, request: LlmRequest) -> LlmResponse:
        answer = self._complete(request)
        return await answer if isawaitable(answer) else answer

    async def close(self) -> None:
        self.closed = True

    def components(self) -> ProviderComponents:
        return ProviderComponents(provider=self, model_policy=StaticModelPolicy(self._variants))

    def into_handle(
        self, *, clock: Clock | None = None, ids: IdSource | None = None
    ) -> ProviderHandle:
        """The handle on this provider, with its variants known."""
        return ProviderHandle(self.components(), clock=clock, ids=ids)


class GatedProvider(TestProvider):
    """Stops inside every call: sets `entered`, then waits for `release` before it answers.

    Cancelled at the gate, a call counts in `cancelled` and leaves as cancelled.
    """

    def __init__(
        self,
        entered: anyio.Event | None = None,
        release: anyio.Event | None = None,
        *,
        response: LlmResponse | None = None,
        kind: str = "test",
    ) -> None:
        super().__init__(self._wait_at_gate, kind=kind)
        self.entered = entered or anyio.Event()
        self.release = release or anyio.Event()
        self.waiting = 0
        self.cancelled = 0
        self._response = response or text_response("released")

    async def _wait_at_gate(self, request: LlmRequest) -> LlmResponse:
        self.entered.set()
        self.waiting += 1
        released = False
        try:
            await self.release.wait()
            released = True
        finally:
            self.waiting -= 1
            self.cancelled += not released
        return self._response
