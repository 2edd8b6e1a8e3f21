"""What each of many processes does to one database, and what it was told, in a ledger of its own.

A visit to a session takes its lane, claims some of what waits, and commits, gives back or walks
away; some visitors hold a lease that is over before they use it. A commit adds one node that names
what it has completed, and one token of usage, so that the transcript says what was done, and how
often. Some sessions are deleted again and again; of these only the tokens are compared. A process
may be killed at any moment: what it notes, it notes at once, and before it cancels, too.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TextIO

import anyio

from crash.aftermath import words_of
from lash_runtime.ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLease,
)
from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.session_state import FullGraph, HeadStamp
from lash_runtime.ports.store_errors import (
    HeadRevisionConflict,
    QueuedWorkClaimExpired,
    SessionExecutionLeaseExpired,
    StoredSessionDeleted,
    TurnInputClaimExpired,
)
from lash_runtime.ports.turn_ledger import LaneUnfinished, TurnAccepted, TurnRefused
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing.conformance._samples import (
    a_commit,
    a_node,
    a_stamp,
    a_store,
    an_acceptance,
    append,
    as_committed,
    as_failed,
    as_interrupted,
    spent,
)
from lash_runtime.testing.conformance._waiting_samples import IDLE, for_next_turn, joining

LASTING: Final = 180
DELETED: Final = 20
"""Sessions that are never deleted, and those that are."""

HANDS: Final = 4
"""Tasks of one process, which share its storage."""

HOLD_MS: Final = 30_000
WALK_AWAY_MS: Final = 150
NO_TIME_MS: Final = 1

REFUSALS: Final = (
    HeadRevisionConflict,
    QueuedWorkClaimExpired,
    SessionExecutionLeaseExpired,
    TurnInputClaimExpired,
)


def take_part(database: Path, number: int, seconds: float, report: Connection) -> None:
    """Work for that long, write the ledger beside the database, and report how much was done."""
    with _ledger(database, number).open("w", buffering=1) as ledger:
        report.send(asyncio.run(_take_part(database, number, seconds, ledger)))


def come_and_go(database: Path, number: int, seconds: float, report: Connection) -> None:
    """Open the database, put something in line, look for it and close, again and again."""
    report.send(asyncio.run(_come_and_go(database, number, seconds)))


def sum_up(database: Path, report: Connection) -> None:
    report.send(asyncio.run(_sum_up(database)))


async def _take_part(database: Path, number: int, seconds: float, ledger: TextIO) -> int:
    until = time.monotonic() + seconds
    async with SqliteStorage(database) as storage:
        hands = [Hand(storage, f"{number}.{each}", ledger) for each in range(HANDS)]
        async with anyio.create_task_group() as tasks:
            for hand in hands:
                tasks.start_soon(hand.work, until)
        return sum(hand.done for hand in hands)


async def _come_and_go(database: Path, number: int, seconds: float) -> int:
    until, session_id = time.monotonic() + seconds, f"s{number % 3}"
    for visit in itertools.count():
        if time.monotonic() > until:
            return visit
        async with SqliteStorage(database) as storage:
            store = await a_store(storage, session_id)
            key = f"{number}.{visit}"
            await store.enqueue_queued_work(joining(session_id=session_id, key=key))
            assert key in [batch.source_key for batch in await store.list_queued_work(session_id)]
    raise AssertionError


class Hand:
    """One task of one process."""

    def __init__(self, storage: SqliteStorage, name: str, ledger: TextIO) -> None:
        self.done = 0
        self._storage = storage
        self._chance = random.Random(name)
        self._names = (f"{name}.{number}" for number in itertools.count())
        self._ledger = ledger
        self._liveness = local_process_liveness()

    async def work(self, until: float) -> None:
        acts = (self.visit, self.enqueue, self.cancel, self.read, self.list_sessions)
        while time.monotonic() < until:
            lasting = self._chance.random() < 0.95
            session_id = (
                f"s{self._chance.randrange(LASTING)}"
                if lasting
                else f"d{self._chance.randrange(DELETED)}"
            )
            (act,) = self._chance.choices(acts, (50, 35, 5, 5, 1))
            if not lasting and self._chance.random() < 0.1:
                act = self.delete
            try:
                await act(await a_store(self._storage, session_id), session_id)
            except StoredSessionDeleted:
                if lasting:
                    raise
            self.done += 1

    def note(self, what: str, session_id: str, *names: object) -> None:
        self._ledger.write(json.dumps([what, session_id, *names]) + "\n")

    async def enqueue(self, store: SqliteSessionStore, session_id: str) -> None:
        if self._chance.random() < 0.5:
            key = f"b:{next(self._names)}"
            await store.enqueue_queued_work(joining(session_id=session_id, key=key))
        else:
            # Somebody else may submit the same.
            key = f"i:{session_id}:{self._chance.randrange(1_000)}"
            await store.enqueue_pending_turn_input(for_next_turn(session_id=session_id, key=key))
        self.note("queued", session_id, key)

    async def cancel(self, store: SqliteSessionStore, session_id: str) -> None:
        waiting = await store.list_pending_queued_work(session_id)
        if waiting:
            batch = self._chance.choice(waiting)
            self.note("cancelling", session_id, batch.source_key)
            taken = await store.cancel_queued_work_batch(session_id, batch.batch_id)
            if taken is not None:
                self.note("cancelled", session_id, batch.source_key)

    async def read(self, store: SqliteSessionStore, session_id: str) -> None:
        """One instant: a commit is seen with all of its parts or not at all."""
        read = await store.load_session(FullGraph())
        if read is not None:
            usage = sum(each.usage.input_tokens for each in read.token_ledger)
            assert read.head_revision == len(read.nodes) == usage

    async def list_sessions(self, _: SqliteSessionStore, __: str) -> None:
        page = await self._storage.session_stores.list_sessions(SessionQuery(limit=20))
        assert len(page.sessions) <= 20

    async def delete(self, _: SqliteSessionStore, session_id: str) -> None:
        await self._storage.session_stores.delete_session(session_id)

    async def visit(self, store: SqliteSessionStore, session_id: str) -> None:
        name = next(self._names)
        (fate,) = self._chance.choices(
            ("commit", "give back", "walk away", "late"), (70, 15, 5, 10)
        )
        ttl_ms = {"walk away": WALK_AWAY_MS, "late": NO_TIME_MS}.get(fate, HOLD_MS)
        owner = LeaseOwnerIdentity(owner_id=name, incarnation_id="1", liveness=self._liveness)
        turn_id = f"t:{name}" if self._chance.random() < 0.5 else None
        if turn_id is None:
            lease = await _free_lane(store, session_id, owner, ttl_ms)
        else:
            lease = await self._accept(store, session_id, turn_id, owner, ttl_ms)
        if lease is None:
            return
        self.note("held", session_id, lease.fencing_token)
        try:
            await self._carry_on(store, lease, turn_id, fate)
        except REFUSALS:
            if fate in {"commit", "give back"}:  # nobody may take a lane from a live lease
                raise
            self.note("refused", session_id, f"n:{name}")

    async def _accept(
        self,
        store: SqliteSessionStore,
        session_id: str,
        turn_id: str,
        owner: LeaseOwnerIdentity,
        ttl_ms: int,
    ) -> SessionExecutionLease | None:
        """The lease of the accepted turn; `None` when the lane was not ours or not clear."""
        asked = an_acceptance(turn_id, session_id=session_id, owner=owner, lease_ttl_ms=ttl_ms)
        outcome = await store.accept_turn(asked)
        if isinstance(outcome, TurnRefused):
            outcome = await store.accept_turn(
                replace(asked, observed_holder=outcome.holder.fence())
            )
        match outcome:
            case TurnAccepted(lease=lease):
                self.note("accepted", session_id, turn_id)
                return lease
            case LaneUnfinished(lease=lease, rows=rows):
                self.note("held", session_id, lease.fencing_token)
                try:
                    for row in rows:
                        settlement = as_interrupted(row.turn_id)
                        await store.settle_turn(lease.fence(), settlement, release=False)
                        self.note("interrupted", session_id, row.turn_id)
                except SessionExecutionLeaseExpired:
                    if ttl_ms == HOLD_MS:
                        raise
                await store.release_session_execution_lease(lease.fence())
        return None

    async def _carry_on(
        self,
        store: SqliteSessionStore,
        lease: SessionExecutionLease,
        turn_id: str | None,
        fate: str,
    ) -> None:
        session_id, fence = lease.session_id, lease.fence()
        work = await store.claim_ready_queued_work(
            session_id, fence, lease.owner, IDLE, HOLD_MS, self._chance.randint(1, 8)
        )
        inputs = await store.claim_next_turn_inputs(
            session_id, fence, lease.owner, HOLD_MS, self._chance.randint(1, 4)
        )
        if fate == "walk away":
            return
        if fate == "give back":
            if work is not None:
                await store.abandon_queued_work_claim(work)
            if turn_id is None:
                await store.release_session_execution_lease(fence)
            else:
                await store.settle_turn(fence, as_failed(turn_id), release=True)
                self.note("failed", session_id, turn_id)
            return
        keys = [str(batch.source_key) for batch in (work.batches if work else ())]
        keys += [str(each.source_key) for each in (inputs.inputs if inputs else ())]
        head = await store.load_head_stamp() or HeadStamp(
            head_revision=0, leaf_node_id=None, checkpoint_ref=None
        )
        node_id = f"n:{lease.owner.owner_id}"
        turn = (
            {}
            if turn_id is None
            else {
                "turn_commit": a_stamp(turn_id, session_id=session_id),
                "turn_settlement": as_committed(turn_id),
            }
        )
        words = [node_id, *([] if turn_id is None else [turn_id]), *keys]
        whole = a_commit(
            fence,
            session_id=session_id,
            expected_head_revision=head.head_revision,
            graph=append(a_node(node_id, head.leaf_node_id, " ".join(words))),
            usage_deltas=(spent("turn", "m", 1),),
            completed_queue_claims=() if work is None else (work.completion(),),
            completed_turn_input_claims=() if inputs is None else (inputs.completion(),),
            release_session_execution_lease=fence,
            **turn,
        )
        result = await store.commit_runtime_state(whole)
        self.note("done", session_id, *words)
        if turn_id is not None:
            again = await store.commit_runtime_state(whole)
            assert (again.head_revision, again.replayed) == (result.head_revision, True)


async def _free_lane(
    store: SqliteSessionStore, session_id: str, owner: LeaseOwnerIdentity, ttl_ms: int
) -> SessionExecutionLease | None:
    """The lease of a lane that is free or whose holder is dead."""
    outcome = await store.try_claim_session_execution_lease(session_id, owner, ttl_ms)
    if isinstance(outcome, LeaseBusy):
        holder = outcome.holder.fence()
        outcome = await store.reclaim_session_execution_lease(session_id, owner, holder, ttl_ms)
    return outcome.lease if isinstance(outcome, LeaseAcquired) else None


@dataclass
class Told:
    """All ledgers together, by session. `untold` commits may be there that nobody knows of."""

    untold: int = 0
    tokens: dict[str, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    doubled: list[str] = field(default_factory=list)
    lines: Counter[str] = field(default_factory=Counter)

    def add(self, ledger: Iterable[list[Any]]) -> None:
        tokens: dict[str, list[int]] = defaultdict(list)
        for what, session_id, *names in ledger:
            self.lines[what] += 1
            if what == "held":
                tokens[session_id].append(names[0])
                continue
            known = self.names[session_id][what]
            self.doubled += [name for name in names if what == "done" and name in known]
            known.update(names)
        for session_id, taken in tokens.items():
            self.tokens[session_id].append(taken)


@dataclass
class Stands:
    """One session when everybody has left."""

    token: int
    revision: int
    nodes: int
    usage: int
    done: dict[str, int]
    waits: list[str]
    claimable: list[str]
    turns: dict[str, str]


def told(database: Path, members: int, killed: int = 0) -> Told:
    every = Told(untold=killed * HANDS)
    for number in range(members):
        if not _ledger(database, number).exists():
            continue  # killed before it began
        with _ledger(database, number).open() as ledger:
            every.add(json.loads(line) for line in ledger)
    return every


async def _sum_up(database: Path) -> tuple[list[str], dict[str, Stands]]:
    async with SqliteStorage(database) as storage:
        problems = [each.message for each in await storage.maintenance.check()]
        names = [f"s{number}" for number in range(LASTING)]
        names += [f"d{number}" for number in range(DELETED)]
        return problems, {name: await _stands(storage, name) for name in names}


async def _stands(storage: SqliteStorage, session_id: str) -> Stands:
    store = await a_store(storage, session_id)
    # All the others are gone, one way or another.
    owner = LeaseOwnerIdentity(
        owner_id="last", incarnation_id="1", liveness=local_process_liveness()
    )
    lease = await _free_lane(store, session_id, owner, HOLD_MS)
    assert lease is not None
    read = await store.load_session(FullGraph())
    nodes = () if read is None else read.nodes
    batches = await store.list_queued_work(session_id)
    inputs = await store.list_pending_turn_inputs(session_id)
    free = await store.list_pending_queued_work(session_id)
    words = [word for node in nodes for word in words_of(node)]
    turns = [await store.load_turn(session_id, word) for word in words if word.startswith("t:")]
    return Stands(
        token=lease.fencing_token,
        revision=0 if read is None else read.head_revision,
        nodes=len(nodes),
        usage=sum(each.usage.input_tokens for each in read.token_ledger) if read else 0,
        done=dict(Counter(words)),
        waits=[str(each.source_key) for each in (*batches, *inputs)],
        claimable=[str(each.source_key) for each in (*free, *inputs)],
        turns={row.turn_id: row.state.value for row in turns if row is not None},
    )


def disagreements(every: Told, stands: dict[str, Stands]) -> Iterator[str]:
    """What the database and the ledgers do not agree on."""
    untold = 0
    for session_id, one in stands.items():
        tokens = every.tokens[session_id]
        taken = [token for ledger in tokens for token in ledger]
        if len(set(taken)) != len(taken) or max(taken, default=0) >= one.token:
            yield f"{session_id}: a fencing token was given twice"
        if any(ledger != sorted(ledger) for ledger in tokens):
            yield f"{session_id}: fencing tokens have fallen"
        if one.claimable != one.waits:
            yield f"{session_id}: a claim sticks"
        if not one.revision == one.nodes == one.usage:
            yield f"{session_id}: half a commit"
        if doubled := [word for word, times in one.done.items() if times > 1]:
            yield f"{session_id}: done twice: {doubled}"
        if both := set(one.waits) & set(one.done):
            yield f"{session_id}: done, and still waits: {both}"
        if session_id.startswith("s"):
            yield from _lost(every.names[session_id], session_id, one)
            done = every.names[session_id]["done"]
            untold += sum(word.startswith("n:") for word in set(one.done) - done)
    if untold > every.untold:
        yield f"{untold} commits are there that nobody was told of"


def _lost(names: dict[str, set[str]], session_id: str, one: Stands) -> Iterator[str]:
    seen = {*one.waits, *one.done}
    if lost := names["queued"] - names["cancelling"] - seen:
        yield f"{session_id}: queued and lost: {lost}"
    if lost := names["done"] - set(one.done):
        yield f"{session_id}: done and lost: {lost}"
    if there := (names["cancelled"] | names["refused"]) & seen:
        yield f"{session_id}: refused or cancelled, and there: {there}"
    committed = {turn for turn, state in one.turns.items() if state == "committed"}
    if committed != {word for word in one.done if word.startswith("t:")}:
        yield f"{session_id}: a turn and its commit differ"
    if ended := (names["failed"] | names["interrupted"]) & set(one.done):
        yield f"{session_id}: ended in two ways: {ended}"


def _ledger(database: Path, number: int) -> Path:
    return database.with_name(f"ledger-{number}.jsonl")
