"""Traces: durable diagnostics of what the library did, one record for each fact.

Rule 1: tracing changes nothing. Whoever emits a record logs what a sink raises, and goes on.
Rule 2: a record names what it is about, never a secret: of attachments, opaque blobs and
signatures it says that they were there, not what they hold.
"""

from collections.abc import Mapping
from dataclasses import field, fields
from enum import StrEnum
from typing import Any, Final, Protocol, Self

from ..model.records import dataclass

TRACE_SCHEMA_VERSION: Final = 2
"""Rises when a field is removed, renamed or retyped; adding optional ones leaves it as it is."""


class TraceLevel(StrEnum):
    """How much is traced. `extended` adds what streams, and with it whole prompts."""

    STANDARD = "standard"
    EXTENDED = "extended"


class TraceEventKind(StrEnum):
    SESSION_STARTED = "session_started"
    TURN_STARTED = "turn_started"
    PROMPT_BUILT = "prompt_built"
    LLM_CALL_STARTED = "llm_call_started"
    LLM_CALL_COMPLETED = "llm_call_completed"
    LLM_CALL_FAILED = "llm_call_failed"
    PROVIDER_STREAM_EVENT = "provider_stream_event"
    RUNTIME_STREAM_EVENT = "runtime_stream_event"
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    PROTOCOL_STEP = "protocol_step"
    TOKEN_USAGE = "token_usage"  # noqa: S105 - tokens of a model, not a password
    LASHLANG_EXECUTION = "lashlang_execution"
    TURN_COMPLETED = "turn_completed"
    CUSTOM = "custom"

    @property
    def level(self) -> TraceLevel:
        """The least level at which the kind is traced."""
        if self in (TraceEventKind.PROVIDER_STREAM_EVENT, TraceEventKind.RUNTIME_STREAM_EVENT):
            return TraceLevel.EXTENDED
        return TraceLevel.STANDARD


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """What a record belongs to; everything that is not known is `None`.

    Readers tell nodes apart by `session_id` and `graph_node_id` together: ids of tool calls are
    unique within a session alone.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    candidate_id: str | None = None
    candidate_parent_id: str | None = None
    example_id: str | None = None
    split: str | None = None
    session_id: str | None = None
    turn_id: str | None = None
    graph_node_id: str | None = None
    parent_graph_node_id: str | None = None
    turn_index: int | None = None
    protocol_iteration: int | None = None
    effect_id: str | None = None
    llm_call_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def over(self, base: Self) -> Self:
        """This context's facts on top of those of `base`; the metadata of both, united."""
        facts: dict[str, Any] = {}
        for fact in fields(self):
            mine = getattr(self, fact.name)
            facts[fact.name] = getattr(base, fact.name) if mine is None else mine
        facts["metadata"] = {**base.metadata, **self.metadata}
        return type(self)(**facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRecord:
    """One fact. `type` is a `TraceEventKind`, or the kind of a later release as it was read;
    `timestamp` is RFC 3339; `event` holds the fields of that kind, as JSON."""

    id: str
    timestamp: str
    context: TraceContext
    type: str
    event: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = TRACE_SCHEMA_VERSION


class TraceSinkErrorKind(StrEnum):
    SERIALIZE = "serialize"
    LOCK = "lock"
    CREATE_DIR = "create_dir"
    OPEN = "open"
    WRITE = "write"


class TraceSinkError(Exception):
    """A sink could not keep a record; `kind` says at which step."""

    def __init__(self, kind: TraceSinkErrorKind, message: str) -> None:
        super().__init__(f"trace sink failed to {kind.value.replace('_', ' ')}: {message}")
        self.kind = kind


class TraceSink(Protocol):
    """Where records go. Called from within running turns, and from any thread."""

    def append(self, record: TraceRecord) -> None:
        """Take one record. Must not block; may raise `TraceSinkError`."""
        ...

    def flush(self) -> None:
        """Return once every record that was taken is where it will stay. May block."""
        ...
