"""A sweep and an upload of the same bytes, call by call, in every order there is."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

from attachments.interleaving import Gate, die_after, gated, interleave
from attachments.pictures import a_png
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.model.attachments import AttachmentRef
from lash_runtime.ports.attachments import AttachmentStoreError, SweepableAttachmentStore
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.runtime.attachment_sweep import sweep_attachments
from lash_runtime.runtime.session_attachments import SessionAttachments
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ManualClock

pytestmark = pytest.mark.anyio

OLD_MS, BETWEEN_MS, YOUNG_MS = 1_000, 2_000, 3_000
SWEEP_CALLS, UPLOAD_CALLS, BORROW_CALLS = 5, 3, 4
IMAGE_CALLS = (
    *("put", "get", "delete", "list_stored", "list_retired", "retire", "restore", "discard"),
)


@dataclass
class Place:
    storage: Storage
    images: SweepableAttachmentStore

    def sweep(self, sweep_id: str) -> tuple[Gate, Callable[[], Awaitable[object]]]:
        """Look for what is old, set it aside, ask who keeps it, remove it or put it back."""
        gate = Gate()
        references = gated(
            self.storage.session_stores, gate, "list_abandoned", "kept_of", "forget_abandoned"
        )
        images = gated(
            self.images,
            gate,
            *IMAGE_CALLS,
        )
        images.durability_tier = self.images.durability_tier

        async def act() -> None:
            await sweep_attachments(
                references,
                images,
                older_than_epoch_ms=BETWEEN_MS,
                sweep_id=sweep_id,
                unmentioned=False,
            )

        return gate, act

    async def session(
        self, session_id: str, at_ms: int, gate: Gate | None = None
    ) -> SessionAttachments:
        request = SessionStoreCreateRequest(session_id=session_id)
        manifest = await self.storage.session_stores.create_store(request)
        images = self.images
        if gate is not None:
            manifest = gated(manifest, gate, "record_intent", "commit_refs")
            tier = images.durability_tier
            images = gated(images, gate, *IMAGE_CALLS)
            images.durability_tier = tier
        return SessionAttachments(
            session_id=session_id, store=images, manifest=manifest, clock=ManualClock(at_ms)
        )

    async def upload(
        self, session_id: str, data: bytes
    ) -> tuple[Gate, Callable[[], Awaitable[object]]]:
        """Note the intent, store the bytes, refer to them."""
        gate = Gate()
        session = await self.session(session_id, YOUNG_MS, gate)

        async def act() -> None:
            ref = await session.put(data)
            assert session.manifest is not None
            await session.manifest.commit_refs(session_id, [ref.id])

        return gate, act

    async def borrow(
        self, session_id: str, ref: AttachmentRef, borrowed: list[AttachmentRef]
    ) -> tuple[Gate, Callable[[], Awaitable[object]]]:
        """Refer to what somebody else has stored, if it is still there."""
        gate = Gate()
        session = await self.session(session_id, YOUNG_MS, gate)

        async def act() -> None:
            try:
                await session.adopt([ref])
            except AttachmentStoreError:
                return
            assert session.manifest is not None
            await session.manifest.commit_refs(session_id, [ref.id])
            borrowed.append(ref)

        return gate, act

    async def forgotten(self, data: bytes) -> AttachmentRef:
        """Bytes that somebody uploaded long ago and never referred to."""
        return await (await self.session("forgetful", OLD_MS)).put(data)


@pytest.fixture(params=["memory", "sqlite", "files"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    storage: Storage = MemoryStorage()
    if request.param == "sqlite":
        storage = SqliteStorage(tmp_path / "agents.db", synchronous="normal")
    await storage.open()
    images = storage.attachments
    if request.param == "files":
        images = FileAttachmentStore(tmp_path / "images")
    assert isinstance(images, SweepableAttachmentStore)
    yield Place(storage, images)
    await storage.aclose()


async def test_a_sweep_beside_an_upload_never_takes_it(place: Place) -> None:
    """In whichever order the calls of the two come."""
    orders = list(combinations(range(SWEEP_CALLS + UPLOAD_CALLS), UPLOAD_CALLS))
    for number, uploads in enumerate(orders):
        data = a_png(str(number))
        attachment_id = (await place.forgotten(data)).id
        order = [at in uploads for at in range(SWEEP_CALLS + UPLOAD_CALLS)]
        actors = [place.sweep(f"sweep-{number}"), await place.upload("s", data)]
        await interleave(actors, [int(is_upload) for is_upload in order])
        assert (await place.images.get(attachment_id)).data == data, uploads
        assert attachment_id not in await place.images.list_retired(), uploads


async def test_a_sweep_beside_a_reference_never_leaves_it_empty(place: Place) -> None:
    """A session that refers to what it did not store finds it gone, or it stays."""
    kept = 0
    for number, calls in enumerate(combinations(range(SWEEP_CALLS + BORROW_CALLS), BORROW_CALLS)):
        ref = await place.forgotten(a_png(str(number)))
        borrowed: list[AttachmentRef] = []
        actors = [place.sweep(f"sweep-{number}"), await place.borrow("s", ref, borrowed)]
        await interleave(actors, [int(at in calls) for at in range(SWEEP_CALLS + BORROW_CALLS)])
        for found in borrowed:
            assert (await place.images.get(found.id)).meta == ref, calls
        kept += len(borrowed)
    assert 0 < kept < 126


async def test_two_sweeps_beside_an_upload_never_take_it(place: Place) -> None:
    """A sample of the many orders; each sweep may find what the other has set aside."""
    choice = random.Random(20)
    for number in range(120):
        data = a_png(str(number))
        attachment_id = (await place.forgotten(data)).id
        order = [0] * SWEEP_CALLS + [1] * SWEEP_CALLS + [2] * UPLOAD_CALLS
        choice.shuffle(order)
        sweeps = [place.sweep(f"sweep-{number}-{name}") for name in "ab"]
        await interleave([*sweeps, await place.upload("s", data)], order)
        assert (await place.images.get(attachment_id)).data == data, order


async def test_what_nobody_uploads_again_is_gone_after_any_order(place: Place) -> None:
    """Two sweeps beside each other hinder neither."""
    choice = random.Random(20)
    for number in range(40):
        attachment_id = (await place.forgotten(a_png(str(number)))).id
        order = [0] * SWEEP_CALLS + [1] * SWEEP_CALLS
        choice.shuffle(order)
        await interleave([place.sweep(f"sweep-{number}-{name}") for name in "ab"], order)
        with pytest.raises(AttachmentStoreError) as raised:
            await place.images.get(attachment_id)
        assert raised.value.code == "not_found"


async def test_a_sweep_may_die_after_any_call(place: Place) -> None:
    """What is kept reads as before, also when it is set aside; the next sweep ends the work."""
    died = 0
    for calls in range(20):
        kept, gone = [a_png(f"{name}-{calls}") for name in ("kept", "gone")]
        forgotten = [(await place.forgotten(data)).id for data in (kept, gone)]
        sweep = place.sweep(f"dies-{calls}")
        died += await die_after(calls, *sweep)
        session = await place.session("s", YOUNG_MS)
        ref = await session.put(kept)
        assert session.manifest is not None
        await session.manifest.commit_refs("s", [ref.id])
        await interleave([place.sweep(f"goes-on-{calls}")], [])
        assert (await place.images.get(ref.id)).data == kept, calls
        with pytest.raises(AttachmentStoreError):
            await place.images.get(forgotten[1])
        assert list(await place.images.list_retired()) == [], calls
    assert 0 < died < 20
