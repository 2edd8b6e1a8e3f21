"""Histories that can be gone on with: every call has one result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.resume_safety import close_open_calls, resume_safe
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind


def call(*ids: str, role: MessageRole = MessageRole.ASSISTANT, name: str = "a") -> Message:
    return Message(
        id=name,
        role=role,
        parts=tuple(
            Part(id="p", kind=PartKind.TOOL_CALL, tool_call_id=i, tool_name=f"tool-{i}")
            for i in ids
        ),
    )


def result(*ids: str, role: MessageRole = MessageRole.USER) -> Message:
    return Message(
        id="r",
        role=role,
        parts=tuple(Part(id="p", kind=PartKind.TOOL_RESULT, tool_call_id=i) for i in ids),
    )


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (call("1"), result("1")),
        (call("1", "2"), result("2", "1")),
        (call("1"), result("1"), call("2"), result("2")),
        (call("1"), call("2"), result("1", "2")),
    ],
)
def test_a_history_whose_calls_are_answered_is_safe(messages: tuple[Message, ...]) -> None:
    """It may be committed: any provider can go on from it."""
    assert resume_safe(messages)
    assert close_open_calls(messages, "why") == ()


@pytest.mark.parametrize(
    "messages",
    [
        (call("1"),),
        (call("1", "2"), result("1")),
        (result("1"),),
        (result("1"), call("1")),
        (call("1"), result("1", "1")),
        (call("1"), result("1"), call("1"), result("1")),
        (call("1", "1"), result("1")),
        (call(""), result("")),
        (call("1", role=MessageRole.USER), result("1")),
        (call("1"), result("1", role=MessageRole.ASSISTANT)),
    ],
)
def test_a_history_that_a_provider_would_refuse_is_not_safe(messages: tuple[Message, ...]) -> None:
    """Once stored, it would make its session useless for ever."""
    assert not resume_safe(messages)


rounds = st.lists(st.tuples(st.integers(1, 3), st.sets(st.integers(0, 2))), max_size=5)


@given(rounds)
def test_closing_makes_any_interrupted_history_safe(history: list[tuple[int, set[int]]]) -> None:
    """Wherever a turn was stopped, and whichever results it had."""
    messages: list[Message] = []
    for number, (calls, answered) in enumerate(history):
        ids = [f"{number}.{index}" for index in range(calls)]
        messages.append(call(*ids, name=f"a{number}"))
        messages.append(result(*[ids[index] for index in sorted(answered) if index < calls]))
    closing = close_open_calls(messages, "the power went")
    assert resume_safe([*messages, *closing])
    assert close_open_calls([*messages, *closing], "again") == ()
    assert close_open_calls(messages, "the power went") == closing


def test_a_closing_result_names_its_tool_and_says_what_happened() -> None:
    """The model must not take it for a result of the tool."""
    (closing,) = close_open_calls([call("1", name="m:t:0:assistant")], "The turn was cancelled.")
    assert closing.id == "m:t:0:assistant:closed"
    assert closing.role is MessageRole.USER
    (part,) = closing.parts
    assert part.tool_name == "tool-1"
    assert part.content == "[Tool execution cancelled]\nThe turn was cancelled."
    assert part.id == "m:t:0:assistant:closed.p0"
