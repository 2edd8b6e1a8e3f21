"""The results of a batch of calls as the one message that the model is shown."""

from collections.abc import Iterable

from ...model.messages import Message, MessageRole, Part, PartKind, part_id
from ...model.tool_results import CompletedToolCall, ReturnAttachment


def results_message(message_id: str, results: Iterable[CompletedToolCall]) -> Message:
    """One user message with exactly one part for each call, in call order.

    A result that is empty, or an image alone, still has its part: a call without an answer is
    a history that no provider accepts.
    """
    parts = tuple(
        Part(
            id=part_id(message_id, index),
            kind=PartKind.TOOL_RESULT,
            content=result.model_return.text,
            attachments=tuple(
                part.ref for part in result.model_return.parts if isinstance(part, ReturnAttachment)
            ),
            tool_call_id=result.call_id,
            tool_name=result.tool_name,
        )
        for index, result in enumerate(results)
    )
    return Message(id=message_id, role=MessageRole.USER, parts=parts)
