"""A write-ahead log that a crash has left, and that was cut or spoiled since."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lash_runtime.ports.session_state import FullGraph
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import a_chain, a_commit, a_store, append, hold

pytestmark = pytest.mark.anyio

COMMITS = 12
CUTS = 24

COMMIT_AND_DIE = """
import asyncio, os, signal, sys
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import a_commit, a_node, a_store, append, hold

async def main():
    async with SqliteStorage(sys.argv[1]) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        for number in range(int(sys.argv[2])):
            node = a_node(f"n{number}", f"n{number - 1}" if number else None)
            await store.commit_runtime_state(a_commit(fence, graph=append(node)))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def left_by_a_crash(tmp_path: Path) -> Path:
    """A database whose twelve commits are all in its log."""
    database = tmp_path / "agents.db"
    died = subprocess.run([sys.executable, "-c", COMMIT_AND_DIE, str(database), str(COMMITS)])
    assert died.returncode == -signal.SIGKILL
    assert log_of(database).stat().st_size > 0
    return database


def log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


async def nodes_of(database: Path) -> int:
    """How many commits are there: the first ones, each of them whole."""
    async with SqliteStorage(database) as storage:
        assert await storage.maintenance.check() == ()
        read = await (await a_store(storage)).load_session(FullGraph())
        if read is None:
            return 0
        assert [node.node_id for node in read.nodes] == [
            f"n{each}" for each in range(len(read.nodes))
        ]
        assert read.head_revision == len(read.nodes)
        return len(read.nodes)


async def test_a_log_that_a_crash_has_left_is_read_whole(left_by_a_crash: Path) -> None:
    """Every commit was acknowledged, though none has reached the file."""
    assert await nodes_of(left_by_a_crash) == COMMITS


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\xa5" * 8_216, b"\xa5" * 50_000])
async def test_what_a_torn_write_has_left_behind_the_last_commit_harms_nothing(
    left_by_a_crash: Path, tail: bytes
) -> None:
    """A write that nobody was told of may end anywhere."""
    with log_of(left_by_a_crash).open("ab") as log:
        log.write(tail)
    assert await nodes_of(left_by_a_crash) == COMMITS


async def test_of_a_log_that_was_cut_the_commits_before_the_cut_are_whole(
    left_by_a_crash: Path, tmp_path: Path
) -> None:
    """A file system that loses the end of a file takes the last commits with it, not halves."""
    whole = log_of(left_by_a_crash).read_bytes()
    kept = []
    for cut in range(CUTS + 1):
        copy = tmp_path / f"cut-{cut}.db"
        shutil.copy(left_by_a_crash, copy)
        log_of(copy).write_bytes(whole[: len(whole) * cut // CUTS])
        kept.append(await nodes_of(copy))
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, COMMITS)
    assert len(set(kept)) > COMMITS // 2


async def test_a_session_goes_on_after_its_log_was_cut(left_by_a_crash: Path) -> None:
    """Nothing of the lost tail comes back later, and nothing stands in the way."""
    log = log_of(left_by_a_crash)
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    before = await nodes_of(left_by_a_crash)
    async with SqliteStorage(left_by_a_crash) as storage:
        store = await a_store(storage, "other")
        lease = await hold(store, "other")
        await store.commit_runtime_state(
            a_commit(lease.fence(), session_id="other", graph=append(*a_chain("a", "b")))
        )
    assert await nodes_of(left_by_a_crash) == before
