"""The test kit: providers, clocks and ids under a test's control. Shipped, so hosts use it too."""

from .clocks import ManualClock, RecordingClock
from .ids import FixedIdSource
from .providers import GatedProvider, TestProvider
from .replies import (
    stream_text,
    text_response,
    tool_call_response,
    tool_calls_response,
    usage,
)
from .scripted import Call, ScriptedProvider

__all__ = [
    "Call",
    "FixedIdSource",
    "GatedProvider",
    "ManualClock",
    "RecordingClock",
    "ScriptedProvider",
    "TestProvider",
    "stream_text",
    "text_response",
    "tool_call_response",
    "tool_calls_response",
    "usage",
]
