"""Removing images that nobody keeps, and never one that somebody does."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from attachments.conftest import Album
from attachments.pictures import a_png
from attachments.test_images_in_turns import images
from facade.models import StallingProvider
from facade.places import a_core, running
from lash_runtime import (
    AttachmentFailure,
    AttachmentSweepReport,
    Image,
    LashCore,
    StopReason,
    ToolContext,
    TurnInput,
    tool,
)
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.model.attachments import AttachmentCreateMeta
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ManualClock, ScriptedProvider

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
NOW_MS = time.time_ns() // 1_000_000
"""Files are dated by the system's clock, so clocks that these tests move begin there."""

NOTHING = AttachmentSweepReport(examined=0, removed=0)


async def is_there(core: LashCore, attachment_id: str) -> bool:
    try:
        await core.attachments.get(attachment_id)
    except AttachmentFailure:
        return False
    return True


async def test_an_upload_that_no_turn_said_goes_when_it_is_old(album: Album) -> None:
    """Not before: the host may be about to say it."""
    clock = ManualClock(NOW_MS)
    core = album.builder(ScriptedProvider()).clock(clock).build()
    async with running(core), core.session("s") as session:
        ref = await session.attachments.put(a_png())
        clock.advance(DAY.total_seconds() - 1)
        assert await core.attachments.sweep(DAY) == NOTHING
        assert await is_there(core, ref.id)
        clock.advance(1)
        assert await core.attachments.sweep(DAY) == AttachmentSweepReport(examined=1, removed=1)
        assert not await is_there(core, ref.id)
        assert await core.attachments.sweep(DAY) == NOTHING


async def test_what_a_transcript_shows_stays(album: Album) -> None:
    """From a user, from a tool by value, from a tool by reference: however old."""

    @tool
    async def draw() -> Image:
        """Draw."""
        return Image(a_png("drawn"))

    @tool
    async def store(context: ToolContext) -> str:
        """Store an image that the value does not show."""
        assert context.attachments is not None
        return (await context.attachments.put(a_png("stored"))).id

    clock = ManualClock(NOW_MS)
    provider = ScriptedProvider(
        [Call.tool("1", "draw", {}), Call.tool("2", "store", {}), Call.text("Done.")]
    )
    core = album.builder(provider, draw, store).clock(clock).build()
    async with running(core), core.session("s") as session:
        await session.turn(TurnInput.of("Look", Image(a_png("said")))).run()
        clock.advance(100 * DAY.total_seconds())
        assert await core.attachments.sweep(DAY, unmentioned=True) == NOTHING
        for name in ("said", "drawn", "stored"):
            assert await is_there(core, Image(a_png(name)).attachment_id()), name


async def test_one_session_that_keeps_it_is_enough(album: Album) -> None:
    """Another one had uploaded the same bytes and forgotten them."""
    clock = ManualClock(NOW_MS)
    core = album.builder(ScriptedProvider([Call.text("A cat.")])).clock(clock).build()
    async with running(core), core.session("a") as one, core.session("b") as two:
        ref = await one.attachments.put(a_png())
        await two.turn(TurnInput.of("Look", ref)).run()
        clock.advance(2 * DAY.total_seconds())
        assert (await core.attachments.sweep(DAY)).removed == 0
        assert await is_there(core, ref.id)


async def test_a_session_may_borrow_what_another_one_deletes(album: Album) -> None:
    """It has said the image by reference and never stored it; it has the right to all the same."""
    clock = ManualClock(NOW_MS)
    core = album.builder(ScriptedProvider([Call.text("A cat."), Call.text("Yes.")])).clock(clock)
    async with running(core.build()) as core_:
        async with core_.session("owner") as owner:
            ref = await owner.attachments.put(a_png())
            await owner.turn(TurnInput.of("Look", ref)).run()
        async with core_.session("borrower") as borrower:
            await borrower.turn(TurnInput.of("Look", ref)).run()
        await core_.delete_session("owner")
        clock.advance(2 * DAY.total_seconds())
        await core_.attachments.sweep(DAY, unmentioned=True)
        assert await is_there(core_, ref.id)


async def test_what_a_deleted_session_left_in_files_can_be_swept(
    on_disk: Callable[[str], Album],
) -> None:
    """Nobody mentions it any more, so it takes a look at all that is stored."""
    album = on_disk("sqlite+files")
    core = album.builder(ScriptedProvider([Call.text("A cat.")])).build()
    async with running(core):
        async with core.session("s") as session:
            await session.turn(TurnInput.of("Look", Image(a_png()))).run()
            [ref] = images(session)
        await core.delete_session("s")
        assert (await core.attachments.sweep(timedelta(0))).removed == 0
        await core.attachments.sweep(timedelta(0), unmentioned=True)
        assert not await is_there(core, ref.id)


async def test_a_refused_turn_leaves_nothing_for_long(album: Album) -> None:
    """Its good image was stored before its bad one was looked at."""
    clock = ManualClock(NOW_MS)
    core = album.builder(ScriptedProvider()).clock(clock).build()
    async with running(core), core.session("s") as session:
        good, bad = Image(a_png("good")), Image(a_png("never stored")).reference()
        output = await session.turn(TurnInput.of(good, bad)).run()
        assert output.stop_reason is StopReason.INVALID_INPUT
        clock.advance(2 * DAY.total_seconds())
        assert (await core.attachments.sweep(DAY)).removed >= 1
        assert not await is_there(core, good.attachment_id())


async def test_a_running_turn_keeps_what_it_was_asked_with(album: Album) -> None:
    """However long it takes, and whatever the host thinks is old."""
    provider = StallingProvider("A cat.")
    async with a_core(album, provider) as core, core.session("s") as session:
        async with anyio.create_task_group() as turns:
            turns.start_soon(session.turn(TurnInput.of("Look", Image(a_png()))).run)
            await provider.entered.wait()
            assert (await core.attachments.sweep(timedelta(days=-1))).removed == 0
            provider.release.set()
        await core.attachments.sweep(timedelta(days=-1))
        [ref] = images(session)
        assert (await core.attachments.get(ref)).data == a_png()


async def test_an_old_image_of_a_running_tool_stays(album: Album) -> None:
    """No commit has named it yet; the turn that will is on its way."""
    stored, go_on = anyio.Event(), anyio.Event()

    @tool
    async def draw(context: ToolContext) -> Image:
        """Draw."""
        assert context.attachments is not None
        await context.attachments.put(a_png())
        stored.set()
        await go_on.wait()
        return Image(a_png())

    provider = ScriptedProvider([Call.tool("1", "draw", {}), Call.text("Done.")])
    async with a_core(album, provider, draw) as core, core.session("s") as session:
        async with anyio.create_task_group() as turns:
            turns.start_soon(session.turn("Draw").run)
            await stored.wait()
            assert (await core.attachments.sweep(timedelta(days=-1))).removed == 0
            go_on.set()
        [ref] = images(session)
        assert (await core.attachments.get(ref)).data == a_png()


async def test_a_turn_that_a_dead_process_left_keeps_its_image(
    on_disk: Callable[[str], Album],
) -> None:
    """Its row refers to it; when the turn is finished, the transcript does."""
    album = on_disk("sqlite+files")
    provider = StallingProvider("A c")
    async with a_core(album, provider) as core, core.session("s") as session:
        turn = session.turn(TurnInput.of("Look", Image(a_png()))).stream()
        await provider.entered.wait()
        await core.aclose()
        with pytest.raises(Exception, match="turn"):
            await turn.finish()
    unfinished = album.builder(ScriptedProvider([Call.text("A cat.")])).recover(False).build()
    async with running(unfinished) as core:
        await core.attachments.sweep(timedelta(days=-1), unmentioned=True)
        async with core.session("s") as session:
            await session.turn("And now?").run()
            await core.attachments.sweep(timedelta(days=-1), unmentioned=True)
            [ref] = images(session)
            assert (await core.attachments.get(ref)).data == a_png()


async def test_a_session_that_starts_over_gives_its_images_up(album: Album) -> None:
    """Once they have been without a session for long enough."""
    clock = ManualClock(NOW_MS)
    provider = ScriptedProvider([Call.text("A cat."), Call.text("Hello.")])
    core = album.builder(provider).clock(clock).build()
    async with running(core):
        async with core.session("s") as session:
            await session.turn(TurnInput.of("Look", Image(a_png()))).run()
            [ref] = images(session)
        fresh = await core.session("s").open_fresh()
        async with fresh:
            await fresh.turn("Hello?").run()
        clock.advance(DAY.total_seconds() - 1)
        assert (await core.attachments.sweep(DAY)).removed == 0
        clock.advance(1)
        assert (await core.attachments.sweep(DAY)).removed == 1
        assert not await is_there(core, ref.id)


async def test_a_sweep_that_was_cut_off_has_broken_nothing(album: Album) -> None:
    """What it had set aside reads as before, and the next sweep decides about it."""
    clock = ManualClock(NOW_MS)
    core = album.builder(ScriptedProvider([Call.text("A cat.")])).clock(clock).build()
    async with running(core), core.session("s") as session:
        kept, gone = Image(a_png("kept")), Image(a_png("gone"))
        await session.turn(TurnInput.of("Look", kept)).run()
        await session.attachments.put(gone.data)
        async with album.another_store() as store:
            for image in (kept, gone):
                await store.retire(image.attachment_id(), "dead")
        assert await is_there(core, kept.attachment_id())
        assert await is_there(core, gone.attachment_id())
        clock.advance(2 * DAY.total_seconds())
        assert await core.attachments.sweep(DAY) == AttachmentSweepReport(examined=2, removed=1)
        assert await is_there(core, kept.attachment_id())
        assert not await is_there(core, gone.attachment_id())


async def test_what_cannot_be_swept_says_so(tmp_path: Path) -> None:
    """A store of the host's own, or sessions that nobody can be asked about."""

    class Plain:
        """An attachment store with the three methods that every one has."""

        def __init__(self) -> None:
            self._files = FileAttachmentStore(tmp_path / "images")
            self.durability_tier = self._files.durability_tier
            self.put, self.get, self.delete = self._files.put, self._files.get, self._files.delete

    base = LashCore.standard_builder().provider(ScriptedProvider()).model("scripted-1")
    plain = base.storage(SqliteStorage(tmp_path / "agents.db")).attachment_store(Plain())
    storeless = base.effect_host(InlineEffectHost()).attachment_store(
        FileAttachmentStore(tmp_path / "images")
    )
    for builder in (plain, storeless):
        async with builder.build() as core:
            with pytest.raises(AttachmentFailure) as raised:
                await core.attachments.sweep(DAY)
            assert raised.value.code == "attachment_sweep_unsupported"
            assert raised.value.is_terminal


async def test_a_session_without_a_store_has_images_too(tmp_path: Path) -> None:
    """Nothing is noted for them; they live as long as what holds them."""
    provider = ScriptedProvider([Call.text("A cat.")])
    core = (
        LashCore.standard_builder()
        .provider(provider)
        .model("scripted-1")
        .effect_host(InlineEffectHost())
        .attachment_store(FileAttachmentStore(tmp_path / "images"))
        .build()
    )
    async with running(core), core.session("s") as session:
        await session.turn(TurnInput.of("Look", Image(a_png()))).run()
        [ref] = images(session)
        assert (await session.attachments.get(ref)).data == a_png()


async def test_nothing_is_stored_when_nothing_can_be_noted(tmp_path: Path) -> None:
    """Bytes that no manifest knows could never be found again."""
    files = FileAttachmentStore(tmp_path / "images")
    storage = MemoryStorage()
    core = (
        LashCore.standard_builder()
        .provider(ScriptedProvider())
        .model("scripted-1")
        .storage(storage)
        .attachment_store(files)
        .build()
    )
    async with running(core), core.session("s") as session:
        await storage.aclose()
        with pytest.raises(AttachmentFailure) as raised:
            await session.attachments.put(a_png())
        assert raised.value.code == "attachment_manifest_record_failed"
        assert list(await files.list_stored(2**62)) == []
        await storage.open()
        meta = AttachmentCreateMeta(media_type=Image(a_png()).media_type)
        assert (await files.put(a_png(), meta)).id == (await session.attachments.put(a_png())).id


@pytest.mark.parametrize("put_back_by", ["close", "a turn"])
async def test_a_view_that_was_put_back_keeps_its_images(
    on_disk: Callable[[str], Album], put_back_by: str
) -> None:
    """The session was deleted, and every note of what it had stored with it; the transcript that
    the host puts in its place is a reason to keep the images all the same."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("A cat."))
    core = on_disk("sqlite+files").builder(provider).build()
    async with running(core):
        async with core.session("s") as session:
            await session.turn(TurnInput.of("What is this?", Image(a_png()))).run()
            view = session.read_view()
        (ref,) = (ref for part in view.messages[0].parts for ref in part.attachments)
        await core.delete_session("s")
        back = await core.session("s").open_with_state(view)
        if put_back_by == "a turn":
            await back.turn("And now?").run()
        await back.close()
        await core.attachments.sweep(timedelta(days=-1), unmentioned=True)
        assert await is_there(core, ref.id)
