"""Uploads and sweeps of the same bytes at the same moment, through several stores on one place."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from attachments.pictures import a_png
from lash_runtime import Image
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.ports.attachments import AttachmentReferences, SweepableAttachmentStore
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.runtime.attachment_sweep import sweep_attachments
from lash_runtime.runtime.session_attachments import SessionAttachments
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ManualClock

pytestmark = pytest.mark.anyio

IMAGES = 40
OLD_MS, BETWEEN_MS, YOUNG_MS = 1_000, 2_000, 3_000


@dataclass
class Process:
    """What one process has: a storage on the database, and where it keeps its images."""

    storage: SqliteStorage
    images: SweepableAttachmentStore

    async def session(self, session_id: str, at_ms: int) -> SessionAttachments:
        request = SessionStoreCreateRequest(session_id=session_id)
        store = await self.storage.session_stores.create_store(request)
        return SessionAttachments(
            session_id=session_id, store=self.images, manifest=store, clock=ManualClock(at_ms)
        )

    @property
    def references(self) -> AttachmentReferences:
        return self.storage.session_stores


@pytest.fixture(params=["sqlite", "files"])
async def open_process(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Process]]]:
    async with AsyncExitStack() as opened:

        async def open_one() -> Process:
            storage = await opened.enter_async_context(
                SqliteStorage(tmp_path / "agents.db", synchronous="normal")
            )
            if request.param == "sqlite":
                return Process(storage, storage.attachments)
            return Process(storage, FileAttachmentStore(tmp_path / "images"))

        yield open_one


async def test_an_upload_beside_a_sweep_is_never_lost(
    open_process: Callable[[], Awaitable[Process]],
) -> None:
    """Each image was uploaded long ago and forgotten. Two processes sweep all the time, while
    a session in each stores the same images again and refers to them."""
    processes = [await open_process(), await open_process()]
    forgetful = await processes[0].session("forgetful", OLD_MS)
    turns = [await process.session(f"s{at}", YOUNG_MS) for at, process in enumerate(processes)]
    done = anyio.Event()
    swept = 0

    async def sweep(process: Process, name: str) -> None:
        nonlocal swept
        count = 0
        while not done.is_set():
            report = await sweep_attachments(
                process.references,
                process.images,
                older_than_epoch_ms=BETWEEN_MS,
                sweep_id=f"{name}-{(count := count + 1)}",
                unmentioned=False,
            )
            swept += report.removed

    async def forget(numbers: range) -> None:
        for number in numbers:
            await forgetful.put(a_png(str(number)))

    async def refer(session: SessionAttachments, numbers: range) -> None:
        assert session.manifest is not None
        for number in numbers:
            ref = await session.put(a_png(str(number)))
            assert (await session.get(ref)).data == a_png(str(number))
            await session.manifest.commit_refs(session.session_id, [ref.id])

    async with anyio.create_task_group() as sweeps:
        for at, process in enumerate(processes):
            sweeps.start_soon(sweep, process, f"sweep-{at}")
        for start in range(0, IMAGES, 4):
            async with anyio.create_task_group() as uploads:
                # Forgotten, being forgotten and said at the same time, in every order.
                uploads.start_soon(forget, range(start, start + 4))
                uploads.start_soon(refer, turns[0], range(start, start + 3))
                uploads.start_soon(refer, turns[1], range(start + 2, start, -1))
        done.set()
    for number in range(IMAGES):
        image = Image(a_png(str(number)))
        if number % 4 < 3:
            stored = await processes[0].images.get(image.attachment_id())
            assert stored.data == image.data
    assert swept > 0
