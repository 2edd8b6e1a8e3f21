"""What a process does to a database when it dies, one call of the store after another.

Every function of `CALLS` prepares something, which it reports, and then makes one call in danger.
Session `s` keeps a law that no death may break: each of its commits adds one node, one token of
usage and one to the revision, completes what the node's text names and settles the turn that it
names. What is marked, removed or thrown away belongs to sessions of its own.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import anyio

from conformance.small_calls import SmallCallStore
from crash.dying import Death, Reaper, watched_process
from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.ports.attachments import AttachmentIntent, attachment_id_of, sha256_uri
from lash_runtime.ports.await_events import AlreadyResolved, CustomWait, ResolvedOk
from lash_runtime.ports.commit import RuntimeCommit
from lash_runtime.ports.execution_scope import RuntimeOperationScope
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLease,
)
from lash_runtime.ports.session_state import HydratedSessionCheckpoint
from lash_runtime.ports.turn_inputs import InputIdTarget
from lash_runtime.ports.turn_ledger import LaneUnfinished, TurnAccepted, TurnRefused
from lash_runtime.runtime.attachment_sweep import sweep_attachments as sweep
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._connections import ConnectionSettings, open_writer
from lash_runtime.stores.sqlite._migrations import Schema
from lash_runtime.stores.sqlite._schema import TABLES
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    an_acceptance,
    append,
    as_committed,
    as_failed,
    as_interrupted,
    first,
    spent,
)
from lash_runtime.testing.conformance._waiting_samples import (
    IDLE,
    for_next_turn,
    joining,
)

SESSION: Final = "s"
WAITING: Final = RuntimeOperationScope(operation_id="waiting")
VICTIM: Final = "victim"
CHORES: Final = "chores"
OVER: Final = "over"
OVER_NODES: Final = 3
GROUP: Final = 12
CHORE_NODES: Final = 600
MARKED: Final = 550
VICTIM_NODES: Final = 1_050
OLD_TURNS: Final = 550
"""More than one slice each of what takes them away."""

PICTURE: Final = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG))
TTL_MS: Final = 600_000
"""Nobody waits for it: a killed holder is proven dead."""


@dataclass(frozen=True)
class Extent:
    """What a call that nobody died in has passed: points, and bytes by which a file grew."""

    points: int
    growth: int


class Life:
    """One process over one database, from its opening to its death."""

    def __init__(
        self, database: Path, name: str, death: Death, reaper: Reaper, report: Connection
    ) -> None:
        self.database = database
        self.name = name
        self.storage = SqliteStorage(database)
        self.extent = Extent(0, 0)
        self._death = death
        self._reaper = reaper
        self._report = report

    @property
    def owner(self) -> LeaseOwnerIdentity:
        return LeaseOwnerIdentity(
            owner_id=self.name, incarnation_id="1", liveness=local_process_liveness()
        )

    def tell(self, what: str, *names: object) -> None:
        self._report.send((what, *names))

    @contextmanager
    def danger(self, written: Path | None = None) -> Iterator[None]:
        """`written` is the file that grows: the write-ahead log, unless it is another."""
        if written is None:
            written = self.database.with_name(f"{self.database.name}-wal")
            _start_the_log_anew(self.database)
        before = _size(written)
        with self._reaper.danger(self._death, before):
            yield
        self.extent = Extent(self._reaper.passed, _size(written) - before)

    async def store(self, session_id: str = SESSION) -> SqliteSessionStore:
        return await a_store(self.storage, session_id)

    async def hold(self, session_id: str = SESSION) -> SessionExecutionLease:
        lease = await take_the_lane(await self.store(session_id), session_id, self.owner)
        self.tell("held", session_id, lease.fencing_token)
        return lease

    async def accept(self, turn_id: str, *, by_small_calls: bool = False) -> TurnAccepted:
        """Accept a turn, after closing what a dead process has left."""
        store: Any = await self.store()
        if by_small_calls:
            store = SmallCallStore(store)
        observed = None
        while True:
            asked = an_acceptance(
                turn_id, owner=self.owner, lease_ttl_ms=TTL_MS, observed_holder=observed
            )
            match await store.accept_turn(asked):
                case TurnAccepted() as accepted:
                    return accepted
                case TurnRefused(holder=holder):
                    observed = holder.fence()
                case LaneUnfinished(lease=lease, rows=rows):
                    for row in rows:
                        settlement = as_interrupted(row.turn_id)
                        await store.settle_turn(lease.fence(), settlement, release=False)
                    await store.release_session_execution_lease(lease.fence())
                case other:
                    raise AssertionError(other)

    async def enqueue_some(self) -> None:
        store = await self.store()
        await store.enqueue_queued_work(joining(key=f"b:{self.name}"))
        self.tell("queued", f"b:{self.name}")
        await store.enqueue_pending_turn_input(for_next_turn(key=f"i:{self.name}"))
        self.tell("queued", f"i:{self.name}")


async def take_the_lane(
    store: SqliteSessionStore, session_id: str, owner: LeaseOwnerIdentity
) -> SessionExecutionLease:
    """Take a lane that is free or whose holder is dead."""
    outcome = await store.try_claim_session_execution_lease(session_id, owner, TTL_MS)
    if isinstance(outcome, LeaseBusy):
        outcome = await store.reclaim_session_execution_lease(
            session_id, owner, outcome.holder.fence(), TTL_MS
        )
    assert isinstance(outcome, LeaseAcquired)
    return outcome.lease


async def create_schema(life: Life) -> None:
    await life.storage.aclose()
    new = SqliteStorage(life.database.with_name(f"{life.name}.new.db"))
    with life.danger(Path(f"{new.path}-wal")):
        await new.open()
    life.tell("created", new.path)
    await new.aclose()


async def migrate(life: Life) -> None:
    """Move a database with a session in it on to a version that a later release could have."""
    old = life.database.with_name(f"{life.name}.moved.db")
    async with SqliteStorage(old) as storage:
        await a_store(storage, SESSION)
    settings = ConnectionSettings(
        path=str(old),
        synchronous="full",
        busy_timeout_ms=1_000,
        schema=Schema(tables=TABLES, migrations=(_to_version_2,)),
    )
    with life.danger(old.with_name(f"{old.name}-wal")):
        db = open_writer(settings)
        life.tell("moved", str(old))
    db.close()


def _to_version_2(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN colour TEXT NOT NULL DEFAULT 'none'")
    db.execute("CREATE TABLE colours (name TEXT)")
    db.execute("INSERT INTO colours SELECT session_id FROM sessions")
    db.execute("UPDATE sessions SET colour = 'green'")


async def commit(life: Life) -> None:
    store = await life.store()
    turn_id, whole = await _a_turn_to_commit(life)
    with life.danger():
        result = await store.commit_runtime_state(whole)
        life.tell("committed", turn_id)
    again = await store.commit_runtime_state(whole)
    assert replace(again, replayed=False) == result


async def _a_turn_to_commit(life: Life) -> tuple[str, RuntimeCommit]:
    """An accepted turn, and its final commit with everything that one can carry."""
    store, turn_id = await life.store(), f"t:{life.name}"
    await life.enqueue_some()
    picture = life.name.encode()
    attachment_id = await attachment_id_of(picture)
    await store.record_intent(
        AttachmentIntent(
            attachment_id=attachment_id,
            session_id=SESSION,
            canonical_uri=sha256_uri(attachment_id),
            intent_at_epoch_ms=0,
        )
    )
    await life.storage.attachments.put(picture, PICTURE)
    accepted = await life.accept(turn_id)
    fence = accepted.lease.fence()
    life.tell("held", SESSION, fence.fencing_token)
    work = await store.claim_ready_queued_work(SESSION, fence, fence.owner, IDLE, TTL_MS, 3)
    inputs = await store.claim_next_turn_inputs(SESSION, fence, fence.owner, TTL_MS, 2)
    assert work is not None
    assert inputs is not None
    keys = [str(batch.source_key) for batch in work.batches]
    keys += [str(each.source_key) for each in inputs.inputs]
    head = accepted.head
    node_id = f"n:{life.name}"
    whole = a_commit(
        fence,
        expected_head_revision=0 if head is None else head.head_revision,
        graph=append(
            a_node(
                node_id,
                None if head is None else head.leaf_node_id,
                " ".join((turn_id, attachment_id, *keys)),
            )
        ),
        checkpoint=HydratedSessionCheckpoint(execution_state=node_id.encode()),
        usage_deltas=(spent("turn", "m", 1),),
        turn_commit=a_stamp(turn_id),
        turn_settlement=as_committed(turn_id),
        completed_queue_claims=(work.completion(),),
        completed_turn_input_claims=(inputs.completion(),),
        committed_attachment_ids=(attachment_id,),
        release_session_execution_lease=fence,
    )
    return turn_id, whole


async def group(life: Life) -> None:
    """Commits of many sessions, which share transactions."""
    stores = {f"g{number}": await life.store(f"g{number}") for number in range(GROUP)}
    fences = {session_id: (await life.hold(session_id)).fence() for session_id in stores}
    heads = {session_id: await store.load_head_stamp() for session_id, store in stores.items()}

    async def add(session_id: str) -> None:
        head = heads[session_id]
        node = a_node(f"n:{life.name}", None if head is None else head.leaf_node_id)
        result = await stores[session_id].commit_runtime_state(
            a_commit(
                fences[session_id],
                session_id=session_id,
                expected_head_revision=0 if head is None else head.head_revision,
                graph=append(node),
                usage_deltas=(spent("turn", "m", 1),),
            )
        )
        life.tell("added", session_id, result.head_revision)

    with life.danger():
        async with anyio.create_task_group() as tasks:
            for session_id in stores:
                tasks.start_soon(add, session_id)


async def accept(life: Life) -> None:
    turn_id = f"t:{life.name}"
    with life.danger():
        await life.accept(turn_id)
        life.tell("accepted", turn_id)


async def accept_by_small_calls(life: Life) -> None:
    """The lease and the row in transactions of their own."""
    turn_id = f"t:{life.name}"
    with life.danger():
        await life.accept(turn_id, by_small_calls=True)
        life.tell("accepted", turn_id)


async def settle(life: Life) -> None:
    turn_id = f"t:{life.name}"
    store, accepted = await life.store(), await life.accept(turn_id)
    life.tell("accepted", turn_id)
    with life.danger():
        await store.settle_turn(accepted.lease.fence(), as_failed(turn_id), release=True)
        life.tell("failed", turn_id)


async def claim(life: Life) -> None:
    """Take the lane and what waits, renew, give some back."""
    await life.enqueue_some()
    store = await life.store()
    with life.danger():
        fence = (await life.hold()).fence()
        work = await store.claim_ready_queued_work(SESSION, fence, fence.owner, IDLE, TTL_MS, 2)
        await store.claim_next_turn_inputs(SESSION, fence, fence.owner, TTL_MS, 2)
        await store.renew_session_execution_lease(fence, TTL_MS)
        assert work is not None
        await store.abandon_queued_work_claim(work)
        await store.release_session_execution_lease(fence)


async def enqueue(life: Life) -> None:
    """Put work and words in line, and take some of them out again."""
    store = await life.store()
    with life.danger():
        await life.enqueue_some()
        batch = await store.enqueue_queued_work(joining(key=f"b:{life.name}:not"))
        words = await store.enqueue_pending_turn_input(for_next_turn(key=f"i:{life.name}:not"))
        await store.cancel_queued_work_batch(SESSION, batch.batch_id)
        life.tell("cancelled", f"b:{life.name}:not")
        await store.cancel_pending_turn_input(SESSION, words.input_id)
        life.tell("cancelled", f"i:{life.name}:not")
        anchor, *_ = [
            await store.enqueue_pending_turn_input(for_next_turn(key=f"i:{life.name}:nor:{each}"))
            for each in range(3)
        ]
        target = InputIdTarget(value=anchor.input_id)
        await store.cancel_pending_turn_input_suffix(SESSION, target)
        for each in range(3):
            life.tell("cancelled", f"i:{life.name}:nor:{each}")


async def collect_garbage(life: Life) -> None:
    await _a_chore(life)
    litter = [str(each).encode() for each in range(600)]
    with closing(sqlite3.connect(life.database, isolation_level=None)) as db:
        db.executemany(
            """
            INSERT OR IGNORE INTO blobs (session_id, hash, kind, codec, content)
            VALUES (?, ?, 'execution_state', 'none', ?)
            """,
            [
                (session_id, hashlib.sha256(content).hexdigest(), content)
                for session_id in (SESSION, CHORES)
                for content in litter
            ],
        )
    with life.danger():
        await life.storage.maintenance.gc_unreachable()
        life.tell("swept")


async def sweep_attachments(life: Life) -> None:
    """Remove bytes that nobody keeps, beside some that a turn does."""
    turn_id, whole = await _a_turn_to_commit(life)
    await (await life.store()).commit_runtime_state(whole)
    life.tell("committed", turn_id)
    for each in range(5):
        await life.storage.attachments.put(f"{life.name} {each}".encode(), PICTURE)
    with life.danger():
        await sweep(
            life.storage.session_stores,
            life.storage.attachments,
            older_than_epoch_ms=2**62,
            sweep_id=life.name,
            unmentioned=True,
        )
        life.tell("cleared")


async def vacuum(life: Life) -> None:
    store = await _a_chore(life)
    said = await store.enqueue_pending_turn_input(for_next_turn(session_id=CHORES))
    await store.cancel_pending_turn_input(CHORES, said.input_id)
    with life.danger():
        await store.tombstone_nodes([f"{life.name}:{each}" for each in range(MARKED)])
        life.tell("marked", life.name)
        await life.storage.maintenance.vacuum()
        life.tell("vacuumed")


async def prune(life: Life) -> None:
    """Forget old turns, each with the stamp of its commit, beside one that has just ended."""
    store, turn_id = await _a_chore(life), f"t:{life.name}"
    asked = an_acceptance(turn_id, session_id=CHORES, owner=life.owner, lease_ttl_ms=TTL_MS)
    accepted = await store.accept_turn(asked)
    assert isinstance(accepted, TurnAccepted)
    await store.commit_runtime_state(
        a_commit(
            accepted.lease.fence(),
            session_id=CHORES,
            graph=append(a_node(f"{life.name}:end")),
            turn_commit=a_stamp(turn_id, session_id=CHORES),
            turn_settlement=as_committed(turn_id),
        )
    )
    with closing(sqlite3.connect(life.database, isolation_level=None)) as db:
        for table, at_ms in (("turns", "settled_at_ms"), ("turn_stamps", "committed_at_ms")):
            _repeat(db, table, turn_id, at_ms)
    with life.danger():
        await life.storage.maintenance.prune_turns(timedelta(days=1))
        life.tell("pruned")
    row = await store.load_turn(CHORES, turn_id)
    assert row is not None


def _repeat(db: sqlite3.Connection, table: str, turn_id: str, at_ms: str) -> None:
    """Many rows like that of `turn_id`, which are as old as they can be."""
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    # Numbers of a session's turns are unique, so those of each life go below the last one's.
    changed = {
        "turn_id": f"'old:' || {table}.turn_id || ':' || n",
        "seq": "(SELECT min(0, min(seq)) FROM turns) - n",
        at_ms: "0",
    }
    values = ", ".join(changed.get(name, name) for name in columns)
    db.execute(
        f"""
        WITH RECURSIVE numbers (n) AS (
            SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {OLD_TURNS}
        )
        INSERT INTO {table}
        SELECT {values} FROM {table}, numbers
         WHERE session_id = '{CHORES}' AND {table}.turn_id = ?
        """,
        (turn_id,),
    )


async def start_over(life: Life) -> None:
    """Accept a turn in place of everything that the session was and that waited for it."""
    store = await life.store(OVER)
    fence = (await life.hold(OVER)).fence()
    for row in await store.list_unfinished_turns(OVER):
        await store.settle_turn(fence, as_interrupted(row.turn_id), release=False)
    names = (f"{life.name}:{each}" for each in range(OVER_NODES))
    await store.commit_runtime_state(
        a_commit(
            fence,
            session_id=OVER,
            graph=first(*a_chain(*names)),
            checkpoint=HydratedSessionCheckpoint(execution_state=life.name.encode()),
        )
    )
    await store.enqueue_queued_work(joining(session_id=OVER))
    await store.enqueue_pending_turn_input(for_next_turn(session_id=OVER))
    asked = an_acceptance(
        f"t:{life.name}",
        session_id=OVER,
        owner=life.owner,
        lease_ttl_ms=TTL_MS,
        replace_session=True,
    )
    with life.danger():
        assert isinstance(await store.accept_turn(asked), TurnAccepted)
        life.tell("started over")


async def put_environments(life: Life) -> None:
    """Move a ref away from bytes that it has alone, and another to the same new ones."""
    envs, content = life.storage.process_env_store, f"environment of {life.name}"
    life.tell("puts", content)
    with life.danger():
        await envs.put_process_execution_env("env", content.encode())
        life.tell("put", content)
        await envs.put_process_execution_env("another", content.encode())


async def compact(life: Life) -> None:
    await _a_chore(life)
    await life.storage.session_stores.delete_session(CHORES)
    life.tell("deleted", CHORES)
    with life.danger():
        await life.storage.maintenance.compact()


async def back_up(life: Life) -> None:
    await _a_chore(life)
    target = life.database.with_name(f"{life.name}.copy.db")
    with life.danger(target):
        await life.storage.maintenance.backup(target)
        life.tell("backed up", str(target))


async def answer(life: Life) -> None:
    """Answer a wait of somebody who is not there, with a key that was made just now."""
    waits = life.storage.await_events
    with life.danger():
        for name in ("of every life", life.name):
            key = await waits.await_event_key(WAITING, CustomWait(key=name))
            life.tell("given", name, key.signature)
            outcome = await waits.resolve_await_event(key, ResolvedOk(payload=life.name))
            if isinstance(outcome, AlreadyResolved):
                outcome = await waits.resolve_await_event(key, ResolvedOk(payload="again"))
            life.tell("answered", name, outcome.status, life.name)


async def delete(life: Life) -> None:
    """Remove a session that has a bit of everything, in several slices."""
    store = await life.store(VICTIM)
    lease = await life.hold(VICTIM)
    picture = b"of the victim"
    attachment_id = await attachment_id_of(picture)
    await life.storage.attachments.put(picture, PICTURE)
    await store.enqueue_queued_work(joining(session_id=VICTIM))
    await store.enqueue_pending_turn_input(for_next_turn(session_id=VICTIM))
    await store.commit_runtime_state(
        a_commit(
            lease.fence(),
            session_id=VICTIM,
            graph=first(*a_chain(*(f"{life.name}:{each}" for each in range(VICTIM_NODES)))),
            checkpoint=HydratedSessionCheckpoint(execution_state=b"victim"),
            usage_deltas=(spent("turn", "m", 1),),
            turn_commit=a_stamp("t", session_id=VICTIM),
            committed_attachment_ids=(attachment_id,),
        )
    )
    life.tell("exists", VICTIM)
    with life.danger():
        await life.storage.session_stores.delete_session(VICTIM)
        life.tell("deleted", VICTIM)


async def close(life: Life) -> None:
    """Leave as the last one, which moves the write-ahead log into the file."""
    await life.enqueue_some()
    await _a_chore(life, f"{CHORES}-{life.name}")
    with life.danger(life.database):
        await life.storage.aclose()


async def _a_chore(life: Life, session_id: str = CHORES) -> SqliteSessionStore:
    """A session of some size, of which nothing matters but that it is whole."""
    store = await life.store(session_id)
    lease = await life.hold(session_id)
    names = [f"{life.name}:{each}" for each in range(CHORE_NODES)]
    await store.commit_runtime_state(
        a_commit(
            lease.fence(),
            session_id=session_id,
            graph=first(*a_chain(*names)),
            checkpoint=HydratedSessionCheckpoint(execution_state=f"chore {life.name}".encode()),
        )
    )
    return store


def _start_the_log_anew(database: Path) -> None:
    """So that it grows from here on, instead of being written from its beginning again."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


CALLS: Final[Mapping[str, Callable[[Life], Awaitable[None]]]] = {
    call.__name__: call
    for call in (
        create_schema,
        migrate,
        commit,
        group,
        accept,
        accept_by_small_calls,
        settle,
        claim,
        enqueue,
        collect_garbage,
        sweep_attachments,
        vacuum,
        prune,
        start_over,
        put_environments,
        compact,
        back_up,
        answer,
        delete,
        close,
    )
}


def live_and_die(call: str, database: Path, name: str, death: Death, report: Connection) -> None:
    """Make the call and die in it; a process that gets through tells what it has passed."""
    reaper = watched_process()
    life = Life(database, name, death, reaper, report)

    async def live() -> None:
        async with life.storage:
            await CALLS[call](life)

    asyncio.run(live())
    report.send(("survived", life.extent))
