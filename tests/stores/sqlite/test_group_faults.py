"""Groups in which anything goes wrong for anybody: every caller gets its own true answer."""

import random
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from lash_runtime.ports.store_errors import HeadRevisionConflict, StoreBackendError, StoreError
from stores.sqlite.writers import Body, Writer, a_writer, inserts, inserts_then_raises

pytestmark = pytest.mark.anyio

SEEDS = 8
GROUPS = 12
MOST_BODIES = 12
ROOM_PAGES = 200
HUGE = 1_000_000


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    async with a_writer(tmp_path / "t.db") as writer:
        await writer.thread.run(_little_room)
        yield writer


def _little_room(db: sqlite3.Connection) -> None:
    """A database that may grow a little, and a cache that a large write does not fit in."""
    db.execute(f"PRAGMA max_page_count = {ROOM_PAGES}")
    db.execute("PRAGMA cache_size = 5")


def fills_the_disk(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        inserts(number)(db)
        db.execute("INSERT INTO t (a, filling) VALUES (?, zeroblob(?))", (number + 1, HUGE))
        return number

    return body


@contextmanager
def failing_disk() -> Iterator[None]:
    """No file can be written beyond its first kilobytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def meets_a_failing_disk(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        inserts(number)(db)
        with failing_disk():
            db.execute("INSERT INTO t (a, filling) VALUES (?, zeroblob(300000))", (number + 1,))
        return number

    return body


def is_interrupted(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        inserts(number)(db)
        db.set_progress_handler(lambda: 1, 100)
        try:
            db.execute(
                """
                INSERT INTO t (a)
                  WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 10000)
                SELECT -x FROM n
                """
            )
        finally:
            db.set_progress_handler(None, 0)
        return number

    return body


def breaks_a_rule(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        inserts(number)(db)
        return inserts(number)(db)

    return body


def ends_the_transaction(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        inserts(number)(db)
        db.execute("ROLLBACK")
        return number

    return body


def ends_it_and_raises(number: int) -> Body:
    def body(db: sqlite3.Connection) -> int:
        ends_the_transaction(number)(db)
        raise HeadRevisionConflict(expected=1, actual=2)

    return body


FAULTS: Final[dict[Callable[[int], Body], tuple[type[StoreError], str]]] = {
    inserts_then_raises: (HeadRevisionConflict, "revision 2"),
    fills_the_disk: (StoreBackendError, "full"),
    meets_a_failing_disk: (StoreBackendError, "the disk failed"),
    is_interrupted: (StoreBackendError, "interrupted"),
    breaks_a_rule: (StoreBackendError, "UNIQUE"),
    ends_the_transaction: (StoreBackendError, "ended its own transaction"),
    ends_it_and_raises: (HeadRevisionConflict, "revision 2"),
}


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_in_any_mixture_each_caller_gets_its_own_answer(writer: Writer, seed: int) -> None:
    """What was acknowledged is there, what was refused is not, and nobody pays for a neighbour."""
    chance = random.Random(seed)
    acknowledged: list[int] = []
    for group in range(GROUPS):
        numbers = [1_000 * group + 10 * each for each in range(chance.randint(1, MOST_BODIES))]
        kinds = [chance.choice([inserts, inserts, *FAULTS]) for _ in numbers]
        alone = {each for each in range(len(numbers)) if chance.random() < 0.1}
        bodies = [kind(number) for kind, number in zip(kinds, numbers, strict=True)]
        answers = await writer.together(*bodies, alone=alone)
        for kind, number, answer in zip(kinds, numbers, answers, strict=True):
            if kind is inserts:
                assert answer == number
                acknowledged.append(number)
            else:
                expected, words = FAULTS[kind]
                assert type(answer) is expected
                assert words in str(answer)
        assert writer.stored() == acknowledged


async def test_a_disk_that_fails_under_the_commit_is_told_to_all_of_its_group(
    writer: Writer,
) -> None:
    """None of them can be sure, so none is told that it is safe; the next write is a new start."""
    await writer.writes.submit(inserts(1))
    with failing_disk():
        answers = await writer.together(inserts(2), inserts_then_raises(3), inserts(4))
    assert [type(answer) for answer in answers] == [
        StoreBackendError,
        HeadRevisionConflict,
        StoreBackendError,
    ]
    assert "the commit itself failed" in str(answers[0])
    assert writer.stored() == [1]
    assert await writer.together(inserts(5), inserts(6)) == [5, 6]
    assert writer.stored() == [1, 5, 6]
