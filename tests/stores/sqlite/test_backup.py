"""Backups: whole, of one instant, made while others write, and never over another file."""

import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite import _backup as backup
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_store,
    append,
    first,
    hold,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "copy.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    """One session of some 4 MB, so that a copy takes several slices."""
    async with SqliteStorage(path) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = tuple(a_node(f"n{number}", text="x" * 10_000) for number in range(400))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        yield storage


async def node_count(path: Path) -> int:
    async with SqliteStorage(path) as storage:
        read = await (await a_store(storage)).load_session(FullGraph())
        assert read is not None
        return len(read.nodes)


class Meanwhile(threading.Event):
    """Asked between two slices whether to stop: somebody else commits then, each time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.commits = 0

    def is_set(self) -> bool:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("UPDATE session_meta SET meta_json = ?", (f"commit {self.commits}",))
        db.close()
        self.commits += 1
        return False


class StopsAfter(threading.Event):
    """Set once it was looked at `looks` times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


async def test_a_backup_is_a_database_like_any_other(storage: SqliteStorage, target: Path) -> None:
    """It is restored by opening it: one file, without companions."""
    size = await storage.maintenance.backup(target)
    assert target.stat().st_size == size
    assert os.listdir(target.parent) == [target.name]
    assert await node_count(target) == 400
    async with SqliteStorage(target) as copy:
        assert await copy.maintenance.check() == ()


async def test_a_backup_shows_one_instant_while_others_commit(
    storage: SqliteStorage, path: Path, target: Path
) -> None:
    """Neither half of a later commit, nor a copy that starts again with each of them."""
    before = storage_meta(path)
    others = Meanwhile(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN")
    size = backup.copy(db, others, target=str(target))
    db.close()
    pages = size // 4096
    assert others.commits == -(-pages // backup.SLICE_PAGES) > 1
    assert storage_meta(target) == before
    assert storage_meta(path) == f"commit {others.commits - 1}"


def storage_meta(path: Path) -> str:
    db = sqlite3.connect(path)
    try:
        text: str = db.execute("SELECT meta_json FROM session_meta").fetchone()[0]
        return text
    finally:
        db.close()


async def test_turns_are_committed_while_a_backup_is_made(
    storage: SqliteStorage, target: Path
) -> None:
    """Every commit that was acknowledged is in the database, whatever the copy has of it."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.maintenance.backup, target)
        for number in range(50):
            node = a_node(f"later-{number}")
            await store.commit_runtime_state(a_commit(fence, graph=append(node)))
    read = await store.load_session(FullGraph())
    assert read is not None
    assert len(read.nodes) == 450
    assert 400 <= await node_count(target) <= 450


async def test_a_backup_is_flushed_on_the_way(
    storage: SqliteStorage, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that commits meanwhile would else stand behind all of it in the line of the disk."""
    sizes, fsync = [0], os.fsync

    def noted(file: int) -> None:
        fsync(file)
        if stat.S_ISREG(os.fstat(file).st_mode):
            sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr("os.fsync", noted)
    monkeypatch.setattr(backup, "SLICE_PAGES", 16)
    whole = await storage.maintenance.backup(target)
    steps = [later - before for before, later in pairwise(sizes)]
    assert max(steps) < whole / 2


async def test_a_backup_never_replaces_a_file(storage: SqliteStorage, target: Path) -> None:
    """Last night's backup is worth more than the convenience of naming it again."""
    target.write_bytes(b"last night")
    with pytest.raises(StoreBackendError, match="exists"):
        await storage.maintenance.backup(target)
    assert target.read_bytes() == b"last night"
    assert os.listdir(target.parent) == [target.name]


async def test_a_file_that_appears_while_the_copy_is_made_is_kept(
    storage: SqliteStorage, path: Path, target: Path
) -> None:
    """Two backups that were started under one name: the first one has it."""

    class Appears(threading.Event):
        def is_set(self) -> bool:
            target.write_bytes(b"the other")
            return False

    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(StoreBackendError, match="exists"):
        backup.copy(db, Appears(), target=str(target))
    db.close()
    assert target.read_bytes() == b"the other"
    assert os.listdir(target.parent) == [target.name]


async def test_the_database_itself_is_no_target(storage: SqliteStorage, path: Path) -> None:
    """Under no name that leads to it."""
    link = path.with_name("alias.db")
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(StoreBackendError, match="exists"):
            await storage.maintenance.backup(target)
    assert await node_count(path) == 400


async def test_a_backup_into_a_folder_that_does_not_exist_says_so(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    """And the storage is as usable as before."""
    with pytest.raises(StoreBackendError, match="cannot be written"):
        await storage.maintenance.backup(tmp_path / "nowhere" / "copy.db")
    assert await storage.maintenance.check() == ()


async def test_a_backup_that_is_stopped_leaves_no_file(
    storage: SqliteStorage, path: Path, target: Path
) -> None:
    """Half a database under any name is one that somebody will open."""
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(backup.Stopped):
        backup.copy(db, StopsAfter(1), target=str(target))
    db.close()
    assert os.listdir(target.parent) == []


async def test_a_backup_whose_caller_is_cancelled_is_over_when_the_caller_goes_on(
    storage: SqliteStorage, target: Path
) -> None:
    """It is there whole or not at all, and nothing works on it any more."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await storage.maintenance.backup(target)
    assert scope.cancelled_caught
    assert os.listdir(target.parent) in ([], [target.name])
    if target.exists():
        assert await node_count(target) == 400
    target.unlink(missing_ok=True)
    await storage.maintenance.backup(target)
    assert await node_count(target) == 400


async def test_a_backup_may_be_read_by_whoever_may_read_the_database(
    storage: SqliteStorage, path: Path, target: Path
) -> None:
    """No more and no fewer: it holds the same words."""
    path.chmod(0o640)
    await storage.maintenance.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


async def test_a_database_in_memory_can_be_kept_by_a_backup(target: Path) -> None:
    """The one way to take it along."""
    async with SqliteStorage(":memory:") as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await storage.maintenance.backup(target)
    assert await node_count(target) == 2
