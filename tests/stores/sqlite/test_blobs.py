"""How the states of a session lie in the file: under their hash, compressed or not."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lash_runtime.ports.session_state import FullGraph, HydratedSessionCheckpoint
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.sqlite import BuiltinBlobProfile, SqliteStorage
from lash_runtime.testing.conformance._samples import a_commit, a_store, hold

pytestmark = pytest.mark.anyio

LOW, BALANCED, COMPACT = BuiltinBlobProfile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


async def keep(storage: SqliteStorage, state: bytes) -> str | None:
    """Commit a state of a tool's, and return the ref under which it is stored."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    result = await store.commit_runtime_state(
        a_commit(fence, checkpoint=HydratedSessionCheckpoint(execution_state=state))
    )
    await store.release_session_execution_lease(fence)
    return result.manifest.execution_state_ref


async def kept(storage: SqliteStorage) -> bytes | None:
    read = await (await a_store(storage)).load_session(FullGraph())
    assert read is not None
    assert read.checkpoint is not None
    return read.checkpoint.execution_state


def in_the_file(path: Path) -> list[tuple[str, str, int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT hash, codec, length(content) FROM blobs").fetchall()


@pytest.mark.parametrize(
    ("profile", "size", "codec"),
    [
        (LOW, 100_000, "none"),
        (BALANCED, 4095, "none"),
        (BALANCED, 4096, "zlib"),
        (COMPACT, 1023, "none"),
        (COMPACT, 1024, "zlib"),
        (None, 4095, "none"),
        (None, 4096, "zlib"),
    ],
)
async def test_a_profile_says_from_which_size_on_a_state_is_compressed(
    path: Path, profile: BuiltinBlobProfile | None, size: int, codec: str
) -> None:
    """Either way it comes back as it was, under the hash of what it is."""
    state = b"x" * size
    async with SqliteStorage(path, blob_profile=profile) as storage:
        assert await keep(storage, state) == hashlib.sha256(state).hexdigest()
        assert await kept(storage) == state
    ((ref, stored_as, length),) = in_the_file(path)
    assert (ref, stored_as) == (hashlib.sha256(state).hexdigest(), codec)
    assert (length == size) == (codec == "none")


@pytest.mark.parametrize("later", BuiltinBlobProfile)
async def test_what_one_profile_has_written_any_other_reads(
    path: Path, later: BuiltinBlobProfile
) -> None:
    """A setting is changed on a database that is in use; nothing is written anew for it."""
    state = b"x" * 10_000
    async with SqliteStorage(path, blob_profile=COMPACT) as storage:
        before = await keep(storage, state)
    async with SqliteStorage(path, blob_profile=later) as storage:
        assert await kept(storage) == state
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        result = await store.commit_runtime_state(
            a_commit(fence, checkpoint=HydratedSessionCheckpoint(execution_state=state))
        )
        assert result.manifest.execution_state_ref == before
    assert [codec for _, codec, _ in in_the_file(path)] == ["zlib"]


async def test_a_profile_may_be_named(path: Path) -> None:
    """As it stands in somebody's settings; what is none is refused before anything is opened."""
    name: str = "compact"
    async with SqliteStorage(path, blob_profile=name) as storage:  # type: ignore[arg-type]
        await keep(storage, b"x" * 2_000)
    assert [codec for _, codec, _ in in_the_file(path)] == ["zlib"]
    with pytest.raises(ValueError, match="smallest"):
        SqliteStorage(path, blob_profile="smallest")  # type: ignore[arg-type]


async def test_a_storage_in_memory_spends_no_time_on_compression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is saved by it there."""
    compressed: list[int] = []
    monkeypatch.setattr("zlib.compress", lambda content: compressed.append(len(content)))
    async with SqliteStorage(":memory:") as storage:
        await keep(storage, b"x" * 100_000)
        assert await kept(storage) == b"x" * 100_000
    assert compressed == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE blobs SET content = x'00'", "cannot be unpacked"),
        ("DELETE FROM blobs", "no part of a checkpoint is stored"),
    ],
)
async def test_a_state_that_cannot_be_had_is_an_error(path: Path, damage: str, says: str) -> None:
    """A session must not go on as if it had never had one."""
    async with SqliteStorage(path) as storage:
        ref = await keep(storage, b"x" * 10_000)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(damage)
        with pytest.raises(StoreBackendError, match=says):
            await kept(storage)
        if "DELETE" in damage:
            store = await a_store(storage)
            fence = (await hold(store)).fence()
            carried = HydratedSessionCheckpoint(execution_state_ref=ref)
            with pytest.raises(StoreBackendError, match=says):
                await store.commit_runtime_state(a_commit(fence, checkpoint=carried))


async def test_a_state_goes_with_the_commit_that_supersedes_it(path: Path) -> None:
    """A session of many turns keeps one checkpoint and not many."""
    async with SqliteStorage(path) as storage:
        await keep(storage, b"old")
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        gone = HydratedSessionCheckpoint()
        await store.commit_runtime_state(a_commit(fence, checkpoint=gone))
    assert in_the_file(path) == []
