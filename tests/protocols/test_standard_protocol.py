"""The standard protocol: what a model says, calls and is shown, turn by turn."""

import json
from dataclasses import replace

import pytest
from pydantic_core import to_json

from kernel.driving import OK, SETTINGS, HandDrivenTurn, broken, call, says
from lash_runtime.kernel.machine.effects import CallLlm, CallTools, Checkpoint
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.llm import (
    ImageBlock,
    LlmResponse,
    LlmTerminalReason,
    ReasoningBlock,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
    ToolResultBlock,
)
from lash_runtime.model.messages import (
    MessageRole,
    PartKind,
    ProviderReasoningReplay,
    ProviderReplayMeta,
    ResponseTextMeta,
    text_message,
)
from lash_runtime.model.outcome import (
    AgentFrameSwitch,
    Finished,
    Stopped,
    StopReason,
    ToolValueEnd,
    answered,
    stopped,
)
from lash_runtime.model.session_events import (
    ErrorEvent,
    LlmResponseEvent,
    TextDeltaEvent,
    ToolCallEvent,
)
from lash_runtime.model.tool_results import (
    FailTurn,
    FinishTurn,
    SwitchAgentFrame,
    ToolCallOutput,
    ToolControl,
    ToolFailure,
    ToolFailureClass,
)
from lash_runtime.model.tool_values import encode_tool_value
from lash_runtime.protocols.standard import StandardProtocol

REF = AttachmentRef(id="img-1", media_type=MediaType(type=ImageFormat.PNG), byte_len=3)


def phase(name: str) -> ResponseTextMeta:
    return ResponseTextMeta(phase=name)


def kinds(message) -> list[str]:
    return [part.kind.value for part in message.parts]


def after_tools(*outputs: ToolCallOutput, max_turns: int | None = None) -> HandDrivenTurn:
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=max_turns))
    turn.request()
    turn.model(says(*(call(f"c{n}", f"tool{n}") for n in range(len(outputs)))))
    turn.tools(*outputs)
    return turn


# Answers in prose


def test_an_answer_is_kept_as_the_model_produced_it() -> None:
    """Providers want reasoning and metadata back, in the order in which they came."""
    replay = ProviderReasoningReplay(signature="sig")
    meta = ResponseTextMeta(id="msg_1", provider_payload="blob")
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(ReasoningOutput("hm", replay), TextOutput("42", meta)))
    turn.checkpoint()
    (message,) = turn.added
    assert message.role is MessageRole.ASSISTANT
    assert kinds(message) == ["reasoning", "prose"]
    assert message.parts[0].reasoning_meta == replay
    assert message.parts[1].response_meta == meta
    assert [part.id for part in message.parts] == ["m:t:0:assistant.p0", "m:t:0:assistant.p1"]
    assert turn.done.outcome == answered("42")


def test_text_parts_are_set_apart_by_a_blank_line_and_stored_in_slices() -> None:
    """Two paragraphs from one model must not run into each other, on screen or in the store."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("first", "second\n", "\nthird"), streamed=False)
    turn.checkpoint()
    slices = ["first", "\n\nsecond\n", "\nthird"]
    assert [event.content for event in turn.events_of(TextDeltaEvent)] == slices
    assert [part.content for part in turn.added[0].parts] == slices
    assert turn.events_of(LlmResponseEvent) == [LlmResponseEvent(0, "".join(slices))]
    assert turn.done.outcome == answered("first\n\nsecond\n\nthird")


def test_streamed_text_is_not_shown_again() -> None:
    """The user has read it already."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model("hello", streamed=True)
    assert turn.events_of(TextDeltaEvent) == []


def test_a_response_of_text_alone_is_an_answer() -> None:
    """Some endpoints give no parts."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(LlmResponse(full_text="hi", terminal_reason=LlmTerminalReason.STOP))
    turn.checkpoint()
    assert turn.done.outcome == answered("hi")
    assert [part.content for part in turn.added[0].parts] == ["hi"]


def test_commentary_is_no_part_of_a_final_answer() -> None:
    """A model that tags its thinking aloud does not mean it for the user."""
    turn = HandDrivenTurn()
    turn.request()
    thinking = TextOutput("let me see", phase("Commentary"))
    turn.model(says(thinking, TextOutput("42", phase("FINAL_ANSWER"))))
    turn.checkpoint()
    assert turn.done.outcome == answered("42")
    assert [part.content for part in turn.added[0].parts] == ["42"]


def test_commentary_without_a_final_answer_is_all_there_is() -> None:
    """Hiding it would hide the whole answer."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(TextOutput("looking", phase("commentary")), call("c")))
    assert [part.content for part in turn.added[0].parts][:1] == ["looking"]


def test_reasoning_without_text_or_replay_data_is_dropped() -> None:
    """There is nothing in it to show and nothing to send back."""
    turn = HandDrivenTurn()
    turn.request()
    empty = ProviderReasoningReplay()
    turn.model(says(ReasoningOutput(""), ReasoningOutput("", empty), "hi"))
    assert kinds(turn.added[0]) == ["prose"]


def test_reasoning_alone_ends_the_turn_with_an_empty_answer() -> None:
    """The model did answer, though it had nothing to say."""
    turn = HandDrivenTurn()
    turn.request()
    assert isinstance(turn.model(says(ReasoningOutput("hm"))), Checkpoint)
    turn.checkpoint()
    assert turn.done.outcome == answered("")
    assert kinds(turn.added[0]) == ["reasoning"]


@pytest.mark.parametrize("nothing", [says(), says(""), says(" \n"), LlmResponse()])
def test_a_model_that_says_nothing_at_all_is_an_error(nothing: LlmResponse) -> None:
    """An empty answer taken for a good one looks to the user like a broken program."""
    turn = HandDrivenTurn()
    turn.request()
    assert turn.model(nothing) is None
    (error,) = turn.events_of(ErrorEvent)
    assert error.message == "Model returned no assistant text or tool calls."
    assert (error.envelope.kind, error.envelope.code) == ("llm_provider", "empty_response")
    assert turn.done.outcome == stopped(StopReason.PROVIDER_ERROR)
    assert turn.added == []
    assert len(turn.events_of(LlmResponseEvent)) == 1


def test_silence_after_a_tools_result_is_an_answer() -> None:
    """The work is done and nothing is left to say."""
    turn = after_tools(OK)
    turn.checkpoint()
    assert turn.model(says("")) == Checkpoint(5, CheckpointKind.BEFORE_COMPLETION)
    turn.checkpoint()
    assert turn.done.outcome == answered("")
    assert turn.events_of(ErrorEvent) == []


def test_prose_that_was_interrupted_stays_in_the_history() -> None:
    """The user saw it, so the model has to remember that it said it."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model("first thought")
    again = turn.checkpoint(messages=(text_message("i", MessageRole.USER, "wait"),))
    texts = [message.blocks[0].text for message in again.request.messages]
    assert texts == ["hello", "first thought", "wait"]


def test_text_that_no_store_takes_is_spelled_out() -> None:
    """A lone surrogate from a broken endpoint must not cost the whole turn at its commit."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("a\ud800b"))
    turn.checkpoint()
    assert turn.done.outcome == answered("a\\ud800b")
    assert to_json(turn.added[0])


# Tool calls


def test_a_response_that_says_stop_beside_calls_is_executed_all_the_same() -> None:
    """Endpoints disagree about the reason; the parts decide."""
    turn = HandDrivenTurn()
    turn.request()
    batch = turn.model(says("let me look", call("c", "look", '{"at": 1}')))
    assert isinstance(batch, CallTools)
    (pending,) = batch.calls
    assert (pending.call_id, pending.tool_name, pending.args) == ("c", "look", {"at": 1})
    assert pending.args_error is None


def test_the_message_of_a_call_keeps_everything_in_order() -> None:
    """Reasoning belongs to the call that follows it; providers check that it is there."""
    replay = ProviderReasoningReplay(encrypted_content="x")
    first = ToolCallOutputPart("a", "look", '{ "at":1 }', ProviderReplayMeta(item_id="fc"))
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("so", ReasoningOutput("", replay), first, ReasoningOutput("r"), call("b")))
    (message,) = turn.added
    assert kinds(message) == ["prose", "reasoning", "tool_call", "reasoning", "tool_call"]
    stored = message.parts[2]
    assert (stored.tool_call_id, stored.tool_name) == ("a", "look")
    assert stored.content == '{ "at":1 }'
    assert stored.tool_replay == ProviderReplayMeta(item_id="fc")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"at": ', "not valid JSON"),
        ("[1]", "an array"),
        ('"x"', "a string"),
        ("true", "a boolean"),
        ("3", "a number"),
        ('{"at": NaN}', "NaN"),
        ('{"at": 1e999}', "Out of range"),
        ('{"at": "\\ud800"}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_arguments_that_cannot_be_read_are_reported_and_never_guessed(
    text: str, problem: str
) -> None:
    """A tool that runs with arguments the model did not mean does harm."""
    turn = HandDrivenTurn()
    turn.request()
    (pending,) = turn.model(says(call("c", "look", text))).calls
    assert pending.args == {}
    assert problem in pending.args_error
    assert turn.added[0].parts[0].content == text


@pytest.mark.parametrize("text", ["", "  ", "null", "{}"])
def test_no_arguments_are_an_empty_object(text: str) -> None:
    """That is how endpoints write a call of a tool without parameters."""
    turn = HandDrivenTurn()
    turn.request()
    (pending,) = turn.model(says(call("c", "look", text))).calls
    assert (pending.args, pending.args_error) == ({}, None)


def test_calls_without_an_id_or_with_a_taken_one_get_their_own() -> None:
    """A result can only be given to a call that can be told from the others."""
    turn = HandDrivenTurn()
    turn.request()
    first = turn.model(says(call("a"), call(""), call("a"), call(" ")))
    ids = [pending.call_id for pending in first.calls]
    assert ids[0] == "a"
    assert len(set(ids)) == 4
    assert all(len(call_id) <= 40 and call_id.strip() for call_id in ids)
    assert [part.tool_call_id for part in turn.added[0].parts] == ids
    turn.tools(OK, OK, OK, OK)
    turn.checkpoint()
    second = turn.model(says(call("a")))
    assert second.calls[0].call_id not in ids
    turn.tools(OK)
    assert resume_safe(turn.machine.messages)


# Results


def test_each_call_has_exactly_one_result_part() -> None:
    """Also when the result is empty or an image: an orphaned call makes the session unusable."""
    picture = ToolCallOutput.success(encode_tool_value(REF))
    turn = after_tools(OK, ToolCallOutput.success(""), picture, broken())
    message = turn.added[-1]
    assert (message.id, message.role) == ("m:t:0:tools", MessageRole.USER)
    assert [part.kind for part in message.parts] == [PartKind.TOOL_RESULT] * 4
    assert [part.tool_call_id for part in message.parts] == ["c0", "c1", "c2", "c3"]
    assert [part.tool_name for part in message.parts] == ["tool0", "tool1", "tool2", "tool3"]
    assert message.parts[2].attachments == (REF,)
    assert message.parts[3].content == "[Tool execution failed]\nit broke"
    assert resume_safe(turn.machine.messages)


def test_an_image_of_a_result_is_shown_to_the_model_after_the_results() -> None:
    """Endpoints take images beside results, and results in front."""
    turn = after_tools(ToolCallOutput.success(encode_tool_value(REF)), OK)
    blocks = turn.checkpoint().request.messages[-1].blocks
    assert [type(block) for block in blocks][:2] == [ToolResultBlock, ToolResultBlock]
    assert isinstance(blocks[-1], ImageBlock)


def test_failed_and_cancelled_calls_are_feedback_like_any_other() -> None:
    """The model decides what a failure means for its task."""
    turn = after_tools(broken(), ToolCallOutput.cancelled("too late"))
    assert isinstance(turn.checkpoint(), CallLlm)
    assert [event.output.is_success for event in turn.events_of(ToolCallEvent)] == [False, False]


def test_reasoning_goes_back_with_its_replay_data() -> None:
    """Without it some providers refuse to go on, and others forget what they thought."""
    replay = ProviderReasoningReplay(encrypted_content="x")
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(ReasoningOutput("hm", replay), call("c")))
    turn.tools(OK)
    blocks = turn.checkpoint().request.messages[1].blocks
    assert blocks[0] == ReasoningBlock("hm", replay)


# How tools end a turn


def with_control(control: ToolControl) -> ToolCallOutput:
    return ToolCallOutput.success("done", control)


def test_a_tool_can_end_the_turn_with_a_value() -> None:
    """The batch's results are kept, and no checkpoint delays the end."""
    turn = after_tools(OK, with_control(FinishTurn(value={"n": 1})))
    assert turn.done.outcome == Finished(end=ToolValueEnd(tool_name="tool1", value={"n": 1}))
    assert resume_safe(turn.machine.messages)
    assert len(turn.added[-1].parts) == 2


def test_a_tool_can_end_the_turn_with_a_failure() -> None:
    """The host sees which tool it was and what it says."""
    failure = ToolFailure(class_=ToolFailureClass.INTERNAL, code="x", message="no")
    turn = after_tools(with_control(FailTurn(failure=failure)))
    outcome = turn.done.outcome
    assert isinstance(outcome, Stopped)
    assert (outcome.reason, outcome.tool_name) == (StopReason.TOOL_ERROR, "tool0")
    assert outcome.value == failure.model_dump(mode="json")
    json.dumps(outcome.value)


def test_a_tool_can_switch_the_agent_frame() -> None:
    """What is to go with it must not be lost on the way."""
    control = SwitchAgentFrame(frame_id="review", task="look", initial_nodes=({"kind": "x"},))
    turn = after_tools(with_control(control))
    assert turn.done.outcome == AgentFrameSwitch(
        frame_id="review", task="look", initial_nodes=({"kind": "x"},)
    )


@pytest.mark.parametrize(("frame_id", "task"), [(" ", "look"), ("review", None), ("review", " ")])
def test_a_switch_without_a_frame_or_a_task_switches_nothing(
    frame_id: str, task: str | None
) -> None:
    """A frame that has nothing to do would end the conversation."""
    turn = after_tools(with_control(SwitchAgentFrame(frame_id=frame_id, task=task)))
    assert isinstance(turn.checkpoint(), CallLlm)


def test_the_first_successful_control_decides() -> None:
    """The model's order is the one thing that a replay is certain to have."""
    failed = broken().model_copy(update={"control": FinishTurn(value=0)})
    turn = after_tools(failed, with_control(FinishTurn(value=1)), with_control(FinishTurn(value=2)))
    assert turn.done.outcome == Finished(end=ToolValueEnd(tool_name="tool1", value=1))


# Rounds


def test_the_last_round_says_so_and_stops() -> None:
    """`max_turns` is the number of model calls that may use tools."""
    turn = after_tools(OK, max_turns=1)
    assert turn.done.outcome == stopped(StopReason.MAX_TURNS)
    results, note = turn.added[-2:]
    assert results.id == "m:t:0:tools"
    assert note.role is MessageRole.SYSTEM
    assert note.parts[0].kind is PartKind.ERROR
    assert note.text == "Turn limit reached (1) before a final assistant response."
    assert turn.done.iteration == 1


def test_both_notes_about_the_limit_are_kept() -> None:
    """The warning and the end may fall into one round; neither may hide the other."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=1))
    turn.request()
    turn.model("one")
    turn.checkpoint(messages=(text_message("i", MessageRole.USER, "two?"),))
    turn.model(says(call("c")))
    turn.tools(OK)
    ids = [message.id for message in turn.added]
    assert len(set(ids)) == len(ids)
    assert [message.role for message in turn.added].count(MessageRole.SYSTEM) == 2


def test_a_direct_answer_needs_no_round() -> None:
    """A limit of one still allows an answer."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=1))
    turn.request()
    turn.model("hi")
    turn.checkpoint()
    assert turn.done.outcome == answered("hi")


def test_without_a_limit_rounds_go_on() -> None:
    """The host may have its own way to stop a turn."""
    turn = HandDrivenTurn()
    turn.request()
    for number in range(40):
        turn.model(says(call(f"c{number}")))
        turn.tools(OK)
        assert isinstance(turn.checkpoint(), CallLlm)


def test_code_is_nothing_this_protocol_runs() -> None:
    """A result that nobody asked for ends the turn instead of being taken for something."""
    driver = StandardProtocol().driver
    turn = HandDrivenTurn()
    actions = driver.handle_exec_result(turn.machine, "1", None)
    assert [type(action).__name__ for action in actions] == ["Emit", "Finish"]


# What the model is told


def test_the_prompt_speaks_of_tools_only_where_there_are_some() -> None:
    """A model that is told to call tools it does not have makes them up."""
    protocol = StandardProtocol()
    assert "no tools" in protocol.execution_prompt(())
    with_tools = protocol.execution_prompt(("weather",))
    assert "tool" in with_tools
    assert "batch" not in with_tools
    assert "`batch`" in protocol.execution_prompt({"weather", "batch"})


def test_the_protocol_has_the_name_that_sessions_record() -> None:
    """Recovery looks for a core that knows the protocol of a turn by this name."""
    assert StandardProtocol().id == "standard_protocol"
