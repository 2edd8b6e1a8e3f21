"""What counts as an image, and how it is said in a turn."""

import hashlib

import pytest

from attachments.pictures import JPEG, PNG, a_jpeg, a_png
from lash_runtime import AttachmentRef, Image, ImageBlob, ImageRefItem, TextItem, TurnInput
from lash_runtime.model.attachments import ImageFormat, MediaType
from lash_runtime.model.images import image_type


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF87a...", "image/gif"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM\x10\0\0\0", "image/bmp"),
    ],
)
def test_the_bytes_say_what_they_are(data: bytes, mime: str) -> None:
    """A host that has only bytes need not know; one that knows may say so in any usual form."""
    assert image_type(data).mime == mime
    assert image_type(data, f" {mime.upper()} ").mime == mime


def test_the_other_name_of_jpeg_is_understood() -> None:
    """It is not registered, and everywhere."""
    assert image_type(a_jpeg(), "image/jpg").mime == "image/jpeg"


@pytest.mark.parametrize(
    ("data", "mime", "complaint"),
    [
        (b"", None, "no bytes"),
        (b"", "image/png", "no bytes"),
        (b"some text", None, "no image that is known"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None, "no image that is known"),
        (PNG, "image/jpeg", "declared as image/jpeg, but its bytes are png"),
        (PNG, "image/svg+xml", "cannot be carried; accepted: image/png"),
        (PNG, "text/plain", "cannot be carried"),
        (PNG, "", "cannot be carried"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(
    data: bytes, mime: str | None, complaint: str
) -> None:
    """Where the program can still do something about it, not by a provider in a turn."""
    with pytest.raises(ValueError, match=complaint):
        Image(data, mime)


def test_unknown_bytes_are_what_they_are_declared_as() -> None:
    """A format has more beginnings than the common ones."""
    assert Image(b"an odd one", "image/webp").media_type.mime == "image/webp"


def test_an_image_knows_where_it_will_be_found() -> None:
    """Its reference can be written down before it is stored."""
    image = Image(a_png(), label="cat")
    ref = image.reference()
    assert ref.id == hashlib.sha256(a_png()).hexdigest() == image.attachment_id()
    assert (ref.byte_len, ref.media_type.mime, ref.label) == (len(a_png()), "image/png", "cat")
    assert repr(image) == f"<Image image/png, {len(a_png())} bytes>"


def test_a_turn_says_text_and_images_in_their_order() -> None:
    """Images get names; equal labels do not take each other's bytes."""
    said = TurnInput.of(
        "Compare", Image(a_png("a"), label="x"), "with", Image(a_png("b"), label="x")
    )
    assert [type(item) for item in said.items] == [TextItem, ImageRefItem, TextItem, ImageRefItem]
    names = [item.id for item in said.items if isinstance(item, ImageRefItem)]
    assert [said.image_blobs[name].data for name in names] == [a_png("a"), a_png("b")]


def test_a_stored_image_is_said_by_its_reference() -> None:
    """No bytes travel a second time."""
    ref = AttachmentRef.of("0" * 64, 3, Image(PNG).reference())
    said = TurnInput.of("This one", ref)
    assert said.attachments() == (ref,)
    assert said.image_blobs == {}


def test_image_bytes_are_text_in_json() -> None:
    """An input can be stored and sent with its images, any byte of them."""
    blob = ImageBlob(data=bytes(range(256)), media_type=MediaType(type=ImageFormat.GIF))
    said = TurnInput(items=(ImageRefItem(id="a"),), image_blobs={"a": blob})
    text = said.model_dump_json()
    text.encode("ascii")
    assert TurnInput.model_validate_json(text) == said
