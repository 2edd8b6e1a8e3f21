"""The table of the turn machine, walked pair by pair, the missing ones included."""

import re
from dataclasses import replace
from itertools import product

import pytest

from kernel.driving import OK, SETTINGS, HandDrivenTurn, call, completed, says
from lash_runtime.kernel.machine.checkpoint import MachineCheckpoint
from lash_runtime.kernel.machine.diagram import mermaid_diagram
from lash_runtime.kernel.machine.effects import (
    CheckpointDelivered,
    EnvironmentSynced,
    ExecCompleted,
    ExecResponse,
    LlmCompleted,
    Response,
    ToolsCompleted,
)
from lash_runtime.kernel.machine.machine import TurnMachine
from lash_runtime.kernel.machine.states import (
    ContinueTurn,
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
from lash_runtime.kernel.machine.transitions import STEPS, TRANSITIONS
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.llm import LlmCallError, LlmRequest, LlmRequestScope, LlmTerminalReason
from lash_runtime.model.tool_results import PendingToolCall

EFFECT_ID = 7
PENDING = PendingToolCall(call_id="c", tool_name="look", args={})
REQUEST = LlmRequest(
    model="m",
    messages=(),
    scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"),
)

STATES: dict[type[MachineState], MachineState] = {
    PreparingProtocol: PreparingProtocol(),
    WaitingExecutionEnvironment: WaitingExecutionEnvironment(EFFECT_ID, True),
    PrepareIteration: PrepareIteration(),
    WaitingLlm: WaitingLlm(EFFECT_ID, REQUEST),
    WaitingTools: WaitingTools(EFFECT_ID, (PENDING,)),
    WaitingExec: WaitingExec(EFFECT_ID, "python", "1"),
    WaitingCheckpoint: WaitingCheckpoint(EFFECT_ID, CheckpointKind.AFTER_WORK, ContinueTurn()),
    TurnFinished: TurnFinished(),
}

RESPONSES: dict[type[Response], tuple[Response, ...]] = {
    EnvironmentSynced: (
        EnvironmentSynced(EFFECT_ID),
        EnvironmentSynced(EFFECT_ID, "the tools are gone"),
    ),
    LlmCompleted: (
        LlmCompleted(EFFECT_ID, says("hi")),
        LlmCompleted(EFFECT_ID, says(call("c2"))),
        LlmCompleted(EFFECT_ID, LlmCallError(message="no")),
        *(LlmCompleted(EFFECT_ID, says("hi", reason=reason)) for reason in LlmTerminalReason),
    ),
    ToolsCompleted: (
        ToolsCompleted(EFFECT_ID, (completed(PENDING, OK),)),
        ToolsCompleted(EFFECT_ID, ()),
    ),
    ExecCompleted: (
        ExecCompleted(EFFECT_ID, ExecResponse(output="1")),
        ExecCompleted(EFFECT_ID, "no interpreter"),
    ),
    CheckpointDelivered: (CheckpointDelivered(EFFECT_ID),),
}

PAIRS = list(product(STATES, RESPONSES))


def machine_in(state: MachineState) -> TurnMachine:
    """A machine in the middle of a turn, in that state, with nothing left to poll but it."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=5))
    fresh: MachineCheckpoint = turn.machine.checkpoint()
    middle = replace(fresh, state=state, effects_asked=EFFECT_ID)
    return TurnMachine.restore_from_checkpoint(turn.config, middle)


@pytest.mark.parametrize(
    ("state", "response"), PAIRS, ids=[f"{s.__name__}-{r.__name__}" for s, r in PAIRS]
)
def test_every_pair_of_state_and_answer_does_what_its_row_says(
    state: type[MachineState], response: type[Response]
) -> None:
    """A pair that has a row leads where the row says; any other pair changes nothing."""
    for answer in RESPONSES[response]:
        machine = machine_in(STATES[state])
        before = machine.checkpoint()
        machine.handle_response(answer)
        row = TRANSITIONS.get((state, response))
        if row is None:
            assert machine.checkpoint() == before
        else:
            assert type(machine.state) in row.leads_to
            assert machine.checkpoint() != before


@pytest.mark.parametrize(("state", "response"), PAIRS)
def test_an_answer_with_another_id_changes_nothing(
    state: type[MachineState], response: type[Response]
) -> None:
    """An answer that comes late, or twice, must not be taken for the one that is due."""
    for answer in RESPONSES[response]:
        machine = machine_in(STATES[state])
        before = machine.checkpoint()
        machine.handle_response(replace(answer, effect_id=EFFECT_ID - 1))
        machine.handle_response(replace(answer, effect_id=EFFECT_ID + 1))
        assert machine.checkpoint() == before


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_each_state_has_a_step_or_waits_or_is_the_end(state: type[MachineState]) -> None:
    """A state that nothing leads out of would be a turn that hangs for ever."""
    has_step = state in STEPS
    waits = any(start is state for start, _ in TRANSITIONS)
    assert [has_step, waits, state is TurnFinished].count(True) == 1


@pytest.mark.parametrize("syncs", [False, True])
@pytest.mark.parametrize("state", STEPS, ids=lambda state: state.__name__)
def test_a_step_leads_where_its_row_says(state: type[MachineState], syncs: bool) -> None:
    """The diagram shows what polls do, so it must be true of them too."""
    turn = HandDrivenTurn(sync_execution_environment=syncs)
    middle = replace(turn.machine.checkpoint(), state=STATES[state])
    machine = TurnMachine.restore_from_checkpoint(turn.config, middle)
    machine.poll_effect()
    reachable = STEPS[state].leads_to
    if PrepareIteration in reachable:
        reachable |= STEPS[PrepareIteration].leads_to
    assert type(machine.state) in reachable


def test_a_request_that_was_answered_is_never_made_again() -> None:
    """Polling between an answer and the next state must not repeat paid work."""
    machine = machine_in(STATES[WaitingLlm])
    asked = machine.poll_effect()
    assert asked is not None
    assert machine.poll_effect() is None
    machine.handle_response(LlmCompleted(EFFECT_ID, says("hi")))
    effects = []
    while (effect := machine.poll_effect()) is not None:
        effects.append(effect)
    assert asked not in effects


def test_the_diagram_draws_every_row_and_nothing_else() -> None:
    """The picture in the docs is only worth having if it cannot be wrong."""
    drawn = re.findall(r"^    (\w+) --> (\w+): ", mermaid_diagram(), flags=re.MULTILINE)
    rows = [(state, target) for state, step in STEPS.items() for target in step.leads_to]
    rows += [(state, target) for (state, _), row in TRANSITIONS.items() for target in row.leads_to]
    assert len(drawn) == len(rows)
    assert {name for edge in drawn for name in edge} == {
        re.sub(r"(?<!^)(?=[A-Z])", "_", state.__name__).lower() for state in STATES
    }
