"""Which parts of a conversation an endpoint is told to cache, for models that need telling.

Claude models behind OpenRouter cache up to marked places: the instructions, the tools, and the
end of the conversation so far.
"""

from typing import Any

from ...model.llm import LlmRequest
from ...ports.provider import CacheRetention
from ._compat import OpenAICompat
from ._messages import Conversation


def mark_for_caching(
    request: LlmRequest,
    conversation: Conversation,
    tools: list[dict[str, Any]],
    compat: OpenAICompat,
    retention: CacheRetention,
) -> None:
    """Put the markers into parts and tools; does nothing where they would not be understood."""
    if not compat.cache_markers or retention is CacheRetention.NONE or not _is_claude(request):
        return
    marker = {"type": "ephemeral"}
    if retention is CacheRetention.LONG:
        marker["ttl"] = "1h"
    places = [
        conversation.first_system_text,
        tools[-1] if tools else None,
        conversation.last_marked_text or conversation.last_text,
    ]
    for place in places:
        if place is not None:
            place["cache_control"] = marker


def _is_claude(request: LlmRequest) -> bool:
    model = request.model.lower()
    return "claude" in model or "anthropic/" in model
