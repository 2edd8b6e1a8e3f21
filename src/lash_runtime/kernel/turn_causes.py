"""What made a turn run besides user input: shown once as an event, then kept as history."""

from collections.abc import Sequence

from ..model.causes import MessageOrigin, PluginOrigin, ProcessOrigin, TurnCause
from ..model.messages import Message, MessageRole, text_message


def cause_message(cause: TurnCause) -> Message:
    """The event message that keeps `cause` in the history; it carries the cause's own id."""
    return text_message(cause.id, MessageRole.EVENT, cause.text, origin=cause.origin)


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
