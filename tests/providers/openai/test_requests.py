"""What is put on the wire for a request."""

import base64
import json
from typing import Any

import pytest

from lash_runtime.model.llm import (
    GenerationOptions,
    ImageBlock,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_runtime.model.messages import ProviderReasoningReplay, ProviderReplayMeta
from lash_runtime.model.schema import SchemaContract
from lash_runtime.ports.provider import CacheRetention, ProviderFailure, ProviderOptions
from lash_runtime.providers.openai import MaxTokensField, OpenAICompat
from providers.openai.conversations import KEY, a_provider, a_request, streaming
from providers.openai.endpoint import Received, delta, endpoint, finish, streamed

pytestmark = pytest.mark.anyio

PNG = LlmAttachment(mime="image/png", data=b"\x89PNG")
WEATHER = LlmToolSpec(
    name="weather",
    description="The weather of a city.",
    input_schema=SchemaContract(
        canonical={
            "type": "object",
            "properties": {"city": {"type": "string"}, "units": {"const": "metric"}},
            "required": ["city"],
        }
    ),
)


async def sent(request: LlmRequest | None = None, **settings: Any) -> Received:
    """The request as it reached the endpoint, which is taken for a remote one."""
    settings.setdefault("compat", OpenAICompat(**REMOTE))
    async with (
        endpoint(streamed(delta(content="x"), finish())) as server,
        a_provider(server.base_url, **settings) as provider,
    ):
        await provider.complete(request or streaming([]))
    return server.received[0]


REMOTE: dict[str, Any] = {
    "request_fields": True,
    "cache_session_affinity": True,
    "streaming_usage": True,
}


async def refused(request: LlmRequest, **settings: Any) -> ProviderFailure:
    """The failure of a request that must never reach the endpoint."""
    async with endpoint() as server, a_provider(server.base_url, **settings) as provider:
        with pytest.raises(ProviderFailure) as caught:
            await provider.complete(request)
        assert server.received == []
    return caught.value


def said(*messages: LlmMessage, **changes: Any) -> LlmRequest:
    return streaming([], messages=messages, **changes)


async def test_a_plain_request_has_these_fields_and_no_others() -> None:
    """Small servers refuse what they do not know, so nothing is sent without a reason."""
    received = await sent()
    assert (received.method, received.path) == ("POST", "/v1/chat/completions")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert received.body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 32_768,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_whole_conversation_is_replayed_in_order() -> None:
    """Results go before the message they sit in; reasoning and empty messages stay at home."""
    received = await sent(
        said(
            LlmMessage.text(LlmRole.SYSTEM, "Be brief."),
            LlmMessage(LlmRole.USER, (TextBlock("Weather"), TextBlock("in Oslo?"))),
            LlmMessage(
                LlmRole.ASSISTANT,
                (
                    ReasoningBlock("hm", ProviderReasoningReplay(signature="s")),
                    ToolCallBlock("c1", "weather", '{"city":  "Oslo"}'),
                    ToolCallBlock("c2", "weather", ""),
                ),
            ),
            LlmMessage(
                LlmRole.USER,
                (
                    ToolResultBlock("c1", "rain", "weather"),
                    ToolResultBlock("c2", ""),
                    TextBlock("And?"),
                ),
            ),
            LlmMessage(LlmRole.ASSISTANT, (ReasoningBlock("", ProviderReasoningReplay()),)),
            LlmMessage(LlmRole.ASSISTANT, (TextBlock("Rain."),)),
        )
    )
    assert received.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Weather"},
                {"type": "text", "text": "in Oslo?"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":  "Oslo"}'},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain", "name": "weather"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Rain."},
    ]


async def test_arguments_that_are_no_json_do_not_spoil_the_conversation() -> None:
    """Several endpoints parse the history again and would fail every later call of the session."""
    received = await sent(
        said(
            LlmMessage(LlmRole.ASSISTANT, (ToolCallBlock("c", "f", '{"a": '),)),
            LlmMessage(LlmRole.USER, (ToolResultBlock("c", "invalid arguments"),)),
        )
    )
    [call] = received.body["messages"][0]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"malformed_arguments": '{"a": '}


async def test_images_are_sent_inline_in_user_messages_alone() -> None:
    """Other roles take no images on this wire."""
    received = await sent(
        said(
            LlmMessage(LlmRole.USER, (TextBlock("What?"), ImageBlock(0))),
            LlmMessage(LlmRole.ASSISTANT, (TextBlock("A cat."), ImageBlock(0))),
            attachments=(LlmAttachment(mime=" IMAGE/JPG ", data=b"\xff\xd8"),),
        )
    )
    url = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8").decode()
    assert received.body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": url}},
            ],
        },
        {"role": "assistant", "content": "A cat."},
    ]


async def test_a_large_image_arrives_whole() -> None:
    """It is encoded beside the event loop and must not differ."""
    data = bytes(range(256)) * 2048
    received = await sent(
        said(
            LlmMessage(LlmRole.USER, (ImageBlock(0),)),
            attachments=(LlmAttachment(mime="image/png", data=data),),
        )
    )
    [part] = received.body["messages"][0]["content"]
    assert base64.b64decode(part["image_url"]["url"].partition(",")[2]) == data


@pytest.mark.parametrize(
    ("attachment", "code"),
    [
        (LlmAttachment(mime="image/bmp", data=b"BM"), "unsupported_image_format"),
        (LlmAttachment(mime="image/png"), "attachment_missing"),
    ],
)
async def test_an_image_that_cannot_be_sent_is_refused_before_sending(
    attachment: LlmAttachment, code: str
) -> None:
    """Also one that no message shows: the request is wrong as a whole."""
    failure = await refused(a_request(attachments=(PNG, attachment)))
    assert (failure.kind, failure.code) == (ProviderFailureKind.VALIDATION, code)
    assert not failure.retryable
    assert "1" in failure.message


async def test_a_reference_to_no_attachment_is_refused() -> None:
    """An index out of range is a bug of the caller and is said to be one."""
    failure = await refused(said(LlmMessage(LlmRole.USER, (ImageBlock(3),)), attachments=(PNG,)))
    assert failure.code == "attachment_missing"


async def test_tools_are_sent_in_the_dialect_and_without_their_output_schema() -> None:
    """`const` is not understood everywhere, an enum of one is."""
    received = await sent(streaming([], tools=(WEATHER,), tool_choice=LlmToolChoice.REQUIRED))
    assert received.body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "The weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string"},
                        "units": {"type": "string", "enum": ["metric"]},
                    },
                    "required": ["city"],
                },
            },
        }
    ]
    assert received.body["tool_choice"] == "required"
    assert received.body["parallel_tool_calls"] is True


async def test_strict_tools_are_said_to_be_strict() -> None:
    """Then every property is required and an optional one may be null."""
    compat = OpenAICompat(strict_tools=True)
    received = await sent(streaming([], tools=(WEATHER,)), compat=compat)
    function = received.body["tools"][0]["function"]
    assert function["strict"] is True
    assert function["parameters"]["required"] == ["city", "units"]
    assert function["parameters"]["additionalProperties"] is False
    assert function["parameters"]["properties"]["units"]["enum"] == ["metric", None]


async def test_without_tools_there_is_no_tool_choice() -> None:
    """Endpoints refuse a choice among nothing."""
    received = await sent(streaming([], tool_choice=LlmToolChoice.AUTO))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & received.body.keys()


async def test_a_schema_outside_of_the_dialect_is_refused_by_name() -> None:
    """Dropping a keyword in silence would change what the tool accepts."""
    spec = LlmToolSpec(
        name="t",
        description="",
        input_schema=SchemaContract(
            canonical={"type": "object", "properties": {"x": {"not": {"type": "null"}}}}
        ),
    )
    failure = await refused(a_request(tools=(spec,)))
    assert failure.kind is ProviderFailureKind.VALIDATION
    assert "root.properties.x: not is not supported" in failure.message
    assert json.loads(failure.raw or "")["dialect"] == "openai_tool_parameters"


async def test_structured_output_is_asked_for() -> None:
    """Both forms."""
    schema = SchemaContract(canonical={"type": "object", "properties": {"a": {"type": "integer"}}})
    plain = await sent(streaming([], output_spec=JsonObjectOutput()))
    strict = await sent(streaming([], output_spec=JsonSchemaOutput(name="answer", schema=schema)))
    assert plain.body["response_format"] == {"type": "json_object"}
    assert strict.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"a": {"type": ["integer", "null"]}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }


async def test_the_narrowest_cap_wins() -> None:
    """A request's own, else the provider's option, else the default."""
    options = ProviderOptions(max_output_tokens=500)
    asked = streaming([], generation=GenerationOptions(output_token_cap=7))
    assert (await sent(asked, options=options)).body["max_tokens"] == 7
    assert (await sent(options=options)).body["max_tokens"] == 500


@pytest.mark.parametrize("name", list(MaxTokensField))
async def test_the_cap_goes_by_the_name_the_endpoint_knows(name: MaxTokensField) -> None:
    """OpenAI's newer models refuse the old name, other endpoints the new one."""
    body = (await sent(compat=OpenAICompat(max_tokens_field=name))).body
    found = {field for field in body if field.startswith("max_")}
    assert found == (set() if name is MaxTokensField.OMIT else {name.value})


@pytest.mark.parametrize(
    ("compat", "field"),
    [
        (OpenAICompat.openai(), {"reasoning_effort": "high"}),
        (OpenAICompat.openrouter(), {"reasoning": {"effort": "high"}}),
    ],
)
async def test_a_variant_is_sent_as_reasoning_effort(
    compat: OpenAICompat, field: dict[str, Any]
) -> None:
    """Each endpoint has its own way to say it."""
    received = await sent(streaming([], model_variant="high"), compat=compat)
    assert field.items() <= received.body.items()


async def test_a_variant_that_cannot_be_said_is_refused() -> None:
    """Dropping it would answer with less thought than was asked and paid for."""
    failure = await refused(a_request(model_variant="high"))
    assert failure.code == "reasoning_encoding_unrepresentable"


async def test_session_headers_are_sent_where_they_are_understood() -> None:
    """They keep a session on the machine that has its prefix cached."""
    remote, local = await sent(), await sent(compat=OpenAICompat.local())
    assert remote.headers["session_id"] == "chat-1"
    assert remote.headers["x-client-request-id"] == "chat-1:turn:t:llm:0"
    assert "session_id" not in local.headers


@pytest.mark.parametrize("session_id", ["x" * 10_000, "a\r\nx-evil: 1", "größe", "\ud800"])
async def test_a_session_id_that_is_no_header_is_sent_as_its_hash(session_id: str) -> None:
    """Ids are a host's own: of any length, in any alphabet, with line breaks."""
    scope = LlmRequestScope(session_id=session_id, agent_frame_id="f", request_id="r")
    received = await sent(streaming([], scope=scope))
    assert len(received.headers["session_id"]) == 64
    assert "x-evil" not in received.headers


CACHED = (
    LlmMessage.text(LlmRole.SYSTEM, "Be brief."),
    LlmMessage(LlmRole.USER, (TextBlock("one", cache_breakpoint=True),)),
    LlmMessage.text(LlmRole.ASSISTANT, "two"),
    LlmMessage.text(LlmRole.USER, "three"),
)


def marked(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every text with a cache marker, and the tools with one."""
    texts = [
        (part["text"], part["cache_control"])
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if "cache_control" in part
    ]
    tools = [
        (tool["function"]["name"], tool["cache_control"])
        for tool in body.get("tools", ())
        if "cache_control" in tool
    ]
    return texts + tools


async def test_claude_behind_openrouter_is_told_what_to_cache() -> None:
    """Instructions, tools, and the marked text, or else the latest."""
    short, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    compat = OpenAICompat.openrouter()
    claude: dict[str, Any] = {"model": "anthropic/claude-x", "tools": (WEATHER,)}
    explicit = await sent(said(*CACHED, **claude), compat=compat)
    latest = await sent(
        said(CACHED[0], *CACHED[2:], **claude),
        compat=compat,
        options=ProviderOptions(cache_retention=CacheRetention.LONG),
    )
    assert marked(explicit.body) == [("Be brief.", short), ("one", short), ("weather", short)]
    assert marked(latest.body) == [("Be brief.", long), ("three", long), ("weather", long)]


@pytest.mark.parametrize(
    ("model", "compat", "retention"),
    [
        ("openai/gpt", OpenAICompat.openrouter(), CacheRetention.SHORT),
        ("claude-x", OpenAICompat(), CacheRetention.SHORT),
        ("claude-x", OpenAICompat.openrouter(), CacheRetention.NONE),
    ],
)
async def test_nobody_else_sees_a_marker(
    model: str, compat: OpenAICompat, retention: CacheRetention
) -> None:
    """Contents stay plain strings and the mark of the request stays inside."""
    received = await sent(
        said(*CACHED, model=model),
        compat=compat,
        options=ProviderOptions(cache_retention=retention),
    )
    assert marked(received.body) == []
    assert [message["content"] for message in received.body["messages"]] == [
        "Be brief.",
        "one",
        "two",
        "three",
    ]


async def test_encrypted_reasoning_goes_back_to_where_it_came_from_and_nowhere_else() -> None:
    """Another model or endpoint refuses the whole request over an item it did not mint."""
    detail = {"type": "reasoning.encrypted", "id": "c1", "data": "xyz", "format": "f", "index": 0}
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    first = streamed(
        delta(tool_calls=[call]), delta(reasoning_details=[detail]), finish("tool_calls")
    )
    answer = streamed(delta(content="x"), finish())
    async with (
        endpoint(first, list(answer), list(answer)) as server,
        a_provider(server.base_url) as provider,
    ):
        response = await provider.complete(streaming([]))
        [part] = response.parts
        stored = ProviderReplayMeta.model_validate_json(part.replay.model_dump_json())
        history = LlmMessage(LlmRole.ASSISTANT, (ToolCallBlock("c1", "f", "{}", stored),))
        await provider.complete(said(history))
        same = server.body["messages"][0]
        await provider.complete(said(history, model="another-model"))
        other = server.body["messages"][0]
    assert same["reasoning_details"] == [detail]
    assert "reasoning_details" not in other


async def test_a_failed_call_changes_nothing_about_the_request() -> None:
    """Requests are shared with retries and traces."""
    request = streaming([], tools=(WEATHER,), model="anthropic/claude-x", messages=CACHED)
    copies = (request.messages, request.tools[0].input_schema.model_dump_json())
    await sent(request, compat=OpenAICompat.openrouter(strict_tools=True))
    assert copies == (request.messages, request.tools[0].input_schema.model_dump_json())


@pytest.mark.parametrize(
    ("compat", "retention", "kept"),
    [
        (OpenAICompat.openai(), CacheRetention.LONG, {"store": False, "retention": "24h"}),
        (OpenAICompat.openai(), CacheRetention.SHORT, {"store": False}),
        (OpenAICompat.openai(), CacheRetention.NONE, {"store": False}),
        (OpenAICompat.openai(store=False, prompt_cache_retention=False), CacheRetention.LONG, {}),
        (OpenAICompat.openrouter(), CacheRetention.LONG, {}),
        (OpenAICompat.local(), CacheRetention.LONG, {}),
        (
            OpenAICompat.local(prompt_cache_retention=True),
            CacheRetention.LONG,
            {"retention": "24h"},
        ),
    ],
)
async def test_what_an_endpoint_keeps_is_said_where_it_is_understood(
    compat: OpenAICompat, retention: CacheRetention, kept: dict[str, Any]
) -> None:
    """No copy of a conversation beyond the cache; a long cache only where a host asked for it."""
    received = await sent(options=ProviderOptions(cache_retention=retention), compat=compat)
    found = {
        "store": received.body.get("store"),
        "retention": received.body.get("prompt_cache_retention"),
    }
    assert {name: value for name, value in found.items() if value is not None} == kept
