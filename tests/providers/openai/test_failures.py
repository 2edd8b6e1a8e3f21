"""Every way in which a call can fail, seen on the wire and judged as a turn would see it."""

import json
from typing import Any

import anyio
import pytest

from lash_runtime.model.llm import (
    LlmStreamEvent,
    LlmTerminalReason,
    ProviderFailureKind,
    TextDelta,
    ToolCallOutputPart,
)
from lash_runtime.ports.provider import (
    ProviderFailure,
    ProviderOptions,
    ProviderReliability,
)
from lash_runtime.providers import DefaultProviderFailureClassifier
from lash_runtime.testing import ManualClock, usage
from providers.openai.conversations import KEY, a_provider, a_request, streaming
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
)

pytestmark = pytest.mark.anyio


async def failed(script: Script, *, stream: bool = True, **settings: Any) -> ProviderFailure:
    """The failure of one attempt as the classifier leaves it."""
    request = streaming([]) if stream else a_request()
    async with endpoint(script) as server, a_provider(server.base_url, **settings) as provider:
        with pytest.raises(ProviderFailure) as caught:
            await provider.complete(request)
    return DefaultProviderFailureClassifier().classify(caught.value)


def error_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        ("400 Bad Request", ProviderFailureKind.VALIDATION, False),
        ("401 Unauthorized", ProviderFailureKind.AUTH, False),
        ("403 Forbidden", ProviderFailureKind.AUTH, False),
        ("404 Not Found", ProviderFailureKind.HTTP, False),
        ("408 Request Timeout", ProviderFailureKind.HTTP, True),
        ("409 Conflict", ProviderFailureKind.HTTP, True),
        ("413 Too Large", ProviderFailureKind.VALIDATION, False),
        ("422 Unprocessable", ProviderFailureKind.VALIDATION, False),
        ("429 Too Many Requests", ProviderFailureKind.QUOTA, True),
        ("500 Internal Server Error", ProviderFailureKind.HTTP, True),
        ("503 Unavailable", ProviderFailureKind.HTTP, True),
        ("529 Overloaded", ProviderFailureKind.HTTP, True),
    ],
)
async def test_a_status_decides_kind_and_retry(
    status: str, kind: ProviderFailureKind, retryable: bool, stream: bool
) -> None:
    """The SDK must not have retried on its own: the script has one answer."""
    failure = await failed(answered(error_body("nope"), status), stream=stream)
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert failure.status == int(status[:3])
    assert failure.message == f"OpenAI-compatible request failed with {status[:3]}: nope"


async def test_a_throttled_answer_says_how_long_to_wait() -> None:
    """The ladder waits as asked; all headers are kept, duplicates included."""
    failure = await failed(
        answered(
            error_body("slow down"),
            "429 Too Many Requests",
            [("Retry-After", "7"), ("x-request-id", "a"), ("x-request-id", "b")],
        )
    )
    assert failure.retry_after == 7
    assert [value for name, value in failure.headers if name == "x-request-id"] == ["a", "b"]


async def test_an_exhausted_account_is_not_tried_again() -> None:
    """Waiting does not fill an account."""
    failure = await failed(
        answered(
            error_body("You exceeded your current quota", code="insufficient_quota"),
            "429 Too Many Requests",
        )
    )
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.QUOTA, False)


async def test_a_prompt_that_is_too_long_is_told_apart() -> None:
    """The turn ends with a reason of its own, so that a host can compact."""
    failure = await failed(
        answered(
            error_body("request (8023 tokens) exceeds the available context size (1024 tokens)"),
            "400 Bad Request",
        )
    )
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert failure.retryable is False


async def test_an_error_page_is_quoted_by_its_beginning() -> None:
    """Proxies answer in HTML; a message must stay a line."""
    failure = await failed(answered("<html>" + "x" * 1000, "502 Bad Gateway"))
    assert failure.retryable
    assert len(failure.message) < 300


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"message": "busy", "type": "overloaded"}, ProviderFailureKind.STREAM, True),
        ({"message": "busy", "code": "slow_down"}, ProviderFailureKind.QUOTA, True),
        ({"message": "busy", "code": 429}, ProviderFailureKind.QUOTA, True),
        ({"message": "broken", "code": 502}, ProviderFailureKind.STREAM, True),
        ({"message": "who are you", "code": 401}, ProviderFailureKind.AUTH, False),
        ({"message": "odd"}, ProviderFailureKind.STREAM, False),
        ("just text", ProviderFailureKind.STREAM, False),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
async def test_an_error_under_a_status_of_success_is_judged_by_its_code(
    error: Any, kind: ProviderFailureKind, retryable: bool, whole: bool
) -> None:
    """Gateways have sent 200 before they know."""
    script = answered({"error": error}) if whole else [head(), event({"error": error}), END]
    failure = await failed(script, stream=not whole)
    assert (failure.kind, failure.retryable) == (kind, retryable)


async def test_an_overflow_reported_inside_the_stream_keeps_its_reason() -> None:
    """It must not turn into an ordinary broken stream, which would be retried for nothing."""
    failure = await failed(
        [head(), event(error_body("too long", code="context_length_exceeded")), END]
    )
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert failure.retryable is False


async def test_a_choice_that_ends_in_error_is_a_failure() -> None:
    """`finish_reason: "error"` is how some gateways report that the model behind them died."""
    failure = await failed([head(), event(delta(content="x")), event(finish("error")), END])
    assert failure.kind is ProviderFailureKind.STREAM


async def test_a_cut_stream_is_retryable_and_carries_what_had_arrived() -> None:
    """It may be billed, so it is counted; its tool call is never executed."""
    failure = await failed(
        [
            head(),
            event(delta(content="Hel")),
            event(delta(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": '{"a'}}])),
            event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        ]
    )
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, True)
    assert failure.code == "stream_disconnected"
    assert failure.partial is not None
    assert failure.partial.full_text == "Hel"
    assert failure.partial.usage == usage(5, 2)


async def test_the_calls_of_a_cut_stream_are_never_announced() -> None:
    """Half of an argument list may still be valid JSON."""
    events: list[LlmStreamEvent] = []
    call = {"id": "c", "function": {"name": "rm", "arguments": "{}"}}
    async with (
        endpoint([head(), event(delta(content="x", tool_calls=[call]))]) as server,
        a_provider(server.base_url) as provider,
    ):
        with pytest.raises(ProviderFailure) as caught:
            await provider.complete(streaming(events))
    assert events == [TextDelta("x")]
    assert caught.value.partial is not None
    assert isinstance(caught.value.partial.parts[-1], ToolCallOutputPart)


@pytest.mark.parametrize("end", [[event("[DONE]"), END], [END]])
async def test_a_stream_without_a_finish_reason_is_no_answer(end: Script) -> None:
    """`[DONE]` alone does not say that the model had finished."""
    failure = await failed([head(), event(delta(content="x")), *end])
    assert failure.code == "stream_ended_without_terminal_event"
    assert failure.retryable


async def test_malformed_json_in_a_stream_is_shown_and_not_retried() -> None:
    """The text that could not be read is what a maintainer needs."""
    failure = await failed([head(), event('{"choices": [oops'), END])
    assert (failure.code, failure.retryable) == ("malformed_response", False)
    assert failure.raw == '{"choices": [oops'


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '"text"'])
async def test_a_body_that_is_no_answer_is_refused(body: str) -> None:
    """A captive portal answers everything with a page and a status of success."""
    failure = await failed(answered(body), stream=False)
    assert (failure.code, failure.retryable) == ("malformed_response", False)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_of_nothing_is_retried(stream: bool) -> None:
    """An object without choices is a hiccup, not an empty answer of the model."""
    failure = await failed(answered({"id": "x", "choices": []}), stream=stream)
    assert (failure.code, failure.retryable) == ("empty_response", True)


async def test_an_endpoint_that_is_not_there_is_a_transport_failure() -> None:
    """Retryable: it may be starting."""
    async with endpoint() as server:
        url = server.base_url
    async with a_provider(url) as provider:
        with pytest.raises(ProviderFailure) as caught:
            await provider.complete(streaming([]))
    failure = DefaultProviderFailureClassifier().classify(caught.value)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.TRANSPORT, True)


async def timed_out(
    script: Script, seconds: list[float], reached: anyio.Event | None = None, **reliability: Any
) -> ProviderFailure:
    """The failure of a call whose clock is moved on once `reached` is set."""
    clock = ManualClock()
    options = ProviderOptions(reliability=ProviderReliability(**reliability))
    failures: list[ProviderFailure] = []
    seen: list[LlmStreamEvent] = []

    async with (
        endpoint(script) as server,
        a_provider(server.base_url, clock=clock, options=options) as provider,
        anyio.create_task_group() as group,
    ):

        def receive(delta: LlmStreamEvent) -> None:
            seen.append(delta)
            if reached is not None:
                reached.set()

        async def call() -> None:
            with pytest.raises(ProviderFailure) as caught:
                await provider.complete(a_request(stream_events=receive))
            failures.append(caught.value)

        group.start_soon(call)
        await server.arrived.wait()
        if reached is not None:
            await reached.wait()
        for step in seconds:
            await clock.wait_for_sleepers()
            clock.advance(step)
    return failures[0]


@pytest.mark.parametrize(
    ("reliability", "wait"),
    [
        ({}, 120),
        ({"request_timeout_ms": 5_000}, 5),
        ({"chunk_timeout_ms": 3_000}, 3),
        ({"request_timeout_ms": False, "chunk_timeout_ms": 3_000}, 3),
    ],
)
async def test_an_endpoint_that_never_begins_is_given_up(
    reliability: dict[str, Any], wait: float
) -> None:
    """The shorter of the two limits holds until the headers are there."""
    failure = await timed_out([anyio.Event()], [wait], **reliability)
    assert (failure.kind, failure.code) == (ProviderFailureKind.TIMEOUT, "timeout")
    assert failure.message == "OpenAI-compatible response start timed out"
    assert failure.status is None


async def test_a_stream_that_falls_silent_is_given_up() -> None:
    """Silence is measured from the latest piece."""
    failure = await timed_out(
        [head(), event(delta(content="x")), anyio.Event()], [120], anyio.Event()
    )
    assert failure.message == "OpenAI-compatible stream chunk timed out"
    assert failure.retryable
    assert failure.partial is not None


async def test_a_whole_stream_has_a_deadline() -> None:
    """A byte now and then must not keep a call for ever."""
    failure = await timed_out(
        [head(), event(delta(content="x")), anyio.Event()],
        [10],
        anyio.Event(),
        stream_timeout_ms=10_000,
    )
    assert failure.message == "OpenAI-compatible request timed out"


async def test_a_comment_is_a_sign_of_life() -> None:
    """Gateways send comments while a model thinks for longer than the limit on silence."""
    clock = ManualClock()
    ping, go_on = anyio.Event(), anyio.Event()
    events: list[LlmStreamEvent] = []
    script: Script = [
        head(),
        event(delta(content="x")),
        ping,
        piece(": still thinking\n\n"),
        go_on,
        event(delta(content="y")),
        event(finish()),
        event("[DONE]"),
        END,
    ]
    begun = anyio.Event()

    def receive(delta: LlmStreamEvent) -> None:
        events.append(delta)
        begun.set()

    async with (
        endpoint(script) as server,
        a_provider(server.base_url, clock=clock) as provider,
        anyio.create_task_group() as group,
    ):
        group.start_soon(provider.complete, a_request(stream_events=receive))
        await begun.wait()
        await clock.wait_for_sleepers()
        clock.advance(119)
        ping.set()
        await server.sent(4)
        await clock.wait_for_sleepers()
        clock.advance(1)
        await clock.wait_for_sleepers()
        go_on.set()
    assert events == [TextDelta("x"), TextDelta("y")]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_key_is_in_no_failure_even_if_the_endpoint_echoes_it(stream: bool) -> None:
    """Errors end up in logs, traces and transcripts."""
    echo = f"Incorrect API key provided: {KEY} (Authorization: Bearer {KEY})"
    failure = await failed(
        answered(
            error_body(echo), "401 Unauthorized", [("x-echo", KEY), ("set-cookie", "session=1")]
        ),
        stream=stream,
    )
    shown = repr([str(failure), repr(failure), failure.raw, failure.headers, vars(failure)])
    assert KEY not in shown
    assert "set-cookie" not in shown
    assert failure.__cause__ is None
    assert "Incorrect API key provided" in failure.message


async def test_the_key_is_in_no_failure_of_the_stream_either() -> None:
    """The same for an error event."""
    failure = await failed([head(), event(error_body(f"bad key {KEY}")), END])
    assert KEY not in json.dumps([failure.message, failure.raw])
