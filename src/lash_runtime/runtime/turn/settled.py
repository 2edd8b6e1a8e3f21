"""Between a turn that has ended, its stored record and the result that its caller gets.

A record refers to messages instead of repeating their text. Reading it back gives the caller who
comes again what the first caller got, as far as it is kept: of a tool's value, what the model was
shown of it.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ...kernel.assembly import AssembledTurn, assistant_output, explicit_text
from ...kernel.read_model import ReadModel
from ...kernel.read_view import SessionReadView
from ...kernel.visible_text import prose_of
from ...model.messages import Message, MessageRole, Part, PartKind
from ...model.outcome import AssistantMessageEnd, ExecutionSummary, Finished, Stopped, answered
from ...model.tool_results import (
    ToolCallOutput,
    ToolCallRecord,
    ToolFailure,
    ToolFailureClass,
)
from ...ports.turn_ledger import SettledCall, TurnResultRecord, TurnRow
from ..faults import RuntimeFault
from ..state import RuntimeSessionState
from .result import TurnResult


def result_of_turn(
    turn_id: str, turn: AssembledTurn, execution: ExecutionSummary, view: SessionReadView
) -> TurnResult:
    """What the caller of a turn that ran just now gets."""
    return TurnResult(
        turn_id=turn_id,
        state=view,
        outcome=turn.outcome,
        assistant_output=turn.assistant_output,
        usage=turn.usage,
        execution=execution,
        tool_calls=turn.tool_calls,
        errors=turn.errors,
        cancellation=turn.cancellation,
    )


def record_of_turn(
    turn: AssembledTurn, added: Sequence[Message], execution: ExecutionSummary
) -> TurnResultRecord:
    """What the turn's row keeps. `added` are the messages that the turn has added."""
    answer = _answer_of(turn, added)
    finished = answer is not None and isinstance(turn.outcome, Finished)
    return TurnResultRecord(
        outcome=answered("") if finished else turn.outcome,
        assistant_message_id=None if answer is None else answer.id,
        message_ids=tuple(message.id for message in added if not message.transient),
        usage=turn.usage,
        issues=turn.errors,
        calls=tuple(
            SettledCall(
                call_id=record.call_id or "",
                status=record.output.outcome.status,
                duration_ms=record.duration_ms,
            )
            for record in turn.tool_calls
        ),
        execution=execution,
        cancellation=turn.cancellation,
    )


def result_of_row(row: TurnRow, state: RuntimeSessionState) -> TurnResult:
    """What a caller gets who comes back to a settled turn. Raises the fault it failed with."""
    if row.failure is not None:
        raise RuntimeFault(row.failure.code, row.failure.message)
    record = row.result
    if record is None:
        raise RuntimeFault(
            "turn_not_available",
            f"turn {row.turn_id!r} is {row.state.value} and has no result to give",
        )
    transcript = state.graph.read_model()
    if record.message_ids and not any(map(transcript.has_message, record.message_ids)):
        raise RuntimeFault(
            "turn_of_replaced_history",
            f"turn {row.turn_id!r} was run in a history that has been replaced since, and its "
            "words are gone: use a new turn id",
        )
    outcome = record.outcome
    text = explicit_text(outcome) or ""
    if record.assistant_message_id is not None:
        text = _text_of(transcript.message(record.assistant_message_id))
        if isinstance(outcome, Finished):
            outcome = answered(text)
    return TurnResult(
        turn_id=row.turn_id,
        state=state.read_view(),
        outcome=outcome,
        assistant_output=assistant_output(text),
        usage=record.usage,
        execution=record.execution,
        tool_calls=tuple(_call_records(record, transcript)),
        errors=record.issues,
        cancellation=record.cancellation,
    )


def fault_of_replaced_history(turn_id: str) -> RuntimeFault:
    """For a session whose next commit replaces the history that the turn belongs to."""
    return RuntimeFault(
        "turn_of_replaced_history",
        f"turn {turn_id!r} was run in the history that this session is to replace: "
        "use a new turn id, or open the session as it is stored to have its result",
    )


def _answer_of(turn: AssembledTurn, added: Sequence[Message]) -> Message | None:
    """The message whose text is the answer, so that the record need not repeat it. A turn that
    was cancelled by a request may have had its answer by then."""
    match turn.outcome:
        case Finished(end=AssistantMessageEnd(text=text)):
            pass
        case Stopped() if turn.cancellation is not None and turn.assistant_output.safe_text:
            text = turn.assistant_output.safe_text
        case _:
            return None
    for message in reversed(added):
        if message.role is MessageRole.ASSISTANT:
            return message if _text_of(message) == text else None
    return None


def _text_of(message: Message | None) -> str:
    return "" if message is None else assistant_output(prose_of(message)).safe_text


def _call_records(record: TurnResultRecord, transcript: ReadModel) -> Iterable[ToolCallRecord]:
    """The calls of a settled turn, with their values as the model was shown them."""
    messages = [transcript.message(message_id) for message_id in record.message_ids]
    parts = [part for message in messages if message is not None for part in message.parts]
    asked = {part.tool_call_id: part for part in parts if part.kind is PartKind.TOOL_CALL}
    shown = {part.tool_call_id: part for part in parts if part.kind is PartKind.TOOL_RESULT}
    for call in record.calls:
        asked_part, shown_part = asked.get(call.call_id), shown.get(call.call_id)
        yield ToolCallRecord(
            call_id=call.call_id or None,
            tool="" if asked_part is None else asked_part.tool_name or "",
            args=_arguments(asked_part),
            output=_output(call.status, "" if shown_part is None else shown_part.content),
            duration_ms=call.duration_ms,
        )


def _arguments(part: Part | None) -> Any:
    if part is None:
        return None
    try:
        return json.loads(part.content)
    except ValueError:
        return part.content


def _output(status: str, shown: str) -> ToolCallOutput:
    match status:
        case "success":
            return ToolCallOutput.success(shown)
        case "cancelled":
            return ToolCallOutput.cancelled(shown)
        case _:
            return ToolCallOutput.failure(
                ToolFailure(class_=ToolFailureClass.EXECUTION, code="tool_error", message=shown)
            )
