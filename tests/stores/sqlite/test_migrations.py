"""Moving a database on: every version in turn, at once or not at all, whoever comes first."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest

from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.store_errors import StoreSchemaUnsupported
from lash_runtime.stores.sqlite import SCHEMA_VERSION, SqliteStorage
from lash_runtime.stores.sqlite._connections import ConnectionSettings, open_writer
from lash_runtime.stores.sqlite._migrations import CURRENT, Schema, version_of
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_store,
    append,
    first,
    hold,
)

pytestmark = pytest.mark.anyio


def add_moods(db: sqlite3.Connection) -> None:
    """What a later release might do: a new column, filled for every row that is there."""
    db.execute("ALTER TABLE session_heads ADD COLUMN mood TEXT")
    db.execute("UPDATE session_heads SET mood = 'calm'")


def add_notes(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE notes (session_id TEXT NOT NULL, mood TEXT)")
    db.execute("INSERT INTO notes SELECT session_id, mood FROM session_heads")


def breaks_off(db: sqlite3.Connection) -> None:
    add_notes(db)
    raise sqlite3.OperationalError("no more")


NEXT = replace(CURRENT, migrations=(*CURRENT.migrations, add_moods))
AFTER_NEXT = replace(NEXT, migrations=(*NEXT.migrations, add_notes))
BROKEN = replace(NEXT, migrations=(*NEXT.migrations, breaks_off))


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database of this version with one session of two nodes in it."""
    path = tmp_path / "agents.db"
    async with SqliteStorage(path) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
    return path


@contextmanager
def opened(path: Path, schema: Schema) -> Iterator[sqlite3.Connection]:
    db = open_writer(
        ConnectionSettings(
            path=str(path), synchronous="normal", busy_timeout_ms=15_000, schema=schema
        )
    )
    try:
        yield db
    finally:
        db.close()


def looked_at(path: Path) -> list[str]:
    """The whole database as text."""
    db = sqlite3.connect(path)
    try:
        return list(db.iterdump())
    finally:
        db.close()


async def test_a_new_database_carries_the_version_that_this_release_writes(path: Path) -> None:
    """Operators compare the two before they go back to an older release."""
    with opened(path, CURRENT) as db:
        assert version_of(db) == SCHEMA_VERSION


async def test_an_older_database_is_moved_on_when_it_is_opened(path: Path) -> None:
    """A host upgrades the library and nothing else: its sessions are there."""
    with opened(path, NEXT) as db:
        assert version_of(db) == NEXT.version == CURRENT.version + 1
        assert db.execute("SELECT session_id, mood FROM session_heads").fetchall() == [
            ("s", "calm")
        ]
        assert db.execute("SELECT count(*) FROM graph_nodes").fetchone() == (2,)


async def test_a_database_moves_through_every_version_between(path: Path) -> None:
    """Nobody upgrades at each release; each migration is written against the one before it."""
    with opened(path, AFTER_NEXT) as db:
        assert version_of(db) == CURRENT.version + 2
        assert db.execute("SELECT session_id, mood FROM notes").fetchall() == [("s", "calm")]


async def test_a_migration_that_fails_leaves_the_old_version_as_it_was(path: Path) -> None:
    """The release before still opens it: no step of the way is kept."""
    before = looked_at(path)
    with pytest.raises(sqlite3.OperationalError, match="no more"), opened(path, BROKEN):
        pass
    assert looked_at(path) == before
    async with SqliteStorage(path) as storage:
        read = await (await a_store(storage)).load_session(FullGraph())
        assert read is not None
        assert [node.node_id for node in read.nodes] == ["a", "b"]


async def test_of_many_openers_one_migrates(path: Path) -> None:
    """A deployment starts its workers together, all of the new release, on one old file."""
    together = Barrier(8)
    found: list[tuple[int, int]] = []

    def open_it() -> None:
        together.wait()
        with opened(path, NEXT) as db:
            found.append(
                (version_of(db), len(db.execute("SELECT mood FROM session_heads").fetchall()))
            )

    workers = [Thread(target=open_it) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [(NEXT.version, 1)] * 8


async def test_an_older_release_that_has_the_file_open_writes_no_more(path: Path) -> None:
    """While workers are replaced one by one, an old one must not write what a new one reads."""
    async with SqliteStorage(path) as storage:
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        with opened(path, NEXT):
            pass
        with pytest.raises(StoreSchemaUnsupported) as refusal:
            await store.commit_runtime_state(
                a_commit(fence, graph=append(*a_chain("c", under="b")))
            )
    assert (refusal.value.found, refusal.value.supported) == (NEXT.version, CURRENT.version)
    with opened(path, NEXT) as db:
        assert db.execute("SELECT count(*) FROM graph_nodes").fetchone() == (2,)


async def test_a_database_that_was_moved_on_is_refused_by_the_release_before(path: Path) -> None:
    """Going back a release is refused by name, and changes nothing."""
    with opened(path, NEXT):
        pass
    before = looked_at(path)
    with pytest.raises(StoreSchemaUnsupported, match="the release that wrote it, or a later one"):
        await SqliteStorage(path).open()
    assert looked_at(path) == before


async def test_a_version_before_the_first_is_refused(path: Path) -> None:
    """A file with our mark and no version was never finished by anybody we know."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 0")
    db.close()
    with pytest.raises(StoreSchemaUnsupported):
        await SqliteStorage(path).open()
