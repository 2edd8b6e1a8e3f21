"""Inputs that have waited: joined into one turn, or told to the one that runs."""

import pytest

from lash_runtime.kernel.waiting_inputs import injected_message, join_inputs
from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.images import Image
from lash_runtime.model.messages import MessageRole, PartKind
from lash_runtime.model.policy import ProtocolTurnOptions
from lash_runtime.model.turn_input import ImageRefItem, TextItem, TurnInput

CAT, DOG = b"\x89PNG\r\n\x1a\ncat", b"\x89PNG\r\n\x1a\ndog"
REF = AttachmentRef(id="a" * 64, media_type=MediaType(type=ImageFormat.PNG), byte_len=3)


def shown(joined: TurnInput) -> list[str | bytes]:
    """What the model is to see, in order."""
    return [
        joined.image_blobs[item.id].data if isinstance(item, ImageRefItem) else item.text
        for item in joined.items
        if isinstance(item, ImageRefItem | TextItem)
    ]


def test_several_inputs_are_one_in_their_order() -> None:
    """Nothing that a user said is lost on the way."""
    joined = join_inputs([TurnInput.text("one"), TurnInput.empty(), TurnInput.text("two")])
    assert shown(joined) == ["one", "two"]


def test_one_input_is_itself() -> None:
    """Joining changes nothing where there is nothing to join."""
    alone = TurnInput.of("Look", Image(CAT)).with_turn_id("t")
    assert join_inputs([alone]) == alone
    assert join_inputs([]) == TurnInput.empty()


def test_images_of_the_same_name_stay_apart() -> None:
    """Every input that was put together by itself calls its first image the same."""
    inputs = [TurnInput.of("a cat", Image(CAT)), TurnInput.of("a dog", Image(DOG))]
    assert {*inputs[0].image_blobs} == {*inputs[1].image_blobs}
    assert shown(join_inputs(inputs)) == ["a cat", CAT, "a dog", DOG]
    again = join_inputs([*inputs, *inputs])
    assert shown(again) == ["a cat", CAT, "a dog", DOG] * 2
    assert len(again.image_blobs) == 2


def test_the_first_options_and_the_first_trace_id_count() -> None:
    """Who comes later has not asked for a turn of its own."""
    careful, quick = (ProtocolTurnOptions(payload={"mode": mode}) for mode in ("careful", "quick"))
    joined = join_inputs(
        [
            TurnInput.text("one"),
            TurnInput(items=(TextItem(text="two"),), protocol_turn_options=careful),
            TurnInput(protocol_turn_options=quick).with_turn_id("first"),
            TurnInput.empty().with_turn_id("second"),
        ]
    )
    assert joined.protocol_turn_options == careful
    assert joined.trace_turn_id == "first"


def test_text_is_told_in_lines() -> None:
    """One part, as if it had been typed at once."""
    message = injected_message("m:1", TurnInput.of("stop", "and think"))
    assert message is not None
    assert [(part.id, part.content) for part in message.parts] == [("m:1.p0", "stop\nand think")]
    assert message.role is MessageRole.USER


def test_images_are_told_in_their_places() -> None:
    """The words around an image say what it is."""
    message = injected_message("m:1", TurnInput.of("before", REF, "after"))
    assert message is not None
    assert [(part.id, part.kind, part.content) for part in message.parts] == [
        ("m:1.p0", PartKind.TEXT, "before"),
        ("m:1.p1", PartKind.IMAGE, ""),
        ("m:1.p2", PartKind.TEXT, "after"),
    ]
    assert message.parts[1].attachments == (REF,)


def test_what_is_told_to_a_running_turn_is_not_part_of_the_transcript() -> None:
    """The model sees it; whoever reads the session later does not."""
    message = injected_message("m:1", TurnInput.text("stop"))
    assert message is not None
    assert message.origin is not None
    assert message.origin.kind == "plugin"
    assert message.origin.transient


@pytest.mark.parametrize("nothing", [TurnInput.empty(), TurnInput.text(""), TurnInput.text(" ")])
def test_an_empty_input_is_not_told(nothing: TurnInput) -> None:
    """The model would look for what it means."""
    assert injected_message("m:1", nothing) is None


def test_an_image_that_nobody_stored_is_a_mistake_of_the_caller() -> None:
    """A transcript refers to images and never holds them."""
    with pytest.raises(ValueError, match="not stored"):
        injected_message("m:1", TurnInput.of(Image(CAT)))
