"""The messages that a turn begins with."""

import pytest

from lash_runtime.kernel.turn_messages import opening_messages, turn_message_id, user_message_id
from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.causes import PluginOrigin, TurnCause
from lash_runtime.model.messages import MessageRole, PartKind
from lash_runtime.model.turn_input import AttachmentItem, ImageRefItem, TurnInput

REF = AttachmentRef(id="i", media_type=MediaType(type=ImageFormat.PNG), byte_len=1)
CAUSE = TurnCause(id="w", event_type="timer", origin=PluginOrigin(plugin_id="p"), text="noon")


def test_words_and_images_become_one_message_in_the_users_order() -> None:
    """What the user points at and what they say about it belong together."""
    words = TurnInput.of("look:", AttachmentItem(ref=REF), "and?")
    (message,) = opening_messages("t", words)
    assert (message.id, message.role) == ("m:t:user", MessageRole.USER)
    assert [part.kind for part in message.parts] == [PartKind.TEXT, PartKind.IMAGE, PartKind.TEXT]
    assert [part.id for part in message.parts] == ["m:t:user.p0", "m:t:user.p1", "m:t:user.p2"]
    assert message.parts[1].attachments == (REF,)


def test_a_turn_without_words_or_causes_still_has_a_user_message() -> None:
    """A provider wants something to answer to."""
    (message,) = opening_messages("t", TurnInput.empty())
    assert [part.content for part in message.parts] == [""]


def test_causes_come_first_and_need_no_words_beside_them() -> None:
    """A wake-up runs a turn that nobody asked for."""
    (event,) = opening_messages("t", TurnInput.empty(), [CAUSE])
    assert (event.id, event.role, event.text) == ("w", MessageRole.EVENT, "noon")
    both = opening_messages("t", TurnInput.text("hi"), [CAUSE])
    assert [message.id for message in both] == ["w", "m:t:user"]


def test_an_image_without_its_bytes_put_away_is_refused() -> None:
    """A row refers to images and never holds them."""
    with pytest.raises(ValueError, match="photo"):
        opening_messages("t", TurnInput.of(ImageRefItem(id="photo")))


def test_ids_say_the_turn_the_round_and_the_role() -> None:
    """Another turn, round or role is another message; the same one is the same."""
    made = [turn_message_id(t, i, r) for t in ("t", "u") for i in (0, 1) for r in ("a", "b")]
    assert len(set(made)) == 8
    assert all(name.startswith("m:t:") for name in [*made[:4], user_message_id("t")])
