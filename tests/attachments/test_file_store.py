"""The file store, held to the contract of every attachment store, and what only files can do."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.ports.attachments import AttachmentStore, AttachmentStoreError
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance import (
    AttachmentConformance,
    AttachmentSweepConformance,
    DurableAttachmentConformance,
)
from lash_runtime.testing.conformance.attachments import PNG

pytestmark = pytest.mark.anyio


class TestFileStore(
    AttachmentConformance, AttachmentSweepConformance, DurableAttachmentConformance
):
    @pytest.fixture
    def attachments(self, tmp_path: Path, clock: ManualClock) -> AttachmentStore:
        return FileAttachmentStore(tmp_path / "images", clock=clock)

    @pytest.fixture
    def attachment_store_factory(self, tmp_path: Path) -> Callable[[], AttachmentStore]:
        return lambda: FileAttachmentStore(tmp_path / "images")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


async def test_an_attachment_is_two_files(root: Path) -> None:
    """A person who looks for an image finds it under its hash, and beside it what it is."""
    ref = await FileAttachmentStore(root).put(b"an image", PNG)
    place = f"sha256/{ref.id[:2]}/{ref.id}"
    assert files(root) == [place, f"{place}.json"]
    assert (root / place).read_bytes() == b"an image"
    assert json.loads((root / f"{place}.json").read_text())["byte_len"] == 8


async def test_the_store_declares_that_it_lasts(root: Path) -> None:
    """A core refuses to keep durable sessions whose images would not be."""
    assert FileAttachmentStore(root).durability_tier is DurabilityTier.DURABLE


async def test_nothing_is_made_before_it_is_needed(root: Path) -> None:
    """A reader of an empty store leaves no trace."""
    store = FileAttachmentStore(root)
    with pytest.raises(AttachmentStoreError) as raised:
        await store.get("0" * 64)
    await store.delete("0" * 64)
    await store.retire("0" * 64, "sweep")
    await store.restore("0" * 64)
    assert list(await store.list_stored(2**62)) == []
    assert raised.value.code == "not_found"
    assert not root.exists()


@pytest.mark.parametrize(
    "name", ["../secret", "{root}/../secret", "sha256/../../secret", "..", ".", "secret\0"]
)
async def test_an_id_never_leaves_the_root(root: Path, tmp_path: Path, name: str) -> None:
    """Ids come back from models, hosts and old databases, and are not to be trusted."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    (tmp_path / "secret.json").write_text("{}")
    store = FileAttachmentStore(root)
    await store.put(b"an image", PNG)
    attachment_id = name.format(root=root)
    with pytest.raises(AttachmentStoreError) as raised:
        await store.get(attachment_id)
    await store.delete(attachment_id)
    await store.retire(attachment_id, "sweep")
    await store.discard(attachment_id, "sweep")
    assert raised.value.code == "not_found"
    assert secret.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "secret", "secret.json"]


async def test_a_sweep_id_never_leaves_the_root(root: Path) -> None:
    """It becomes a part of a name as well."""
    store = FileAttachmentStore(root)
    ref = await store.put(b"an image", PNG)
    with pytest.raises(ValueError, match="letters, digits"):
        await store.retire(ref.id, "../../sweep")
    assert (await store.get(ref.id)).data == b"an image"


async def test_bytes_without_their_sidecar_are_told_from_none(root: Path) -> None:
    """Somebody has removed it; the bytes are there and can be put again."""
    store = FileAttachmentStore(root)
    ref = await store.put(b"an image", PNG)
    sidecar = root / "sha256" / ref.id[:2] / f"{ref.id}.json"
    sidecar.unlink()
    with pytest.raises(AttachmentStoreError) as raised:
        await store.get(ref.id)
    assert raised.value.code == "missing_meta"
    await store.put(b"an image", PNG)
    assert (await store.get(ref.id)).meta == ref


async def test_a_damaged_sidecar_is_an_error_of_its_own(root: Path) -> None:
    """It says which file, and reads as nothing that was never stored."""
    store = FileAttachmentStore(root)
    ref = await store.put(b"an image", PNG)
    (root / "sha256" / ref.id[:2] / f"{ref.id}.json").write_text("{]")
    with pytest.raises(AttachmentStoreError, match=ref.id) as raised:
        await store.get(ref.id)
    assert raised.value.code == "metadata_decode"


async def test_bytes_that_were_cut_short_are_not_shown(root: Path) -> None:
    """Half an image would be paid for and misread."""
    store = FileAttachmentStore(root)
    ref = await store.put(b"an image", PNG)
    (root / "sha256" / ref.id[:2] / ref.id).write_bytes(b"an im")
    with pytest.raises(AttachmentStoreError, match="5 of its 8 bytes") as raised:
        await store.get(ref.id)
    assert raised.value.code == "io"


async def test_what_the_system_refuses_has_a_code(tmp_path: Path) -> None:
    """Never a bare OSError; the message names the path. A failed put leaves nothing behind."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(AttachmentStoreError, match="blocked") as raised:
        await FileAttachmentStore(blocked).put(b"an image", PNG)
    assert raised.value.code == "io"
    assert blocked.read_text() == "a file where a folder should be"


async def test_what_a_crash_left_half_written_goes_after_a_day(root: Path) -> None:
    """It takes room and is nobody's; what was begun just now may be another process's."""
    clock = ManualClock()
    await FileAttachmentStore(root, clock=clock).put(b"an image", PNG)
    now_s = clock.timestamp_ms() / 1000
    for name, age_s in (("old", 2 * 86_400), ("young", 3_600)):
        staged = root / "staged" / name
        staged.write_bytes(b"half an im")
        os.utime(staged, (now_s - age_s, now_s - age_s))
    await FileAttachmentStore(root, clock=clock).put(b"another", PNG)
    assert [path.name for path in (root / "staged").iterdir()] == ["young"]


async def test_a_cancelled_put_leaves_all_or_nothing(root: Path) -> None:
    """And a store that goes on."""
    store = FileAttachmentStore(root)
    data = b"x" * 2_000_000
    for _ in range(20):
        async with anyio.create_task_group() as puts:
            puts.start_soon(store.put, data, PNG)
            await anyio.lowlevel.checkpoint()
            puts.cancel_scope.cancel()
    ref = await store.put(data, PNG)
    assert (await store.get(ref.id)).data == data
    assert not list((root / "staged").iterdir())


WRITER = """
import asyncio, sys
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
PNG = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG))

async def main():
    store = FileAttachmentStore(sys.argv[1])
    for number in range(int(sys.argv[2]), 10**9):
        ref = await store.put(str(number).encode() * 20_000, PNG)
        print(number, ref.id, flush=True)

asyncio.run(main())
"""


@pytest.mark.crash
async def test_what_was_acknowledged_survives_a_kill(root: Path) -> None:
    """Killed anywhere, several times: each acknowledged image is whole, and none is in pieces."""
    acknowledged: dict[str, str] = {}
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root), str(round_ * 1000)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(10 + 3 * round_)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        for line in lines:
            number, _, attachment_id = line.strip().partition(" ")
            if len(attachment_id) == 64:
                acknowledged[number] = attachment_id
    store = FileAttachmentStore(root)
    assert len(acknowledged) >= 30
    for number, attachment_id in acknowledged.items():
        assert (await store.get(attachment_id)).data == number.encode() * 20_000
    for attachment_id in await store.list_stored(2**62):
        content = (root / "sha256" / attachment_id[:2] / attachment_id).read_bytes()
        assert hashlib.sha256(content).hexdigest() == attachment_id
