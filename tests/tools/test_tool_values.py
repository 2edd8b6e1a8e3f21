"""Values of tools as they are stored: JSON in which attachments keep their place."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.tool_results import ReturnAttachment, ReturnText, ToolCallOutput
from lash_runtime.model.tool_values import (
    TAG,
    ToolValueError,
    attachments_of,
    check_tool_value,
    compact_json,
    decode_tool_value,
    encode_tool_value,
    model_return,
)
from lash_runtime.tools import ToolResult

IMAGE = AttachmentRef(id="ab", byte_len=3, media_type=MediaType(type=ImageFormat.PNG))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
)
values = st.recursive(
    st.one_of(leaves, st.just(IMAGE)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(texts, st.just(TAG)), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(values)
def test_an_encoded_value_reads_back_as_it_was(value: Any) -> None:
    """Whatever keys a tool chooses, the tag of attachments among them."""
    encoded = encode_tool_value(value)

    compact_json(encoded)
    check_tool_value(encoded)
    assert decode_tool_value(encoded) == value


@given(values)
def test_attachments_are_found_in_reading_order(value: Any) -> None:
    """The model is shown all of them, once each."""

    def count(part: Any) -> int:
        match part:
            case AttachmentRef():
                return 1
            case list():
                return sum(map(count, part))
            case dict():
                return sum(map(count, part.values()))
            case _:
                return 0

    output = ToolCallOutput.success(encode_tool_value(value))

    assert len(attachments_of(output)) == count(value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\ud800",
        {"a": ["\udfff"]},
        {"\ud800": 1},
        object(),
        {1: object()},
    ],
)
def test_what_cannot_be_stored_as_json_text_is_refused(value: Any) -> None:
    """It would fail in the store, with the whole turn."""
    with pytest.raises(ToolValueError):
        encode_tool_value(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """There is no JSON for it."""
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(ToolValueError):
        encode_tool_value(loop)


@pytest.mark.parametrize(
    "encoded",
    [
        {TAG: "attachment"},
        {TAG: "attachment", "ref": {"id": "x"}},
        {TAG: "attachment", "ref": IMAGE.model_dump(mode="json"), "more": 1},
        {TAG: "object"},
        {TAG: "object", "entries": []},
        {TAG: "something"},
        {TAG: 1},
        {"deep": [{TAG: None}]},
        {"score": float("nan")},
    ],
)
def test_a_malformed_encoding_is_refused(encoded: Any) -> None:
    """An encoded value reads back in exactly one way, or not at all."""
    with pytest.raises(ToolValueError):
        check_tool_value(encoded)


def test_an_attachment_inside_models_and_dataclasses_keeps_its_place() -> None:
    """Tools return their own types."""

    class Page(BaseModel):
        picture: AttachmentRef

    @dataclass
    class Book:
        pages: list[Page]

    encoded = encode_tool_value(Book([Page(picture=IMAGE)]))

    assert encoded == {
        "pages": [{"picture": {TAG: "attachment", "ref": IMAGE.model_dump(mode="json")}}]
    }


class TestWhatTheModelIsShown:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("plain", "plain"),
            ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
            ("", ""),
            (None, "null"),
            ([], "[]"),
            ({TAG: "mine"}, '{"$lash_tool_value":"mine"}'),
        ],
    )
    def test_text_as_it_is_and_other_values_as_compact_json(self, value: Any, text: str) -> None:
        """The escape is for the store, not for the model."""
        output = ToolCallOutput.success(encode_tool_value(value))

        assert model_return("c", "t", output).text == text

    def test_a_bare_attachment_is_one_part(self) -> None:
        """No text around it."""
        output = ToolCallOutput.success(encode_tool_value(IMAGE))

        assert model_return("c", "t", output).parts == (ReturnAttachment(ref=IMAGE),)

    def test_a_failure_and_a_cancellation_show_their_message_and_attachments(self) -> None:
        """A screenshot of what went wrong says more than its error."""
        failed = ToolResult.err({"screen": IMAGE}).output
        cancelled = ToolResult.cancelled_with_raw("too slow", [IMAGE]).output

        assert model_return("c", "t", failed).parts[-1] == ReturnAttachment(ref=IMAGE)
        assert model_return("c", "t", failed).text.startswith("[Tool execution failed]\n")
        assert model_return("c", "t", cancelled).parts == (
            ReturnText(text="[Tool execution cancelled]\ntoo slow"),
            ReturnAttachment(ref=IMAGE),
        )
