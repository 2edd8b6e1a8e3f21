"""How artifacts lie in the file: once, under keys of several kinds, and gone when unnamed."""

import hashlib
import sqlite3
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest

from lash_runtime.ports.attachments import OFF_LOOP_BYTES
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.sqlite import BuiltinBlobProfile, SqliteStorage, _artifacts
from lash_runtime.stores.sqlite._artifacts import Artifact, Namespace
from lash_runtime.testing.conformance._samples import a_store

pytestmark = pytest.mark.anyio

LOW, BALANCED, COMPACT = BuiltinBlobProfile
ENV, MODULE, ARTIFACT = Namespace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage(path) as storage:
        yield storage


async def put(storage: SqliteStorage, ref: str, content: bytes) -> None:
    await storage.process_env_store.put_process_execution_env(ref, content)


async def get(storage: SqliteStorage, ref: str) -> bytes | None:
    return await storage.process_env_store.get_process_execution_env(ref)


async def put_in(storage: SqliteStorage, namespace: Namespace, key: str, content: bytes) -> None:
    """As whoever keeps something else than environments would put it."""
    artifact = Artifact.of(content, LOW)
    body = partial(_artifacts.put, namespace=namespace, key=key, artifact=artifact)
    await storage._scope.database.write(body)


async def get_in(storage: SqliteStorage, namespace: Namespace, key: str) -> bytes | None:
    body = partial(_artifacts.get, namespace=namespace, key=key)
    return await storage._scope.database.read(body)


def sql(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement, values).fetchall()


def stored(path: Path) -> set[object]:
    return {name for (name,) in sql(path, "SELECT hash FROM artifact_blobs")}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_equal_bytes_are_stored_once(storage: SqliteStorage, path: Path) -> None:
    """Under the hash of what they are, for any number of refs and namespaces."""
    for ref in ("one", "two"):
        await put(storage, ref, b"same")
    await put_in(storage, MODULE, "one", b"same")
    assert stored(path) == {sha(b"same")}


async def test_bytes_go_with_the_last_pointer_to_them(storage: SqliteStorage, path: Path) -> None:
    """In the transaction that moves it, and no earlier, whichever namespace it is in."""
    await put(storage, "one", b"old")
    await put(storage, "two", b"old")
    await put_in(storage, ARTIFACT, "three", b"old")
    for at, (namespace, key) in enumerate(((ENV, "one"), (ARTIFACT, "three"), (ENV, "two"))):
        assert sha(b"old") in stored(path), at
        await put_in(storage, namespace, key, b"new")
    assert stored(path) == {sha(b"new")}


async def test_equal_keys_of_two_namespaces_are_two(storage: SqliteStorage) -> None:
    """An environment is never read as a module, nor the other way round."""
    for namespace in Namespace:
        assert await get_in(storage, namespace, "key") is None
        await put_in(storage, namespace, "key", namespace.value.encode())
    await put(storage, "key", b"moved")
    kept = [await get_in(storage, namespace, "key") for namespace in Namespace]
    assert kept == [b"moved", b"lashlang_module", b"lashlang_artifact"]


@pytest.mark.parametrize(
    ("profile", "size", "codec"),
    [
        (LOW, 100_000, "none"),
        (BALANCED, 4_095, "none"),
        (BALANCED, 4_096, "zlib"),
        (COMPACT, 1_023, "none"),
        (COMPACT, 1_024, "zlib"),
    ],
)
async def test_environments_are_compressed_like_states(
    path: Path, profile: BuiltinBlobProfile, size: int, codec: str
) -> None:
    """By the profile of the storage that puts them; any other reads them."""
    async with SqliteStorage(path, blob_profile=profile) as storage:
        await put(storage, "env", b"x" * size)
    ((ref, how),) = sql(path, "SELECT hash, codec FROM artifact_blobs")
    assert (ref, how) == (sha(b"x" * size), codec)
    for other in BuiltinBlobProfile:
        async with SqliteStorage(path, blob_profile=other) as storage:
            assert await get(storage, "env") == b"x" * size
            await put(storage, "env", b"x" * size)
    assert sql(path, "SELECT hash, codec FROM artifact_blobs") == [(ref, how)]


async def test_a_large_environment_is_packed_off_the_loop_and_off_the_writer(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others use both meanwhile."""
    packing: list[str] = []
    compress = zlib.compress

    def watched(content: bytes) -> bytes:
        packing.append(threading.current_thread().name)
        return compress(content)

    monkeypatch.setattr("zlib.compress", watched)
    here = threading.current_thread().name
    await put(storage, "large", b"x" * (OFF_LOOP_BYTES + 1))
    (there,) = packing
    assert there != here
    writer = await storage._scope.database.write(lambda _: threading.current_thread().name)
    assert there != writer


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DELETE FROM artifact_blobs", "leads to bytes that are gone"),
        ("UPDATE artifact_blobs SET content = x'00'", "cannot be unpacked"),
    ],
)
async def test_an_environment_that_was_lost_is_an_error(
    storage: SqliteStorage, path: Path, damage: str, says: str
) -> None:
    """A process must not run as if nobody had ever given it one. Putting it again heals it."""
    await put(storage, "env", b"x" * 5_000)
    sql(path, damage)
    with pytest.raises(StoreBackendError, match=says):
        await get(storage, "env")
    assert await get(storage, "never") is None
    if "DELETE" in damage:
        await put(storage, "env", b"x" * 5_000)
        assert await get(storage, "env") == b"x" * 5_000


async def test_a_put_that_fails_leaves_what_was_there(storage: SqliteStorage, path: Path) -> None:
    """Pointer and bytes, also where it fails at its last step."""
    await put(storage, "env", b"old")
    sql(
        path,
        "CREATE TRIGGER no_end BEFORE DELETE ON artifact_blobs "
        "BEGIN SELECT raise(ABORT, 'no'); END",
    )
    with pytest.raises(StoreBackendError):
        await put(storage, "env", b"new")
    assert await get(storage, "env") == b"old"
    assert stored(path) == {sha(b"old")}


async def test_bytes_that_two_storages_name_and_leave_at_once_are_never_lost(
    storage: SqliteStorage, path: Path
) -> None:
    """One moves the last pointer away while the other points there: whoever is second finds the
    bytes, or stores them anew."""
    async with SqliteStorage(path) as other:

        async def move(own: SqliteStorage, ref: str) -> None:
            for number in range(40):
                content = b"shared" if number % 2 else b"either"
                await put(own, ref, content)
                assert await get(own, ref) == content

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(move, storage, "one")
            tasks.start_soon(move, other, "two")
            tasks.start_soon(move, other, "three")
    assert stored(path) == {sha(b"shared")}
    async with SqliteStorage(path) as again:
        assert await again.maintenance.check() == ()


async def test_collection_follows_pointers_and_removes_the_rest(
    storage: SqliteStorage, path: Path
) -> None:
    """Of the whole database alone: what no session names is no session's to remove."""
    store = await a_store(storage)
    await put(storage, "one", b"kept")
    await put(storage, "two", b"kept")
    for at in range(100):
        sql(path, "INSERT INTO artifact_blobs VALUES (?, 'none', x'00')", f"stray {at}")
    await store.gc_unreachable()
    assert len(stored(path)) == 101
    report = await storage.maintenance.gc_unreachable()
    assert (report.root_count, report.retained_blob_count, report.deleted_blob_count) == (2, 1, 100)
    again = await storage.maintenance.gc_unreachable()
    assert (again.root_count, again.retained_blob_count, again.deleted_blob_count) == (2, 1, 0)
    assert await get(storage, "one") == b"kept"


async def test_a_backup_holds_the_environments(storage: SqliteStorage, tmp_path: Path) -> None:
    """As of its instant."""
    await put(storage, "env", b"then")
    await storage.maintenance.backup(tmp_path / "copy.db")
    await put(storage, "env", b"now")
    async with SqliteStorage(tmp_path / "copy.db") as copy:
        assert await get(copy, "env") == b"then"


async def test_a_ref_that_cannot_be_text_is_refused(storage: SqliteStorage) -> None:
    """In the words of the port."""
    for call in (put(storage, "\ud800", b"x"), get(storage, "\ud800")):
        with pytest.raises(StoreBackendError):
            await call
