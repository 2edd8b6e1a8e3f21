"""What an OpenAI-compatible endpoint understands: a host's word, or else a guess from its URL.

Rule 1: a preset is the whole truth about an endpoint and ends the guessing, so that a proxy
behaves like the endpoint behind it.
Rule 2: without a preset, a field that is set is the host's word and the others are guessed.
"""

import logging
from enum import StrEnum
from typing import Any, Final, Self

from ...model._value import Value, omitted_when_none

logger = logging.getLogger(__name__)

OPENROUTER_URL: Final = "https://openrouter.ai/api/v1"
OPENAI_URL: Final = "https://api.openai.com/v1"
LOCAL_MARKS: Final = ("localhost", "127.0.0.1", "0.0.0.0", "ollama")  # noqa: S104 - no socket


class MaxTokensField(StrEnum):
    """Under which name the output cap is sent."""

    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"
    MAX_OUTPUT_TOKENS = "max_output_tokens"
    OMIT = "omit"


class ReasoningFormat(StrEnum):
    """How a reasoning effort is put: not at all, `reasoning_effort`, or `reasoning.effort`."""

    NONE = "none"
    OPEN_AI = "open_ai"
    OPEN_ROUTER = "open_router"


class StreamTermination(StrEnum):
    """Whether a stream that ends without a finish reason counts as a whole answer."""

    REQUIRE_TERMINAL_EVIDENCE = "require_terminal_evidence"
    EOF_TOLERATED = "eof_tolerated"


class OpenAICompat(Value):
    """How an endpoint differs from the others; a field left out is guessed from the base URL.

    - request_fields: send `parallel_tool_calls` beside tools
    - max_tokens_field: the name of the output cap
    - reasoning_format: how a model variant is sent as a reasoning effort
    - cache_session_affinity: send the session and request ids as headers
    - strict_tools: have arguments decoded under the tool's schema
    - streaming_usage: ask for token counts at the end of a stream
    - store: say that the endpoint need not keep a copy of the conversation
    - prompt_cache_retention: pass `CacheRetention.LONG` on, as 24 hours
    - cache_markers: mark what Claude models behind this endpoint should cache
    - stream_termination: see `StreamTermination`
    - keyless: no API key is needed
    """

    request_fields: bool | None = omitted_when_none()
    max_tokens_field: MaxTokensField | None = omitted_when_none()
    reasoning_format: ReasoningFormat | None = omitted_when_none()
    cache_session_affinity: bool | None = omitted_when_none()
    strict_tools: bool | None = omitted_when_none()
    streaming_usage: bool | None = omitted_when_none()
    store: bool | None = omitted_when_none()
    prompt_cache_retention: bool | None = omitted_when_none()
    cache_markers: bool | None = omitted_when_none()
    stream_termination: StreamTermination | None = omitted_when_none()
    keyless: bool | None = omitted_when_none()

    @classmethod
    def openai(cls, **fields: Any) -> Self:
        """OpenAI itself, or a proxy in front of it; `fields` replace single answers."""
        return cls(**(_OPENAI | fields))

    @classmethod
    def openrouter(cls, **fields: Any) -> Self:
        """OpenRouter, or a proxy in front of it; `fields` replace single answers."""
        return cls(**(_OPENROUTER | fields))

    @classmethod
    def local(cls, **fields: Any) -> Self:
        """A small server, which may refuse what it does not know; `fields` replace answers."""
        return cls(**(_LOCAL | fields))

    def resolved(self, base_url: str) -> "OpenAICompat":
        """The same with no field left open."""
        stated = self.model_dump(exclude_none=True)
        if len(stated) == len(type(self).model_fields):
            return self
        name, guess = _guess(base_url)
        logger.info("%s is treated as %s endpoint; a preset says otherwise", base_url, name)
        return OpenAICompat(**(guess | stated))


_REMOTE: Final[dict[str, Any]] = {
    "request_fields": True,
    "max_tokens_field": MaxTokensField.MAX_TOKENS,
    "reasoning_format": ReasoningFormat.NONE,
    "cache_session_affinity": True,
    "strict_tools": False,
    "streaming_usage": True,
    "store": False,
    "prompt_cache_retention": False,
    "cache_markers": False,
    "stream_termination": StreamTermination.REQUIRE_TERMINAL_EVIDENCE,
    "keyless": False,
}
_OPENAI: Final = _REMOTE | {
    # Its reasoning models refuse the older name.
    "max_tokens_field": MaxTokensField.MAX_COMPLETION_TOKENS,
    "reasoning_format": ReasoningFormat.OPEN_AI,
    "store": True,
    "prompt_cache_retention": True,
}
_OPENROUTER: Final = _REMOTE | {
    "reasoning_format": ReasoningFormat.OPEN_ROUTER,
    "cache_markers": True,
}
_LOCAL: Final = _REMOTE | {
    "request_fields": False,
    "cache_session_affinity": False,
    "streaming_usage": False,
    "stream_termination": StreamTermination.EOF_TOLERATED,
    "keyless": True,
}


def _guess(base_url: str) -> tuple[str, dict[str, Any]]:
    url = base_url.lower().rstrip("/")
    if url == OPENROUTER_URL:
        return "the OpenRouter", _OPENROUTER
    if url == OPENAI_URL:
        return "the OpenAI", _OPENAI
    if any(mark in url for mark in LOCAL_MARKS):
        # A guess is weaker than a preset: a stream without an end is not taken for an answer.
        return "a local", _LOCAL | {
            "stream_termination": StreamTermination.REQUIRE_TERMINAL_EVIDENCE
        }
    return "a remote", _REMOTE
