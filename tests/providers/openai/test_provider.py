"""The provider as an object: built, configured, cancelled, closed."""

import json
import socket
import subprocess
import sys
from functools import partial
from typing import Any

import anyio
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from lash_runtime.model.llm import LlmStreamEvent, TextDelta
from lash_runtime.ports.provider import ProviderFailure, ProviderOptions
from lash_runtime.providers import ProviderHandle, as_handle
from lash_runtime.providers.openai import (
    MaxTokensField,
    OpenAICompat,
    OpenAICompatibleProvider,
    ReasoningFormat,
)
from lash_runtime.testing import RecordingClock
from providers.openai.conversations import KEY, a_provider, a_request, streaming
from providers.openai.endpoint import answered, delta, endpoint, event, finish, head, streamed

pytestmark = pytest.mark.anyio

ANSWER = streamed(delta(content="x"), finish())


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("cut", ["before the answer", "inside of the stream"])
async def test_cancelling_a_call_hangs_up(cut: str) -> None:
    """The endpoint must stop working, and billing, for a reader who has left."""
    never = anyio.Event()
    begin = [head(), event(delta(content="x"))] if cut == "inside of the stream" else []
    got = anyio.Event()

    def receive(delta: LlmStreamEvent) -> None:
        assert delta == TextDelta("x")
        got.set()

    async with (
        endpoint([*begin, never], list(ANSWER)) as server,
        a_provider(server.base_url) as provider,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(provider.complete, a_request(stream_events=receive))
            await (got if begin else server.arrived).wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            await server.left.wait()
        response = await provider.complete(streaming([]))
    assert response.full_text == "x"


async def test_concurrent_calls_do_not_mix() -> None:
    """One provider serves all sessions at the same time."""
    gate = anyio.Event()
    scripts = [
        [head(), event(delta(content=name)), gate, *streamed(delta(content=name), finish())[1:]]
        for name in ("a", "b", "c")
    ]
    texts: list[str] = []

    async with endpoint(*scripts) as server, a_provider(server.base_url) as provider:

        async def call() -> None:
            texts.append((await provider.complete(streaming([]))).full_text)

        async with anyio.create_task_group() as group:
            for _ in scripts:
                group.start_soon(call)
            await server.sent(6)
            gate.set()
    assert sorted(texts) == ["aa", "bb", "cc"]


async def test_a_closed_provider_opens_again_when_it_is_called() -> None:
    """A host keeps one provider over several cores, each of which closes it."""
    async with (
        endpoint(list(ANSWER), list(ANSWER)) as server,
        a_provider(server.base_url) as provider,
    ):
        await provider.complete(streaming([]))
        await provider.close()
        await provider.close()
        assert (await provider.complete(streaming([]))).full_text == "x"


async def test_a_forgotten_provider_is_reported() -> None:
    """Connections that nobody closes are a leak, and a leak is said aloud."""
    async with endpoint(list(ANSWER)) as server:
        provider = OpenAICompatibleProvider(base_url=server.base_url, api_key=KEY)
        await provider.complete(streaming([]))
        with pytest.warns(ResourceWarning, match=r"await provider\.close"):
            del provider


def test_a_provider_serves_one_event_loop_after_another() -> None:
    """Scripts call `asyncio.run` more than once with a provider that they made at the top."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    provider = OpenAICompatibleProvider(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)

    async def call(*, last: bool) -> str:
        async with endpoint(list(ANSWER), port=port):
            answer = await provider.complete(streaming([]))
        if last:
            await provider.close()
        return answer.full_text

    assert [anyio.run(partial(call, last=last)) for last in (False, True)] == ["x", "x"]


async def test_the_hosts_client_is_used_without_its_retries_and_left_open() -> None:
    """Its transport and headers are the host's; retrying is ours alone."""
    async with endpoint(answered("{}", "500 Broken"), list(ANSWER)) as server:
        client = AsyncOpenAI(
            base_url=server.base_url,
            api_key=KEY,
            max_retries=5,
            default_headers={"x-tenant": "acme"},
        )
        async with client:
            provider = OpenAICompatibleProvider(client=client)
            with pytest.raises(ProviderFailure):
                await provider.complete(streaming([]))
            assert len(server.received) == 1
            await provider.close()
            assert (await provider.complete(streaming([]))).full_text == "x"
            assert server.received[1].headers["x-tenant"] == "acme"
            assert provider.serialize_config()["base_url"] == server.base_url


async def test_the_hosts_transport_is_used_and_left_open() -> None:
    """Proxies, certificates and limits are configured on the HTTP client."""
    async with (
        endpoint(list(ANSWER), list(ANSWER)) as server,
        DefaultAsyncHttpxClient(headers={"x-proxy": "yes"}) as http_client,
    ):
        provider = OpenAICompatibleProvider(
            base_url=server.base_url, api_key=KEY, http_client=http_client
        )
        await provider.complete(streaming([]))
        await provider.close()
        assert not http_client.is_closed
        await provider.complete(streaming([]))
        assert server.received[1].headers["x-proxy"] == "yes"


async def test_the_key_is_shown_nowhere_but_in_the_configuration() -> None:
    """`repr` ends up in logs."""
    async with a_provider("https://user:pass@example.com/v1") as provider:
        shown = repr([provider, as_handle(provider)])
        assert KEY not in shown
        assert "pass" not in shown
        assert provider.serialize_config()["api_key"] == KEY


def test_a_configuration_builds_the_same_provider_again() -> None:
    """A host keeps providers in its own settings."""
    provider = OpenAICompatibleProvider(
        base_url="https://example.com/v1/",
        api_key=KEY,
        options=ProviderOptions(max_output_tokens=5),
        compat=OpenAICompat(strict_tools=True),
    )
    config = json.loads(json.dumps(provider.serialize_config()))
    again = OpenAICompatibleProvider.from_config(config)
    assert config["base_url"] == "https://example.com/v1"
    assert again.serialize_config() == config
    assert as_handle(again) == as_handle(provider)
    assert again.options() == provider.options()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"api_key": KEY, "base_url": "https://x.test", "wire_api": "chat"}, "wire_api"),
        ({"base_url": "https://x.test"}, "api_key"),
        ({"api_key": KEY, "base_url": "https://x.test", "compat": {"stor": 1}}, "stor"),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_its_key(
    config: dict[str, Any], named: str
) -> None:
    """And without showing the key that is secret."""
    with pytest.raises(ValueError, match=named) as caught:
        OpenAICompatibleProvider.from_config(config)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("url", ["example.com/v1", "ftp://example.com", "http://", "file:///x"])
def test_a_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    """And not at the first call."""
    with pytest.raises(ValueError, match="base_url"):
        OpenAICompatibleProvider(base_url=url, api_key=KEY)


def test_a_missing_key_is_named_unless_the_endpoint_is_local(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server on this machine takes anything."""
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        OpenAICompatibleProvider(base_url="https://example.com/v1")
    assert OpenAICompatibleProvider(base_url="http://localhost:8080/v1")
    assert OpenAICompatibleProvider(base_url="http://192.168.1.5/v1", compat=OpenAICompat.local())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.test/v1")
    config = OpenAICompatibleProvider().serialize_config()
    assert (config["api_key"], config["base_url"]) == (KEY, "https://proxy.test/v1")


def test_a_key_is_cleaned_of_its_line_end_and_refused_if_no_header_can_carry_it() -> None:
    """Keys are read from files and pasted from web pages."""
    provider = OpenAICompatibleProvider(base_url="https://example.com", api_key=KEY + "\n")
    assert provider.serialize_config()["api_key"] == KEY
    with pytest.raises(ValueError, match="header") as caught:
        OpenAICompatibleProvider(base_url="https://example.com", api_key=f"{KEY}\u200b{KEY}")
    assert KEY not in str(caught.value)


async def test_words_of_an_error_are_not_taken_for_a_placeholder_key() -> None:
    """A server on this machine gets a key that stands for none."""
    error = {"error": {"message": "none of the local models is loaded - sorry"}}
    async with endpoint(answered(error, "400 Bad")) as server:
        provider = OpenAICompatibleProvider(base_url=server.base_url)
        with pytest.raises(ProviderFailure, match="none of the local models is loaded - sorry"):
            await provider.complete(streaming([]))
        await provider.close()


def test_a_client_is_not_combined_with_settings_that_it_would_ignore() -> None:
    """Two keys, one of them unused, is a mistake waiting to be found."""
    client = AsyncOpenAI(base_url="https://example.com/v1", api_key=KEY)
    with pytest.raises(ValueError, match="alone"):
        OpenAICompatibleProvider(client=client, api_key="another")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://openrouter.ai/api/v1", OpenAICompat.openrouter()),
        ("https://api.openai.com/v1/", OpenAICompat.openai()),
        (
            "https://api.example.com/v1",
            OpenAICompat.openai(
                max_tokens_field=MaxTokensField.MAX_TOKENS,
                reasoning_format=ReasoningFormat.NONE,
                store=False,
                prompt_cache_retention=False,
            ),
        ),
    ],
)
def test_an_endpoint_is_recognised_by_its_url(url: str, expected: OpenAICompat) -> None:
    """Without a preset; a trailing slash makes no difference."""
    assert OpenAICompat().resolved(url) == expected


def test_a_preset_is_believed_wherever_the_endpoint_is() -> None:
    """A proxy on this machine behaves like what is behind it."""
    assert OpenAICompat.openai().resolved("http://localhost:1") == OpenAICompat.openai()


def test_a_single_field_leaves_the_rest_to_the_url() -> None:
    """Correcting one thing must not mean stating all of them."""
    compat = OpenAICompat(streaming_usage=True).resolved("http://localhost:8080/v1")
    assert (compat.streaming_usage, compat.request_fields) == (True, False)


def test_variants_are_known_where_an_effort_can_be_said() -> None:
    """Elsewhere a variant is refused before a call is made."""
    router = as_handle(
        OpenAICompatibleProvider(base_url="https://openrouter.ai/api/v1", api_key=KEY)
    )
    assert "high" in router.supported_variants("anthropic/claude-x")
    assert not router.supported_variants("meta/llama")
    plain = as_handle(OpenAICompatibleProvider(base_url="https://example.com/v1", api_key=KEY))
    with pytest.raises(ValueError, match="no variants"):
        plain.validate_variant("gpt-5", "high")


async def test_the_ladder_repeats_a_call_over_a_fresh_connection() -> None:
    """Provider and ladder together: a broken stream, then an answer."""
    events: list[LlmStreamEvent] = []
    async with (
        endpoint([head(), event(delta(content="lost"))], list(ANSWER)) as server,
        a_provider(server.base_url) as provider,
    ):
        handle = ProviderHandle(provider.components(), clock=RecordingClock())
        response = await handle.complete(streaming(events))
    assert response.full_text == "x"
    assert len(server.received) == 2


def test_the_package_can_be_imported_without_the_sdk() -> None:
    """The extra is optional, and its absence says what to install."""
    program = """
import sys
sys.modules["openai"] = None
from lash_runtime.providers.openai import OpenAICompatibleProvider
try:
    OpenAICompatibleProvider(api_key="x")
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'lash-runtime[openai]'" in done.stdout


def test_importing_the_package_loads_no_sdk() -> None:
    """The SDK costs half a second and belongs to those who use it."""
    program = "import sys, lash_runtime.providers.openai; print('openai' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
