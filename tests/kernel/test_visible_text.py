"""What of a response the user sees, and how its pieces are set apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.visible_text import (
    normalized_response_parts,
    prose_of,
    visible_response_parts,
    visible_response_text,
    with_blank_lines_between,
)
from lash_runtime.model.llm import (
    LlmResponse,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind, ResponseTextMeta


def tagged(text: str, phase: str) -> TextOutput:
    return TextOutput(text, ResponseTextMeta(phase=phase))


def test_a_final_answer_hides_commentary_and_nothing_else() -> None:
    """Reasoning and calls belong to the history whatever the text says."""
    call = ToolCallOutputPart("c", "t", "{}")
    parts = (
        tagged("hm", "commentary"),
        ReasoningOutput("r"),
        TextOutput("plain"),
        tagged("42", "Final_Answer"),
        call,
    )
    assert visible_response_parts(parts) == parts[1:]
    assert visible_response_text(parts) == "plain42"


def test_an_empty_final_answer_hides_nothing() -> None:
    """It would leave the user with nothing at all."""
    parts = (tagged("hm", "commentary"), tagged("", "final_answer"))
    assert visible_response_text(parts) == "hm"


def test_a_response_without_parts_is_one_text() -> None:
    """Callers handle parts alone."""
    assert normalized_response_parts(LlmResponse(full_text="hi")) == (TextOutput("hi"),)
    assert normalized_response_parts(LlmResponse()) == ()


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["a", "b"], "a\n\nb"),
        (["a\n", "b"], "a\n\nb"),
        (["a", "\nb"], "a\n\nb"),
        (["a\n", "\nb"], "a\n\nb"),
        (["a\n\n\n", "b"], "a\n\n\nb"),
        (["a", "\n", "b"], "a\n\nb"),
        (["a"], "a"),
        ([], ""),
    ],
)
def test_newlines_that_are_there_count(texts: list[str], whole: str) -> None:
    """A blank line, and not two, between what a model writes in two parts."""
    assert "".join(with_blank_lines_between(texts)) == whole


@given(st.lists(st.text(alphabet="a\n", min_size=1, max_size=4), max_size=5))
def test_slices_keep_their_text_and_are_set_apart(texts: list[str]) -> None:
    """Only newlines are added, and only where they are missing."""
    slices = with_blank_lines_between(texts)
    assert len(slices) == len(texts)
    assert all(piece.endswith(text) for piece, text in zip(slices, texts, strict=True))
    words = [text.strip("\n") for text in texts if text.strip("\n")]
    assert re.sub(r"\n{2,}", "\n\n", "".join(slices)).count("\n\n") >= len(words) - 1


def test_the_prose_of_a_message_is_its_slices_joined() -> None:
    """They carry their own newlines; another one between them would be one too many."""
    parts = [
        (PartKind.REASONING, "hm"),
        (PartKind.PROSE, "a"),
        (PartKind.TOOL_CALL, "{}"),
        (PartKind.PROSE, "\n\nb"),
    ]
    message = Message(
        id="m",
        role=MessageRole.ASSISTANT,
        parts=tuple(Part(id="p", kind=kind, content=text) for kind, text in parts),
    )
    assert prose_of(message) == "a\n\nb"
