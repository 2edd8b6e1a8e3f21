"""Many waiting writes, one transaction.

Rule 1: a body is a pure function of the connection. It may be run again in a new transaction,
and nothing that it did before counts.
Rule 2: no answer leaves before the COMMIT that holds it.
Rule 3: in a group each body has a savepoint of its own, so one that raises is undone alone.
Rule 4: an error may end the whole transaction (a full disk, a failing one). Then the body that
met it gets the error, and the others are run again, one transaction each.
Rule 5: nobody waits for company. A group is what has gathered while the thread was busy.
Rule 6: what a body has to tell is announced once its COMMIT has succeeded, and by nothing else.
Rule 7: a body that asks to be alone shares its transaction with nobody, so that a slice of upkeep
neither holds back a turn's commit nor is undone with it.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar, cast

from anyio import CancelScope

from ...ports.signals import StoreSignal
from ...ports.store_errors import StoreBackendError
from . import _outbox
from ._failures import store_error
from ._thread import DatabaseThread

log = logging.getLogger(__name__)

T = TypeVar("T")

Announce = Callable[[Sequence[StoreSignal]], None]

MAX_GROUP_BODIES: Final = 128
MAX_GROUP_BYTES: Final = 4 * 1024 * 1024
"""A group takes no further body once those it has are larger than this."""


class _Job(Generic[T]):
    """A body that waits, and how it ended. The thread takes it, or its caller withdraws it."""

    __slots__ = (
        "_gate",
        "_taken",
        "alone",
        "body",
        "error",
        "result",
        "settled",
        "signals",
        "size",
    )

    def __init__(self, body: Callable[[sqlite3.Connection], T], size: int, *, alone: bool) -> None:
        self.body = body
        self.size = size
        self.alone = alone
        self.result: T | None = None
        self.error: Exception | None = None
        self.signals: Sequence[StoreSignal] = ()
        self.settled = False
        self._gate = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        """Whether the body is to be run: it is, again and again, once it was taken."""
        self._taken = self._taken or self._gate.acquire(blocking=False)
        return self._taken

    def withdraw(self) -> bool:
        """Forget a body that has not begun; `False` when it has, which does not stop it."""
        return self._gate.acquire(blocking=False)

    def settle(self, error: Exception | None) -> None:
        self.error = error
        self.settled = True

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.result)


class GroupCommit:
    """The writes of one connection. All methods but `submit` run on its thread, and so does
    `announce`, which is told what was committed before anybody gets an answer."""

    __slots__ = ("_announce", "_thread", "_waiting")

    def __init__(self, thread: DatabaseThread, announce: Announce) -> None:
        self._thread = thread
        self._announce = announce
        self._waiting: deque[_Job[object]] = deque()

    async def submit(
        self, body: Callable[[sqlite3.Connection], T], size: int = 0, *, alone: bool = False
    ) -> T:
        """The result of `body` once it is committed. `size` is roughly what it writes, in bytes.

        With `alone`, in a transaction of its own.
        Raises what the body raised, or the `StoreError` of a transaction that failed.
        Cancellation: a body that has not begun is dropped. One that has is carried through, and
        the cancelled caller goes on when that is over: what it reads next holds the write.
        """
        job = _Job(body, size, alone=alone)
        self._waiting.append(cast("_Job[object]", job))
        try:
            return await self._thread.run(partial(self._answer, job))
        finally:
            if not job.settled and not job.withdraw():
                # Bounded by one group: a body begins only once the database is locked.
                with CancelScope(shield=True):
                    await self._thread.run(_nothing)

    def _answer(self, job: _Job[T], db: sqlite3.Connection) -> T:
        # Jobs are in line in the order of these calls, so one that is not settled leads the line.
        if not job.settled:
            for alone in self._transact(db, self._next_group()):
                self._transact(db, [alone])
        return job.answer()

    def _next_group(self) -> list[_Job[object]]:
        group: list[_Job[object]] = []
        size = 0
        while self._waiting and len(group) < MAX_GROUP_BODIES and size <= MAX_GROUP_BYTES:
            if group and (self._waiting[0].alone or group[0].alone):
                break
            job = self._waiting.popleft()
            size += job.size
            group.append(job)
        return group

    def _transact(self, db: sqlite3.Connection, group: list[_Job[object]]) -> list[_Job[object]]:
        """Run `group` in one transaction; returns the bodies to be run again, one by one."""
        taken: list[_Job[object]] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            for job in group:
                if not job.take():
                    continue
                taken.append(job)
                _attempt(db, job, alone=len(group) == 1)
                if not db.in_transaction:
                    return _others(group, job)
            self._finish(db, taken)
        except sqlite3.Error as error:
            for job in group:
                job.settle(store_error(error))
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        return []

    def _finish(self, db: sqlite3.Connection, taken: list[_Job[object]]) -> None:
        written = [job for job in taken if job.error is None]
        if not written:
            db.execute("ROLLBACK")
        else:
            try:
                db.execute("COMMIT")
            except sqlite3.Error as error:
                for job in written:
                    job.error = StoreBackendError(f"the commit itself failed: {store_error(error)}")
                    job.error.__cause__ = error
            else:
                self._tell([signal for job in written for signal in job.signals])
        for job in taken:
            job.settle(job.error)

    def _tell(self, signals: Sequence[StoreSignal]) -> None:
        if signals:
            try:
                self._announce(signals)
            except Exception:
                # What was written is written, and whoever was not told looks by itself.
                log.exception("what was committed could not be announced")


def _nothing(_: sqlite3.Connection) -> None:
    """Runs when everything submitted before it has run."""


def _attempt(db: sqlite3.Connection, job: _Job[object], *, alone: bool) -> None:
    """Run one body. A transaction that is over afterwards was ended by it."""
    if not alone:
        db.execute("SAVEPOINT body")
    job.error = None
    try:
        job.result = job.body(db)
    except sqlite3.Error as error:
        job.error = store_error(error)
    except Exception as error:
        job.error = error
    job.signals = _outbox.taken(db)
    if alone or not db.in_transaction:
        return
    if job.error is not None:
        db.execute("ROLLBACK TO body")
    db.execute("RELEASE body")


def _others(group: list[_Job[object]], culprit: _Job[object]) -> list[_Job[object]]:
    culprit.settle(culprit.error or StoreBackendError("the write ended its own transaction"))
    return [job for job in group if job is not culprit]
