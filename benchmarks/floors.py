"""The same work in raw SQLite, on one connection in the calling thread, `synchronous=FULL`.

It is what the disk and the database cost; nothing that stores a turn durably can be quicker.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .measure import p50

_SCHEMA = """
    CREATE TABLE head (session TEXT PRIMARY KEY, revision INTEGER, body TEXT) WITHOUT ROWID;
    CREATE TABLE node (session TEXT, id TEXT, body TEXT, PRIMARY KEY (session, id)) WITHOUT ROWID;
    CREATE TABLE turn (session TEXT, id TEXT, state TEXT, body TEXT, PRIMARY KEY (session, id))
        WITHOUT ROWID;
"""


@contextmanager
def raw_database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_SCHEMA)
    try:
        yield connection
    finally:
        connection.close()


def raw_turn(db: sqlite3.Connection, session: str, number: int, texts: Iterable[str]) -> None:
    """Two transactions: the turn is accepted, then its messages and its end are stored."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO turn VALUES (?, ?, 'running', ?)", (session, str(number), "{}"))
    db.execute("COMMIT")
    raw_commit(db, session, number, texts)


def raw_commit(db: sqlite3.Connection, session: str, number: int, texts: Iterable[str]) -> None:
    """One transaction that stores messages and moves the head."""
    db.execute("BEGIN IMMEDIATE")
    for index, text in enumerate(texts):
        body = json.dumps({"id": f"{number}.{index}", "text": text})
        db.execute("INSERT INTO node VALUES (?, ?, ?)", (session, f"{number}.{index}", body))
    db.execute("INSERT OR REPLACE INTO head VALUES (?, ?, '{}')", (session, number))
    db.execute("UPDATE turn SET state='committed' WHERE session=? AND id=?", (session, str(number)))
    db.execute("COMMIT")


def raw_turn_ms(path: Path, turns: int = 200) -> float:
    """Milliseconds of one raw turn, p50."""
    return _p50_of(path, turns, lambda db, n: raw_turn(db, "s", n, ("question", "answer")))


def raw_commit_ms(path: Path, commits: int = 200) -> float:
    """Milliseconds of one raw commit, p50."""
    return _p50_of(path, commits, lambda db, n: raw_commit(db, "s", n, ("call", "result")))


def _p50_of(path: Path, times: int, work: object) -> float:
    samples = []
    with raw_database(path) as db:
        for number in range(times):
            started = time.perf_counter()
            work(db, number)  # type: ignore[operator]
            samples.append((time.perf_counter() - started) * 1000)
    return p50(samples)
