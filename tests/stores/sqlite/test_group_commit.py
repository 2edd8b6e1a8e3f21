"""Group commit: one transaction for what gathers, and each caller's own answer."""

import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from lash_runtime.ports.store_errors import HeadRevisionConflict, StoreBackendError
from lash_runtime.stores.sqlite._group_commit import (
    MAX_GROUP_BODIES,
    MAX_GROUP_BYTES,
    GroupCommit,
)
from stores.sqlite.writers import Body, Writer, a_writer, inserts, inserts_then_raises, tells

pytestmark = pytest.mark.anyio


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    async with a_writer(tmp_path / "t.db") as writer:
        yield writer


async def test_writes_that_wait_together_share_one_transaction(writer: Writer) -> None:
    """A hundred sessions on one file pay for one flush to the disk."""
    assert await writer.together(*map(inserts, range(100))) == list(range(100))
    assert writer.transactions == 1
    assert writer.stored() == list(range(100))


async def test_a_lone_write_is_one_transaction_that_waits_for_nobody(writer: Writer) -> None:
    """It does not even pay for a savepoint."""
    assert await writer.writes.submit(inserts(1)) == 1
    assert [s.split()[0] for s in writer.statements] == ["BEGIN", "INSERT", "COMMIT"]


async def test_a_body_that_raises_is_undone_alone(writer: Writer) -> None:
    """A stranger's conflict is no reason for anybody else's write to fail."""
    answers = await writer.together(inserts(1), inserts_then_raises(2), inserts(3))
    assert [answers[0], answers[2]] == [1, 3]
    assert isinstance(answers[1], HeadRevisionConflict)
    assert writer.stored() == [1, 3]
    assert writer.transactions == 1


async def test_an_sqlite_error_in_a_body_is_undone_alone_and_translated(writer: Writer) -> None:
    """A broken constraint leaves as a store error with its cause."""
    await writer.writes.submit(inserts(1))
    answers = await writer.together(inserts(1), inserts(2))
    assert isinstance(answers[0], StoreBackendError)
    assert isinstance(answers[0].__cause__, sqlite3.IntegrityError)
    assert writer.stored() == [1, 2]


async def test_when_every_body_raises_nothing_is_committed(writer: Writer) -> None:
    """A refused write costs no flush."""
    answers = await writer.together(inserts_then_raises(1), inserts_then_raises(2))
    assert all(isinstance(answer, HeadRevisionConflict) for answer in answers)
    assert writer.transactions == 0
    assert writer.stored() == []


async def test_a_body_that_ends_the_transaction_takes_nobody_with_it(writer: Writer) -> None:
    """Only the write that did not fit fails; its neighbours are run again, one by one."""

    def set_limit(db: sqlite3.Connection) -> int:
        pages: int = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 4}")
        return 0

    def overfills(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t (a, filling) VALUES (9, zeroblob(1000000))")
        return 9

    await writer.thread.run(set_limit)
    answers = await writer.together(inserts(1), overfills, inserts(2))
    assert [answers[0], answers[2]] == [1, 2]
    assert isinstance(answers[1], StoreBackendError)
    assert "full" in str(answers[1])
    assert writer.stored() == [1, 2]


async def test_a_body_that_rolls_back_by_itself_fails_alone(writer: Writer) -> None:
    """Whatever ended the transaction, what came before it is not lost."""

    def ends_it(db: sqlite3.Connection) -> int:
        db.execute("ROLLBACK")
        return 0

    answers = await writer.together(inserts(1), ends_it, inserts(2))
    assert [answers[0], answers[2]] == [1, 2]
    assert isinstance(answers[1], StoreBackendError)
    assert writer.stored() == [1, 2]


async def test_a_commit_that_fails_is_told_to_all_who_wrote(writer: Writer) -> None:
    """Nobody is told that a write is safe when the transaction that held it is not."""

    def owes(number: int) -> Body:
        def body(db: sqlite3.Connection) -> int:
            db.execute("INSERT INTO child (parent) VALUES (?)", (number,))
            return number

        return tells(number, body)

    def set_up(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("CREATE TABLE child (parent REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)")

    await writer.thread.run(set_up)
    answers = await writer.together(owes(5), inserts(1))
    assert [type(answer) for answer in answers] == [StoreBackendError, StoreBackendError]
    assert writer.stored() == []
    assert writer.announced == []
    assert await writer.writes.submit(inserts(2)) == 2


async def test_what_is_committed_is_announced_and_nothing_else(writer: Writer) -> None:
    """A write that was refused has changed nothing that anybody could look at."""
    await writer.together(
        tells(1, inserts(1)), tells(2, inserts_then_raises(2)), tells(3, inserts(3))
    )
    assert [signal.session_id for signal in writer.announced] == ["s1", "s3"]
    for refused in (inserts_then_raises(4), inserts(1)):
        await writer.together(tells(4, refused))
    assert len(writer.announced) == 2


async def test_it_is_announced_before_the_answer_and_after_the_commit(writer: Writer) -> None:
    """Whoever is told can see it, and whoever has the answer knows that all were told."""
    seen: list[list[int]] = []
    writes = GroupCommit(writer.thread, lambda signals: seen.append(writer.stored()))
    await writes.submit(tells(1, inserts(1)))
    assert seen == [[1]]


async def test_what_is_run_again_is_announced_once(writer: Writer) -> None:
    """A neighbour has ended the transaction of all; each is then committed by itself."""

    def ends_it(db: sqlite3.Connection) -> int:
        db.execute("ROLLBACK")
        return 0

    await writer.together(tells(1, inserts(1)), tells(2, ends_it), tells(3, inserts(3)))
    assert [signal.session_id for signal in writer.announced] == ["s1", "s3"]


async def test_an_announcement_that_fails_is_no_failure_of_the_write(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """What is committed is committed; a hint is not worth a wrong answer."""

    def breaks(_: object) -> None:
        raise RuntimeError("nobody is to be reached")

    writes = GroupCommit(writer.thread, breaks)
    assert await writes.submit(tells(1, inserts(1))) == 1
    assert writer.stored() == [1]
    assert "could not be announced" in caplog.text


async def test_a_group_is_bounded_by_number(writer: Writer) -> None:
    """However many wait, the lock is given up in between."""
    count = 2 * MAX_GROUP_BODIES + 1
    await writer.together(*map(inserts, range(count)))
    assert writer.transactions == 3
    assert len(writer.stored()) == count


async def test_a_group_is_bounded_by_size(writer: Writer) -> None:
    """A few large writes do not become one huge transaction."""
    await writer.together(*map(inserts, range(6)), size=MAX_GROUP_BYTES)
    assert writer.transactions == 3


async def test_an_answer_means_that_everyone_can_see_the_write(writer: Writer) -> None:
    """No answer leaves before the commit."""
    seen: list[list[int]] = []

    async def write_and_look(number: int) -> None:
        await writer.writes.submit(inserts(number))
        seen.append(writer.stored())

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(write_and_look, number)
    assert all(number in stored for number, stored in enumerate(seen))


async def test_a_cancelled_write_that_has_not_begun_never_happens(writer: Writer) -> None:
    """Its caller is gone at once and owns nothing."""
    busy = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.thread.run, lambda _: busy.wait(30))
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(writer.writes.submit, inserts(1))
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        busy.set()
        await writer.writes.submit(inserts(2))
    assert writer.stored() == [2]


async def test_a_cancelled_write_that_has_begun_is_over_when_its_caller_goes_on(
    writer: Writer,
) -> None:
    """It happened, and whoever looks next sees it."""
    began, go_on = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> int:
        began.set()
        go_on.wait(30)
        return inserts(1)(db)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.writes.submit, slow)
        await anyio.to_thread.run_sync(began.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert writer.stored() == [1]


async def test_a_write_that_asks_to_be_alone_is_in_no_group(writer: Writer) -> None:
    """A slice of upkeep is one transaction, and those who waited before and after it are others."""
    answers = await writer.together(
        inserts(1), inserts(2), inserts(3), inserts(4), inserts(5), alone=(2, 3)
    )
    assert answers == [1, 2, 3, 4, 5]
    assert writer.stored() == [1, 2, 3, 4, 5]
    assert writer.transactions == 4
