"""What a stream becomes: deltas while it runs, one response at its end."""

import itertools
import json
from collections import Counter

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lash_runtime.model.llm import (
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    PartDelta,
    ReasoningDelta,
    ReasoningOutput,
    TextDelta,
    TextOutput,
    ToolCallOutputPart,
    UsageDelta,
)
from lash_runtime.ports.provider import ProviderOptions
from lash_runtime.providers.openai import OpenAICompat
from lash_runtime.testing import usage
from providers.openai.conversations import a_provider, a_request, streaming
from providers.openai.endpoint import (
    END,
    Script,
    answered,
    delta,
    endpoint,
    event,
    finish,
    head,
    piece,
    streamed,
)

pytestmark = pytest.mark.anyio


async def asked(script: Script, **settings: object) -> tuple[LlmResponse, list[LlmStreamEvent]]:
    events: list[LlmStreamEvent] = []
    async with endpoint(script) as server, a_provider(server.base_url, **settings) as provider:
        return await provider.complete(streaming(events)), events


async def test_text_arrives_in_pieces_and_adds_up() -> None:
    """Deltas are shown as they come, and their sum is what is committed."""
    response, events = await asked(
        streamed(
            delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), finish()
        )
    )
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert response.full_text == "Hello"
    assert response.parts == (TextOutput("Hello"),)
    assert response.terminal_reason is LlmTerminalReason.STOP


async def test_a_piece_that_repeats_the_text_so_far_is_not_dropped() -> None:
    """Deltas are append-only: "a" after "a" means "aa"."""
    response, _ = await asked(streamed(delta(content="a"), delta(content="a"), finish()))
    assert response.full_text == "aa"


async def test_parallel_tool_calls_are_put_together_from_their_fragments() -> None:
    """Fragments of several calls interleave; each argument text stays the model's own."""
    response, events = await asked(
        streamed(
            delta(
                tool_calls=[{"index": 0, "id": "c1", "function": {"name": "a", "arguments": ""}}]
            ),
            delta(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "b"}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x": '}}]),
            delta(
                tool_calls=[
                    {"index": 1, "function": {"arguments": "[1]"}},
                    {"index": 0, "function": {"arguments": "1}"}},
                ]
            ),
            finish("tool_calls"),
        )
    )
    calls = (ToolCallOutputPart("c1", "a", '{"x": 1}'), ToolCallOutputPart("c2", "b", "[1]"))
    assert response.parts == calls
    assert response.terminal_reason is LlmTerminalReason.TOOL_USE
    assert events == [PartDelta(call) for call in calls]


async def test_calls_of_servers_that_number_badly_stay_apart() -> None:
    """Real servers send every call as index 0, leave the index out, or send objects."""
    response, _ = await asked(
        streamed(
            delta(
                tool_calls=[{"index": 0, "id": "c1", "function": {"name": "a", "arguments": "{}"}}]
            ),
            delta(
                tool_calls=[
                    {"index": 0, "id": "c2", "function": {"name": "b", "arguments": {"y": 2}}}
                ]
            ),
            finish("stop"),
        )
    )
    assert response.parts == (
        ToolCallOutputPart("c1", "a", "{}"),
        ToolCallOutputPart("c2", "b", '{"y": 2}'),
    )


async def test_a_call_without_id_gets_one_and_a_call_without_name_is_dropped() -> None:
    """A result needs an id to answer to, and nothing can be called that has no name."""
    response, _ = await asked(
        streamed(
            delta(tool_calls=[{"function": {"name": "a"}}, {"function": {"arguments": "{}"}}]),
            finish("tool_calls"),
        )
    )
    [call] = response.parts
    assert isinstance(call, ToolCallOutputPart)
    assert call.call_id
    assert (call.tool_name, call.input_json) == ("a", "{}")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text"])
async def test_reasoning_is_kept_and_shown_only_on_request(name: str) -> None:
    """Thinking is not for every audience, but it is part of what the model produced."""
    chunks = streamed(delta(**{name: "hm"}), delta(content="42"), finish())
    hidden, hidden_events = await asked(list(chunks))
    shown, shown_events = await asked(list(chunks), options=ProviderOptions(expose_thinking=True))
    assert hidden.parts == shown.parts == (ReasoningOutput("hm"), TextOutput("42"))
    assert hidden_events == [TextDelta("42")]
    assert shown_events == [ReasoningDelta("hm"), TextDelta("42")]


async def test_content_in_parts_is_read_as_text_and_thinking() -> None:
    """Some endpoints send a list where others send a string."""
    response, _ = await asked(
        streamed(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content=[{"type": "text", "text": "ok"}]),
            finish(),
        )
    )
    assert response.parts == (ReasoningOutput("hm"), TextOutput("ok"))


async def test_a_refusal_is_what_the_user_reads() -> None:
    """A refusal comes in a field of its own and must not look like silence."""
    response, events = await asked(streamed(delta(refusal="I cannot."), finish()))
    assert response.full_text == "I cannot."
    assert response.terminal_diagnostic == "the model refused to answer"
    assert events == [TextDelta("I cannot.")]


async def test_usage_is_split_into_fresh_cached_and_reasoning_tokens() -> None:
    """What a cache served is not paid as input; reasoning is part of the output."""
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 15},
        "cost": 0.25,
    }
    response, events = await asked(
        streamed(delta(content="x"), finish(), {"choices": [], "usage": raw})
    )
    assert response.usage == usage(60, 35, cache_read=40, reasoning=15)
    assert events[-1] == UsageDelta(response.usage)
    assert response.provider_usage == raw


async def test_usage_of_several_events_adds_up_to_the_latest_of_each() -> None:
    """Input and output may be reported apart; a zero says nothing."""
    response, _ = await asked(
        streamed(
            delta(content="x") | {"usage": {"prompt_tokens": 9, "completion_tokens": 0}},
            finish() | {"usage": None},
            {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 4}},
        )
    )
    assert response.usage == usage(9, 4)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", LlmTerminalReason.STOP),
        ("tool_calls", LlmTerminalReason.TOOL_USE),
        ("function_call", LlmTerminalReason.TOOL_USE),
        ("length", LlmTerminalReason.OUTPUT_LIMIT),
        ("max_tokens", LlmTerminalReason.OUTPUT_LIMIT),
        ("content_filter", LlmTerminalReason.CONTENT_FILTER),
        ("safety", LlmTerminalReason.CONTENT_FILTER),
        ("never_heard_of", LlmTerminalReason.PROVIDER_ERROR),
    ],
)
async def test_finish_reasons_are_translated(reason: str, expected: LlmTerminalReason) -> None:
    """The turn's outcome hangs on it."""
    response, _ = await asked(streamed(delta(content="x"), finish(reason)))
    assert response.terminal_reason is expected


async def test_a_finish_reason_without_a_delta_counts() -> None:
    """Some servers leave the empty delta out of their last chunk."""
    response, _ = await asked(
        streamed(delta(content="x"), {"choices": [{"finish_reason": "length"}]})
    )
    assert response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT


async def test_comments_and_unknown_events_are_passed_over() -> None:
    """Keep-alive comments and events of a later API are no errors."""
    response, events = await asked(
        [
            head(),
            piece(": PROCESSING\n\n"),
            event({"object": "something.new", "choices": "later"}),
            event([1, 2]),
            event(delta(content="x", surprise={"a": 1})),
            event(finish()),
            event("[DONE]"),
            END,
        ]
    )
    assert (response.full_text, events) == ("x", [TextDelta("x")])


async def test_a_whole_answer_to_a_streaming_request_is_streamed_from_here() -> None:
    """Proxies buffer; the caller sees the same events in the same order."""
    body = {
        "choices": [{"message": {"content": "Hi", "reasoning": "hm"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    response, events = await asked(answered(body), options=ProviderOptions(expose_thinking=True))
    assert response.full_text == "Hi"
    assert events == [UsageDelta(usage(3, 2)), ReasoningDelta("hm"), TextDelta("Hi")]


async def test_without_a_listener_the_answer_comes_in_one_piece() -> None:
    """No callback means no stream on the wire either."""
    body = {
        "choices": [
            {
                "message": {
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "a", "arguments": '{"x": 1}'}}
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ]
    }
    async with endpoint(answered(body)) as server, a_provider(server.base_url) as provider:
        response = await provider.complete(a_request())
        assert "stream" not in server.body
    assert response.parts == (ToolCallOutputPart("c1", "a", '{"x": 1}'),)
    assert response.http_summary == f"HTTP POST {server.base_url}/chat/completions"


async def test_events_are_traced_as_they_came_with_fields_nobody_knows() -> None:
    """A trace is for finding out what an endpoint really said."""
    seen = []
    async with (
        endpoint(streamed(delta(content="x", odd=1), finish())) as server,
        a_provider(server.base_url) as provider,
    ):
        await provider.complete(streaming([], provider_trace=seen.append))
    assert [json.loads(trace.raw) for trace in seen] == [delta(content="x", odd=1), finish()]


async def test_a_burst_leaves_the_loop_its_turns() -> None:
    """A fast endpoint must not stop everything else in the program."""
    turns = 0
    events_in_turn: Counter[int] = Counter()

    async def tick() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    def receive(event: LlmStreamEvent) -> None:
        events_in_turn[turns] += 1

    burst = piece((b"data: " + json.dumps(delta(content="x")).encode() + b"\n\n") * 6_400)
    async with (
        endpoint([head(), burst, event(finish()), event("[DONE]"), END]) as server,
        a_provider(server.base_url) as provider,
        anyio.create_task_group() as group,
    ):
        group.start_soon(tick)
        await provider.complete(a_request(stream_events=receive))
        group.cancel_scope.cancel()
    assert events_in_turn.total() == 6_400
    assert max(events_in_turn.values()) <= 64


async def test_a_local_preset_takes_the_end_of_the_stream_for_the_end() -> None:
    """Small servers leave the finish reason out; the host has said that this is one."""
    response, _ = await asked([head(), event(delta(content="x")), END], compat=OpenAICompat.local())
    assert response.full_text == "x"
    assert response.terminal_reason is LlmTerminalReason.STOP


async def test_an_answer_with_its_finish_reason_is_whole_even_if_the_line_breaks_then() -> None:
    """What can still be missing is the token count, and that is not worth a second call."""
    response, _ = await asked([head(), event(delta(content="x")), event(finish())])
    assert response.full_text == "x"


TRANSCRIPT = (
    b"".join(
        f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n".encode()
        for chunk in (
            delta(content="Grüße, "),
            delta(reasoning="…"),
            delta(content="世界 🌍"),
            delta(
                tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"ö"'}}]
            ),
            delta(tool_calls=[{"index": 0, "function": {"arguments": ': "é"}'}}]),
            finish("tool_calls", usage={"prompt_tokens": 5, "completion_tokens": 7}),
        )
    )
    + b"data: [DONE]\r\n\r\n"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.sets(st.integers(1, len(TRANSCRIPT) - 1), max_size=40))
def test_how_the_bytes_are_cut_changes_nothing(cuts: set[int]) -> None:
    """A network cuts anywhere, also inside of a character."""
    edges = [0, *sorted(cuts), len(TRANSCRIPT)]
    pieces = [piece(TRANSCRIPT[a:b]) for a, b in itertools.pairwise(edges)]
    response, events = anyio.run(asked, [head(), *pieces, END])
    assert response.full_text == "Grüße, 世界 🌍"
    assert response.parts[-1] == ToolCallOutputPart("c", "f", '{"ö": "é"}')
    assert response.usage == usage(5, 7)
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Grüße, ", "世界 🌍"]
