"""A turn driven by hand: what is asked, in what order, and what is left at the end."""

from dataclasses import replace

import pytest

from kernel.driving import OK, SETTINGS, HandDrivenTurn, call, completed, says
from lash_runtime.kernel.machine.effects import (
    CallLlm,
    CallTools,
    Checkpoint,
    Done,
    EmitEvent,
    ExecutionEnvironment,
    Progress,
    SyncExecutionEnvironment,
    ToolsCompleted,
)
from lash_runtime.kernel.resume_safety import resume_safe
from lash_runtime.model.causes import PluginOrigin, TurnCause
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.llm import (
    GenerationOptions,
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
)
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind, text_message
from lash_runtime.model.nodes import ConversationRecord
from lash_runtime.model.outcome import Finished, Stopped, StopReason, answered, stopped
from lash_runtime.model.schema import OPEN_OBJECT_SCHEMA
from lash_runtime.model.session_events import (
    DoneEvent,
    ErrorEvent,
    InjectedMessagesEvent,
    LlmRequestEvent,
    LlmResponseEvent,
    TextDeltaEvent,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from lash_runtime.model.tool_results import ToolCancelled
from lash_runtime.model.usage import TokenUsage

TOOL = LlmToolSpec(name="look", description="", input_schema=OPEN_OBJECT_SCHEMA)
CAUSE = TurnCause(
    id="wake-1", event_type="timer", origin=PluginOrigin(plugin_id="clock"), text="it is noon"
)


def shapes(turn: HandDrivenTurn) -> list[str]:
    return [
        type(notice.event if isinstance(notice, EmitEvent) else notice).__name__
        for notice in turn.notices
    ]


def user(text: str, message_id: str = "") -> Message:
    return text_message(message_id, MessageRole.USER, text)


# What a turn asks for


def test_a_text_turn_asks_for_a_model_call_and_a_checkpoint() -> None:
    """The whole of a simple turn, in the order in which observers and stores see it."""
    turn = HandDrivenTurn()
    assert isinstance(turn.request(), CallLlm)
    assert turn.model("hi there") == Checkpoint(2, CheckpointKind.BEFORE_COMPLETION)
    assert turn.checkpoint() is None
    assert shapes(turn) == [
        "LlmRequestEvent",
        "TokenUsageEvent",
        "LlmResponseEvent",
        "Progress",
        "TurnOutcomeEvent",
        "DoneEvent",
        "Done",
    ]
    assert turn.done.outcome == answered("hi there")
    assert turn.machine.is_done


def test_effect_ids_count_the_requests_from_one() -> None:
    """Replay keys are made of these ids, so they may depend on nothing but the turn."""
    turn = HandDrivenTurn()
    ids = [turn.request().effect_id]
    ids.append(turn.model(says(call("c"))).effect_id)
    ids.append(turn.tools(OK).effect_id)
    ids.append(turn.checkpoint().effect_id)
    ids.append(turn.model("done").effect_id)
    assert ids == [1, 2, 3, 4, 5]


def test_a_request_says_whose_it_is_and_what_it_runs_with() -> None:
    """Providers keep caches and hosts class traffic by these."""
    settings = replace(
        SETTINGS, model_variant="high", generation=GenerationOptions(output_token_cap=9)
    )
    turn = HandDrivenTurn(settings=settings, tool_specs=(TOOL,), system_prompt="be kind")
    request = turn.request().request
    assert (request.model, request.model_variant) == ("m", "high")
    assert request.generation.output_token_cap == 9
    assert (request.tools, request.tool_choice) == ((TOOL,), LlmToolChoice.AUTO)
    assert request.scope.request_id == "s:turn:t:llm:0"
    assert request.scope.continuation_key == "s::f"
    assert [message.role.value for message in request.messages] == ["system", "user"]


def test_without_tools_the_model_is_not_told_that_it_may_choose_one() -> None:
    """Endpoints refuse a tool choice without tools."""
    request = HandDrivenTurn().request().request
    assert (request.tools, request.tool_choice) == ((), LlmToolChoice.NONE)


def test_the_model_request_is_announced_before_it_is_made() -> None:
    """Observers show that a call has begun before its first delta comes."""
    turn = HandDrivenTurn(tool_specs=(TOOL,), system_prompt="be kind")
    assert isinstance(turn.request(), CallLlm)
    assert turn.events == [LlmRequestEvent(0, 2, ("look",))]


# Progress


def test_each_record_is_reported_once_and_nothing_is_left_over() -> None:
    """The runtime stores deltas as they come: a record twice or never is a damaged session."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("let me see", call("c")))
    turn.tools(OK)
    turn.checkpoint()
    turn.model("done")
    turn.checkpoint()
    reported = [record for report in turn.progress for record in report.event_delta]
    reported += turn.done.event_delta
    assert [record.id for record in reported] == [message.id for message in turn.added]
    assert all(isinstance(record, ConversationRecord) for record in reported)
    assert turn.done.messages == turn.machine.messages


def test_progress_comes_before_the_request_that_builds_on_it() -> None:
    """A crash after the request must find what the request was made of."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    before_tools = shapes(turn)
    turn.tools(OK)
    assert before_tools[-1] == "Progress"
    assert shapes(turn)[-1] == "Progress"
    assert resume_safe(turn.progress[-1].messages)
    assert not resume_safe(turn.progress[-2].messages)


def test_messages_of_a_progress_share_the_machines_list() -> None:
    """A turn over a long transcript may not copy it once for each step."""
    turn = HandDrivenTurn(history=[user("x", f"h{n}") for n in range(50)])
    first = turn.machine.messages
    turn.request()
    turn.model("hi")
    turn.checkpoint()
    assert turn.progress[0].messages.grew_from(first)
    assert turn.done.messages.grew_from(turn.progress[0].messages)


# Environment


def test_the_first_sync_counts_for_the_first_iteration_and_changes_nothing() -> None:
    """The config was built from the same environment a moment ago."""
    turn = HandDrivenTurn(sync_execution_environment=True, system_prompt="old")
    assert turn.request() == SyncExecutionEnvironment(1, update_machine_config=False)
    call_llm = turn.synced(ExecutionEnvironment("new", (TOOL,)))
    assert isinstance(call_llm, CallLlm)
    assert call_llm.request.messages[0].blocks[0].text == "old"
    assert call_llm.request.tools == ()


def test_a_later_sync_replaces_prompt_and_tools() -> None:
    """A tool that was added while the turn ran is offered in its next model call."""
    turn = HandDrivenTurn(sync_execution_environment=True, system_prompt="old")
    turn.request()
    turn.synced()
    turn.model(says(call("c")))
    turn.tools(OK)
    assert turn.checkpoint() == SyncExecutionEnvironment(5, update_machine_config=True)
    call_llm = turn.synced(ExecutionEnvironment("new", (TOOL,)))
    assert call_llm.request.messages[0].blocks[0].text == "new"
    assert call_llm.request.tools == (TOOL,)


def test_a_later_sync_without_an_environment_leaves_it_as_it_is() -> None:
    """`None` says that nothing changed, not that there is nothing."""
    turn = HandDrivenTurn(sync_execution_environment=True, system_prompt="old", tool_specs=(TOOL,))
    turn.request()
    turn.synced()
    turn.model(says(call("c")))
    turn.tools(OK)
    turn.checkpoint()
    call_llm = turn.synced()
    assert call_llm.request.tools == (TOOL,)
    assert call_llm.request.messages[0].blocks[0].text == "old"


def test_an_environment_that_cannot_be_had_ends_the_turn() -> None:
    """A model must never be offered tools that are gone."""
    turn = HandDrivenTurn(sync_execution_environment=True)
    turn.request()
    assert turn.synced("the tool server is down") is None
    (error,) = turn.events_of(ErrorEvent)
    assert error.envelope.kind == "execution_environment"
    assert error.envelope.code == "reconfigure_failed"
    assert turn.done.outcome == stopped(StopReason.RUNTIME_ERROR)


# Answers of the model


def test_a_failed_call_ends_the_turn_as_a_provider_error() -> None:
    """The issue must say what kind of failure it was and whether to try again."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(
        LlmCallError(
            message="rate limited",
            retryable=True,
            kind=ProviderFailureKind.QUOTA,
            code="429",
            raw="slow down",
        )
    )
    (error,) = turn.events_of(ErrorEvent)
    assert error.message == "LLM error: rate limited"
    assert error.envelope.code == "429"
    assert error.envelope.retryable is True
    assert error.envelope.provider_failure_kind is ProviderFailureKind.QUOTA
    assert turn.done.outcome == stopped(StopReason.PROVIDER_ERROR)


def test_a_cancelled_call_is_a_cancelled_turn_and_no_error() -> None:
    """Whoever cancels does not want to read of an error of the provider."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(LlmCallError(message="cancelled", terminal_reason=LlmTerminalReason.CANCELLED))
    assert turn.events_of(ErrorEvent) == []
    assert turn.done.outcome == stopped(StopReason.CANCELLED)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        (LlmTerminalReason.OUTPUT_LIMIT, StopReason.INCOMPLETE),
        (LlmTerminalReason.CONTEXT_OVERFLOW, StopReason.PROVIDER_ERROR),
        (LlmTerminalReason.CONTENT_FILTER, StopReason.PROVIDER_ERROR),
        (LlmTerminalReason.PROVIDER_ERROR, StopReason.PROVIDER_ERROR),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_unusable_answer_is_shown_and_not_kept(
    reason: LlmTerminalReason, stop: StopReason, streamed: bool
) -> None:
    """Half an answer in the history would be taken for a whole one in the next turn."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("half an ans", reason=reason), streamed=streamed)
    deltas = turn.events_of(TextDeltaEvent)
    assert deltas == ([] if streamed else [TextDeltaEvent("half an ans")])
    assert turn.events_of(LlmResponseEvent) == [LlmResponseEvent(0, "half an ans")]
    (error,) = turn.events_of(ErrorEvent)
    assert (error.envelope.code, error.envelope.retryable) == (reason.value, False)
    assert turn.done.outcome == stopped(stop)
    assert turn.added == []


def test_the_providers_own_diagnosis_is_the_message_of_the_issue() -> None:
    """The provider knows better than we do why it stopped."""
    turn = HandDrivenTurn()
    turn.request()
    answer = replace(
        says("", reason=LlmTerminalReason.CONTENT_FILTER), terminal_diagnostic="unsafe: knives"
    )
    turn.model(answer)
    assert turn.events_of(ErrorEvent)[0].message == "unsafe: knives"


def test_a_response_that_was_cancelled_ends_the_turn_without_an_error() -> None:
    """A provider may say "cancelled" in a response as well as in a failure."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("hal", reason=LlmTerminalReason.CANCELLED))
    assert turn.events_of(ErrorEvent) == []
    assert turn.done.outcome == stopped(StopReason.CANCELLED)
    assert turn.added == []


@pytest.mark.parametrize(
    ("prompt_tokens", "output_tokens", "code"),
    [
        (950, 0, "context_overflow"),
        (949, 0, "output_limit"),
        (1000, 1, "output_limit"),
    ],
)
def test_silence_on_a_full_prompt_is_a_context_overflow(
    prompt_tokens: int, output_tokens: int, code: str
) -> None:
    """Providers report a prompt that leaves no room as a spent output limit."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_context_tokens=1000))
    turn.request()
    usage = TokenUsage(
        input_tokens=prompt_tokens - 100, cache_read_input_tokens=100, output_tokens=output_tokens
    )
    turn.model(says("", reason=LlmTerminalReason.OUTPUT_LIMIT, usage=usage))
    assert turn.events_of(ErrorEvent)[0].envelope.code == code


def test_usage_is_reported_for_each_call_with_the_sum_so_far() -> None:
    """Also of an answer that ends the turn: its tokens were paid all the same."""
    turn = HandDrivenTurn()
    turn.request()
    first = TokenUsage(input_tokens=10, output_tokens=2)
    second = TokenUsage(input_tokens=30, reasoning_output_tokens=1)
    turn.model(says(call("c"), usage=first))
    turn.tools(OK)
    turn.checkpoint()
    turn.model(says("x", reason=LlmTerminalReason.OUTPUT_LIMIT, usage=second))
    assert turn.events_of(TokenUsageEvent) == [
        TokenUsageEvent(0, first, first),
        TokenUsageEvent(1, second, first.add(second)),
    ]


# Tools


def test_results_in_any_order_are_reported_in_the_models_order() -> None:
    """Parallel calls end as they like; the history has one order."""
    turn = HandDrivenTurn()
    turn.request()
    batch = turn.model(says(call("a"), call("b")))
    assert isinstance(batch, CallTools)
    results = tuple(completed(pending, OK) for pending in reversed(batch.calls))
    turn.answer(ToolsCompleted(batch.effect_id, results))
    assert [event.call_id for event in turn.events_of(ToolCallEvent)] == ["a", "b"]
    assert [part.tool_call_id for part in turn.added[-1].parts] == ["a", "b"]


def test_a_call_without_a_result_counts_as_cancelled() -> None:
    """An executor that loses a call may not leave the history open."""
    turn = HandDrivenTurn()
    turn.request()
    batch = turn.model(says(call("a"), call("b")))
    turn.answer(ToolsCompleted(batch.effect_id, (completed(batch.calls[1], OK),)))
    first, second = turn.events_of(ToolCallEvent)
    assert isinstance(first.output.outcome, ToolCancelled)
    assert second.output.is_success
    assert resume_safe(turn.machine.messages)


# Checkpoints


def test_an_empty_checkpoint_after_work_begins_the_next_iteration() -> None:
    """Nothing waits: the model gets its results at once."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    assert turn.tools(OK) == Checkpoint(3, CheckpointKind.AFTER_WORK)
    assert isinstance(turn.checkpoint(), CallLlm)
    assert turn.machine.protocol_iteration == 1


def test_messages_that_join_after_work_are_seen_in_the_same_iteration() -> None:
    """What a user adds while tools run is part of what the model answers to."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    next_call = turn.checkpoint(messages=(user("and the wind?", "m_ingress_1"),))
    assert next_call.request.messages[-1].blocks[0].text == "and the wind?"
    assert turn.machine.protocol_iteration == 1
    (injected,) = turn.events_of(InjectedMessagesEvent)
    assert [message.id for message in injected.messages] == ["m_ingress_1"]
    assert turn.progress[-1].event_delta == ()
    assert turn.progress[-1].messages[-1].id == "m_ingress_1"


def test_messages_without_an_id_get_one_that_a_replay_gives_again() -> None:
    """Ids made from chance would store the message twice after a crash."""

    def ids() -> list[str]:
        turn = HandDrivenTurn()
        turn.request()
        turn.model(says(call("c")))
        turn.tools(OK)
        turn.checkpoint(messages=(user("a"), user("b")), transient_messages=(user("c"),))
        return [message.id for message in turn.added]

    assert len(set(ids())) == len(ids())
    assert ids() == ids()


def test_a_message_whose_id_is_taken_gets_another() -> None:
    """Two messages of one id are one message to the store: the second would be lost."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    turn.checkpoint(messages=(user("a", "same"), user("b", "same")))
    ids = [message.id for message in turn.added]
    assert ids.count("same") == 1
    assert len(set(ids)) == len(ids)


def test_parts_of_a_joining_message_are_renumbered() -> None:
    """Part ids derive from their message's id, or stores and replays disagree about them."""
    parts = (Part(id="x", kind=PartKind.TEXT, content="1"),) * 2
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    message = Message(id="i", role=MessageRole.USER, parts=parts)
    turn.checkpoint(messages=(message, Message(id="empty", role=MessageRole.USER)))
    assert [part.id for part in turn.added[-2].parts] == ["i.p0", "i.p1"]
    assert [part.content for part in turn.added[-1].parts] == [""]


def test_transient_messages_are_marked_and_only_some_roles_may_join() -> None:
    """A plugin may whisper to the model, and may not put words into its mouth."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    mine = text_message("", MessageRole.SYSTEM, "hint", origin=PluginOrigin(plugin_id="nudge"))
    turn.checkpoint(
        messages=(text_message("", MessageRole.ASSISTANT, "I said so"),),
        transient_messages=(user("psst"), mine, text_message("", MessageRole.EVENT, "boo")),
    )
    psst, hint = turn.added[-2:]
    assert (psst.text, psst.origin) == ("psst", PluginOrigin(plugin_id="plugin", transient=True))
    assert (hint.text, hint.origin) == ("hint", PluginOrigin(plugin_id="nudge", transient=True))
    assert turn.events_of(InjectedMessagesEvent) == []


def test_a_cause_joins_once_and_is_shown_at_the_end() -> None:
    """A wake-up is an event of this turn and history afterwards, never both at a time."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    next_call = turn.checkpoint(turn_causes=(CAUSE, CAUSE))
    assert [message.id for message in turn.added].count("wake-1") == 1
    texts = [
        block.text
        for m in next_call.request.messages
        for block in m.blocks
        if hasattr(block, "text")
    ]
    assert sum("it is noon" in text for text in texts) == 1
    assert "=== TURN EVENTS ===" in texts[-1]


def test_a_cause_that_made_the_turn_run_is_not_added_again() -> None:
    """A claim that is delivered twice may not show the event twice."""
    turn = HandDrivenTurn(turn_causes=(CAUSE,))
    turn.request()
    turn.model(says(call("c")))
    turn.tools(OK)
    turn.checkpoint(turn_causes=(CAUSE,))
    assert [m.id for m in turn.machine.messages].count("wake-1") == 1


def test_what_comes_before_completion_starts_another_iteration() -> None:
    """A user who speaks while the answer is written is answered in the same turn."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model("the answer")
    again = turn.checkpoint(messages=(user("one more thing"),))
    assert isinstance(again, CallLlm)
    assert turn.machine.protocol_iteration == 1
    assert [message.text for message in turn.added] == ["the answer", "one more thing"]
    turn.model("that too")
    turn.checkpoint()
    assert turn.done.outcome == answered("that too")


def test_at_the_limit_the_model_is_told_that_its_next_answer_is_the_last() -> None:
    """A stream of interjections must come to an end, and not without an answer."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=1))
    turn.request()
    turn.model("one")
    last = turn.checkpoint(messages=(user("two?"),))
    assert "Give your final answer now" in last.request.messages[-1].blocks[0].text
    turn.model("two")
    assert turn.checkpoint(messages=(user("three?"),)) is None
    assert turn.done.outcome == stopped(StopReason.MAX_TURNS)
    assert [message.text for message in turn.added][-2:] == ["two", "three?"]


def test_the_limit_counts_from_where_the_run_began() -> None:
    """A turn that goes on from another run has its own rounds."""
    turn = HandDrivenTurn(settings=replace(SETTINGS, max_turns=2), run_offset=4)
    assert turn.request().request.scope.request_id == "s:turn:t:llm:4"
    turn.model(says(call("a")))
    assert isinstance(turn.tools(OK), Checkpoint)
    turn.checkpoint()
    turn.model(says(call("b")))
    assert turn.tools(OK) is None
    assert turn.done.outcome == stopped(StopReason.MAX_TURNS)


# Ends


def test_a_failed_turn_reports_its_error_and_stops() -> None:
    """The runtime ends a turn this way when the effect seam itself fails."""
    turn = HandDrivenTurn()
    turn.request()
    turn.machine.fail_turn(ErrorEvent("the journal is gone"))
    assert turn.request() is None
    assert shapes(turn)[-4:] == ["ErrorEvent", "TurnOutcomeEvent", "DoneEvent", "Done"]
    assert turn.done.outcome == stopped(StopReason.RUNTIME_ERROR)


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_a_turn_that_ends_with_open_calls_leaves_a_closed_history(end: str) -> None:
    """A provider refuses a history with an unanswered call: the session would be stuck."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("let me", call("a"), call("b")))
    if end == "cancel":
        turn.machine.finish_with_outcome(stopped(StopReason.CANCELLED))
    else:
        turn.machine.fail_turn(ErrorEvent("no"))
    assert turn.request() is None
    assert resume_safe(turn.done.messages)
    results = turn.done.messages[-1].parts
    assert [part.tool_call_id for part in results] == ["a", "b"]
    assert all("before this call had finished" in part.content for part in results)
    assert [event.call_id for event in turn.events_of(ToolCallEvent)] == ["a", "b"]
    assert [record.id for record in turn.done.event_delta] == [turn.done.messages[-1].id]


def test_a_cancel_keeps_the_rounds_that_were_finished() -> None:
    """Work that was paid for is never thrown away."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model(says("let me", call("a")))
    turn.tools(OK)
    turn.checkpoint()
    turn.machine.finish_with_outcome(stopped(StopReason.CANCELLED))
    turn.request()
    assert [message.id for message in turn.added] == ["m:t:0:assistant", "m:t:0:tools"]
    assert len(turn.events_of(ToolCallEvent)) == 1


def test_a_finished_turn_cannot_be_ended_again() -> None:
    """A cancel that comes after the answer changes nothing: the end is decided once."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model("hi")
    turn.checkpoint()
    notices = len(turn.notices)
    turn.machine.finish_with_outcome(stopped(StopReason.CANCELLED))
    turn.machine.fail_turn(ErrorEvent("late"))
    assert turn.request() is None
    assert len(turn.notices) == notices
    assert isinstance(turn.done.outcome, Finished)


def test_a_turn_can_be_cancelled_before_it_began() -> None:
    """Its words are stored all the same, and no model is called."""
    turn = HandDrivenTurn()
    turn.machine.finish_with_outcome(stopped(StopReason.CANCELLED))
    assert turn.request() is None
    assert turn.done.outcome == Stopped(reason=StopReason.CANCELLED)
    assert [message.text for message in turn.done.messages] == ["hello"]
    assert turn.events == [TurnOutcomeEvent(stopped(StopReason.CANCELLED)), DoneEvent()]


def test_the_ids_of_a_turns_messages_are_the_same_in_every_replay() -> None:
    """A repeated turn must find its own messages instead of adding them again."""

    def ids() -> list[str]:
        turn = HandDrivenTurn()
        turn.request()
        turn.model(says("a", call("x"), call("")))
        turn.tools(OK, OK)
        turn.checkpoint()
        turn.model(LlmResponse(full_text="b"))
        turn.checkpoint()
        return [f"{m.id}/{p.id}/{p.tool_call_id}" for m in turn.machine.messages for p in m.parts]

    assert ids() == ids()


def test_done_is_the_last_effect_and_carries_the_iteration() -> None:
    """Whoever drives the machine stops at the first `None` after it."""
    turn = HandDrivenTurn()
    turn.request()
    turn.model("hi")
    turn.checkpoint()
    assert isinstance(turn.notices[-1], Done)
    assert turn.done.iteration == 0
    assert sum(isinstance(notice, Done | Progress) for notice in turn.notices) == 2
