"""What nodes are called, and what they say they were caused by.

Node id and message id may differ, because a session may see a message id again; which message is
which is always told by its own id.
"""

from collections.abc import Callable

from ..model.causes import CausalRef, ProcessEventRef, ProcessOrigin
from ..model.messages import Message


def message_node_id(message_id: str, is_taken: Callable[[str], bool]) -> str:
    """The id of the node that holds a message: its own, or the first free one like it."""
    candidate, ordinal = message_id, 0
    while is_taken(candidate):
        ordinal += 1
        candidate = f"message:{message_id}" + (f":{ordinal}" if ordinal > 1 else "")
    return candidate


def cause_of(message: Message) -> CausalRef | None:
    """What caused a message that does not say it itself: the process that it comes from."""
    if isinstance(message.origin, ProcessOrigin):
        return ProcessEventRef(
            process_id=message.origin.process_id, sequence=message.origin.sequence
        )
    return None
