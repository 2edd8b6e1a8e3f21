"""How a transcript is shown to the model, and that the cache behind it changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.projection import ChatProjection, RenderedChat
from lash_runtime.kernel.shared_sequence import SharedSequence
from lash_runtime.kernel.turn_causes import cause_message
from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.causes import PluginOrigin, ProcessOrigin, TurnCause
from lash_runtime.model.llm import (
    ContentBlock,
    ImageBlock,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_runtime.model.messages import (
    ClearedPart,
    DeletedPart,
    Message,
    MessageRole,
    Part,
    PartKind,
    ProviderReasoningReplay,
    ProviderReplayMeta,
    ResponseTextMeta,
    SummarizedPart,
    text_message,
)

SIGNED = ProviderReasoningReplay(signature="sig")


def ref(name: str) -> AttachmentRef:
    return AttachmentRef(id=name, media_type=MediaType(type=ImageFormat.PNG), byte_len=1)


def shown(role: MessageRole, *parts: Part) -> tuple[ContentBlock, ...]:
    """The blocks that one message of these parts becomes."""
    message = Message(id="x", role=role, parts=parts)
    rendered = ChatProjection().render(SharedSequence([message]))
    return tuple(block for item in rendered.messages for block in item.blocks)


def part(kind: PartKind, content: str = "", **fields: object) -> Part:
    return Part(id="x.p0", kind=kind, content=content, **fields)


@pytest.mark.parametrize(
    ("role", "kind", "text"),
    [
        (MessageRole.USER, PartKind.TEXT, "words"),
        (MessageRole.ASSISTANT, PartKind.PROSE, "words"),
        (MessageRole.SYSTEM, PartKind.TEXT, "Runtime note:\nwords"),
        (MessageRole.SYSTEM, PartKind.ERROR, "Runtime note:\n<error>\nwords\n</error>"),
        (MessageRole.SYSTEM, PartKind.OUTPUT, "Runtime note:\n<output>\nwords\n</output>"),
        (MessageRole.EVENT, PartKind.TEXT, "Runtime event:\nwords"),
        (MessageRole.USER, PartKind.ERROR, "words"),
    ],
)
def test_text_says_where_it_comes_from(role: MessageRole, kind: PartKind, text: str) -> None:
    """A note of the runtime must not read like something the user said."""
    assert shown(role, part(kind, "words")) == (TextBlock(text),)


@pytest.mark.parametrize(
    ("role", "sent_as"),
    [
        (MessageRole.USER, LlmRole.USER),
        (MessageRole.ASSISTANT, LlmRole.ASSISTANT),
        (MessageRole.SYSTEM, LlmRole.SYSTEM),
        (MessageRole.EVENT, LlmRole.USER),
    ],
)
def test_events_are_sent_in_the_users_role(role: MessageRole, sent_as: LlmRole) -> None:
    """Endpoints know three roles."""
    messages = SharedSequence([text_message("x", role, "words")])
    assert [item.role for item in ChatProjection().render(messages).messages] == [sent_as]


def test_reasoning_is_sent_only_with_what_its_provider_wants_back() -> None:
    """Reasoning that is only for show would be refused, or read as an answer."""
    kept = part(PartKind.REASONING, "hm", reasoning_meta=SIGNED)
    empty = part(PartKind.REASONING, "hm", reasoning_meta=ProviderReasoningReplay())
    bare = part(PartKind.REASONING, "hm")
    assert shown(MessageRole.ASSISTANT, kept, empty, bare) == (ReasoningBlock("hm", SIGNED),)


def test_calls_and_results_keep_their_ids_and_their_own_text() -> None:
    """An empty result is a result; the arguments are the model's own text."""
    replay = ProviderReplayMeta(opaque="o")
    call = part(PartKind.TOOL_CALL, '{ "a":1}', tool_call_id="c", tool_name="t", tool_replay=replay)
    result = part(PartKind.TOOL_RESULT, "", tool_call_id="c", tool_name="t")
    assert shown(MessageRole.ASSISTANT, call) == (ToolCallBlock("c", "t", '{ "a":1}', replay),)
    assert shown(MessageRole.USER, result) == (ToolResultBlock("c", "", "t"),)


def test_only_a_users_image_is_sent_as_an_image() -> None:
    """Endpoints take images from the user alone."""
    image = part(PartKind.IMAGE, attachments=(ref("a"), ref("b")))
    assert shown(MessageRole.USER, image) == (ImageBlock(0), ImageBlock(1))
    assert shown(MessageRole.ASSISTANT, image) == (TextBlock("[Image attached]"),)


def test_images_of_results_follow_all_results() -> None:
    """Endpoints want the results of a batch together and in front."""
    first = part(
        PartKind.TOOL_RESULT, "a", tool_call_id="1", tool_name="t", attachments=(ref("i"),)
    )
    second = part(PartKind.TOOL_RESULT, "b", tool_call_id="2", tool_name="t")
    blocks = shown(MessageRole.USER, first, second)
    assert [type(block) for block in blocks] == [
        ToolResultBlock,
        ToolResultBlock,
        TextBlock,
        ImageBlock,
    ]


def test_an_image_that_is_shown_twice_is_attached_once() -> None:
    """Its bytes are read and sent for each attachment of a request."""
    image = part(PartKind.IMAGE, attachments=(ref("a"),))
    messages = SharedSequence(
        [Message(id=str(n), role=MessageRole.USER, parts=(image,)) for n in range(3)]
    )
    rendered = ChatProjection().render(messages)
    assert len(rendered.attachments) == 1
    assert rendered.attachments[0].reference == ref("a")
    assert [item.blocks for item in rendered.messages] == [(ImageBlock(0),)] * 3


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ClearedPart(), "[Old tool result content cleared]"),
        (DeletedPart(breadcrumb="a map", archive_hash="h"), "[pruned:h — a map]"),
        (SummarizedPart(summary="short", archive_hash="h"), "[SUMMARY of original h]\nshort"),
    ],
)
def test_a_pruned_part_shows_what_became_of_it(state: object, text: str) -> None:
    """The model must know that something was there, and a result must stay a result."""
    result = part(PartKind.TOOL_RESULT, "long", tool_call_id="c", prune_state=state)
    assert shown(MessageRole.USER, result) == (ToolResultBlock("c", text),)
    assert shown(MessageRole.USER, part(PartKind.TEXT, "long", prune_state=state)) == (
        TextBlock(text),
    )


def test_metadata_of_text_goes_back_to_the_provider() -> None:
    """Some providers sign their text."""
    meta = ResponseTextMeta(id="m")
    prose = part(PartKind.PROSE, "hi", response_meta=meta)
    assert shown(MessageRole.ASSISTANT, prose) == (TextBlock("hi", meta),)


@pytest.mark.parametrize("content", ["", " \n"])
def test_messages_without_anything_to_show_vanish(content: str) -> None:
    """Endpoints refuse empty messages."""
    messages = SharedSequence([text_message("x", MessageRole.USER, content)])
    assert ChatProjection().render(messages, system_prompt=content) == RenderedChat((), ())


def test_active_causes_are_shown_once_and_last() -> None:
    """An event that made the turn run is what the model is to act on."""
    cause = TurnCause(
        id="w", event_type="timer", origin=PluginOrigin(plugin_id="clock"), text=" noon \n"
    )
    woken = TurnCause(
        id="v",
        event_type="exit",
        origin=ProcessOrigin(process_id="p", event_type="exit", sequence=3),
        text="it ended",
    )
    messages = SharedSequence(
        [cause_message(cause), text_message("u", MessageRole.USER, "hello"), cause_message(woken)]
    )
    projection = ChatProjection()
    texts = [item.blocks[0].text for item in projection.render(messages, "", (cause,)).messages]
    assert texts == [
        "hello",
        "Runtime event:\nit ended",
        "=== TURN EVENTS ===\n\n--- event[0] · timer · w ---\nOrigin: plugin clock\n\nnoon",
    ]
    both = projection.render(messages, "", (cause, woken)).messages
    assert [item.blocks[0].text for item in both][:-1] == ["hello"]
    assert "event[1] · exit · v ---\nOrigin: process p, exit #3" in both[-1].blocks[0].text
    later = [item.blocks[0].text for item in projection.render(messages).messages]
    assert later == ["Runtime event:\n noon \n", "hello", "Runtime event:\nit ended"]


def test_a_prompt_of_old_and_new_messages_renders_only_the_new_ones() -> None:
    """A long conversation must not be rendered again for each call."""
    messages = SharedSequence([text_message(str(n), MessageRole.USER, f"m{n}") for n in range(20)])
    projection = ChatProjection()
    before = projection.render(messages).messages
    after = projection.render(
        messages.append(text_message("new", MessageRole.USER, "new"))
    ).messages
    assert all(ours is theirs for ours, theirs in zip(before, after, strict=False))
    assert len(after) == 21


# The cache

contents = st.sampled_from(["", "a", "words"])
images = st.sampled_from(["i", "j", "k"])
parts = st.one_of(
    contents.map(lambda text: part(PartKind.TEXT, text)),
    images.map(lambda name: part(PartKind.IMAGE, attachments=(ref(name),))),
    st.tuples(contents, images).map(
        lambda pair: part(
            PartKind.TOOL_RESULT,
            pair[0],
            tool_call_id="c",
            tool_name="t",
            attachments=(ref(pair[1]),),
        )
    ),
)
messages_of = st.builds(
    lambda number, role, items: Message(id=f"m{number}", role=role, parts=tuple(items)),
    st.integers(0, 5),
    st.sampled_from(MessageRole),
    st.lists(parts, max_size=3),
)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.lists(messages_of, max_size=4), st.sampled_from(["", "p"])),
        max_size=8,
    )
)
def test_a_projection_with_memory_shows_what_a_fresh_one_shows(
    steps: list[tuple[int, list[Message], str]],
) -> None:
    """Whatever the session does in between: it grows, branches off, or goes back."""
    projection = ChatProjection()
    sequence: SharedSequence[Message] = SharedSequence()
    for kept, added, prompt in steps:
        sequence = sequence.prefix(kept).extend(added)
        assert projection.render(sequence, prompt) == ChatProjection().render(sequence, prompt)


@given(st.lists(messages_of, min_size=1, max_size=8), st.integers(0, 8))
def test_equal_messages_of_another_sequence_are_shown_the_same(
    items: list[Message], kept: int
) -> None:
    """A session that was read again holds other objects with the same contents."""
    projection = ChatProjection()
    projection.render(SharedSequence(items))
    again = SharedSequence([replace(item) for item in items[:kept]])
    assert projection.render(again) == ChatProjection().render(again)
