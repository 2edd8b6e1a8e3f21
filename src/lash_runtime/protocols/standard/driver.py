"""The standard protocol's decisions: one model call with tools for each iteration.

Calls are executed and their results shown to the model, until it answers in prose, a tool ends
the turn, or the rounds are used up. Everything the model said is kept as it said it, with the
reasoning and the metadata that its provider wants back.
"""

from collections.abc import Sequence
from typing import Any, Final

from ...kernel.assembly import TURN_LIMIT_NOTE
from ...kernel.error_envelopes import runtime_error_event, unusable_response_event
from ...kernel.machine.actions import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    Emit,
    Finish,
    StartCheckpoint,
    StartLlm,
    StartTools,
)
from ...kernel.machine.driver import MachineView
from ...kernel.machine.effects import ExecResponse
from ...kernel.machine.states import ContinueTurn, FinishWith
from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmResponse
from ...model.messages import Message, MessageRole, PartKind, text_message
from ...model.nodes import ConversationRecord
from ...model.outcome import (
    AgentFrameSwitch,
    Finished,
    Stopped,
    StopReason,
    ToolValueEnd,
    TurnOutcome,
    answered,
    stopped,
)
from ...model.session_events import LlmResponseEvent, TextDeltaEvent
from ...model.tool_results import (
    CompletedToolCall,
    FailTurn,
    FinishTurn,
    SwitchAgentFrame,
)
from .messages import results_message
from .response import ModelAnswer, read_response

EMPTY_RESPONSE: Final = "empty_response"


class StandardDriver:
    """Implements `ProtocolDriver`."""

    __slots__ = ()

    def prepare_protocol_iteration(self, view: MachineView) -> Sequence[DriverAction]:
        return (StartLlm(view.llm_request(offer_tools=True)),)

    def handle_llm_response(
        self, view: MachineView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Sequence[DriverAction]:
        answer = read_response(
            response,
            message_id=view.message_id("assistant"),
            used_call_ids=view.used_call_ids,
        )
        actions: list[DriverAction] = []
        if not text_streamed:
            actions.extend(Emit(TextDeltaEvent(slice_)) for slice_ in answer.slices)
        actions.append(Emit(LlmResponseEvent(view.iteration, answer.text)))
        if answer.message is not None:
            actions.append(_append(answer.message))
        actions.extend(_go_on_from(view, answer))
        return actions

    def handle_tool_results(
        self, view: MachineView, results: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        appended = _append(results_message(view.message_id("tools"), results))
        ending = _ending_of(results)
        if ending is not None:
            return (appended, Finish(ending))
        if view.is_last_iteration:
            note = _turn_limit_note(view.message_id("limit_reached"), view.settings.max_turns)
            return (
                appended,
                AdvanceProtocolIteration(),
                _append(note),
                Finish(stopped(StopReason.MAX_TURNS)),
            )
        return (
            appended,
            AdvanceProtocolIteration(),
            StartCheckpoint(CheckpointKind.AFTER_WORK, ContinueTurn()),
        )

    def handle_exec_result(
        self, view: MachineView, result: ExecResponse | str, driver_state: Any
    ) -> Sequence[DriverAction]:
        error = runtime_error_event(
            "The standard protocol executes no code, yet was handed the result of some.",
            kind="runtime",
            code="unexpected_exec_result",
        )
        return (Emit(error), Finish(stopped(StopReason.RUNTIME_ERROR)))


def _go_on_from(view: MachineView, answer: ModelAnswer) -> Sequence[DriverAction]:
    if answer.calls:
        return (StartTools(answer.calls),)
    if answer.message is None and not _follows_tool_result(view):
        nothing = unusable_response_event(
            "Model returned no assistant text or tool calls.", code=EMPTY_RESPONSE
        )
        return (Emit(nothing), Finish(stopped(StopReason.PROVIDER_ERROR)))
    # Silence right after a tool's result is an answer: the work is done, nothing is left to say.
    finish = FinishWith(answered(answer.text))
    return (StartCheckpoint(CheckpointKind.BEFORE_COMPLETION, finish),)


def _follows_tool_result(view: MachineView) -> bool:
    if not view.messages:
        return False
    last = view.messages[-1]
    return last.role is MessageRole.USER and any(
        part.kind is PartKind.TOOL_RESULT for part in last.parts
    )


def _ending_of(results: Sequence[CompletedToolCall]) -> TurnOutcome | None:
    """What the first successful result with a control says about the turn's end."""
    for result in results:
        control = result.output.control
        if control is None or not result.output.is_success:
            continue
        match control:
            case SwitchAgentFrame(frame_id=frame_id, task=task):
                if not frame_id.strip() or not (task or "").strip():
                    return None
                return AgentFrameSwitch(
                    frame_id=frame_id, task=task or "", initial_nodes=control.initial_nodes
                )
            case FinishTurn(value=value):
                return Finished(end=ToolValueEnd(tool_name=result.tool_name, value=value))
            case FailTurn(failure=failure):
                return Stopped(
                    reason=StopReason.TOOL_ERROR,
                    tool_name=result.tool_name,
                    value=failure.model_dump(mode="json"),
                )
    return None


def _turn_limit_note(message_id: str, max_turns: int | None) -> Message:
    text = f"{TURN_LIMIT_NOTE}{max_turns}) before a final assistant response."
    return text_message(message_id, MessageRole.SYSTEM, text, kind=PartKind.ERROR)


def _append(message: Message) -> AppendEvents:
    return AppendEvents((ConversationRecord.of(message),))
