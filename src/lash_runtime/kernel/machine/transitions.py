"""The table of the turn machine: what each answer does in each state.

Rule 1: every legal pair of state and answer is a row of `TRANSITIONS`; any other pair changes
nothing. The states that wait for no answer are rows of `STEPS`.
Rule 2: a row names the states that it may lead to. The test of the table walks all pairs and
holds the machine to it, and the diagram in the docs is made from it.
Rule 3: an answer leads to the next iteration unless its row says or decides otherwise.
Rule 4: what a protocol decides is behind its driver; here is only what holds for all of them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

from ...model.checkpoints import CheckpointKind
from ...model.llm import LlmCallError, LlmResponse, LlmTerminalReason
from ...model.outcome import StopReason, stopped
from ...model.records import dataclass
from ...model.session_events import ToolCallEvent
from ...model.tool_results import CompletedToolCall, PendingToolCall, ToolCallOutput
from ...model.tool_values import model_return
from ..error_envelopes import provider_error_event, runtime_error_event
from .apply import apply_actions
from .context import TurnContext
from .delivery import begin_extra_iteration, take_delivery
from .effects import (
    CheckpointDelivered,
    EnvironmentSynced,
    ExecCompleted,
    ExecutionEnvironment,
    LlmCompleted,
    Response,
    ToolsCompleted,
)
from .llm_answers import take_llm_response
from .states import (
    PREPARE_ITERATION,
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
            turn.fail(
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
            take_llm_response(turn, answer, response.text_streamed, state.driver_state)
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
    take_delivery(turn, state.checkpoint, response)
    completing = state.checkpoint is CheckpointKind.BEFORE_COMPLETION
    goes_on = not completing or begin_extra_iteration(turn)
    turn.report_progress()
    if not goes_on:
        turn.finish(stopped(StopReason.MAX_TURNS))


def begin_turn(turn: TurnContext) -> None:
    if turn.config.sync_execution_environment:
        _ask_for_environment(turn, update_machine_config=False)
    else:
        turn.state = PREPARE_ITERATION


def prepare_iteration(turn: TurnContext) -> None:
    synced = turn.synced_iteration == turn.iteration
    if turn.config.sync_execution_environment and not synced:
        _ask_for_environment(turn, update_machine_config=True)
        return
    apply_actions(turn, turn.config.driver.prepare_protocol_iteration(turn), may_stay=False)


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
