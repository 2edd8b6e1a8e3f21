"""Short ways to write what a model answers."""

import json
from collections.abc import Mapping
from typing import Any

from ..model.llm import (
    LlmResponse,
    LlmTerminalReason,
    TextDelta,
    TextOutput,
    ToolCallOutputPart,
)
from ..model.usage import NO_USAGE, LlmUsage


def usage(
    input: int = 0,
    output: int = 0,
    *,
    cache_read: int = 0,
    cache_write: int = 0,
    reasoning: int = 0,
) -> LlmUsage:
    """Token counts; `reasoning` is a part of `output`."""
    return LlmUsage(
        input_tokens=input,
        output_tokens=output,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
        reasoning_output_tokens=reasoning,
    )


def text_response(text: str, *, usage: LlmUsage = NO_USAGE) -> LlmResponse:
    """A complete answer of one text."""
    return LlmResponse(
        full_text=text,
        parts=(TextOutput(text),),
        usage=usage,
        terminal_reason=LlmTerminalReason.STOP,
    )


def tool_call_response(
    call_id: str,
    name: str,
    args: Mapping[str, Any] | str = "{}",
    *,
    text: str = "",
    usage: LlmUsage = NO_USAGE,
) -> LlmResponse:
    """An answer that calls one tool; `args` as a mapping, or as the JSON text a model wrote."""
    return tool_calls_response((call_id, name, args), text=text, usage=usage)


def tool_calls_response(
    *calls: tuple[str, str, Mapping[str, Any] | str],
    text: str = "",
    usage: LlmUsage = NO_USAGE,
) -> LlmResponse:
    """An answer that calls several tools at once, each given as (call id, name, arguments)."""
    said = (TextOutput(text),) if text else ()
    called = tuple(
        ToolCallOutputPart(call_id, name, args if isinstance(args, str) else json.dumps(dict(args)))
        for call_id, name, args in calls
    )
    return LlmResponse(
        full_text=text,
        parts=said + called,
        usage=usage,
        terminal_reason=LlmTerminalReason.TOOL_USE,
    )


def stream_text(text: str, *, chunk: int = 8) -> tuple[TextDelta, ...]:
    """`text` as deltas of `chunk` characters."""
    return tuple(TextDelta(text[at : at + chunk]) for at in range(0, len(text), chunk))
