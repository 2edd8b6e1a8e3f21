"""OpenAI-compatible endpoints over the official `openai` SDK; needs the `openai` extra.

Importing this package loads no SDK: that happens when a provider is built.
"""

from ._compat import MaxTokensField, OpenAICompat, ReasoningFormat, StreamTermination
from ._provider import OpenAICompatibleConfig, OpenAICompatibleFactory, OpenAICompatibleProvider

__all__ = [
    "MaxTokensField",
    "OpenAICompat",
    "OpenAICompatibleConfig",
    "OpenAICompatibleFactory",
    "OpenAICompatibleProvider",
    "ReasoningFormat",
    "StreamTermination",
]
