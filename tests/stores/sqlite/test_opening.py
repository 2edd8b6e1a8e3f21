"""Opening and closing: what is made, what is refused, and by what name."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import (
    StoreBackendError,
    StoreContended,
    StoreError,
    StoreForked,
    StoreSchemaUnsupported,
    StoreWrongLoop,
)
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import a_chain, a_commit, a_store, first, hold

pytestmark = pytest.mark.anyio

OPEN_AND_SEED = """
import asyncio, sys
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.sqlite import SqliteStorage

async def main():
    sys.stdin.readline()
    async with SqliteStorage(sys.argv[1]) as storage:
        await storage.session_stores.create_store(SessionStoreCreateRequest(session_id=sys.argv[2]))

asyncio.run(main())
"""

LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
db.close()
"""

WRITE_WITHOUT_RIGHTS = """
import asyncio, os, sys
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.sqlite import SqliteStorage

async def main():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        async with SqliteStorage(sys.argv[1]) as storage:
            await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="new"))
    except StoreBackendError as error:
        print(error.code, "read-only" in str(error) or "cannot be opened" in str(error))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


async def a_session(path: Path) -> None:
    async with SqliteStorage(path) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))


async def test_many_processes_may_make_the_database_at_once(path: Path) -> None:
    """A deployment starts its workers together, on no file at all."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_SEED, str(path), f"s{number}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    complaints = [worker.communicate(timeout=60)[1] for worker in workers]
    assert complaints == [""] * 4
    async with SqliteStorage(path) as storage:
        for number in range(4):
            request = SessionStoreCreateRequest(session_id=f"s{number}")
            assert await storage.session_stores.open_existing_store(request) is not None


async def test_many_storages_of_one_process_may_make_the_database_at_once(path: Path) -> None:
    """Two cores on one file are no special case."""
    storages = [SqliteStorage(path) for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for storage in storages:
            tasks.start_soon(storage.open)
    await a_store(storages[0])
    for storage in storages:
        request = SessionStoreCreateRequest(session_id="s")
        assert await storage.session_stores.open_existing_store(request) is not None
        await storage.aclose()


async def test_a_newer_schema_is_refused_by_its_number_and_left_alone(path: Path) -> None:
    """An old release must not write what a new one has to read."""
    await a_session(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreSchemaUnsupported) as refusal:
        await SqliteStorage(path).open()
    assert (refusal.value.found, refusal.value.supported) == (99, 1)
    assert str(path) in str(refusal.value)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM graph_nodes").fetchone() == (2,)
    db.close()


async def test_the_database_of_another_program_is_refused_unchanged(path: Path) -> None:
    """A mistyped path must not put tables into somebody's photo library."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (name)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreSchemaUnsupported, match="another program"):
        await SqliteStorage(path).open()
    assert path.read_bytes() == before


async def test_a_version_number_alone_does_not_make_a_database_ours(path: Path) -> None:
    """Many programs count their schema from 1."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(StoreSchemaUnsupported, match="another program"):
        await SqliteStorage(path).open()


@pytest.mark.parametrize("content", [b"hello", b"not a database\n" * 1000])
async def test_a_file_that_is_no_database_is_refused_unchanged(path: Path, content: bytes) -> None:
    """It is named as what it is, whatever its length."""
    path.write_bytes(content)
    with pytest.raises(StoreBackendError, match="not a SQLite database"):
        await SqliteStorage(path).open()
    assert path.read_bytes() == content


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    """As a file made by `mktemp` is."""
    path.touch()
    await a_session(path)


async def test_a_folder_that_does_not_exist_is_said_to_be_missing(tmp_path: Path) -> None:
    """Nothing is created on the way to a mistyped path."""
    with pytest.raises(StoreBackendError, match="folder"):
        await SqliteStorage(tmp_path / "missing" / "agents.db").open()
    assert not (tmp_path / "missing").exists()


async def test_a_name_with_marks_of_a_url_is_a_plain_file_name(tmp_path: Path) -> None:
    """A path is a path, never a query."""
    path = tmp_path / "a?mode=ro&x=%41#b.db"
    await a_session(path)
    assert path.exists()


async def test_opening_and_closing_twice_are_one(path: Path) -> None:
    """And a closed storage can be opened again."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.open()
    store = await a_store(storage)
    await storage.aclose()
    await storage.aclose()
    with pytest.raises(StoreBackendError, match="not open"):
        await store.load_session_meta()
    await storage.open()
    assert await store.load_session_meta() is not None
    await storage.aclose()


async def test_closing_finishes_what_was_submitted_and_folds_the_log_away(path: Path) -> None:
    """What was asked for before the end is in the file, and the file is alone."""
    storage = SqliteStorage(path)
    await storage.open()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(a_store, storage, f"s{number}")
        await anyio.wait_all_tasks_blocked()
        await storage.aclose()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM session_meta").fetchone() == (20,)
    db.close()


async def test_closing_leaves_no_thread(path: Path) -> None:
    """Everything that was started is over when `aclose` returns."""
    await a_session(path)
    before = set(threading.enumerate())
    await a_session(path)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # it has said its last word, and may still be on its way out
        assert not thread.is_alive()


async def test_a_storage_that_is_forgotten_says_so_and_ends(path: Path) -> None:
    """Garbage collection is not a way to close, but it must not leak threads."""
    before = set(threading.enumerate())
    storage = SqliteStorage(path)
    await storage.open()
    started = [thread for thread in threading.enumerate() if thread not in before]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del storage
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert str(path) in str(caught[0].message)
    for thread in started:
        await anyio.to_thread.run_sync(thread.join, 30)
        assert not thread.is_alive()


async def test_another_loop_is_told_that_the_storage_is_not_its_own(path: Path) -> None:
    """Answers would be delivered to a loop that does not wait for them."""

    async def elsewhere(storage: SqliteStorage) -> list[str]:
        codes = []
        for call in (a_store(storage), storage.open(), storage.aclose()):
            try:
                await call
            except StoreError as error:
                codes.append(error.code)
        return codes

    async with SqliteStorage(path) as storage:
        codes = await anyio.to_thread.run_sync(asyncio.run, elsewhere(storage))
        assert codes == [StoreWrongLoop.code] * 3
        await a_store(storage)


async def test_a_forked_child_is_told_that_the_storage_is_not_its_own(path: Path) -> None:
    """The threads stayed in the parent; a call would wait for ever."""
    program = f"""
import asyncio, os
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreForked
from lash_runtime.stores.sqlite import SqliteStorage

async def main():
    async with SqliteStorage({str(path)!r}) as storage:
        request = SessionStoreCreateRequest(session_id="s")
        child = os.fork()
        if child == 0:
            try:
                await storage.session_stores.create_store(request)
            except StoreForked:
                os._exit(7)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        await storage.session_stores.create_store(request)

asyncio.run(main())
"""
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
    assert StoreForked.code == "storage_forked"


@contextmanager
def another_process_that_locks(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """It holds the write lock until it is told to go on, and says when it has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.communicate()


async def test_a_database_that_another_process_keeps_locked_is_contended(path: Path) -> None:
    """The write waits as long as it was told to, changes nothing, and may be repeated."""
    async with SqliteStorage(path, busy_timeout_ms=50) as storage:
        request = SessionStoreCreateRequest(session_id="s")
        with another_process_that_locks(path):
            with pytest.raises(StoreContended):
                await a_store(storage)
            assert await storage.session_stores.open_existing_store(request) is None
        await a_store(storage)
        assert await storage.session_stores.open_existing_store(request) is not None


async def test_a_write_waits_for_another_process_that_is_soon_done(path: Path) -> None:
    """Contention for a moment is nobody's error."""
    async with SqliteStorage(path) as storage:
        with another_process_that_locks(path) as process:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(a_store, storage)
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(process.communicate, "go on\n")
        request = SessionStoreCreateRequest(session_id="s")
        assert await storage.session_stores.open_existing_store(request) is not None


async def test_a_write_that_waits_for_another_process_can_be_cancelled(path: Path) -> None:
    """It had not begun, so it is dropped at once and never happens."""
    async with SqliteStorage(path) as storage:
        request = SessionStoreCreateRequest(session_id="s")
        with another_process_that_locks(path) as process:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(a_store, storage)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert process.poll() is None
        await a_store(storage, "other")
        assert await storage.session_stores.open_existing_store(request) is None


async def test_a_damaged_database_is_reported_as_damaged(path: Path) -> None:
    """It neither reads as an empty session nor ends the process."""
    await a_session(path)
    whole = path.read_bytes()
    # The header page stays, so that only what it leads to is broken.
    path.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))
    with pytest.raises(StoreBackendError, match="damaged"):
        async with SqliteStorage(path) as storage:
            store = await a_store(storage)
            await store.load_session(FullGraph())


@pytest.mark.skipif(sys.platform == "win32", reason="rights are POSIX")
async def test_a_read_only_database_can_be_neither_written_nor_broken() -> None:
    """Run as a user without rights, since the superuser may write everywhere."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "agents.db")
        await a_session(path)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-c", WRITE_WITHOUT_RIGHTS, str(path)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        )
        path.parent.chmod(0o755)
        assert (done.stdout, done.stderr) == ("backend True\n", "")
        async with SqliteStorage(path) as storage:
            read = await (await a_store(storage)).load_session(FullGraph())
            assert read is not None
            assert len(read.nodes) == 2
