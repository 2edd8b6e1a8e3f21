"""Requests and providers for the tests of the OpenAI-compatible adapter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lash_runtime.model.llm import (
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmStreamEvent,
)
from lash_runtime.providers.openai import OpenAICompatibleProvider
from lash_runtime.testing import FixedIdSource

KEY = "sk-test-0123456789abcdef"
SCOPE = LlmRequestScope(
    session_id="chat-1", agent_frame_id="root", request_id="chat-1:turn:t:llm:0"
)


def a_request(text: str = "hello", **changes: Any) -> LlmRequest:
    facts: dict[str, Any] = {
        "model": "some-model",
        "messages": (LlmMessage.text(LlmRole.USER, text),),
        "scope": SCOPE,
    }
    return LlmRequest(**(facts | changes))


def streaming(events: list[LlmStreamEvent], **changes: Any) -> LlmRequest:
    return a_request(stream_events=events.append, **changes)


@asynccontextmanager
async def a_provider(base_url: str, **settings: Any) -> AsyncIterator[OpenAICompatibleProvider]:
    facts: dict[str, Any] = {"api_key": KEY, "ids": FixedIdSource()}
    provider = OpenAICompatibleProvider(base_url=base_url, **(facts | settings))
    try:
        yield provider
    finally:
        await provider.close()
