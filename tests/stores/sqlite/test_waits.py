"""The rows of durable waits: what is in them, what survives, what is removed and when."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    CustomWait,
    ResolveAccepted,
    ResolvedErr,
    UnknownOrRevoked,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.execution_scope import QueueDrainScope, TurnScope
from lash_runtime.ports.store_errors import StoreBackendError, StoreWrongLoop
from lash_runtime.stores.sqlite import GcPolicy, SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance._await_event_case import (
    NO,
    OPERATION,
    TURN,
    YES,
    a_key,
    answer_now,
    waiters_on,
)
from lash_runtime.testing.conformance._raises import raised_by
from lash_runtime.testing.conformance._samples import (
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    as_failed,
    hold,
)

pytestmark = pytest.mark.anyio

DAY_S = 24 * 60 * 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def storage(path: Path, clock: ManualClock) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(path)
    storage.bind(clock=clock, ids=FixedIdSource())
    async with storage:
        yield storage


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def waits_on_record(path: Path) -> int:
    with raw(path) as db:
        count: int = db.execute("SELECT count(*) FROM await_event_waits").fetchone()[0]
    return count


async def left_open(
    storage: SqliteStorage, key: AwaitEventKey, deadline_ms: int | None = None
) -> AwaitEventKey:
    """Somebody has waited for it, and is gone."""
    async with anyio.create_task_group() as tasks:
        wait = storage.await_events.await_await_event
        tasks.start_soon(wait, key, CancelToken(), deadline_ms)
        await checkpoint()
        # Writes are made in the order in which they are asked for.
        await storage.await_events.cancel_await_events_for_session("nobody")
        tasks.cancel_scope.cancel()
    return key


# --- what is kept -------------------------------------------------------------------------------


async def test_a_key_alone_takes_no_room(storage: SqliteStorage, path: Path) -> None:
    """Keys are made for every call that might wait; most never do."""
    for number in range(10):
        await a_key(storage.await_events, wait=CustomWait(key=f"k{number}"))
    assert waits_on_record(path) == 0


async def test_a_wait_has_one_row_whatever_happens_to_it(
    storage: SqliteStorage, path: Path, clock: ManualClock
) -> None:
    """Waited for, come back to, answered, answered again."""
    key = await a_key(storage.await_events)
    for _ in range(2):
        await left_open(storage, key, clock.timestamp_ms() + 5_000)
    await storage.await_events.resolve_await_event(key, YES)
    await storage.await_events.resolve_await_event(key, NO)
    with raw(path) as db:
        ((deadline_ms, created_at_ms, resolved_at_ms),) = db.execute(
            "SELECT deadline_ms, created_at_ms, resolved_at_ms FROM await_event_waits"
        )
    now_ms = clock.timestamp_ms()
    assert (deadline_ms, created_at_ms, resolved_at_ms) == (now_ms + 5_000, now_ms, now_ms)


async def test_the_secret_is_drawn_once_for_a_database(storage: SqliteStorage, path: Path) -> None:
    """Whoever comes first draws it, and nobody who comes later replaces it."""
    async with SqliteStorage(path) as other:
        keys = [await a_key(each.await_events) for each in (storage, other, storage)]
    assert keys[0] == keys[1] == keys[2]
    with raw(path) as db:
        ((secret,),) = db.execute("SELECT signing_secret FROM await_event_meta")
    assert len(secret) == 32
    assert len(set(secret)) > 4, "it is no secret that everybody can guess"


async def test_a_database_in_memory_has_a_new_secret_each_time() -> None:
    """What was signed for one that is gone is worth nothing to the next."""
    storage = SqliteStorage(":memory:")
    async with storage:
        key = await a_key(storage.await_events)
    async with storage:
        again = await a_key(storage.await_events)
        assert again.key_id == key.key_id
        assert await storage.await_events.resolve_await_event(key, YES) == UnknownOrRevoked()


async def test_waits_of_a_storage_that_is_not_open_are_refused(path: Path) -> None:
    """As everything else of it."""
    storage = SqliteStorage(path)
    await raised_by(a_key(storage.await_events), StoreBackendError)
    async with storage:
        key = await a_key(storage.await_events)
    await raised_by(storage.await_events.resolve_await_event(key, YES), StoreBackendError)


def test_waits_of_another_loop_are_refused(path: Path) -> None:
    """The storage belongs to one."""
    storage = SqliteStorage(path)
    first = asyncio.new_event_loop()
    first.run_until_complete(storage.open())
    try:
        with pytest.raises(StoreWrongLoop):
            asyncio.run(storage.await_events.cancel_await_events_for_session("s"))
    finally:
        first.run_until_complete(storage.aclose())
        first.close()


async def test_a_row_that_is_another_waits_answers_nothing(
    storage: SqliteStorage, path: Path
) -> None:
    """Better an error than the answer to somebody else's question."""
    key = await a_key(storage.await_events)
    await storage.await_events.resolve_await_event(key, YES)
    with raw(path) as db:
        db.execute("UPDATE await_event_waits SET wait_json = ?", ('{"type":"custom","key":"x"}',))
    for call in (
        storage.await_events.resolve_await_event(key, NO),
        storage.await_events.await_await_event(key, CancelToken(), 0),
    ):
        assert "another wait" in str(await raised_by(call, StoreBackendError))


async def test_an_answer_that_cannot_be_read_is_an_error(
    storage: SqliteStorage, path: Path
) -> None:
    """It is there, so nobody may wait on as if it were not."""
    key = await a_key(storage.await_events)
    await storage.await_events.resolve_await_event(key, YES)
    with raw(path) as db:
        db.execute("UPDATE await_event_waits SET terminal_json = ?", ('{"status":"maybe"}',))
    wait = storage.await_events.await_await_event(key, CancelToken(), 0)
    assert "answer to a wait" in str(await raised_by(wait, StoreBackendError))


async def test_a_backup_answers_the_keys_of_its_original(
    storage: SqliteStorage, tmp_path: Path, clock: ManualClock
) -> None:
    """The secret and the answers are in it, and so is what is open."""
    answered, open_ = [await a_key(storage.await_events, scope) for scope in (TURN, OPERATION)]
    await storage.await_events.resolve_await_event(answered, YES)
    await left_open(storage, open_)
    await storage.maintenance.backup(tmp_path / "copy.db")
    async with SqliteStorage(tmp_path / "copy.db") as copy:
        assert await answer_now(copy.await_events, answered, clock) == YES
        assert await copy.await_events.resolve_await_event(open_, NO) == ResolveAccepted()
        assert await copy.maintenance.check() == ()
    assert await storage.await_events.resolve_await_event(open_, YES) == ResolveAccepted()


async def test_a_deletion_takes_the_rows_along(storage: SqliteStorage, path: Path) -> None:
    """Of its own session, also those that were never answered."""
    for session_id in ("s", "other"):
        await a_store(storage, session_id)
        scope = TurnScope(session_id=session_id, turn_id="t")
        key = await a_key(storage.await_events, scope)
        await storage.await_events.resolve_await_event(key, YES)
        await left_open(storage, await a_key(storage.await_events, scope, CustomWait(key="open")))
    await storage.session_stores.delete_session("s")
    assert waits_on_record(path) == 2
    assert await storage.maintenance.check() == ()


async def test_the_waits_of_what_was_never_a_session_can_be_deleted(
    storage: SqliteStorage, path: Path
) -> None:
    """Whoever waits there is told, and the revocation of an id stays."""
    revoked = await a_key(storage.await_events, TurnScope(session_id="revoked", turn_id="t"))
    await storage.await_events.revoke_await_events_for_session("revoked")
    async with waiters_on(storage.await_events) as waiters:
        waiter = await waiters.start(await a_key(storage.await_events))
        for session_id in ("s", "revoked"):
            report = await storage.session_stores.delete_session(session_id)
            assert not report.existed
        assert await waiter.error_code() == "await_event_unknown_or_revoked"
    with raw(path) as db:
        left = db.execute("SELECT 1 FROM await_event_waits WHERE session_id NOT NULL").fetchall()
    assert left == []
    assert await storage.await_events.resolve_await_event(revoked, YES) == UnknownOrRevoked()


# --- what is removed, and when ------------------------------------------------------------------


async def a_wait(storage: SqliteStorage, scope: Any, name: str, answer: Any = YES) -> Any:
    """A wait that was answered, or is open if `answer` is `None`."""
    key = await a_key(storage.await_events, scope, CustomWait(key=name))
    if answer is None:
        return await left_open(storage, key)
    await storage.await_events.resolve_await_event(key, answer)
    return key


async def a_turn(storage: SqliteStorage, turn_id: str, *, settled: bool) -> None:
    store = await a_store(storage)
    acceptance = an_acceptance(turn_id, lease_ttl_ms=100 * DAY_S * 1_000)
    fence = (await accepted(store, acceptance)).lease.fence()
    if settled:
        await store.settle_turn(fence, as_failed(turn_id), release=True)


async def test_the_waits_of_a_turn_go_with_it(
    storage: SqliteStorage, path: Path, clock: ManualClock
) -> None:
    """Answered or not: nobody will ever come for them. Not before its time."""
    await a_turn(storage, "t", settled=True)
    await a_wait(storage, TURN, "answered")
    await a_wait(storage, TURN, "open", None)
    clock.advance(9 * DAY_S)
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert (report.removed_turn_count, report.removed_wait_count) == (0, 0)
    clock.advance(DAY_S)
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert (report.removed_turn_count, report.removed_wait_count) == (1, 2)
    assert waits_on_record(path) == 0


async def test_the_waits_of_a_turn_that_is_not_over_stay(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """However old the answer is: the turn has yet to come for it."""
    await a_turn(storage, "t", settled=False)
    answered = await a_wait(storage, TURN, "answered")
    open_ = await a_wait(storage, TURN, "open", None)
    clock.advance(99 * DAY_S)
    report = await storage.maintenance.prune_turns(timedelta())
    assert report.removed_wait_count == 0
    assert await answer_now(storage.await_events, answered, clock) == YES
    assert await storage.await_events.resolve_await_event(open_, NO) == ResolveAccepted()


async def test_an_answer_that_belongs_to_no_turn_goes_by_its_age(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """What is open stays: it may be waited for, and answered, after years."""
    drain = QueueDrainScope(session_id="s", drain_id="d")
    old = [await a_wait(storage, scope, "old") for scope in (OPERATION, drain, TURN)]
    open_ = [await a_wait(storage, scope, "open", None) for scope in (OPERATION, drain, TURN)]
    clock.advance(10 * DAY_S)
    recent = await a_wait(storage, OPERATION, "recent")
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert report.removed_wait_count == len(old)
    told = await storage.await_events.resolve_await_event(recent, NO)
    assert told == AlreadyResolved(YES)
    for key in open_:
        assert await storage.await_events.resolve_await_event(key, NO) == ResolveAccepted()


async def test_an_answer_that_came_after_the_end_of_its_turn_is_kept_for_its_own_time(
    storage: SqliteStorage, clock: ManualClock
) -> None:
    """Whoever gave it may still repeat it."""
    await a_turn(storage, "t", settled=True)
    clock.advance(10 * DAY_S)
    late = await a_wait(storage, TURN, "late", ResolvedErr(code="c", message="m"))
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert (report.removed_turn_count, report.removed_wait_count) == (1, 0)
    outcome = await storage.await_events.resolve_await_event(late, YES)
    assert outcome == AlreadyResolved(ResolvedErr(code="c", message="m"))
    clock.advance(10 * DAY_S)
    report = await storage.maintenance.prune_turns(timedelta(days=10))
    assert report.removed_wait_count == 1


async def test_a_storage_that_tidies_by_itself_removes_waits_of_that_session(
    path: Path, clock: ManualClock
) -> None:
    """With the turns, and of no other session."""
    policy = GcPolicy(every_commits=1, keep_turns=timedelta(days=1))
    storage = SqliteStorage(path, gc_policy=policy)
    storage.bind(clock=clock, ids=FixedIdSource())
    async with storage:
        await a_wait(storage, TURN, "here")
        await a_wait(storage, TurnScope(session_id="other", turn_id="t"), "there")
        await a_wait(storage, OPERATION, "nowhere")
        clock.advance(2 * DAY_S)
        store = await a_store(storage)
        await store.commit_runtime_state(a_commit((await hold(store)).fence()))
    assert waits_on_record(path) == 2
