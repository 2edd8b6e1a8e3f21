"""Messages as they are stored: nothing of what is absent, and nothing that is unknown."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.causes import PluginOrigin
from lash_runtime.model.messages import (
    DeletedPart,
    Message,
    MessageRole,
    Part,
    PartKind,
    ProviderReasoningReplay,
    ProviderReplayMeta,
    ResponseTextMeta,
    renumber_parts,
    text_message,
)

STORED = TypeAdapter(Message)

FULL = Message(
    id="m",
    role=MessageRole.ASSISTANT,
    parts=(
        Part(
            id="m.p0",
            kind=PartKind.TOOL_RESULT,
            content="c",
            attachments=(
                AttachmentRef(id="0" * 64, byte_len=3, media_type=MediaType(type=ImageFormat.PNG)),
            ),
            tool_call_id="t",
            tool_name="look",
            tool_replay=ProviderReplayMeta(opaque="o"),
            prune_state=DeletedPart(breadcrumb="b", archive_hash="h"),
            reasoning_meta=ProviderReasoningReplay(signature="s"),
            response_meta=ResponseTextMeta(phase="p"),
        ),
    ),
    origin=PluginOrigin(plugin_id="p"),
)


def test_what_is_absent_is_not_written() -> None:
    """An optional field that is added later must not change what is stored already."""
    assert STORED.dump_json(text_message("m", MessageRole.USER, "hello")) == (
        b'{"id":"m","role":"user","parts":[{"id":"m.p0","kind":"text","content":"hello"}]}'
    )
    assert STORED.dump_json(Message(id="m", role=MessageRole.EVENT)) == (
        b'{"id":"m","role":"event","parts":[]}'
    )


def test_a_message_is_read_as_it_was_written() -> None:
    """Hashes, equality and replays depend on it."""
    assert set(STORED.dump_python(FULL)["parts"][0]) == {field.name for field in fields(Part)}
    back = STORED.validate_json(STORED.dump_json(FULL))
    assert back == FULL
    assert hash(back) == hash(FULL)


@pytest.mark.parametrize("place", [(), ("parts", 0), ("parts", 0, "tool_replay"), ("origin",)])
def test_what_is_unknown_is_refused_at_every_depth(place: tuple[Any, ...]) -> None:
    """A later release may have written it, and what it means cannot be guessed."""
    document = inner = json.loads(STORED.dump_json(FULL))
    for step in place:
        inner = inner[step]
    inner["from_the_future"] = True
    with pytest.raises(ValidationError, match="from_the_future"):
        STORED.validate_python(document)


def test_parts_that_move_are_given_the_ids_of_their_place() -> None:
    """Everything else about them stays."""
    (part,) = renumber_parts("other", FULL.parts)
    assert part.id == "other.p0"
    assert replace(part, id="m.p0") == FULL.parts[0]
