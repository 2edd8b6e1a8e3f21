"""Removing what one session never committed, from a store that is its alone."""

from pathlib import Path
from typing import Any

import pytest

from attachments.pictures import a_png
from lash_runtime.attachments import (
    AttachmentReclamationReport,
    FileAttachmentStore,
    reclaim_orphaned_attachments,
)
from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.ports.attachments import (
    AttachmentIntent,
    AttachmentStoreError,
    NoopAttachmentManifest,
    sha256_uri,
)
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance._samples import a_store

pytestmark = pytest.mark.anyio

PNG = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG))


class Faulty:
    """Fails once in the call that it is told of, and works otherwise."""

    def __init__(self, intact: Any, fails: str, error: Exception) -> None:
        self._intact = intact
        self._fails: str | None = fails
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name != self._fails:
            return getattr(self._intact, name)
        self._fails = None

        async def fail(*_: object) -> None:
            raise self._error

        return fail


async def uploaded(
    manifest: RuntimePersistence, files: FileAttachmentStore, name: str, at_ms: int
) -> str:
    ref = await files.put(a_png(name), PNG)
    intent = AttachmentIntent(
        attachment_id=ref.id,
        session_id="s",
        canonical_uri=sha256_uri(ref.id),
        intent_at_epoch_ms=at_ms,
    )
    await manifest.record_intent(intent)
    return ref.id


async def there(files: FileAttachmentStore, *ids: str) -> list[bool]:
    found = []
    for attachment_id in ids:
        try:
            await files.get(attachment_id)
        except AttachmentStoreError:
            found.append(False)
        else:
            found.append(True)
    return found


@pytest.fixture
def files(tmp_path: Path) -> FileAttachmentStore:
    return FileAttachmentStore(tmp_path / "images")


@pytest.fixture
async def manifest() -> RuntimePersistence:
    storage = MemoryStorage()
    await storage.open()
    return await a_store(storage)


async def test_only_what_is_old_and_uncommitted_goes(
    manifest: RuntimePersistence, files: FileAttachmentStore
) -> None:
    """A committed image is history, and a young one may belong to a turn that runs."""
    old, committed, young = [
        await uploaded(manifest, files, name, at)
        for name, at in (("old", 100), ("committed", 100), ("young", 101))
    ]
    await manifest.commit_refs("s", [committed])
    report = await reclaim_orphaned_attachments(manifest, files, older_than_epoch_ms=100)
    assert report == AttachmentReclamationReport(scanned_intent_count=1, reclaimed_count=1)
    assert await there(files, old, committed, young) == [False, True, True]
    again = await reclaim_orphaned_attachments(manifest, files, older_than_epoch_ms=100)
    assert again == AttachmentReclamationReport(scanned_intent_count=0, reclaimed_count=0)


@pytest.mark.parametrize(
    ("fails", "code", "bytes_are_there"),
    [
        ("list_uncommitted", "backend", True),
        ("delete", "io", True),
        ("forget", "backend", False),
    ],
)
async def test_the_first_failure_ends_it_and_the_next_call_does_the_rest(
    manifest: RuntimePersistence,
    files: FileAttachmentStore,
    fails: str,
    code: str,
    bytes_are_there: bool,
) -> None:
    """Also where the bytes went and their intent stayed."""
    old = await uploaded(manifest, files, "old", 100)
    of_manifest = StoreBackendError("the disk failed")
    of_store = AttachmentStoreError("io", "the disk failed")
    with pytest.raises(AttachmentStoreError) as failure:
        await reclaim_orphaned_attachments(
            Faulty(manifest, fails, of_manifest),
            Faulty(files, fails, of_store),
            older_than_epoch_ms=100,
        )
    assert failure.value.code == code
    assert await there(files, old) == [bytes_are_there]
    report = await reclaim_orphaned_attachments(manifest, files, older_than_epoch_ms=100)
    assert report.reclaimed_count == 1
    assert await there(files, old) == [False]


async def test_a_manifest_that_notes_nothing_loses_nothing(files: FileAttachmentStore) -> None:
    """There is no telling what is kept, so everything is."""
    ref = await files.put(a_png(), PNG)
    manifest = NoopAttachmentManifest()
    report = await reclaim_orphaned_attachments(manifest, files, older_than_epoch_ms=2**62)
    assert report.scanned_intent_count == 0
    assert await there(files, ref.id) == [True]
