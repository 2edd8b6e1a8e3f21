"""Tells the world what a turn does: observers first, then the caller's own sink.

Everything that becomes visible of a turn passes here once, so that all readers see one order.
"""

from typing import Any

from ...kernel.assembly import TurnAssembler
from ...model.activity import (
    ErrorReported,
    FinalValue,
    ModelRequestStarted,
    QueuedMessagesCommitted,
    ToolCallCompleted,
    ToolCallStarted,
    ToolValueProduced,
    TurnActivity,
    TurnEvent,
    UsageReported,
)
from ...model.outcome import FinalValueEnd, Finished, ToolValueEnd, TurnOutcome
from ...model.session_events import (
    ErrorEvent,
    InjectedMessagesEvent,
    LlmRequestEvent,
    SessionEvent,
    TokenUsageEvent,
    TurnOutcomeEvent,
)
from ...model.tool_results import PendingToolCall, ToolCallOutput
from ...ports.ids import IdSource
from ..observation import ObservationCell
from .sinks import TurnActivitySink, emit_contained


class TurnReporter:
    """The one way out for a turn's activities and raw events."""

    __slots__ = ("_assembler", "_cell", "_ids", "_sink", "_turn_id")

    def __init__(
        self,
        *,
        turn_id: str,
        cell: ObservationCell,
        sink: TurnActivitySink | None,
        assembler: TurnAssembler,
        ids: IdSource,
    ) -> None:
        self._turn_id = turn_id
        self._cell = cell
        self._sink = sink
        self._assembler = assembler
        self._ids = ids

    def new_correlation_id(self) -> str:
        return self._ids.uuid()

    async def emit(self, event: TurnEvent, correlation_id: str | None = None) -> None:
        """Show one activity. Observers have it before the caller's sink sees it.

        One that belongs to no row of others is a row of its own.
        """
        identity = self._ids.uuid()
        activity = TurnActivity(identity, correlation_id or identity, event)
        self._cell.record_turn_activity(activity, self._turn_id)
        if self._sink is not None:
            await emit_contained(self._sink, activity)

    async def raw(self, event: SessionEvent) -> None:
        """Take one raw event of the machine: its activity, if it has one, then the record."""
        activity = _activity_of(event)
        if activity is not None:
            await self.emit(activity)
        self._assembler.push(event)

    async def tool_started(self, call: PendingToolCall, parent_call_id: str | None = None) -> None:
        event = ToolCallStarted(
            call_id=call.call_id, name=call.tool_name, args=call.args, parent_call_id=parent_call_id
        )
        await self.emit(event, f"tool:{call.call_id}")

    async def tool_completed(
        self,
        call: PendingToolCall,
        output: ToolCallOutput,
        duration_ms: int,
        parent_call_id: str | None = None,
    ) -> None:
        event = ToolCallCompleted(
            call_id=call.call_id,
            name=call.tool_name,
            args=call.args,
            output=output,
            duration_ms=duration_ms,
            parent_call_id=parent_call_id,
        )
        await self.emit(event, f"tool:{call.call_id}")


def _activity_of(event: SessionEvent) -> TurnEvent | None:
    match event:
        case LlmRequestEvent(protocol_iteration=iteration):
            return ModelRequestStarted(iteration)
        case TokenUsageEvent(protocol_iteration=iteration, usage=usage, cumulative=cumulative):
            return UsageReported(protocol_iteration=iteration, usage=usage, cumulative=cumulative)
        case InjectedMessagesEvent(messages=messages, checkpoint=checkpoint):
            return QueuedMessagesCommitted(messages=messages, checkpoint=checkpoint)
        case ErrorEvent(message=message):
            return ErrorReported(message)
        case TurnOutcomeEvent(outcome=outcome):
            return _terminal_value(outcome)
        case _:
            return None


def _terminal_value(outcome: TurnOutcome) -> TurnEvent | None:
    value: Any
    match outcome:
        case Finished(end=ToolValueEnd(tool_name=name, value=value)):
            return ToolValueProduced(tool_name=name, value=value)
        case Finished(end=FinalValueEnd(value=value)):
            return FinalValue(value=value)
        case _:
            return None
