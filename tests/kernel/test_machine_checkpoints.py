"""A machine that is stopped anywhere and restored goes on as if nothing had happened."""

import pytest
from pydantic import ValidationError

from kernel.driving import OK, SETTINGS, HandDrivenTurn, call, completed, says
from lash_runtime.kernel.machine.checkpoint import MachineCheckpoint
from lash_runtime.kernel.machine.config import TurnMachineConfig
from lash_runtime.kernel.machine.effects import (
    CallLlm,
    CallTools,
    Checkpoint,
    CheckpointDelivered,
    Effect,
    EnvironmentSynced,
    ExecCode,
    ExecutionEnvironment,
    LlmCompleted,
    Request,
    Response,
    SyncExecutionEnvironment,
    ToolsCompleted,
)
from lash_runtime.kernel.machine.machine import TurnMachine
from lash_runtime.model.causes import PluginOrigin, TurnCause
from lash_runtime.model.llm import LlmToolSpec
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.schema import OPEN_OBJECT_SCHEMA
from lash_runtime.model.usage import TokenUsage
from lash_runtime.protocols.standard import StandardDriver

REQUESTS = (CallLlm, CallTools, Checkpoint, ExecCode, SyncExecutionEnvironment)
TOOL = LlmToolSpec(name="look", description="d", input_schema=OPEN_OBJECT_SCHEMA)


def config() -> TurnMachineConfig:
    return TurnMachineConfig(
        settings=SETTINGS,
        driver=StandardDriver(),
        system_prompt="p",
        sync_execution_environment=True,
    )


def respond(request: Request) -> Response:
    """A world that always answers the same: tools, an interjection, a cause, an answer."""
    effect_id = request.effect_id
    match request:
        case SyncExecutionEnvironment():
            return EnvironmentSynced(effect_id, ExecutionEnvironment(f"p{effect_id}", (TOOL,)))
        case CallLlm() if request.request.scope.request_id.endswith(":0"):
            usage = TokenUsage(input_tokens=5)
            return LlmCompleted(effect_id, says("let me", call("a"), call("b"), usage=usage))
        case CallLlm():
            return LlmCompleted(effect_id, says("done", usage=TokenUsage(output_tokens=1)))
        case CallTools(calls=calls):
            return ToolsCompleted(effect_id, tuple(completed(item, OK) for item in calls))
        case Checkpoint(checkpoint=kind) if kind == "after_work":
            cause = TurnCause(
                id="w", event_type="e", origin=PluginOrigin(plugin_id="p"), text="woken"
            )
            note = text_message("", MessageRole.USER, "note")
            return CheckpointDelivered(effect_id, (note,), (note,), (cause,))
        case _:
            return CheckpointDelivered(effect_id)


def run(machine: TurnMachine, *, stop_after: int | None = None) -> list[Effect]:
    """Run to the end, or until that many effects were polled; their answers are given."""
    effects: list[Effect] = []
    while stop_after is None or len(effects) < stop_after:
        effect = machine.poll_effect()
        if effect is None:
            break
        effects.append(effect)
        if isinstance(effect, REQUESTS):
            machine.handle_response(respond(effect))
    return effects


def a_machine() -> TurnMachine:
    return HandDrivenTurn(machine=None, system_prompt="p", sync_execution_environment=True).machine


WHOLE = run(a_machine())


@pytest.mark.parametrize("stop", range(len(WHOLE) + 1))
def test_a_turn_restored_between_two_effects_goes_on_the_same(stop: int) -> None:
    """A workflow host may move a turn to another process at any moment."""
    machine = a_machine()
    before = run(machine, stop_after=stop)
    data = machine.checkpoint().to_json()
    restored = TurnMachine.restore_from_checkpoint(config(), MachineCheckpoint.from_json(data))
    assert before + run(restored) == WHOLE
    assert restored.messages == a_finished_machine().messages


@pytest.mark.parametrize("stop", range(len(WHOLE)))
def test_a_request_that_was_out_is_made_again_once_and_under_the_same_id(stop: int) -> None:
    """The answer may be in a journal under that id; the world must not be asked twice."""
    machine = a_machine()
    run(machine, stop_after=stop)
    effect = machine.poll_effect()
    restored = TurnMachine.restore_from_checkpoint(config(), machine.checkpoint())
    if isinstance(effect, REQUESTS):
        assert restored.poll_effect() == effect
        assert restored.poll_effect() is None
    else:
        assert effect not in run(restored)


def test_a_checkpoint_after_an_answer_never_calls_the_model_again() -> None:
    """What was paid for is in the checkpoint."""
    turn = HandDrivenTurn()
    turn.request()
    turn.machine.handle_response(LlmCompleted(1, says("the answer")))
    restored = HandDrivenTurn(
        machine=TurnMachine.restore_from_checkpoint(config(), turn.machine.checkpoint())
    )
    assert isinstance(restored.request(), Checkpoint)
    assert restored.checkpoint() is None
    assert restored.done.messages[-1].text == "the answer"


def test_anything_else_is_no_checkpoint() -> None:
    """A damaged checkpoint must not become a turn that does something else."""
    with pytest.raises(ValidationError):
        MachineCheckpoint.from_json(b'{"turn_id": "t"}')


def a_finished_machine() -> TurnMachine:
    machine = a_machine()
    run(machine)
    return machine
