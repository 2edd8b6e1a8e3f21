"""What a model streamed, settled with what its call returned."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.accumulator import StreamAccumulator
from lash_runtime.kernel.visible_text import visible_response_text
from lash_runtime.model.llm import (
    LlmResponse,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_runtime.model.messages import (
    ProviderReasoningReplay,
    ProviderReplayMeta,
    ResponseTextMeta,
)

SIGNED = ProviderReasoningReplay(signature="sig")
texts = st.text(alphabet="ab \n", max_size=4)
deltas = st.lists(texts, max_size=30)


def item(identity: str, phase: str | None = None) -> ResponseTextMeta:
    return ResponseTextMeta(id=identity, phase=phase)


def streamed(*pieces: str) -> StreamAccumulator:
    accumulator = StreamAccumulator()
    for piece in pieces:
        accumulator.push_text(piece)
    return accumulator


# Text


@given(deltas)
def test_deltas_add_up_to_exactly_what_was_streamed(pieces: list[str]) -> None:
    """A delta that repeats what came before is still text: `ha`, `ha` is `haha`."""
    response = streamed(*pieces).apply_to_response(LlmResponse())
    assert response.full_text == "".join(pieces)
    assert visible_response_text(response.parts) == "".join(pieces)
    assert len(response.parts) == (1 if any(pieces) else 0)


@given(deltas)
def test_a_part_that_repeats_the_stream_does_not_double_it(pieces: list[str]) -> None:
    """Providers end a text with a part that holds all of it."""
    accumulator = streamed(*pieces)
    accumulator.push_text_part("".join(pieces), None)
    assert visible_response_text(accumulator.parts) == "".join(pieces)


@given(deltas, texts)
def test_a_snapshot_with_an_id_replaces_what_its_deltas_said(
    pieces: list[str], snapshot: str
) -> None:
    """The provider knows its own text best; an empty snapshot says nothing about it."""
    accumulator = streamed(*pieces)
    accumulator.push_text_part(snapshot, item("i"))
    assert visible_response_text(accumulator.parts) == (snapshot or "".join(pieces))
    assert [part.response_meta for part in accumulator.parts] == [item("i")]


@given(deltas, deltas)
def test_two_items_keep_their_own_deltas(first: list[str], second: list[str]) -> None:
    """Deltas say not which item they belong to; the snapshots that follow them do."""
    one, two = "".join(first), "".join(second)
    accumulator = streamed(*first)
    accumulator.push_text_part(one, item("1"))
    for piece in second:
        accumulator.push_text(piece)
    accumulator.push_text_part(two, item("2"))
    assert [part.text for part in accumulator.parts] == [one, two]
    assert [part.response_meta.id for part in accumulator.parts] == ["1", "2"]


def test_a_snapshot_can_grow_between_deltas_of_one_item() -> None:
    """Some providers send the text so far again and again."""
    accumulator = streamed("Hel")
    accumulator.push_text_part("Hel", item("1"))
    accumulator.push_text("lo")
    accumulator.push_text_part("Hello", item("1"))
    assert accumulator.parts == (TextOutput("Hello", item("1")),)


def test_a_part_without_an_id_that_is_no_repetition_is_the_next_piece() -> None:
    """It is all that such a provider sends of that text."""
    accumulator = streamed("one")
    accumulator.push_text_part(" two", None)
    assert accumulator.parts == (TextOutput("one two"),)


def test_metadata_of_a_part_replaces_that_of_the_text() -> None:
    """Without the latest metadata the provider refuses its own text later."""
    accumulator = StreamAccumulator()
    accumulator.push_text_part("x", item("1"))
    accumulator.push_text_part("x", item("1", "final_answer"))
    assert accumulator.parts == (TextOutput("x", item("1", "final_answer")),)


def test_the_full_text_prefers_the_final_answer_to_commentary() -> None:
    """Both parts are kept; only one is what the user is meant to read."""
    accumulator = StreamAccumulator()
    accumulator.push_text_part("hm", item("1", "commentary"))
    accumulator.push_text_part("42", item("2", "final_answer"))
    response = accumulator.apply_to_response(LlmResponse())
    assert response.full_text == "42"
    assert len(response.parts) == 2


# Reasoning


@given(deltas)
def test_reasoning_deltas_merge(pieces: list[str]) -> None:
    """A thought of a thousand deltas is one part in the store."""
    accumulator = StreamAccumulator()
    for piece in pieces:
        accumulator.push_reasoning(piece, None)
    whole = "".join(pieces)
    assert accumulator.parts == ((ReasoningOutput(whole),) if whole else ())


def test_a_part_with_replay_data_enriches_the_reasoning_it_repeats() -> None:
    """Shown twice it would be stored twice, and sent back without its signature once."""
    for text, kept in [("", "a thought"), ("a thought", "a thought"), ("a thought!", "a thought!")]:
        accumulator = StreamAccumulator()
        accumulator.push_reasoning("a ", None)
        accumulator.push_reasoning("thought", None)
        accumulator.push_reasoning(text, SIGNED)
        assert accumulator.parts == (ReasoningOutput(kept, SIGNED),)


def test_reasoning_is_enriched_even_after_other_parts_began() -> None:
    """Some providers send the signed thought at the very end."""
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("thought", None)
    accumulator.push_text("answer")
    accumulator.push_reasoning("thought", SIGNED)
    assert accumulator.parts == (ReasoningOutput("thought", SIGNED), TextOutput("answer"))


def test_other_reasoning_with_replay_data_is_a_part_of_its_own() -> None:
    """Two signed thoughts must both go back, each with its own signature."""
    other = ProviderReasoningReplay(encrypted_content="x", summary=("s",), redacted=True)
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("one", SIGNED)
    accumulator.push_tool_call(ToolCallOutputPart("c", "t", "{}"))
    accumulator.push_reasoning("", other)
    assert [type(part).__name__ for part in accumulator.parts] == [
        "ReasoningOutput",
        "ToolCallOutputPart",
        "ReasoningOutput",
    ]
    assert accumulator.parts[-1] == ReasoningOutput("", other)


def test_text_fills_reasoning_that_came_with_replay_data_alone() -> None:
    """The encrypted thought may come before its readable summary."""
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("", SIGNED)
    accumulator.push_reasoning("summary", None)
    assert accumulator.parts == (ReasoningOutput("summary", SIGNED),)


# The returned response

tool_calls = st.integers(0, 3).map(lambda n: ToolCallOutputPart(f"c{n}", "t", "{}"))
pushes = st.lists(
    st.one_of(
        texts.map(lambda text: ("text", text)),
        texts.map(lambda text: ("reasoning", text)),
        tool_calls.map(lambda part: ("call", part)),
    ),
    max_size=12,
)


def pushed(steps: list[tuple[str, object]]) -> StreamAccumulator:
    accumulator = StreamAccumulator()
    for kind, value in steps:
        match kind:
            case "text":
                accumulator.push_text(value)
            case "reasoning":
                accumulator.push_reasoning(value, None)
            case _:
                accumulator.push_tool_call(value)
    return accumulator


@given(pushes)
def test_a_response_that_has_it_all_is_left_alone(steps: list[tuple[str, object]]) -> None:
    """The provider's own order and metadata are better than ours."""
    accumulator = pushed(steps)
    response = LlmResponse(
        full_text=visible_response_text(accumulator.parts),
        parts=accumulator.parts,
        terminal_reason=LlmTerminalReason.STOP,
    )
    assert accumulator.apply_to_response(response) == response


@given(pushes)
def test_an_empty_response_takes_what_was_streamed(steps: list[tuple[str, object]]) -> None:
    """Some providers stream everything and return only how it ended."""
    accumulator = pushed(steps)
    empty = LlmResponse(terminal_reason=LlmTerminalReason.STOP)
    response = accumulator.apply_to_response(empty)
    assert response.parts == accumulator.parts
    assert response.full_text == visible_response_text(accumulator.parts)
    assert replace(response, parts=(), full_text="") == empty


@given(pushes, st.lists(tool_calls, max_size=3))
def test_nothing_that_was_streamed_or_returned_is_lost(
    steps: list[tuple[str, object]], returned: list[ToolCallOutputPart]
) -> None:
    """Reasoning before a call, say, that the response itself does not repeat."""
    accumulator = pushed(steps)
    response = accumulator.apply_to_response(LlmResponse(parts=tuple(returned)))
    ids = {part.call_id for part in response.parts if isinstance(part, ToolCallOutputPart)}
    calls = [part for part in accumulator.parts if isinstance(part, ToolCallOutputPart)]
    assert ids == {part.call_id for part in [*calls, *returned]}
    text = "".join(part.text for part in accumulator.parts if isinstance(part, TextOutput))
    assert "".join(part.text for part in response.parts if isinstance(part, TextOutput)) == text
    assert response.full_text == visible_response_text(response.parts)


def test_reasoning_that_only_the_stream_has_stays_in_front_of_the_call() -> None:
    """Providers check that a call comes with the thought that led to it."""
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("thought", SIGNED)
    accumulator.push_tool_call(ToolCallOutputPart("", "t", "{", ProviderReplayMeta(item_id="fc")))
    final = ToolCallOutputPart("c", "t", "{}", ProviderReplayMeta(item_id="fc", opaque="o"))
    response = accumulator.apply_to_response(LlmResponse(parts=(final,)))
    assert response.parts == (ReasoningOutput("thought", SIGNED), final)


def test_a_text_that_the_response_completes_is_not_doubled() -> None:
    """A delta that got lost must not leave half the text in front of the whole."""
    accumulator = streamed("Hel")
    accumulator.push_tool_call(ToolCallOutputPart("c", "t", "{}"))
    response = accumulator.apply_to_response(LlmResponse(parts=(TextOutput("Hello", item("1")),)))
    assert response.parts[0] == TextOutput("Hello", item("1"))
    assert response.full_text == "Hello"


def test_reasoning_that_the_response_completes_is_not_doubled() -> None:
    """The signature comes with the response, the text came with the stream."""
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("a thou", None)
    accumulator.push_tool_call(ToolCallOutputPart("c", "t", "{}"))
    final = ReasoningOutput("a thought", SIGNED)
    response = accumulator.apply_to_response(LlmResponse(parts=(final,)))
    assert response.parts == (final, ToolCallOutputPart("c", "t", "{}"))


def test_a_response_of_text_alone_keeps_it_beside_streamed_reasoning() -> None:
    """Not everything has to come as parts."""
    accumulator = StreamAccumulator()
    accumulator.push_reasoning("thought", None)
    response = accumulator.apply_to_response(LlmResponse(full_text="hi"))
    assert response.parts == (ReasoningOutput("thought"), TextOutput("hi"))
    assert response.full_text == "hi"


def test_without_a_stream_the_response_is_what_it_is() -> None:
    """A call that does not stream goes through untouched."""
    response = LlmResponse(full_text="hi")
    assert StreamAccumulator().apply_to_response(response) is response


def test_a_response_that_leaves_its_text_to_its_parts_gets_it_from_them() -> None:
    """Whoever shows the answer in one piece must not have to look for it."""
    parts = (TextOutput("hm", item("1", "commentary")), TextOutput("42", item("2", "final_answer")))
    accumulator = StreamAccumulator()
    assert accumulator.apply_to_response(LlmResponse(parts=parts)).full_text == "42"
    accumulator.push_text("42")
    response = accumulator.apply_to_response(LlmResponse(parts=parts))
    assert (response.full_text, response.parts) == ("42", parts)
