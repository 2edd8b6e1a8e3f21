"""Providers as an application's configuration names them: one flat JSON object."""

import json
from typing import Any

import pytest

from lash_runtime.ports.provider import ProviderOptions
from lash_runtime.providers import (
    ProviderComponents,
    ProviderFactory,
    ProviderSpec,
    StaticModelPolicy,
    build_provider,
)
from lash_runtime.providers.openai import OpenAICompat, OpenAICompatibleFactory
from lash_runtime.testing import TestProvider

KEY = "sk-test-0123456789abcdef"
OPENAI = {
    "type": "openai-compatible",
    "api_key": KEY,
    "base_url": "http://localhost:1/v1",
    "options": {"max_output_tokens": 100},
    "compat": {"strict_tools": True},
}


class Shouting:
    """A factory of a host's own."""

    kind = "shouting"

    def deserialize(self, config: Any) -> ProviderComponents:
        if unknown := set(config) - {"volume"}:
            raise ValueError(f"unknown key {min(unknown)!r}")
        provider = TestProvider(kind="shouting", serialize_config=config)
        return ProviderComponents(provider=provider, model_policy=StaticModelPolicy(("loud",)))


FACTORIES: tuple[ProviderFactory, ...] = (Shouting(), OpenAICompatibleFactory())


def test_a_provider_comes_back_from_its_configuration() -> None:
    """With its model policy, and equal to the handle that was written down."""
    handle = build_provider(ProviderSpec.from_json({"type": "shouting", "volume": 11}), FACTORIES)
    assert handle.supported_variants("any") == ("loud",)
    written = json.loads(json.dumps(handle.to_spec().to_json()))
    assert written == {"type": "shouting", "volume": 11}
    assert build_provider(ProviderSpec.from_json(written), FACTORIES) == handle


def test_so_does_one_for_an_openai_compatible_endpoint() -> None:
    """Key, URL, options and what is said of the endpoint."""
    handle = build_provider(ProviderSpec.from_json(OPENAI), FACTORIES)
    assert handle.options() == ProviderOptions(max_output_tokens=100)
    assert handle.to_spec().to_json() == OPENAI
    assert handle.kind == "openai-compatible"
    assert OpenAICompat(strict_tools=True).model_dump() == OPENAI["compat"]


@pytest.mark.parametrize(
    "data",
    [{}, {"type": 1}, {"type": None, "a": 1}, {"type": " "}, [], "shouting", None],
)
def test_what_names_no_provider_is_refused(data: Any) -> None:
    """At start-up, and not with the first call."""
    with pytest.raises(ValueError, match=r"type|object"):
        ProviderSpec.from_json(data)


def test_no_configuration_counts_as_an_empty_one() -> None:
    """Many providers need none."""
    assert ProviderSpec("shouting", None).to_json() == {"type": "shouting"}
    assert ProviderSpec("shouting") == ProviderSpec("shouting", {})


@pytest.mark.parametrize("config", [[], "x", 3, {"type": "other"}])
def test_a_configuration_that_is_no_flat_object_is_refused(config: Any) -> None:
    """It could not be told from the kind when it is read back."""
    with pytest.raises(ValueError, match=r"object|'type'"):
        ProviderSpec("shouting", config)


def test_a_kind_without_a_factory_is_named_beside_those_that_have_one() -> None:
    """Most often the extra is missing, or the name is misspelled."""
    with pytest.raises(ValueError, match=r"'whispering'.*'openai-compatible', 'shouting'"):
        build_provider(ProviderSpec("whispering"), FACTORIES)


@pytest.mark.parametrize("key", ["wire_api", "apikey"])
def test_an_unknown_key_is_named_and_its_value_is_not_shown(key: str) -> None:
    """A misspelled key of a secret would put the secret into the log."""
    with pytest.raises(ValueError, match=key) as raised:
        build_provider(ProviderSpec.from_json(OPENAI | {key: KEY}), FACTORIES)
    assert KEY not in str(raised.value)


def test_a_wrong_value_is_not_shown_either() -> None:
    """It may be the key in the wrong place."""
    with pytest.raises(ValueError, match="base_url") as raised:
        build_provider(ProviderSpec.from_json(OPENAI | {"base_url": [KEY]}), FACTORIES)
    assert KEY not in str(raised.value)


def test_a_spec_shows_no_secret() -> None:
    """It holds the key, and specs end up in logs."""
    assert KEY not in repr(ProviderSpec.from_json(OPENAI))
