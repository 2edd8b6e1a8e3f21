"""What made a turn run besides user input: shown once as an event, then kept as history."""

from collections.abc import Sequence
from typing import Any

from ..model.canonical import canonical_json
from ..model.causes import MessageOrigin, PluginOrigin, ProcessOrigin, TurnCause
from ..model.messages import Message, MessageRole, text_message


def cause_message(cause: TurnCause) -> Message:
    """The event message that keeps `cause` in the history; it carries the cause's own id."""
    return text_message(cause.id, MessageRole.EVENT, cause.text, origin=cause.origin)


def wake_cause(origin: ProcessOrigin, cause_id: str, woken_with: Any) -> TurnCause:
    """The cause that a wake of a background process is. `woken_with` is JSON, text as it is."""
    said = woken_with if isinstance(woken_with, str) else canonical_json(woken_with).decode()
    return TurnCause(
        id=cause_id,
        event_type=origin.event_type,
        origin=origin,
        text=f"Background process wake\nProcess: {origin.process_id}\n"
        f"Event: {origin.event_type} #{origin.sequence}\nWake input:\n{said}",
    )


def render_turn_causes(causes: Sequence[TurnCause]) -> str:
    """All causes of a running turn as one text for the model."""
    blocks = ["=== TURN EVENTS ==="]
    for index, cause in enumerate(causes):
        blocks.append(
            f"--- event[{index}] · {cause.event_type} · {cause.id} ---\n"
            f"Origin: {_origin(cause.origin)}\n\n{cause.text.strip()}"
        )
    return "\n\n".join(blocks)


def _origin(origin: MessageOrigin) -> str:
    match origin:
        case PluginOrigin(plugin_id=plugin_id):
            return f"plugin {plugin_id}"
        case ProcessOrigin(process_id=process_id, event_type=event_type, sequence=sequence):
            return f"process {process_id}, {event_type} #{sequence}"
