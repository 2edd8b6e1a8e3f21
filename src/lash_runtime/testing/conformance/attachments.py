"""Attachments: bytes by their content, and the manifest of who means to keep them."""

import hashlib
from collections.abc import Callable
from typing import Final

import anyio
import pytest

from ...model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from ...ports.attachments import AttachmentIntent, AttachmentStore, AttachmentStoreError
from ...ports.storage import Storage
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import FAR_FUTURE_MS, a_store

PNG = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG))
ABSENT_IDS: Final = (
    "0" * 64,
    "",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "%",
    "x" * 10_000,
    "not hex",
)
"""Well-formed and unknown, malformed, or an attempt to leave the store."""


class AttachmentConformance(StorageCase):
    """Equal bytes are one attachment; its id follows from them and is never a path.

    For a store that is no part of a storage, override the fixture `attachments`.
    """

    @pytest.fixture
    def attachments(self, storage: Storage) -> AttachmentStore:
        """A new, empty attachment store."""
        return storage.attachments

    async def test_bytes_come_back_as_they_were(self, attachments: AttachmentStore) -> None:
        """Empty, binary and large ones alike, under the hash of their content."""
        meta = AttachmentCreateMeta(
            media_type=MediaType(type=ImageFormat.WEBP), width=640, height=480, label="Oslo"
        )
        for data in (b"", bytes(range(256)), b"\x89PNG" * 250_000):
            ref = await attachments.put(data, meta)
            assert ref.id == hashlib.sha256(data).hexdigest()
            assert ref.byte_len == len(data)
            assert (ref.media_type, ref.width, ref.height, ref.label) == (
                meta.media_type,
                640,
                480,
                "Oslo",
            )
            stored = await attachments.get(ref.id)
            assert (stored.data, stored.meta) == (data, ref)

    async def test_equal_bytes_are_stored_once(self, attachments: AttachmentStore) -> None:
        """The id is the same, and the last metadata given wins."""
        one = await attachments.put(b"same", PNG)
        labelled = PNG.model_copy(update={"label": "later"})
        two = await attachments.put(b"same", labelled)
        assert (one.id, two.label) == (two.id, "later")
        assert (await attachments.get(one.id)).meta == two

    async def test_an_unknown_attachment_is_not_found(self, attachments: AttachmentStore) -> None:
        """So is an id that could be no attachment's; nothing outside the store is looked at."""
        await attachments.put(b"here", PNG)
        for attachment_id in ABSENT_IDS:
            error = await raised_by(attachments.get(attachment_id), AttachmentStoreError)
            assert error.code == "not_found", attachment_id

    async def test_deleting_removes_the_bytes(self, attachments: AttachmentStore) -> None:
        """A second time is no error, and the same bytes can be stored again."""
        ref = await attachments.put(b"gone", PNG)
        await attachments.delete(ref.id)
        await attachments.delete(ref.id)
        error = await raised_by(attachments.get(ref.id), AttachmentStoreError)
        assert error.code == "not_found"
        assert await attachments.put(b"gone", PNG) == ref

    async def test_deleting_what_is_not_there_touches_nothing(
        self, attachments: AttachmentStore
    ) -> None:
        """Unknown and malformed ids, also those that look like a path or a pattern."""
        ref = await attachments.put(b"kept", PNG)
        for attachment_id in ABSENT_IDS:
            await attachments.delete(attachment_id)
        assert (await attachments.get(ref.id)).data == b"kept"

    async def test_the_bytes_are_the_callers_no_more(self, attachments: AttachmentStore) -> None:
        """What is done to a buffer after it was put changes nothing that is stored."""
        buffer = bytearray(b"as it was")
        ref = await attachments.put(bytes(buffer), PNG)
        buffer[:] = b"as it is!"
        assert (await attachments.get(ref.id)).data == b"as it was"

    async def test_many_may_put_the_same_at_once(self, attachments: AttachmentStore) -> None:
        """Each gets the same reference, and none finds another's half-written bytes."""
        data = bytes(range(256)) * 1_000
        refs = []

        async def put() -> None:
            ref = await attachments.put(data, PNG)
            assert (await attachments.get(ref.id)).data == data
            refs.append(ref)

        async with anyio.create_task_group() as puts:
            for _ in range(16):
                puts.start_soon(put)
        assert refs == [refs[0]] * 16


class DurableAttachmentConformance(StorageCase):
    """What a store that outlives its process must also do.

    Each call of `attachment_store_factory` must give a new store over one and the same place.
    """

    async def test_bytes_outlive_the_store(
        self, attachment_store_factory: Callable[[], AttachmentStore]
    ) -> None:
        """With all that is known of them."""
        ref = await attachment_store_factory().put(b"kept", PNG.model_copy(update={"label": "a"}))
        stored = await attachment_store_factory().get(ref.id)
        assert (stored.data, stored.meta) == (b"kept", ref)

    async def test_two_stores_share_their_bytes(
        self, attachment_store_factory: Callable[[], AttachmentStore]
    ) -> None:
        """What one has put or deleted, the other has as well."""
        one, two = attachment_store_factory(), attachment_store_factory()
        ref = await one.put(b"shared", PNG)
        assert (await two.get(ref.id)).data == b"shared"
        relabelled = await two.put(b"shared", PNG.model_copy(update={"label": "b"}))
        assert (await one.get(ref.id)).meta == relabelled
        await two.delete(ref.id)
        error = await raised_by(one.get(ref.id), AttachmentStoreError)
        assert error.code == "not_found"


async def intend(
    store: TurnPersistence, attachment_id: str, at_ms: int, session_id: str = "s"
) -> None:
    await store.record_intent(
        AttachmentIntent(
            attachment_id=attachment_id,
            session_id=session_id,
            canonical_uri=f"sha256:{attachment_id}",
            intent_at_epoch_ms=at_ms,
        )
    )


class NoManifestConformance(StorageCase):
    """For a backend that says it keeps no manifest: it may be told, and it forgets."""

    @pytest.mark.usefixtures("needs_no_manifest")
    async def test_a_manifest_that_keeps_nothing_lists_nothing(self, storage: Storage) -> None:
        """Whoever would sweep by it finds nothing to remove."""
        store = await a_store(storage)
        await intend(store, "a", 100)
        await intend(store, "b", 100)
        await store.commit_refs("s", ("a", "c"))
        assert list(await store.list_uncommitted(FAR_FUTURE_MS)) == []
        await store.forget("b")


class ManifestConformance(StorageCase):
    """An intent is written before the bytes, and stamped when history refers to them."""

    @staticmethod
    async def _waiting(store: TurnPersistence, until_ms: int = FAR_FUTURE_MS) -> list[str]:
        return [entry.attachment_id for entry in await store.list_uncommitted(until_ms)]

    @pytest.mark.usefixtures("needs_manifest")
    async def test_uncommitted_intents_are_listed_by_age(self, storage: Storage) -> None:
        """Those of that moment and before, the oldest first."""
        store = await a_store(storage)
        for attachment_id, at_ms in (("b", 200), ("a", 100), ("c", 300)):
            await intend(store, attachment_id, at_ms)
        assert await self._waiting(store, 200) == ["a", "b"]
        assert await self._waiting(store, 99) == []
        entry = (await store.list_uncommitted(100))[0]
        assert (entry.session_id, entry.canonical_uri) == ("s", "sha256:a")
        assert (entry.intent_at_epoch_ms, entry.committed_at_epoch_ms) == (100, None)

    @pytest.mark.usefixtures("needs_manifest")
    async def test_any_moment_can_be_asked_for(self, storage: Storage) -> None:
        """Beyond what a database can count to there are still only all or none."""
        store = await a_store(storage)
        await intend(store, "a", 100)
        assert await self._waiting(store, 2**70) == ["a"]
        assert await self._waiting(store, -(2**70)) == []

    @pytest.mark.usefixtures("needs_manifest")
    async def test_committed_refs_are_no_longer_waiting(self, storage: Storage) -> None:
        """Unknown ids and an empty list are fine."""
        store = await a_store(storage)
        await intend(store, "a", 100)
        await intend(store, "b", 200)
        await store.commit_refs("s", ())
        await store.commit_refs("s", ("a", "unknown"))
        assert await self._waiting(store) == ["b"]

    @pytest.mark.usefixtures("needs_manifest")
    async def test_a_repeated_intent_is_young_again_until_committed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A new upload of an abandoned one is not swept; a committed one stays committed."""
        store = await a_store(storage)
        await intend(store, "a", 100)
        await intend(store, "a", 900)
        assert await self._waiting(store, 500) == []
        assert await self._waiting(store, 900) == ["a"]
        await store.commit_refs("s", ("a",))
        clock.advance(1)
        await intend(store, "a", clock.timestamp_ms())
        assert await self._waiting(store) == []

    @pytest.mark.usefixtures("needs_manifest")
    async def test_a_forgotten_intent_is_gone(self, storage: Storage) -> None:
        """Forgetting twice, or what never was, is no error."""
        store = await a_store(storage)
        await intend(store, "a", 100)
        await store.forget("a")
        await store.forget("a")
        assert await self._waiting(store) == []
        await store.commit_refs("s", ("a",))
        assert await self._waiting(store) == []

    @pytest.mark.usefixtures("needs_manifest")
    async def test_sessions_keep_the_same_bytes_apart(self, storage: Storage) -> None:
        """One session's commit or forgetting says nothing about another's intent."""
        one, two = await a_store(storage, "one"), await a_store(storage, "two")
        for name, store in (("one", one), ("two", two)):
            await intend(store, "a", 100, name)
            await intend(store, "b", 100, name)
        await one.commit_refs("one", ("a",))
        await one.forget("b")
        assert await self._waiting(one) == []
        assert await self._waiting(two) == ["a", "b"]

    @pytest.mark.usefixtures("needs_manifest")
    async def test_what_is_committed_needs_no_intent(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A session may refer to what another has stored, and an intent that comes later does
        not make it waiting again."""
        store = await a_store(storage)
        await store.commit_refs("s", ("a",))
        clock.advance(1)
        await intend(store, "a", clock.timestamp_ms())
        assert await self._waiting(store) == []
