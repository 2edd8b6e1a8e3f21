"""What joins a turn at a checkpoint: messages, messages for this turn alone, and causes."""

from ...model.causes import PluginOrigin
from ...model.checkpoints import CheckpointKind
from ...model.messages import Message, MessageRole, Part, PartKind, part_id, renumber_parts
from ...model.records import replace
from ...model.session_events import InjectedMessagesEvent
from ..turn_causes import cause_message
from .context import TurnContext
from .effects import CheckpointDelivered


def take_delivery(
    turn: TurnContext, checkpoint: CheckpointKind, delivery: CheckpointDelivered
) -> None:
    """Put what a checkpoint delivered into the transcript: messages, then causes."""
    stored = [_join(turn, message) for message in delivery.messages if _may_join(message)]
    if stored:
        turn.emit(InjectedMessagesEvent(tuple(stored), checkpoint))
    for message in delivery.transient_messages:
        if _may_join(message):
            _join(turn, _as_transient(message))
    for cause in delivery.turn_causes:
        if not turn.has_message(cause.id):
            turn.append_messages((cause_message(cause),))
            turn.turn_causes = (*turn.turn_causes, cause)


def begin_extra_iteration(turn: TurnContext) -> bool:
    """Begin one more iteration for what came in before completion, if the limit allows.

    At the limit the model is told that its next answer is the last; a delivery after that
    answer ends the turn.
    """
    turn.iteration += 1
    if turn.limit_final_shown:
        return False
    limit = turn.settings.max_turns
    if limit is not None and turn.iteration >= turn.run_offset + limit:
        message = turn.config.turn_limit_final_message(turn.message_id("limit"), limit)
        turn.schedule_limit_final(message)
    return True


def _may_join(message: Message) -> bool:
    return message.role in (MessageRole.USER, MessageRole.SYSTEM)


def _join(turn: TurnContext, message: Message) -> Message:
    """Append `message` with its own id, or with one of this turn if that is blank or taken."""
    identity = message.id
    if not identity or turn.has_message(identity):
        identity = turn.message_id(f"checkpoint:{turn.checkpoint_messages}")
        turn.checkpoint_messages += 1
    parts = message.parts or (Part(id=part_id(identity, 0), kind=PartKind.TEXT),)
    joined = replace(message, id=identity, parts=renumber_parts(identity, parts))
    turn.append_messages((joined,))
    return joined


def _as_transient(message: Message) -> Message:
    plugin_id = message.origin.plugin_id if isinstance(message.origin, PluginOrigin) else "plugin"
    origin = PluginOrigin(plugin_id=plugin_id, transient=True)
    return replace(message, origin=origin)
