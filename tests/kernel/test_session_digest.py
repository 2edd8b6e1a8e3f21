"""What a list of sessions tells of a transcript."""

from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.kernel.session_digest import (
    EXCERPT_CHARS,
    SessionDigest,
    digest_of,
    excerpt,
    first_of_anybody,
    first_of_user,
)
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind
from lash_runtime.model.nodes import (
    ConversationRecord,
    PluginPayload,
    SessionNodeRecord,
)

parts = st.builds(
    lambda kind, content: Part(id="p", kind=kind, content=content),
    st.sampled_from(PartKind),
    st.sampled_from(["", " ", "one", "two\n", "x" * 300]),
)
messages = st.builds(
    lambda role, parts: Message(id="m", role=role, parts=tuple(parts)),
    st.sampled_from(MessageRole),
    st.lists(parts, max_size=3),
)
payloads = st.one_of(
    st.just(PluginPayload(plugin_type="p", body={})),
    messages.map(ConversationRecord.of),
)
nodes = st.lists(
    payloads.map(lambda payload: SessionNodeRecord(node_id="n", timestamp="", payload=payload)),
    max_size=8,
)


@given(nodes, nodes)
def test_a_digest_grows_with_its_transcript(
    earlier: list[SessionNodeRecord], later: list[SessionNodeRecord]
) -> None:
    """So that a commit costs what it adds: the whole need not be read again."""
    assert digest_of(earlier).followed_by(digest_of(later)) == digest_of([*earlier, *later])


@given(nodes)
def test_the_ends_of_a_transcript_tell_the_same_as_all_of_it(
    transcript: list[SessionNodeRecord],
) -> None:
    """What is read from either end is what a digest of the whole says."""
    whole = digest_of(transcript)
    assert first_of_user(transcript) == whole.first_user_message
    assert first_of_anybody(reversed(transcript)) == whole.last_message


@given(messages)
def test_an_excerpt_is_short_and_stripped(message: Message) -> None:
    """Whatever was pasted into a message, the list stays a list."""
    text = excerpt(message)
    assert len(text) <= EXCERPT_CHARS
    assert text == text.strip()


def test_images_and_text_are_told_and_thoughts_and_calls_are_not() -> None:
    """Parts stand apart by a blank line, as a reader would expect."""
    kinds = (
        (PartKind.REASONING, "hm"),
        (PartKind.TEXT, "look"),
        (PartKind.IMAGE, "cat.png"),
        (PartKind.TOOL_CALL, "{}"),
        (PartKind.TEXT, " "),
        (PartKind.TEXT, "a cat"),
    )
    message = Message(
        id="m",
        role=MessageRole.USER,
        parts=tuple(Part(id="p", kind=kind, content=content) for kind, content in kinds),
    )
    assert excerpt(message) == "look\n\n[Image attached]\n\na cat"


def test_nothing_has_an_empty_digest() -> None:
    """A session of no messages is told by zeros."""
    assert digest_of(()) == SessionDigest()
