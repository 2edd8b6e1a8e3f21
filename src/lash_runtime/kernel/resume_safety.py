"""Closed histories: every tool call of a turn has exactly one result.

A provider refuses a history in which a call is unanswered, and a session that holds one can
never be continued. So nothing is committed that is not resume-safe, and a turn that ends
early gets results that say what happened.
"""

from collections.abc import Iterable

from ..model.messages import Message, MessageRole, Part, PartKind, part_id


class CallLedger:
    """Follows the calls of one turn through its messages, as they come."""

    __slots__ = ("_broken", "_open", "_seen")

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._seen: set[str] = set()
        self._broken = False

    @property
    def is_resume_safe(self) -> bool:
        """Whether no call is open, and none was ever asked for or answered in a wrong way."""
        return not self._broken and not self._open

    def follow(self, messages: Iterable[Message]) -> None:
        """Take the next messages of the turn."""
        for message in messages:
            for part in message.parts:
                if part.kind is PartKind.TOOL_CALL:
                    self._ask(part.tool_call_id or "", message.role)
                elif part.kind is PartKind.TOOL_RESULT:
                    self._answer(part.tool_call_id or "", message.role)

    def _ask(self, call_id: str, role: MessageRole) -> None:
        if role is not MessageRole.ASSISTANT or not call_id.strip() or call_id in self._seen:
            self._broken = True
        self._seen.add(call_id)
        self._open.add(call_id)

    def _answer(self, call_id: str, role: MessageRole) -> None:
        if role is not MessageRole.USER or call_id not in self._open:
            self._broken = True
        self._open.discard(call_id)


def resume_safe(messages: Iterable[Message]) -> bool:
    """Whether these messages, all of one turn, leave no call open and no result without a call."""
    ledger = CallLedger()
    ledger.follow(messages)
    return ledger.is_resume_safe


def close_open_calls(messages: Iterable[Message], reason: str) -> tuple[Message, ...]:
    """The messages that answer what is still unanswered, each call with `reason`.

    One user message for each assistant message with open calls, its id made from that
    message's id, so that closing the same history twice gives the same messages.
    """
    calls: dict[str, tuple[str, Part]] = {}
    for message in messages:
        for part in message.parts:
            if part.tool_call_id is None:
                continue
            if part.kind is PartKind.TOOL_CALL:
                calls[part.tool_call_id] = (message.id, part)
            elif part.kind is PartKind.TOOL_RESULT:
                calls.pop(part.tool_call_id, None)
    by_message: dict[str, list[Part]] = {}
    for message_id, part in calls.values():
        by_message.setdefault(message_id, []).append(part)
    return tuple(
        _closing_message(message_id, parts, reason) for message_id, parts in by_message.items()
    )


def cancelled_result_text(reason: str) -> str:
    """What the model reads in place of the result of a call that was stopped."""
    return f"[Tool execution cancelled]\n{reason}"


def _closing_message(call_message_id: str, calls: Iterable[Part], reason: str) -> Message:
    message_id = f"{call_message_id}:closed"
    return Message(
        id=message_id,
        role=MessageRole.USER,
        parts=tuple(
            Part(
                id=part_id(message_id, index),
                kind=PartKind.TOOL_RESULT,
                content=cancelled_result_text(reason),
                tool_call_id=call.tool_call_id,
                tool_name=call.tool_name,
            )
            for index, call in enumerate(calls)
        ),
    )
