"""References to the fact that led to another fact, and the causes a turn can have."""

from typing import Annotated, Literal

from pydantic import Field

from ._value import Value, omitted_when_empty, omitted_when_none


class TurnRef(Value):
    type: Literal["turn"] = "turn"
    session_id: str
    turn_id: str


class EffectRef(Value):
    type: Literal["effect"] = "effect"
    session_id: str
    turn_id: str | None = omitted_when_none()
    effect_id: str


class ToolCallRef(Value):
    type: Literal["tool_call"] = "tool_call"
    session_id: str
    call_id: str


class ProcessRef(Value):
    type: Literal["process"] = "process"
    process_id: str


class ProcessEventRef(Value):
    type: Literal["process_event"] = "process_event"
    process_id: str
    sequence: int


class TriggerOccurrenceRef(Value):
    type: Literal["trigger_occurrence"] = "trigger_occurrence"
    occurrence_id: str


class SessionNodeRef(Value):
    type: Literal["session_node"] = "session_node"
    session_id: str
    node_id: str


CausalRef = Annotated[
    TurnRef
    | EffectRef
    | ToolCallRef
    | ProcessRef
    | ProcessEventRef
    | TriggerOccurrenceRef
    | SessionNodeRef,
    Field(discriminator="type"),
]
"""What caused a node, an effect or a session."""


class PluginOrigin(Value):
    """A message that a plugin put in; a transient one is shown to the model and never stored."""

    kind: Literal["plugin"] = "plugin"
    plugin_id: str
    transient: bool = omitted_when_empty(False)


class ProcessOrigin(Value):
    """A message that a background process caused."""

    kind: Literal["process"] = "process"
    process_id: str
    event_type: str
    sequence: int
    wake_id: str | None = omitted_when_none()
    caused_by: CausalRef | None = omitted_when_none()


MessageOrigin = Annotated[PluginOrigin | ProcessOrigin, Field(discriminator="kind")]
"""Where a message came from when neither the user nor the model wrote it."""


class TurnCause(Value):
    """Something other than user input that made a turn run, shown to the model once."""

    id: str
    event_type: str
    origin: MessageOrigin
    text: str
