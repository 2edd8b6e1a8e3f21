"""An image that a user shows: it reaches the model, stays in the transcript, and is found again."""

import base64
from collections.abc import Callable

import pytest

from attachments.conftest import Album
from attachments.pictures import a_jpeg, a_png
from facade.places import a_core, running
from lash_runtime import (
    AttachmentFailure,
    AttachmentRef,
    CoreClosed,
    Image,
    ImageBlob,
    ImageRefItem,
    LashSession,
    SessionClosed,
    StopReason,
    TurnInput,
)
from lash_runtime.model.attachments import ImageFormat, MediaType
from lash_runtime.model.llm import ImageBlock, LlmRequest, TextBlock
from lash_runtime.testing import Call, ScriptedProvider
from providers.openai.conversations import a_provider
from providers.openai.endpoint import delta, endpoint, finish, streamed

pytestmark = pytest.mark.anyio


def shown(request: LlmRequest) -> list[str | bytes]:
    """What the last message of a request says: its texts, and the bytes of its images."""
    said: list[str | bytes] = []
    for block in request.messages[-1].blocks:
        if isinstance(block, TextBlock):
            said.append(block.text)
        elif isinstance(block, ImageBlock):
            said.append(request.attachments[block.attachment_idx].data)
    return said


def images(session: LashSession) -> list[AttachmentRef]:
    """The images of a session's transcript."""
    return [
        ref
        for message in session.read_view().messages
        for part in message.parts
        for ref in part.attachments
    ]


async def test_the_model_sees_text_and_images_in_order(album: Album) -> None:
    """With the type that each one has."""
    provider = ScriptedProvider([Call.text("A cat and a dog.")])
    async with a_core(album, provider) as core, core.session("s") as session:
        said = TurnInput.of("First", Image(a_png("cat")), "then", Image(a_jpeg("dog")))
        output = await session.turn(said).run()
    assert output.assistant_message == "A cat and a dog."
    [request] = provider.requests
    assert shown(request) == ["First", a_png("cat"), "then", a_jpeg("dog")]
    assert [image.mime for image in request.attachments] == ["image/png", "image/jpeg"]


async def test_an_image_is_there_after_opening_again(album: Album) -> None:
    """For the model in the next turn, and for the host that shows the transcript."""
    provider = ScriptedProvider([Call.text("A cat."), Call.text("Still a cat.")])
    async with a_core(album, provider) as core, core.session("s") as session:
        await session.turn(TurnInput.of("What is it?", Image(a_png(), label="pet"))).run()
    async with a_core(album, provider) as core, core.session("s") as session:
        [ref] = images(session)
        stored = await core.attachments.get(ref)
        await session.turn("And now?").run()
    assert (stored.data, stored.meta, ref.label) == (a_png(), ref, "pet")
    assert [image.data for image in provider.requests[1].attachments] == [a_png()]


async def test_the_same_image_twice_is_stored_once(album: Album) -> None:
    """And sent once in each request, however often the conversation shows it."""
    provider = ScriptedProvider([Call.text("A cat."), Call.text("The same.")])
    async with a_core(album, provider) as core, core.session("s") as session:
        await session.turn(TurnInput.of("What is it?", Image(a_png()))).run()
        await session.turn(TurnInput.of("And this?", Image(a_png()))).run()
        one, two = images(session)
    assert one.id == two.id
    assert len(provider.requests[1].attachments) == 1


async def test_the_same_turn_with_its_image_again_is_the_same_turn(album: Album) -> None:
    """A host that repeats a request after a lost answer pays for nothing twice."""
    provider = ScriptedProvider([Call.text("A cat.")])
    said = TurnInput.of("What is it?", Image(a_png()))
    for _ in range(2):
        async with a_core(album, provider) as core, core.session("s") as session:
            output = await session.turn(said).turn_id("t").run()
            assert output.assistant_message == "A cat."
            assert len(images(session)) == 1
    assert provider.calls == 1


async def test_an_upload_can_be_said_later_and_elsewhere(album: Album) -> None:
    """By its reference: in a turn of this session, of another, of another process."""
    provider = ScriptedProvider([Call.text("A cat."), Call.text("A cat as well.")])
    async with a_core(album, provider) as core, core.session("one") as session:
        ref = await session.attachments.put(a_png(), label="upload")
        assert (await session.attachments.get(ref.id)).data == a_png()
        await session.turn(TurnInput.of("What is it?", ref)).run()
    async with a_core(album, provider) as core, core.session("two") as session:
        await session.turn(TurnInput.of("And here?", ref)).run()
        assert images(session) == [ref]
    assert [shown(request)[1] for request in provider.requests] == [a_png(), a_png()]


async def test_an_image_whose_bytes_are_gone_is_refused(album: Album) -> None:
    """Before the turn is accepted: a transcript that names it could not be sent any more."""
    provider = ScriptedProvider([Call.text("Hello.")])
    ref = Image(a_png("never stored")).reference()
    odd = ref.model_copy(update={"id": "../../etc/passwd"})
    async with a_core(album, provider) as core, core.session("s") as session:
        for missing in (ref, odd):
            output = await session.turn(TurnInput.of("Look", missing)).run()
            assert output.stop_reason is StopReason.INVALID_INPUT
            assert missing.id in output.errors[0].message
        assert (await session.turn("Hello?").run()).assistant_message == "Hello."
        assert images(session) == []
    assert provider.calls == 1


@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (ImageBlob(data=b""), "no bytes"),
        (
            ImageBlob(data=a_png(), media_type=MediaType(type=ImageFormat.JPEG)),
            "declared as image/jpeg, but its bytes are png",
        ),
        (ImageBlob(data=a_png(size=2_000)), "at most 1000"),
    ],
    ids=["empty", "not what it says", "too large"],
)
async def test_what_cannot_be_sent_is_refused(
    album: Album, blob: ImageBlob, complaint: str
) -> None:
    """With the name of the image and the reason; the session goes on without it."""
    provider = ScriptedProvider([Call.text("Hello.")])
    said = TurnInput(items=(ImageRefItem(id="the photo"),), image_blobs={"the photo": blob})
    core = album.builder(provider).max_attachment_bytes(1_000).build()
    async with running(core), core.session("s") as session:
        output = await session.turn(said).run()
        assert output.stop_reason is StopReason.INVALID_INPUT
        assert "'the photo'" in output.errors[0].message
        assert complaint in output.errors[0].message
        assert (await session.turn("Hello?").run()).assistant_message == "Hello."
    assert provider.calls == 1


async def test_a_host_is_told_why_an_upload_is_refused(album: Album) -> None:
    """By an error of the library, with a code of its own for what no retry helps."""
    core = album.builder(ScriptedProvider()).max_attachment_bytes(100).build()
    async with running(core), core.session("s") as session:
        for data, mime in (
            (b"", None),
            (b"text", None),
            (a_png(), "image/gif"),
            (a_png(size=101), None),
        ):
            with pytest.raises(AttachmentFailure) as raised:
                await session.attachments.put(data, mime)
            assert raised.value.code == "attachment_invalid"
            assert raised.value.is_terminal
        with pytest.raises(AttachmentFailure) as raised:
            await core.attachments.get("0" * 64)
        assert raised.value.code == "attachment_not_found"


async def test_closed_handles_say_so(album: Album) -> None:
    """A session that was closed, and a core that was."""
    async with a_core(album, ScriptedProvider()) as core:
        session = await core.session("s").open()
        held = session.attachments
        ref = await held.put(a_png())
        await session.close()
        for call in (lambda: held.get(ref), lambda: held.put(a_png())):
            with pytest.raises(SessionClosed):
                await call()
        assert (await core.attachments.get(ref)).data == a_png()
        images_of_core = core.attachments
    with pytest.raises(CoreClosed):
        await images_of_core.get(ref)


async def test_a_blob_without_a_type_is_what_its_bytes_say(album: Album) -> None:
    """A JPEG is not sent as something else because nobody said so."""
    provider = ScriptedProvider([Call.text("A cat.")])
    said = TurnInput(items=(ImageRefItem(id="a"),), image_blobs={"a": ImageBlob(data=a_jpeg())})
    async with a_core(album, provider) as core, core.session("s") as session:
        await session.turn(said).run()
    assert [image.mime for image in provider.requests[0].attachments] == ["image/jpeg"]


async def test_an_openai_endpoint_gets_the_image_as_a_data_url(
    on_disk: Callable[[str], Album],
) -> None:
    """The bytes go the whole way: from the turn through the store and onto the wire."""
    async with (
        endpoint(streamed(delta(content="A cat."), finish())) as server,
        a_provider(server.base_url) as provider,
        a_core(on_disk("sqlite+files"), provider) as core,
        core.session("s") as session,
    ):
        output = await session.turn(TurnInput.of("What is it?", Image(a_png()))).run()
    url = "data:image/png;base64," + base64.b64encode(a_png()).decode()
    assert output.assistant_message == "A cat."
    assert server.body["messages"][-1]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
