"""What a turn's events and its transcript come to."""

import pytest

from lash_runtime.kernel.assembly import TurnAssembler, assistant_output, explicit_text
from lash_runtime.model.cancelling import CancelRequest
from lash_runtime.model.llm import LlmTerminalReason, ProviderFailureKind
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind, text_message
from lash_runtime.model.outcome import (
    AgentFrameSwitch,
    AssistantMessageEnd,
    ErrorEnvelope,
    FinalValueEnd,
    Finished,
    OutputState,
    StopReason,
    ToolValueEnd,
    TurnOutcome,
    answered,
    stopped,
)
from lash_runtime.model.session_events import (
    DoneEvent,
    ErrorEvent,
    LlmRequestEvent,
    LlmResponseEvent,
    SessionEvent,
    TextDeltaEvent,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from lash_runtime.model.tool_results import ToolCallOutput, ToolFailure, ToolFailureClass
from lash_runtime.model.usage import PromptUsage, TokenUsage

OK = ToolCallOutput.success("fine")
BROKEN = ToolCallOutput.failure(
    ToolFailure(class_=ToolFailureClass.EXECUTION, code="x", message="no")
)
REQUEST = CancelRequest(requested_at_ms=7, reason="too slow")
ERROR = ErrorEvent("it broke", ErrorEnvelope(kind="plugin", user_message="broke"))


def assembler(*events: SessionEvent, **options: bool) -> TurnAssembler:
    made = TurnAssembler(**options)
    for event in events:
        made.push(event)
    return made


def ended(outcome: TurnOutcome, *events: SessionEvent) -> TurnAssembler:
    return assembler(*events, TurnOutcomeEvent(outcome), DoneEvent())


def called(output: ToolCallOutput) -> ToolCallEvent:
    return ToolCallEvent("c", "t", {"a": 1}, output, 5)


def said(text: str, *more: Part) -> Message:
    part = Part(id="a.p0", kind=PartKind.PROSE, content=text)
    return Message(id="a", role=MessageRole.ASSISTANT, parts=(part, *more))


ASKED = text_message("u", MessageRole.USER, "hello")


def test_an_answer_is_shown_trimmed_and_kept_as_it_was() -> None:
    """Trailing blanks are noise on a screen, but the transcript is the model's own."""
    turn = ended(answered("  a \n\tb\t\n ")).assemble([ASKED])
    assert turn.outcome == answered("a\n\tb")
    assert turn.assistant_output.safe_text == "a\n\tb"
    assert turn.assistant_output.raw_text == "  a \n\tb\t\n "
    assert turn.assistant_output.state is OutputState.USABLE
    assert turn.errors == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ({"n": [1]}, '{\n  "n": [\n    1\n  ]\n}'),
        (None, "null"),
        ("é", "é"),
        (["é"], '[\n  "é"\n]'),
    ],
)
@pytest.mark.parametrize("by_tool", [False, True])
def test_a_value_is_the_text_of_a_turn_that_ends_in_one(
    value: object, text: str, by_tool: bool
) -> None:
    """Hosts that only print text get something readable, and the value is left as it is."""
    end = ToolValueEnd(tool_name="t", value=value) if by_tool else FinalValueEnd(value=value)
    turn = ended(Finished(end=end)).assemble([ASKED])
    assert turn.assistant_output.raw_text == text
    assert turn.outcome == Finished(end=end)


@pytest.mark.parametrize(
    "outcome",
    [stopped(StopReason.MAX_TURNS), AgentFrameSwitch(frame_id="f", task="t")],
)
def test_an_outcome_without_text_takes_it_from_the_transcript(outcome: TurnOutcome) -> None:
    """What the model said before it was stopped is worth showing, and says where it is from."""
    turn = ended(outcome).assemble([ASKED, said("half ")])
    assert turn.outcome == outcome
    assert turn.assistant_output.raw_text == "half "
    (issue,) = turn.errors
    assert issue.code == "assistant_output_recovered_from_state"
    assert turn.assistant_output.state is OutputState.USABLE


def test_text_from_before_the_users_words_is_not_this_turns() -> None:
    """A turn that failed must not seem to repeat the last answer."""
    turn = ended(stopped(StopReason.PROVIDER_ERROR)).assemble([said("old"), ASKED])
    assert turn.assistant_output == assistant_output("")
    assert turn.errors == ()


def test_only_prose_is_recovered() -> None:
    """Reasoning and calls are not for the user."""
    reasoning = Part(id="a.p1", kind=PartKind.REASONING, content="hm")
    call = Part(id="a.p2", kind=PartKind.TOOL_CALL, content="{}", tool_call_id="c")
    turn = ended(stopped(StopReason.CANCELLED)).assemble([ASKED, said("so", reasoning, call)])
    assert turn.assistant_output.raw_text == "so"


def test_streamed_text_never_counts() -> None:
    """A retried attempt streams text that nobody meant."""
    events = (LlmRequestEvent(0, 1, ()), TextDeltaEvent("streamed"), LlmResponseEvent(0, "said"))
    turn = ended(stopped(StopReason.INCOMPLETE), *events).assemble([ASKED])
    assert turn.assistant_output.raw_text == ""
    assert turn.assistant_output.state is OutputState.EMPTY_OUTPUT


def test_a_turn_assembled_as_cancelled_keeps_its_text_and_its_calls() -> None:
    """A cancel that reached the store in time wins, and throws nothing away."""
    made = ended(answered("done"), called(OK), TokenUsageEvent(0, TokenUsage(), TokenUsage()))
    turn = made.assemble([ASKED, said("done")], cancellation=REQUEST)
    assert (turn.outcome, turn.cancellation) == (stopped(StopReason.CANCELLED), REQUEST)
    assert turn.assistant_output.safe_text == "done"
    assert [call.call_id for call in turn.tool_calls] == ["c"]
    again = made.assemble([ASKED, said("done")])
    assert (again.outcome, again.cancellation) == (answered("done"), None)


def test_events_that_stop_before_the_end_are_a_failure() -> None:
    """A turn that nobody finished must not look like one that was answered."""
    turn = assembler().assemble([ASKED, said("half")])
    assert turn.outcome == stopped(StopReason.RUNTIME_ERROR)
    assert "missing_done" in [issue.code for issue in turn.errors]
    lenient = assembler(treat_missing_done_as_failure=False)
    assert lenient.assemble([ASKED, said("half")]).outcome == answered("half")


def test_a_cancelled_turn_is_not_blamed_for_its_missing_end() -> None:
    """It was cut short on purpose."""
    turn = assembler().assemble([ASKED], cancellation=REQUEST)
    assert turn.outcome == stopped(StopReason.CANCELLED)
    assert turn.errors == ()


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((ERROR,), StopReason.RUNTIME_ERROR),
        ((ERROR, called(OK)), StopReason.RUNTIME_ERROR),
        ((ERROR, called(BROKEN)), StopReason.TOOL_FAILURE),
    ],
)
def test_an_error_without_an_outcome_decides_how_the_turn_ended(
    events: tuple[SessionEvent, ...], reason: StopReason
) -> None:
    """A turn can fail before its machine was ever built."""
    turn = assembler(*events, DoneEvent()).assemble([ASKED])
    assert turn.outcome == stopped(reason)


def test_the_note_of_a_protocol_that_ran_out_of_rounds_decides_too() -> None:
    """Only a recent one: an old note is about another turn."""
    note = text_message(
        "n", MessageRole.SYSTEM, "Turn limit reached (3) before", kind=PartKind.ERROR
    )
    fresh = assembler(DoneEvent()).assemble([ASKED, note])
    assert fresh.outcome == stopped(StopReason.MAX_TURNS)
    stale = assembler(DoneEvent()).assemble([note, *[said("x")] * 8])
    assert stale.outcome == answered("x")
    spoken = text_message("n", MessageRole.USER, "Turn limit reached (3) before")
    assert assembler(DoneEvent()).assemble([spoken]).outcome == answered("")


def test_an_error_that_a_turn_got_over_is_listed_and_marks_its_output() -> None:
    """The host may want to know, and the answer counts all the same."""
    turn = ended(answered("done"), ERROR).assemble([ASKED])
    assert turn.outcome == answered("done")
    assert turn.assistant_output.state is OutputState.RECOVERED_FROM_ERROR
    assert [issue.message for issue in turn.errors] == ["broke"]


def test_an_issue_says_everything_its_error_said() -> None:
    """What a host needs to decide whether to try again."""
    envelope = ErrorEnvelope(
        kind="llm_provider",
        code="429",
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        user_message="rate limited",
        raw="slow down",
        retryable=True,
        provider_failure_kind=ProviderFailureKind.QUOTA,
    )
    (issue,) = (
        ended(stopped(StopReason.PROVIDER_ERROR), ErrorEvent("x", envelope)).assemble([]).errors
    )
    assert issue.message == "rate limited"
    assert issue.model_dump(exclude={"message"}) == envelope.model_dump(exclude={"user_message"})
    (bare,) = ended(answered("x"), ErrorEvent("no envelope")).assemble([]).errors
    assert (bare.kind, bare.message) == ("runtime", "no envelope")


def test_usage_is_the_sum_and_the_prompt_that_of_the_last_call() -> None:
    """The one is paid for, the other tells how full the context is."""
    first, second = TokenUsage(input_tokens=10), TokenUsage(input_tokens=20, output_tokens=5)
    silent = TokenUsage()
    total = first.add(second)
    turn = ended(
        answered("x"),
        TokenUsageEvent(0, first, first),
        TokenUsageEvent(1, second, total),
        TokenUsageEvent(2, silent, total),
    ).assemble([])
    assert turn.usage == total
    assert turn.prompt_usage == PromptUsage.from_usage(second)
    assert ended(answered("x")).assemble([]).prompt_usage is None


def test_calls_are_recorded_in_order() -> None:
    """A host shows what was done."""
    turn = ended(answered("x"), called(OK), called(BROKEN)).assemble([])
    assert [call.output for call in turn.tool_calls] == [OK, BROKEN]
    assert turn.tool_calls[0].args == {"a": 1}
    assert turn.has_tool_calls
    assert not ended(answered("x")).assemble([]).has_tool_calls


def test_only_some_outcomes_have_text_of_their_own() -> None:
    """The others have to be asked of the transcript."""
    assert explicit_text(Finished(end=AssistantMessageEnd(text=""))) == ""
    assert explicit_text(stopped(StopReason.CANCELLED)) is None
    assert explicit_text(None) is None
