"""Messages and protocol events of a session in the order in which they happened."""

from collections.abc import Iterable, Sequence

from ..model.messages import Message
from ..model.nodes import ConversationRecord, ProtocolEvent
from ..model.records import dataclass
from .read_model import EventRecord


@dataclass(frozen=True, slots=True)
class ChronologicalEntry:
    """One entry; `index` counts from zero without holes."""

    index: int
    payload: Message | ProtocolEvent


def chronological_projection(
    events: Iterable[EventRecord], messages: Sequence[Message]
) -> tuple[ChronologicalEntry, ...]:
    """Events in order, each message once and transient ones skipped, then unseen messages."""
    payloads: list[Message | ProtocolEvent] = []
    seen: set[str] = set()
    for event in events:
        if isinstance(event, ConversationRecord):
            message = event.message
            if message.transient or message.id in seen:
                continue
            seen.add(message.id)
            payloads.append(message)
        else:
            payloads.append(event)
    payloads.extend(m for m in messages if not m.transient and m.id not in seen)
    return tuple(ChronologicalEntry(at, payload) for at, payload in enumerate(payloads))
