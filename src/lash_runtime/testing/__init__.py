"""The test kit: providers, clocks and ids under a test's control, doubles that record, and tools
and journals without a turn. Shipped, so hosts use it too."""

from .clocks import ManualClock, RecordingClock
from .ids import FixedIdSource
from .journals import MemoryEffectJournal
from .providers import GatedProvider, TestProvider
from .recording import RecordingEffectHost, RecordingStores, StoreCall
from .replies import (
    stream_text,
    text_response,
    tool_call_response,
    tool_calls_response,
    usage,
)
from .scripted import Call, ScriptedProvider
from .tool_calls import mock_tool_context, run_tool

__all__ = [
    "Call",
    "FixedIdSource",
    "GatedProvider",
    "ManualClock",
    "MemoryEffectJournal",
    "RecordingClock",
    "RecordingEffectHost",
    "RecordingStores",
    "ScriptedProvider",
    "StoreCall",
    "TestProvider",
    "mock_tool_context",
    "run_tool",
    "stream_text",
    "text_response",
    "tool_call_response",
    "tool_calls_response",
    "usage",
]
