"""Token counts as the OpenAI family of endpoints reports them, under any of their names."""

from collections.abc import Mapping
from typing import Any

from ..model.usage import LlmUsage


def parse_usage(raw: Mapping[str, Any]) -> LlmUsage:
    """The five counters; what a cache served or stored is taken out of the input."""
    details = _details(raw, "input_tokens_details", "prompt_tokens_details")
    spent = _details(raw, "output_tokens_details", "completion_tokens_details")
    prompt = _first(raw, "input_tokens", "prompt_tokens")
    read = _first(details, "cached_tokens") or _first(
        raw, "cached_tokens", "prompt_cache_hit_tokens"
    )
    written = _first(details, "cache_write_tokens") or _first(raw, "cache_write_tokens")
    return LlmUsage(
        input_tokens=max(0, prompt - read - written),
        output_tokens=_first(raw, "output_tokens", "completion_tokens"),
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
        reasoning_output_tokens=_first(raw, "reasoning_tokens")
        or _first(spent, "reasoning_tokens"),
    )


def stated_reasoning_tokens(raw: Mapping[str, Any]) -> int | None:
    """The tokens of reasoning that an endpoint has reported; `None` if it has not said."""
    spent = _details(raw, "output_tokens_details", "completion_tokens_details")
    for said in (raw, spent):
        if said.get("reasoning_tokens") is not None:
            return as_count(said["reasoning_tokens"])
    return None


def merge_usage(known: LlmUsage, latest: LlmUsage) -> LlmUsage:
    """`latest` over `known`; a counter of zero says nothing and leaves the known one."""
    return LlmUsage(
        input_tokens=latest.input_tokens or known.input_tokens,
        output_tokens=latest.output_tokens or known.output_tokens,
        cache_read_input_tokens=latest.cache_read_input_tokens or known.cache_read_input_tokens,
        cache_write_input_tokens=latest.cache_write_input_tokens or known.cache_write_input_tokens,
        reasoning_output_tokens=latest.reasoning_output_tokens or known.reasoning_output_tokens,
    )


def as_count(value: Any) -> int:
    """A number, or a number in a string; anything else is 0, and so is what is below it."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return max(0, value)
    if isinstance(value, float):
        return max(0, int(value)) if value == value and abs(value) < 1e18 else 0
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    return 0


def _details(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = raw.get(name)
        if isinstance(found, Mapping):
            return found
    return {}


def _first(raw: Mapping[str, Any], *names: str) -> int:
    return next((count for name in names if (count := as_count(raw.get(name)))), 0)
