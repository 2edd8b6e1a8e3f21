"""The table of the turn machine: what each answer does in each state.

Rule 1: every legal pair of state and answer is a row of `TRANSITIONS`; any other pair changes
nothing. The states that wait for no answer are rows of `STEPS`.
Rule 2: a row names the states that it may lead to. The test of the table walks all pairs and
holds the machine to it, and the diagram in the docs is made from it.
Rule 3: an answer leads to the next iteration unless its row says or decides otherwise.
Rule 4: what a protocol decides is behind its driver; here is only what holds for all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

from ...model.causes import PluginOrigin
from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmCallError, LlmResponse, LlmTerminalReason
from ...model.messages import Message, MessageRole, Part, PartKind, part_id, renumber_parts
from ...model.outcome import StopReason, stopped
from ...model.session_events import (
    ErrorEvent,
    InjectedMessagesEvent,
    LlmResponseEvent,
    TextDeltaEvent,
    TokenUsageEvent,
    ToolCallEvent,
)
from ...model.tool_results import CompletedToolCall, PendingToolCall, ToolCallOutput
from ...model.tool_values import model_return
from ..error_envelopes import (
    provider_error_event,
    runtime_error_event,
    unusable_response_event,
)
from ..turn_causes import cause_message
from .apply import apply_actions, starts_or_finishes
from .context import TurnContext
from .driver import ProtocolDriverError
from .effects import (
    CheckpointDelivered,
    EnvironmentSynced,
    ExecCompleted,
    ExecutionEnvironment,
    LlmCompleted,
    Response,
    ToolsCompleted,
)
from .states import (
    ContinueTurn,
    FinishWith,
    MachineState,
    PrepareIteration,
    PreparingProtocol,
    TurnFinished,
    WaitingCheckpoint,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
)

CONTEXT_OVERFLOW_SHARE: Final = 0.95
"""A prompt that fills this much of the context, and leaves the model silent, was too long."""

NO_RESULT: Final = "The call was stopped before it had a result."


@dataclass(frozen=True, slots=True)
class Transition:
    """What a row does, and where it may lead."""

    handle: Callable[[TurnContext, Any, Any], None]
    leads_to: frozenset[type[MachineState]]


@dataclass(frozen=True, slots=True)
class Step:
    """What a state does by itself at the next poll, and where it may lead."""

    take: Callable[[TurnContext], None]
    leads_to: frozenset[type[MachineState]]


def on_environment_synced(
    turn: TurnContext, state: WaitingExecutionEnvironment, response: EnvironmentSynced
) -> None:
    match response.result:
        case str() as problem:
            fail_turn(
                turn,
                runtime_error_event(
                    f"The execution environment could not be prepared: {problem}",
                    kind="execution_environment",
                    code="reconfigure_failed",
                ),
            )
            return
        case ExecutionEnvironment() as environment if state.update_machine_config:
            turn.system_prompt = environment.system_prompt
            turn.tool_specs = environment.tool_specs
        case ExecutionEnvironment() | None:
            pass
        case _:
            assert_never(response.result)
    turn.synced_iteration = turn.iteration


def on_llm_completed(turn: TurnContext, state: WaitingLlm, response: LlmCompleted) -> None:
    match response.result:
        case LlmCallError(terminal_reason=LlmTerminalReason.CANCELLED):
            turn.finish(stopped(StopReason.CANCELLED))
        case LlmCallError() as error:
            turn.emit(provider_error_event(error))
            turn.finish(stopped(StopReason.PROVIDER_ERROR))
        case LlmResponse() as answer:
            _on_llm_response(turn, state, _reclassified(turn, answer), response.text_streamed)
        case _:
            assert_never(response.result)


def on_tools_completed(turn: TurnContext, state: WaitingTools, response: ToolsCompleted) -> None:
    by_id = {result.call_id: result for result in response.results}
    results = tuple(by_id.get(call.call_id) or _without_result(call) for call in state.calls)
    for result in results:
        turn.emit(
            ToolCallEvent(
                call_id=result.call_id,
                name=result.tool_name,
                args=result.args,
                output=result.output,
                duration_ms=result.duration_ms,
            )
        )
    apply_actions(turn, turn.config.driver.handle_tool_results(turn, results))


def on_exec_completed(turn: TurnContext, state: WaitingExec, response: ExecCompleted) -> None:
    driver = turn.config.driver
    apply_actions(turn, driver.handle_exec_result(turn, response.result, state.driver_state))


def on_checkpoint_delivered(
    turn: TurnContext, state: WaitingCheckpoint, response: CheckpointDelivered
) -> None:
    if response.is_empty():
        match state.on_empty:
            case ContinueTurn():
                pass
            case FinishWith(outcome=outcome):
                turn.finish(outcome)
            case _:
                assert_never(state.on_empty)
        return
    _take_delivery(turn, state.checkpoint, response)
    completing = state.checkpoint is CheckpointKind.BEFORE_COMPLETION
    goes_on = not completing or _may_go_on(turn)
    turn.report_progress()
    if not goes_on:
        turn.finish(stopped(StopReason.MAX_TURNS))


def begin_turn(turn: TurnContext) -> None:
    if turn.config.sync_execution_environment:
        _ask_for_environment(turn, update_machine_config=False)
    else:
        turn.state = PrepareIteration()


def prepare_iteration(turn: TurnContext) -> None:
    synced = turn.synced_iteration == turn.iteration
    if turn.config.sync_execution_environment and not synced:
        _ask_for_environment(turn, update_machine_config=True)
        return
    driver = turn.config.driver
    actions = driver.prepare_protocol_iteration(turn)
    if not starts_or_finishes(actions):
        raise ProtocolDriverError(
            f"{type(driver).__name__} began iteration {turn.iteration} without starting anything"
        )
    apply_actions(turn, actions)


def fail_turn(turn: TurnContext, error: ErrorEvent) -> None:
    """End the turn with `error` as its reason."""
    turn.emit(error)
    turn.finish(stopped(StopReason.RUNTIME_ERROR))


_DRIVER_DECIDES: Final[frozenset[type[MachineState]]] = frozenset(
    {
        PrepareIteration,
        WaitingLlm,
        WaitingTools,
        WaitingExec,
        WaitingCheckpoint,
        TurnFinished,
    }
)

# (state we wait in, answer that ends the wait) -> what it does. Any other pair changes nothing.
TRANSITIONS: Final[Mapping[tuple[type[MachineState], type[Response]], Transition]] = {
    (WaitingExecutionEnvironment, EnvironmentSynced): Transition(
        on_environment_synced, frozenset({PrepareIteration, TurnFinished})
    ),
    (WaitingLlm, LlmCompleted): Transition(on_llm_completed, _DRIVER_DECIDES),
    (WaitingTools, ToolsCompleted): Transition(on_tools_completed, _DRIVER_DECIDES),
    (WaitingExec, ExecCompleted): Transition(on_exec_completed, _DRIVER_DECIDES),
    (WaitingCheckpoint, CheckpointDelivered): Transition(
        on_checkpoint_delivered, frozenset({PrepareIteration, TurnFinished})
    ),
}

# State that waits for nothing -> what the next poll does.
STEPS: Final[Mapping[type[MachineState], Step]] = {
    PreparingProtocol: Step(begin_turn, frozenset({WaitingExecutionEnvironment, PrepareIteration})),
    PrepareIteration: Step(
        prepare_iteration,
        (_DRIVER_DECIDES | {WaitingExecutionEnvironment}) - {PrepareIteration},
    ),
}


def _ask_for_environment(turn: TurnContext, *, update_machine_config: bool) -> None:
    turn.wait_in(WaitingExecutionEnvironment(turn.next_effect_id(), update_machine_config))


def _reclassified(turn: TurnContext, response: LlmResponse) -> LlmResponse:
    """A silent `output_limit` on a full prompt is an overflow, whatever the provider calls it."""
    limit = turn.settings.max_context_tokens
    usage = response.usage
    if (
        response.terminal_reason is not LlmTerminalReason.OUTPUT_LIMIT
        or usage.output_tokens
        or limit is None
        or usage.input_total < CONTEXT_OVERFLOW_SHARE * limit
    ):
        return response
    return replace(
        response,
        terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW,
        terminal_diagnostic=(
            f"The prompt of {usage.input_total} tokens fills the model's context of {limit} "
            "tokens and leaves no room for an answer."
        ),
    )


def _on_llm_response(
    turn: TurnContext, state: WaitingLlm, response: LlmResponse, text_streamed: bool
) -> None:
    turn.usage = turn.usage.add(response.usage)
    turn.emit(TokenUsageEvent(turn.iteration, response.usage, turn.usage))
    reason = response.terminal_reason
    match reason:
        case LlmTerminalReason.STOP | LlmTerminalReason.TOOL_USE | LlmTerminalReason.UNKNOWN:
            actions = turn.config.driver.handle_llm_response(
                turn, response, text_streamed, state.driver_state
            )
            apply_actions(turn, actions)
        case LlmTerminalReason.OUTPUT_LIMIT:
            _end_with_response(turn, response, text_streamed, StopReason.INCOMPLETE)
        case LlmTerminalReason.CANCELLED:
            _end_with_response(turn, response, text_streamed, StopReason.CANCELLED)
        case (
            LlmTerminalReason.CONTEXT_OVERFLOW
            | LlmTerminalReason.CONTENT_FILTER
            | LlmTerminalReason.PROVIDER_ERROR
        ):
            _end_with_response(turn, response, text_streamed, StopReason.PROVIDER_ERROR)
        case _:
            assert_never(reason)


def _end_with_response(
    turn: TurnContext, response: LlmResponse, text_streamed: bool, reason: StopReason
) -> None:
    """End the turn at a response that no turn can go on from; its text is shown, not kept."""
    if response.full_text and not text_streamed:
        turn.emit(TextDeltaEvent(response.full_text))
    turn.emit(LlmResponseEvent(turn.iteration, response.full_text))
    if reason is not StopReason.CANCELLED:
        ended = response.terminal_reason
        turn.emit(
            unusable_response_event(
                response.terminal_diagnostic
                or f"The model call ended with terminal reason {ended.value}.",
                code=ended.value,
                terminal_reason=ended,
            )
        )
    turn.finish(stopped(reason))


def _without_result(call: PendingToolCall) -> CompletedToolCall:
    output = ToolCallOutput.cancelled(NO_RESULT)
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=output,
        model_return=model_return(call.call_id, call.tool_name, output),
        replay=call.replay,
    )


def _take_delivery(
    turn: TurnContext, checkpoint: CheckpointKind, delivery: CheckpointDelivered
) -> None:
    """Put what a checkpoint delivered into the transcript: messages, then causes."""
    stored = [_joining(turn, message) for message in delivery.messages if _may_join(message)]
    turn.append_messages(stored)
    if stored:
        turn.emit(InjectedMessagesEvent(tuple(stored), checkpoint))
    for message in delivery.transient_messages:
        if _may_join(message):
            turn.append_messages((_as_transient(_joining(turn, message)),))
    for cause in delivery.turn_causes:
        if not turn.has_message(cause.id):
            turn.append_messages((cause_message(cause),))
            turn.turn_causes = (*turn.turn_causes, cause)


def _may_join(message: Message) -> bool:
    return message.role in (MessageRole.USER, MessageRole.SYSTEM)


def _joining(turn: TurnContext, message: Message) -> Message:
    """`message` with an id of this turn unless it has one of its own, and with fitting parts."""
    identity = message.id
    if not identity or turn.has_message(identity):
        identity = turn.message_id(f"checkpoint:{turn.checkpoint_messages}")
        turn.checkpoint_messages += 1
    parts = message.parts or (Part(id=part_id(identity, 0), kind=PartKind.TEXT),)
    return message.model_copy(update={"id": identity, "parts": renumber_parts(identity, parts)})


def _as_transient(message: Message) -> Message:
    plugin_id = message.origin.plugin_id if isinstance(message.origin, PluginOrigin) else "plugin"
    origin = PluginOrigin(plugin_id=plugin_id, transient=True)
    return message.model_copy(update={"origin": origin})


def _may_go_on(turn: TurnContext) -> bool:
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
