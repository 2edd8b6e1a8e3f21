"""What holds for every turn, whatever the model says and whenever it is stopped."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.driving import OK, SETTINGS, HandDrivenTurn, broken, call, completed, says
from lash_runtime.kernel.draft import TurnDraft
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.kernel.machine.checkpoint import MachineCheckpoint
from lash_runtime.kernel.machine.effects import (
    CallLlm,
    CallTools,
    Checkpoint,
    CheckpointDelivered,
    Done,
    EnvironmentSynced,
    ExecutionEnvironment,
    LlmCompleted,
    Request,
    Response,
    SyncExecutionEnvironment,
    ToolsCompleted,
)
from lash_runtime.kernel.machine.machine import TurnMachine
from lash_runtime.kernel.read_model import EVERYTHING
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.model.causes import PluginOrigin, TurnCause
from lash_runtime.model.llm import LlmCallError, LlmTerminalReason, ReasoningOutput
from lash_runtime.model.messages import MessageRole, ProviderReasoningReplay, text_message
from lash_runtime.model.outcome import StopReason, stopped
from lash_runtime.model.session_events import DoneEvent, ToolCallEvent, TurnOutcomeEvent
from lash_runtime.model.tool_results import FinishTurn, ToolCallOutput

NOW = "2026-01-01T00:00:00Z"

outputs = st.sampled_from(
    [
        "",
        "words",
        "\nmore\n",
        ReasoningOutput("hm"),
        ReasoningOutput("", ProviderReasoningReplay(signature="s")),
        call("a"),
        call("b", "find", '{"at": 1}'),
        call("", "look", "{broken"),
    ]
)
answers = st.one_of(
    st.builds(
        lambda parts, reason: says(*parts, reason=reason),
        st.lists(outputs, max_size=4),
        st.sampled_from([LlmTerminalReason.TOOL_USE] * 6 + list(LlmTerminalReason)),
    ),
    st.just(LlmCallError(message="no")),
)
results = st.sampled_from(
    [
        OK,
        OK,
        broken(),
        ToolCallOutput.cancelled("x"),
        ToolCallOutput.success(1, FinishTurn(value=1)),
        None,
    ]
)
joining = st.sampled_from(
    [
        text_message("", MessageRole.USER, "wait"),
        text_message("m_ingress_1", MessageRole.USER, "and"),
        text_message("", MessageRole.ASSISTANT, "no"),
    ]
)
cause = TurnCause(id="w", event_type="e", origin=PluginOrigin(plugin_id="p"), text="woken")
deliveries = st.tuples(
    st.lists(joining, max_size=2),
    st.lists(joining, max_size=1),
    st.lists(st.just(cause), max_size=1),
)


def world(data: st.DataObject) -> Callable[[Request], Response]:
    """Answers that are drawn as they are needed."""

    def respond(request: Request) -> Response:
        effect_id = request.effect_id
        match request:
            case CallLlm():
                return LlmCompleted(effect_id, data.draw(answers), data.draw(st.booleans()))
            case CallTools(calls=calls):
                drawn = [(item, data.draw(results)) for item in calls]
                finished = [completed(item, output) for item, output in drawn if output]
                return ToolsCompleted(effect_id, tuple(finished))
            case Checkpoint():
                if data.draw(st.booleans()):
                    return CheckpointDelivered(effect_id)
                return CheckpointDelivered(effect_id, *map(tuple, data.draw(deliveries)))
            case SyncExecutionEnvironment():
                environment = ExecutionEnvironment(f"prompt {effect_id}", ())
                return EnvironmentSynced(effect_id, data.draw(st.sampled_from([None, environment])))
            case _:
                raise AssertionError(request)

    return respond


@settings(max_examples=200)
@given(st.data(), st.integers(1, 14), st.sampled_from([None, 1, 3]), st.booleans())
def test_every_turn_ends_closed_reported_and_storable(
    data: st.DataObject, patience: int, max_turns: int | None, syncs: bool
) -> None:
    """The promises that the runtime builds on, for any model and a cancel at any moment."""
    turn = HandDrivenTurn(
        settings=replace(SETTINGS, max_turns=max_turns),
        sync_execution_environment=syncs,
        history=[text_message("old", MessageRole.ASSISTANT, "before")],
    )
    respond = world(data)
    asked: list[int] = []
    while (request := turn.request()) is not None:
        asked.append(request.effect_id)
        if len(asked) == patience:
            turn.machine.finish_with_outcome(stopped(StopReason.CANCELLED))
        else:
            turn.machine.handle_response(respond(request))

    # It has ended, once, and says so last.
    assert turn.machine.is_done
    assert sum(isinstance(notice, Done) for notice in turn.notices) == 1
    assert [type(event) for event in turn.events[-2:]] == [TurnOutcomeEvent, DoneEvent]
    assert asked == list(range(1, len(asked) + 1))

    # The history is closed, and each call was reported exactly once.
    assert resume_safe(turn.added)
    called = [part.tool_call_id for m in turn.added for part in m.parts if part.kind == "tool_call"]
    assert [event.call_id for event in turn.events_of(ToolCallEvent)] == called

    # Ids are unique and records come once.
    ids = [message.id for message in turn.machine.messages]
    assert len(set(ids)) == len(ids)
    records = [record.id for report in turn.progress for record in report.event_delta]
    records += [record.id for record in turn.done.event_delta]
    assert len(set(records)) == len(records)
    assert set(records) <= set(ids)

    # A draft takes what was reported, and shows all of it but what is for this turn alone.
    draft = TurnDraft(SessionGraph(), frame_id="", visible=EVERYTHING, scope="t")
    for report in [*turn.progress, turn.done]:
        if resume_safe(report.messages):
            draft.reconcile(report.messages, NOW)
    stored = [message for message in turn.machine.messages if not message.transient]
    assert list(draft.messages) == stored


@settings(max_examples=100)
@given(st.data(), st.integers(0, 40))
def test_a_turn_moved_at_any_moment_ends_the_same(data: st.DataObject, stop: int) -> None:
    """Whoever restores a checkpoint gets the turn that it was, to the last effect."""
    first = HandDrivenTurn(settings=replace(SETTINGS, max_turns=3), sync_execution_environment=True)
    respond = world(data)
    given_answers: list[Response] = []
    effects = []
    moved: tuple[int, int, bytes] | None = None
    while (effect := first.machine.poll_effect()) is not None:
        effects.append(effect)
        waits = hasattr(effect, "effect_id")
        if len(effects) == stop:
            answered = len(given_answers)
            moved = (len(effects) - waits, answered, first.machine.checkpoint().to_json())
        if waits:
            given_answers.append(respond(effect))
            first.machine.handle_response(given_answers[-1])
    if moved is None:
        return
    seen, answered, data_of = moved
    machine = TurnMachine.restore_from_checkpoint(
        first.config, MachineCheckpoint.from_json(data_of)
    )
    rest = []
    for answer in [*given_answers[answered:], None]:
        while (effect := machine.poll_effect()) is not None:
            rest.append(effect)
        if answer is not None:
            machine.handle_response(answer)
    assert rest == effects[seen:]
