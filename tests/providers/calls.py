"""What the tests of the ladder and the limiter have in common."""

from collections.abc import Sequence
from typing import Any

from lash_runtime.model.llm import (
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    ProviderFailureKind,
)
from lash_runtime.ports.clock import Clock
from lash_runtime.ports.provider import (
    ProviderFailure,
    ProviderOptions,
    ProviderReliability,
    ProviderRetryPolicy,
)
from lash_runtime.providers import ProviderHandle
from lash_runtime.testing import FixedIdSource, ScriptedProvider
from lash_runtime.testing.scripted import Step

SCOPE = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r")


def a_request(text: str = "hello", **changes: Any) -> LlmRequest:
    facts: dict[str, Any] = {
        "model": "m",
        "messages": (LlmMessage.text(LlmRole.USER, text),),
        "scope": SCOPE,
    }
    return LlmRequest(**(facts | changes))


def throttled(retry_after: str | None = None) -> ProviderFailure:
    headers = [] if retry_after is None else [("Retry-After", retry_after)]
    return ProviderFailure("slow down", status=429, headers=headers)


def unavailable(retry_after: str | None = None) -> ProviderFailure:
    headers = [] if retry_after is None else [("Retry-After", retry_after)]
    return ProviderFailure("down", status=503, headers=headers)


def refused() -> ProviderFailure:
    return ProviderFailure("no", kind=ProviderFailureKind.VALIDATION, status=400)


def a_handle(
    script: Sequence[Step], clock: Clock, *, seed: int = 0, **retry: Any
) -> tuple[ProviderHandle, ScriptedProvider]:
    """A handle on a script, with the default policy but for `retry`."""
    provider = ScriptedProvider(
        script,
        options=ProviderOptions(
            reliability=ProviderReliability(retry=ProviderRetryPolicy(**retry))
        ),
    )
    return ProviderHandle.of(provider, clock=clock, ids=FixedIdSource(seed)), provider
