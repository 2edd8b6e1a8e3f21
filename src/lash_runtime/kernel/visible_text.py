"""Which parts of a model's response the user sees.

A model that tags its text by phase may think aloud (`commentary`) beside its `final_answer`.
Where both are there, the commentary is not part of the answer.
"""

from collections.abc import Iterable, Sequence

from ..model.llm import LlmOutputPart, LlmResponse, TextOutput
from ..model.messages import Message, PartKind

FINAL_ANSWER = "final_answer"
COMMENTARY = "commentary"

_PROSE = frozenset({PartKind.TEXT, PartKind.PROSE})


def visible_response_parts(parts: Sequence[LlmOutputPart]) -> tuple[LlmOutputPart, ...]:
    """The parts without the commentary that a final answer has made superfluous."""
    if not any(_has_phase(part, FINAL_ANSWER) and part.text for part in _texts(parts)):
        return tuple(parts)
    return tuple(
        part
        for part in parts
        if not (isinstance(part, TextOutput) and _has_phase(part, COMMENTARY))
    )


def visible_response_text(parts: Sequence[LlmOutputPart]) -> str:
    """The visible text, with nothing between its parts."""
    return "".join(part.text for part in _texts(visible_response_parts(parts)))


def normalized_response_parts(response: LlmResponse) -> tuple[LlmOutputPart, ...]:
    """The visible parts of `response`, with one text part made where it has text alone."""
    if response.parts:
        return visible_response_parts(response.parts)
    return (TextOutput(response.full_text),) if response.full_text else ()


def prose_of(message: Message) -> str:
    """The text of a model's answer: its slices, which carry the newlines between them."""
    return "".join(part.content for part in message.parts if part.kind in _PROSE)


def with_blank_lines_between(texts: Iterable[str]) -> tuple[str, ...]:
    """Give each text the newlines in front that part it from the one before by a blank line.

    Newlines that are already there, on either side, count. Joining the result with nothing in
    between gives the text of the whole message.
    """
    spaced: list[str] = []
    trailing = 2  # nothing comes before the first text, so it needs no distance
    for text in texts:
        leading = len(text) - len(text.lstrip("\n"))
        piece = "\n" * max(0, 2 - trailing - leading) + text
        body = piece.rstrip("\n")
        trailing = len(piece) - len(body) + (0 if body else trailing)
        spaced.append(piece)
    return tuple(spaced)


def _texts(parts: Iterable[LlmOutputPart]) -> Iterable[TextOutput]:
    return (part for part in parts if isinstance(part, TextOutput))


def _has_phase(part: TextOutput, phase: str) -> bool:
    return part.response_meta is not None and part.response_meta.has_phase(phase)
