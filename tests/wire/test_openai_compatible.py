"""The OpenAI-compatible provider against llama.cpp's own server with a real model.

Scripts prove the adapter against what we believe about endpoints; this server tests the belief.
What the model says is not asserted, only what the protocol promises about it.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
from anyio import to_thread

from lash_runtime.model.llm import (
    GenerationOptions,
    JsonSchemaOutput,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmStreamEvent,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
    PartDelta,
    ProviderFailureKind,
    TextDelta,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
    UsageDelta,
)
from lash_runtime.model.schema import SchemaContract
from lash_runtime.ports.provider import ProviderFailure
from lash_runtime.providers import ProviderHandle, as_handle
from lash_runtime.providers.openai import OpenAICompatibleProvider
from lash_runtime.testing.local_model import LocalModel

pytestmark = [pytest.mark.wire, pytest.mark.anyio]

SCOPE = LlmRequestScope(session_id="wire", agent_frame_id="root", request_id="wire:1")
WEATHER = LlmToolSpec(
    name="weather",
    description="The weather of a city.",
    input_schema=SchemaContract(
        canonical={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        }
    ),
)


def asking(*messages: LlmMessage | str, cap: int = 24, **changes: Any) -> LlmRequest:
    facts: dict[str, Any] = {
        "model": "gemma-3-270m",
        "messages": tuple(
            LlmMessage.text(LlmRole.USER, message) if isinstance(message, str) else message
            for message in messages
        ),
        "scope": SCOPE,
        "generation": GenerationOptions(output_token_cap=cap),
    }
    return LlmRequest(**(facts | changes))


@asynccontextmanager
async def handle_on(model: LocalModel) -> AsyncIterator[ProviderHandle]:
    handle = as_handle(model.provider())
    try:
        yield handle
    finally:
        await handle.close()


async def busy_slots(model: LocalModel) -> int:
    """How many calls the server is working on, by its own account."""

    def look() -> int:
        with urlopen(model.base_url.removesuffix("/v1") + "/slots") as answer:
            return sum(slot["is_processing"] for slot in json.load(answer))

    return await to_thread.run_sync(look)


async def test_text_streams_and_its_tokens_are_counted(model: LocalModel) -> None:
    """The deltas are the answer, and the server's own count comes at the end."""
    events: list[LlmStreamEvent] = []
    async with handle_on(model) as handle:
        response = await handle.complete(asking("Hello!", stream_events=events.append))
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 1
    assert "".join(deltas) == response.full_text
    assert events[-1] == UsageDelta(response.usage)
    assert response.usage.input_total > 10
    assert 0 < response.usage.output_tokens <= 24
    assert response.terminal_reason in (LlmTerminalReason.STOP, LlmTerminalReason.OUTPUT_LIMIT)


async def test_an_answer_in_one_piece_says_the_same(model: LocalModel) -> None:
    """At temperature zero the two ways of asking may differ in form alone."""
    async with handle_on(model) as handle:
        streamed = await handle.complete(asking("Hello!", stream_events=lambda event: None))
        whole = await handle.complete(asking("Hello!"))
    assert whole.full_text == streamed.full_text
    assert whole.usage.output_tokens == streamed.usage.output_tokens


async def test_an_answer_that_is_cut_by_its_cap_says_so(model: LocalModel) -> None:
    """An incomplete answer must not pass for a whole one."""
    async with handle_on(model) as handle:
        response = await handle.complete(asking("Hello!", cap=2, stream_events=lambda e: None))
    assert response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
    assert response.usage.output_tokens == 2


async def test_a_tool_is_called_and_its_result_answered(model: LocalModel) -> None:
    """The whole round: the call as the server parses it, then the history it has to take back."""
    events: list[LlmStreamEvent] = []
    tools: dict[str, Any] = {"tools": (WEATHER,), "cap": 64, "stream_events": events.append}
    question = LlmMessage.text(LlmRole.USER, "weather in Oslo")
    async with handle_on(model) as handle:
        called = await handle.complete(
            asking(question, tool_choice=LlmToolChoice.REQUIRED, **tools)
        )
        call = next(part for part in called.parts if isinstance(part, ToolCallOutputPart))
        assert called.terminal_reason is LlmTerminalReason.TOOL_USE
        assert call.tool_name == "weather"
        assert isinstance(json.loads(call.input_json)["city"], str)
        assert PartDelta(call) in events
        answered = await handle.complete(
            asking(
                question,
                LlmMessage(
                    LlmRole.ASSISTANT,
                    (ToolCallBlock(call.call_id, call.tool_name, call.input_json),),
                ),
                LlmMessage(LlmRole.USER, (ToolResultBlock(call.call_id, "rain", "weather"),)),
                tool_choice=LlmToolChoice.AUTO,
                **tools,
            )
        )
    assert answered.parts


async def test_a_malformed_call_in_the_history_is_survived(model: LocalModel) -> None:
    """This server parses arguments again and would refuse the session from then on."""
    async with handle_on(model) as handle:
        response = await handle.complete(
            asking(
                "weather in Oslo",
                LlmMessage(LlmRole.ASSISTANT, (ToolCallBlock("c1", "weather", '{"city": '),)),
                LlmMessage(LlmRole.USER, (ToolResultBlock("c1", "invalid arguments"),)),
                tools=(WEATHER,),
                tool_choice=LlmToolChoice.AUTO,
                cap=2,
            )
        )
    assert response.usage.output_tokens


async def test_structured_output_follows_its_schema(model: LocalModel) -> None:
    """The server decodes under the schema, so even this model cannot leave it."""
    schema = SchemaContract(
        canonical={
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
        }
    )
    async with handle_on(model) as handle:
        response = await handle.complete(
            asking(
                'Write {"city":"Oslo"}',
                cap=128,
                output_spec=JsonSchemaOutput(name="place", schema=schema),
            )
        )
    assert json.loads(response.full_text)["city"] in ("Oslo", "Rome")


async def test_a_prompt_that_does_not_fit_is_an_overflow(model: LocalModel) -> None:
    """In the words of a server that nobody here wrote, and without a retry."""
    async with handle_on(model) as handle:
        with pytest.raises(ProviderFailure) as caught:
            await handle.complete(asking("word " * 3000, stream_events=lambda event: None))
    failure = caught.value
    assert failure.status == 400
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)


async def test_a_wrong_address_is_reported_in_the_servers_words(model: LocalModel) -> None:
    """A base URL without its version is the usual mistake, and no retry mends it."""
    provider = OpenAICompatibleProvider(base_url=model.base_url.removesuffix("/v1") + "/v9")
    handle = as_handle(provider)
    try:
        with pytest.raises(ProviderFailure, match="failed with 404: ") as caught:
            await handle.complete(asking("Hello!"))
    finally:
        await handle.close()
    assert not caught.value.retryable


async def test_a_schema_the_server_cannot_follow_is_refused(model: LocalModel) -> None:
    """Its own words say which part of the schema it was."""
    dangling = SchemaContract(
        canonical={"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}}
    )
    async with handle_on(model) as handle:
        with pytest.raises(ProviderFailure, match="missing") as caught:
            await handle.complete(
                asking("Hello!", output_spec=JsonSchemaOutput(name="a", schema=dangling))
            )
    assert caught.value.status == 400


async def test_cancelling_frees_the_server(model: LocalModel) -> None:
    """A model that writes on for nobody blocks the next caller."""
    begun = anyio.Event()
    async with handle_on(model) as handle:
        async with anyio.create_task_group() as group:
            group.start_soon(
                handle.complete,
                asking(
                    "Hello!",
                    cap=1500,
                    output_spec=JsonSchemaOutput(name="long", schema=ENDLESS),
                    stream_events=lambda event: begun.set(),
                ),
            )
            await begun.wait()
            assert await busy_slots(model) == 1
            group.cancel_scope.cancel()
        with anyio.fail_after(30):
            while await busy_slots(model):
                pass
        response = await handle.complete(asking("Hello!", cap=2))
    assert response.usage.output_tokens == 2


ENDLESS = SchemaContract(
    canonical={
        "type": "object",
        "properties": {"n": {"type": "array", "items": {"type": "string"}, "minItems": 400}},
        "required": ["n"],
    }
)


async def test_calls_run_side_by_side(model: LocalModel) -> None:
    """One provider, two conversations, no mixing."""
    texts: dict[str, str] = {}
    async with handle_on(model) as handle:

        async def call(words: str) -> None:
            response = await handle.complete(asking(words, stream_events=lambda event: None))
            texts[words] = response.full_text

        async with anyio.create_task_group() as group:
            group.start_soon(call, "Hello!")
            group.start_soon(call, "Thank you.")
    assert all(texts.values())
