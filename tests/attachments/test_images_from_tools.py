"""An image that a tool makes: the model sees it next, the transcript keeps it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, ConfigDict

from attachments.conftest import Album
from attachments.pictures import a_jpeg, a_png
from attachments.test_images_in_turns import images, shown
from facade.places import a_core
from lash_runtime import (
    AttachmentRef,
    FunctionTool,
    Image,
    RuntimeFailure,
    ToolContext,
    ToolFailureClass,
    ToolResult,
    tool,
)
from lash_runtime.model.attachments import attachment_id
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.model.tool_results import ToolFailed
from lash_runtime.testing import Call, ScriptedProvider, TestProvider, tool_call_response

pytestmark = pytest.mark.anyio


class Page(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    number: int
    scan: Image


@dataclass
class Sketch:
    title: str
    drawing: Image


def returns(value: Any) -> FunctionTool[..., Any]:
    @tool
    async def look() -> Any:
        """Look."""
        return value

    return look


async def seen_of(album: Album, look: FunctionTool[..., Any]) -> list[str | bytes]:
    """What the model is shown after it has called `look`."""
    provider = ScriptedProvider([Call.tool("c", "look", {}), Call.text("I see.")])
    async with a_core(album, provider, look) as core, core.session("s") as session:
        output = await session.turn("Look").run()
        assert output.assistant_message == "I see.", output.result.errors
    return shown(provider.requests[1])


async def test_a_tool_returns_an_image(album: Album) -> None:
    """The plainest form: bytes in an `Image`. The next model call has it, and so has the
    transcript after opening again."""
    provider = ScriptedProvider(
        [Call.tool("c", "look", {}), Call.text("I see."), Call.text("Yes.")]
    )
    look = returns(Image(a_png(), label="view"))
    async with a_core(album, provider, look) as core, core.session("s") as session:
        await session.turn("Look").run()
    async with a_core(album, provider, look) as core, core.session("s") as session:
        [ref] = images(session)
        assert (ref.label, ref.media_type.mime) == ("view", "image/png")
        assert (await core.attachments.get(ref)).data == a_png()
        await session.turn("Still?").run()
    assert shown(provider.requests[1]) == ["[Images from look, call c]", a_png()]
    assert [image.data for image in provider.requests[2].attachments] == [a_png()]


@pytest.mark.parametrize(
    "value",
    [
        [Image(a_png("1")), "and", Image(a_jpeg("2"))],
        {"before": Image(a_png("1")), "after": Image(a_jpeg("2"))},
        {"pages": [{"scan": Image(a_png("1"))}, {"scan": Image(a_jpeg("2"))}]},
        (Page(number=1, scan=Image(a_png("1"))), Page(number=2, scan=Image(a_jpeg("2")))),
        [Sketch("a", Image(a_png("1"))), Sketch("b", Image(a_jpeg("2")))],
        ToolResult.ok([Image(a_png("1")), Image(a_jpeg("2"))]),
    ],
    ids=["list", "dict", "nested", "models", "dataclasses", "result"],
)
async def test_images_may_be_anywhere_in_a_value(
    on_disk: Callable[[str], Album], value: object
) -> None:
    """Whatever a tool returns is searched for them."""
    seen = await seen_of(on_disk("sqlite"), returns(value))
    assert seen[1:] == [a_png("1"), a_jpeg("2")]


async def test_a_sync_tool_returns_an_image(on_disk: Callable[[str], Album]) -> None:
    """It runs in a thread; what it returns is stored all the same."""

    @tool
    def look() -> Image:
        """Look."""
        return Image(a_png())

    assert (await seen_of(on_disk("sqlite"), look))[1:] == [a_png()]


async def test_a_large_image_comes_through_whole(on_disk: Callable[[str], Album]) -> None:
    """One that is hashed and stored outside the event loop."""
    data = a_png(size=3_000_000)
    assert (await seen_of(on_disk("sqlite+files"), returns(Image(data))))[1:] == [data]


async def test_a_tool_stores_an_image_itself(album: Album) -> None:
    """Through its context; the reference that it returns is the image."""

    @tool
    async def look(context: ToolContext) -> dict[str, Any]:
        """Look."""
        assert context.attachments is not None
        ref = await context.attachments.put(a_png(), label="view")
        assert (await context.attachments.get(ref)).data == a_png()
        return {"width": 640, "view": ref}

    seen = await seen_of(album, look)
    assert seen[-1] == a_png()


async def test_a_tool_sees_what_the_user_showed(album: Album) -> None:
    """By the id that a model or a host has told it."""
    ref = Image(a_png()).reference()

    @tool
    async def measure(context: ToolContext, image: str) -> int:
        """Measure."""
        assert context.attachments is not None
        return len((await context.attachments.get(image)).data)

    provider = ScriptedProvider([Call.tool("c", "measure", {"image": ref.id}), Call.text("Small.")])
    async with a_core(album, provider, measure) as core, core.session("s") as session:
        await session.attachments.put(a_png())
        output = await session.turn("How large?").run()
    assert output.result.tool_calls[0].output.value_for_projection() == len(a_png())


async def failure_of(album: Album, look: FunctionTool[..., Any]) -> ToolFailed:
    provider = ScriptedProvider([Call.tool("c", "look", {}), Call.text("Too bad.")])
    async with a_core(album, provider, look) as core, core.session("s") as session:
        output = await session.turn("Look").run()
        assert output.assistant_message == "Too bad."
        assert images(session) == []
    [call] = output.result.tool_calls
    assert isinstance(call.output.outcome, ToolFailed)
    return call.output.outcome


async def test_a_reference_to_nothing_fails_the_call(album: Album) -> None:
    """In the transcript it would fail every later turn of the session."""
    made_up = Image(a_png("made up")).reference()
    failed = await failure_of(album, returns({"image": made_up}))
    assert made_up.id in failed.payload.message


async def test_an_id_that_is_none_fails_the_call(album: Album) -> None:
    """It may have come from the model, and must not be looked for outside."""
    odd = AttachmentRef.of("../../etc/passwd", 3, Image(a_png()).reference())
    failed = await failure_of(album, returns([odd]))
    assert "../../etc/passwd" in failed.payload.message


async def test_an_image_that_is_too_large_fails_the_call(on_disk: Callable[[str], Album]) -> None:
    """The model is told why, and can ask for a smaller one."""
    failed = await failure_of(on_disk("sqlite"), returns(Image(a_png(size=20 * 1024 * 1024 + 1))))
    assert failed.payload.class_ is ToolFailureClass.EXECUTION
    assert "at most 20971520" in failed.payload.message


async def test_what_is_no_image_fails_the_call(on_disk: Callable[[str], Album]) -> None:
    """`Image` itself says so, as an exception of the tool."""

    @tool
    async def look() -> Image:
        """Look."""
        return Image(b"<html>")

    failed = await failure_of(on_disk("sqlite"), look)
    assert "no image that is known" in failed.payload.message


@pytest.mark.parametrize("kind", ["sqlite", "sqlite+files"])
async def test_an_image_that_is_only_named_stays_if_another_process_finishes_the_turn(
    on_disk: Callable[[str], Album], kind: str
) -> None:
    """What the tool has stored is on record nowhere but in its call, which is not made again."""
    album, entered = on_disk(kind), anyio.Event()

    @tool
    async def draw(context: ToolContext) -> str:
        """Draw something, and say what it is called."""
        assert context.attachments is not None
        return (await context.attachments.put(a_png())).id

    async def never_answer_twice(request: LlmRequest) -> LlmResponse:
        if len(request.messages) == 2:
            return tool_call_response("c", "draw")
        entered.set()
        await anyio.sleep_forever()
        raise AssertionError

    leaving = TestProvider(never_answer_twice, kind="scripted")
    async with a_core(album, leaving, draw) as core, core.session("s") as session:
        stream = session.turn("Draw").turn_id("t").stream()
        await entered.wait()
        await core.aclose()
        with pytest.raises(RuntimeFailure):
            await stream.finish()
    provider = ScriptedProvider([Call.text("It is drawn.")])
    async with a_core(album, provider, draw) as core, core.session("s") as session:
        output = await session.turn("Draw").turn_id("t").run()
        assert output.assistant_message == "It is drawn."
        assert (await core.attachments.sweep(timedelta(days=-1))).removed == 0
        assert (await core.attachments.get(attachment_id(a_png()))).data == a_png()
