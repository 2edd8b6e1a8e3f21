"""Handles, resolvers, options: what surrounds a provider."""

from typing import Any

import pytest
from pydantic import ValidationError

from lash_runtime.ports.provider import (
    MissingProviderId,
    ProviderFailure,
    ProviderIdMismatch,
    ProviderOptions,
    ProviderReliability,
    UnknownProvider,
)
from lash_runtime.providers import (
    EmptyProviderResolver,
    MapProviderResolver,
    ProviderHandle,
    SingleProviderResolver,
    as_handle,
)
from lash_runtime.providers.redaction import is_secret_header, redacted
from lash_runtime.providers.usage import as_count, parse_usage
from lash_runtime.testing import (
    Call,
    FixedIdSource,
    RecordingClock,
    ScriptedProvider,
    TestProvider,
    text_response,
    usage,
)
from providers.calls import a_request, unavailable

pytestmark = pytest.mark.anyio


def test_handles_are_equal_when_kind_and_configuration_are() -> None:
    """So that a host can see whether a change of settings changes anything."""
    one = TestProvider(kind="a", serialize_config={"key": 1}).into_handle()
    same = TestProvider(kind="a", serialize_config={"key": 1}).into_handle()
    other = TestProvider(kind="a", serialize_config={"key": 2}).into_handle()
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != TestProvider(kind="b", serialize_config={"key": 1}).into_handle()


def test_a_variant_is_checked_against_what_is_known() -> None:
    """The error says what there is to choose from."""
    handle = TestProvider(supported_variants=("low", "high")).into_handle()
    handle.validate_variant("m", "low")
    with pytest.raises(ValueError, match="'max'; available: low, high"):
        handle.validate_variant("m", "max")
    with pytest.raises(ValueError, match="no variants"):
        TestProvider().into_handle().validate_variant("m", "low")


@pytest.mark.parametrize("name", ["", "a b", "a\n"])
def test_a_model_name_is_one_word(name: str) -> None:
    """Anything else is a slip of the keyboard."""
    with pytest.raises(ValueError, match="model name"):
        ProviderHandle.validate_model_name(name)


async def test_the_hosts_clock_reaches_a_handle_and_limits_stay_shared() -> None:
    """A session brings its own time; the limits are the provider's."""
    clock = RecordingClock()
    handle = ProviderHandle.of(ScriptedProvider([unavailable(), text_response("x")]))
    await handle.with_time(clock, FixedIdSource()).complete(a_request())
    assert clock.sleeps == [2]


async def test_an_unconfigured_handle_says_what_is_missing() -> None:
    """Instead of an attribute error somewhere below."""
    with pytest.raises(ProviderFailure, match="no provider is configured") as caught:
        await ProviderHandle.unconfigured().complete(a_request())
    assert caught.value.code == "provider_unconfigured"


async def test_closing_a_handle_closes_its_provider() -> None:
    """Also through `as_handle`, which wraps what it is given and keeps a handle as it is."""
    provider = TestProvider()
    handle = as_handle(provider)
    assert as_handle(handle) is handle
    await handle.close()
    assert provider.closed


@pytest.mark.parametrize(
    "resolver",
    [
        EmptyProviderResolver(),
        SingleProviderResolver(TestProvider(kind="a")),
        MapProviderResolver().with_provider(TestProvider(kind="a")),
    ],
)
def test_every_resolver_knows_blank_from_unknown(resolver: Any) -> None:
    """The two ask for different repairs."""
    with pytest.raises(MissingProviderId):
        resolver.resolve_provider_binding("  ")
    with pytest.raises(UnknownProvider) as caught:
        resolver.resolve_provider_binding("b")
    assert caught.value.provider_id == "b"


def test_an_id_leads_to_a_provider_of_that_kind() -> None:
    """Blanks around it are forgiven, another kind behind it is not."""
    handle = TestProvider(kind="a").into_handle()
    resolver = MapProviderResolver().with_provider(handle).with_provider_id("alias", handle)
    binding = resolver.resolve_provider_binding(" a ")
    assert (binding.provider_id, binding.provider) == ("a", handle)
    with pytest.raises(ProviderIdMismatch) as caught:
        resolver.resolve_provider_binding("alias")
    assert (caught.value.expected, caught.value.actual) == ("alias", "a")


def test_options_are_stored_without_their_defaults() -> None:
    """A new option must not change what is on disk."""
    assert ProviderOptions().model_dump() == {}
    options = ProviderOptions.model_validate(
        {"reliability": {"request_timeout_ms": False, "retry": {"max_attempts": 2}}}
    )
    assert ProviderOptions.model_validate_json(options.model_dump_json()) == options
    assert options.reliability.request_timeout_s() is None


@pytest.mark.parametrize("value", [True, 0, -1, "300"])
def test_a_timeout_is_a_positive_number_or_false(value: Any) -> None:
    """`true` and zero would each be read in two ways."""
    with pytest.raises(ValidationError):
        ProviderReliability(request_timeout_ms=value)


def test_an_unknown_option_is_refused_by_name() -> None:
    """A typing error must not be a setting that does nothing."""
    with pytest.raises(ValidationError, match="max_atempts"):
        ProviderOptions.model_validate({"reliability": {"retry": {"max_atempts": 1}}})


def test_deadlines_have_defaults() -> None:
    """Five minutes for an answer, two between pieces, half an hour for a stream."""
    plain = ProviderReliability()
    assert plain.request_timeout_s() == 300
    assert (
        plain.chunk_timeout_s() == ProviderReliability(chunk_timeout_ms=0).chunk_timeout_s() == 120
    )
    assert plain.stream_timeout_s() == 1_800


def test_secrets_are_cut_out_of_text() -> None:
    """Those that are known, and what looks like one."""
    text = redacted("key hunter2 and Bearer abc.def and sk-proj-0123456789", ["hunter2"])
    assert text == "key [redacted] and Bearer [redacted] and [redacted]"
    assert redacted("x marks the spot", ["x"]) == "x marks the spot"
    assert is_secret_header("X-Api-Key")
    assert not is_secret_header("x-ratelimit-remaining-tokens")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, usage(9, 2)),
        ({"input_tokens": "9", "output_tokens": 2.0}, usage(9, 2)),
        (
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4},
            usage(5, cache_read=4),
        ),
        (
            {
                "prompt_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            usage(0, cache_read=4, cache_write=3, reasoning=1),
        ),
        ({"prompt_tokens": None, "prompt_tokens_details": None}, usage()),
    ],
)
def test_usage_is_read_under_any_of_its_names(raw: dict[str, Any], expected: object) -> None:
    """Endpoints agree on the numbers and on nothing else."""
    assert parse_usage(raw) == expected


@pytest.mark.parametrize("value", [True, -3, "-3", "x", [], float("nan"), float("inf"), "9" * 30])
def test_what_is_no_count_counts_nothing(value: Any) -> None:
    """A strange number must not fail an answer that is already paid."""
    assert as_count(value) == 0


async def test_a_script_answers_in_order_and_then_fails() -> None:
    """A test that makes one call too many has found something."""
    provider = ScriptedProvider([text_response("a"), lambda request: Call.text(request.model)])
    assert (await provider.complete(a_request())).full_text == "a"
    assert (await provider.complete(a_request())).full_text == "m"
    with pytest.raises(ProviderFailure, match="before call 3") as caught:
        await provider.complete(a_request())
    assert caught.value.code == "script_exhausted"
    assert len(provider.requests) == provider.calls == 3
