"""What queued work and waiting inputs leave in the tables, and what unreadable rows lead to."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.model.checkpoints import CheckpointKind
from lash_runtime.model.turn_input import AttachmentItem, TextItem, TurnInput
from lash_runtime.ports.attachments import AttachmentIntent, sha256_uri
from lash_runtime.ports.claims import QueuedWorkCompletion, TurnInputCompletion
from lash_runtime.ports.queued_work import QueuedWorkClaimBoundary, SlotPolicy
from lash_runtime.ports.store_errors import (
    PendingTurnInputSourceKeyConflict,
    QueuedWorkClaimExpired,
    StoreBackendError,
    StoredSessionDeleted,
    TurnInputClaimExpired,
)
from lash_runtime.ports.turn_inputs import InputAlreadyClaimed, InputIdTarget
from lash_runtime.stores.sqlite import SqliteStorage, _queue, _turn_inputs
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance._samples import (
    ALICE,
    BOB,
    TTL_MS,
    a_commit,
    accepted,
    an_acceptance,
    hold,
)
from lash_runtime.testing.ids import FixedIdSource

from .queues import SESSION, a_command, a_sqlite_store, a_wake, said, work

pytestmark = pytest.mark.anyio

IDLE = QueuedWorkClaimBoundary.IDLE
PNG = MediaType(type=ImageFormat.PNG)

Statement = Callable[..., list[Any]]


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


@pytest.fixture
async def store(storage: SqliteStorage) -> SqliteSessionStore:
    return await a_sqlite_store(storage)


@pytest.fixture
def sql(path: Path) -> Statement:
    """Runs a statement as another program would."""

    def run(statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(path)) as db, db:
            return db.execute(statement, values).fetchall()

    return run


async def test_a_commit_completes_what_its_claims_own_and_defers_the_rest_of_its_turn(
    store: SqliteSessionStore, sql: Statement
) -> None:
    """A late word to a turn that is over waits for the next one, and is not lost."""
    fence = (await hold(store)).fence()
    for draft in (said("taken", "t1"), said("other", "t2")):
        await store.enqueue_pending_turn_input(draft)
    await store.enqueue_queued_work(work(a_wake("w")))
    inputs = await store.claim_active_turn_inputs(
        SESSION, fence, ALICE, "t1", CheckpointKind.AFTER_WORK, TTL_MS, 64
    )
    batches = await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 64)
    assert inputs is not None
    assert batches is not None
    await store.enqueue_pending_turn_input(said("late", "t1"))
    await store.commit_runtime_state(
        a_commit(
            fence,
            completed_queue_claims=(batches.completion(),),
            completed_turn_input_claims=(inputs.completion(),),
            interrupted_turn_input_turn_id="t1",
        )
    )
    assert sql("SELECT input_id, state, claim_id FROM pending_turn_inputs ORDER BY input_id") == [
        ("late", "deferred_next_turn", None),
        ("other", "pending_active", None),
        ("taken", "completed", None),
    ]
    assert sql("SELECT count(*) FROM queued_work_batches") == [(0,)]


@pytest.mark.parametrize("named", [(), ("one",), ("one", "two", "three"), ("two", "three")])
async def test_a_completion_names_exactly_what_its_claim_owns(
    store: SqliteSessionStore, sql: Statement, named: tuple[str, ...]
) -> None:
    """Otherwise nothing is written: an input would be lost, or answered twice."""
    fence = (await hold(store)).fence()
    for text in ("one", "two"):
        await store.enqueue_pending_turn_input(said(text))
        await store.enqueue_queued_work(work(a_wake(text)))
    inputs = await store.claim_next_turn_inputs(SESSION, fence, ALICE, TTL_MS, 64)
    batches = await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 64)
    assert inputs is not None
    assert batches is not None
    ids = {"one": batches.batches[0].batch_id, "two": batches.batches[1].batch_id}
    before = sql("SELECT * FROM pending_turn_inputs"), sql("SELECT * FROM queued_work_batches")
    wrong_inputs = TurnInputCompletion(
        session_id=SESSION,
        claim_id=inputs.claim_id,
        lease_token=inputs.lease_token,
        input_ids=named,
    )
    wrong_batches = QueuedWorkCompletion(
        session_id=SESSION,
        claim_id=batches.claim_id,
        lease_token=batches.lease_token,
        batch_ids=tuple(ids.get(name, name) for name in named),
    )
    with pytest.raises(TurnInputClaimExpired):
        await store.commit_runtime_state(
            a_commit(
                fence,
                completed_queue_claims=(batches.completion(),),
                completed_turn_input_claims=(wrong_inputs,),
            )
        )
    with pytest.raises(QueuedWorkClaimExpired):
        await store.commit_runtime_state(a_commit(fence, completed_queue_claims=(wrong_batches,)))
    assert await store.load_head_stamp() is None
    assert before == (
        sql("SELECT * FROM pending_turn_inputs"),
        sql("SELECT * FROM queued_work_batches"),
    )


async def test_starting_a_session_over_removes_what_waited_for_it(
    store: SqliteSessionStore, sql: Statement
) -> None:
    """Words to the old conversation are not answered in the new one."""
    await store.enqueue_pending_turn_input(said("waiting"))
    await store.enqueue_queued_work(work(a_command()))
    turn = await accepted(store, an_acceptance("t1", replace_session=True))
    assert sql("SELECT state FROM pending_turn_inputs") == [("cancelled",)]
    assert await store.list_queued_work(SESSION) == ()
    assert not turn.command_leads


async def test_acceptance_says_that_a_command_has_to_be_applied_first(
    storage: SqliteStorage,
) -> None:
    """The turn must run with what was asked for before it, not with what it replaces."""
    for session_id, payload, leads in (("c", a_command(), True), ("w", a_wake("w"), False)):
        store = await a_sqlite_store(storage, session_id)
        await store.enqueue_queued_work(work(payload, session_id=session_id))
        turn = await accepted(store, an_acceptance("t1", session_id=session_id))
        assert turn.command_leads is leads


async def test_numbers_and_claim_ids_are_never_used_again(
    store: SqliteSessionStore,
) -> None:
    """A late completion of an old claim can then never meet the rows of a new one."""
    fence = (await hold(store)).fence()
    seen = []
    for round_ in range(3):
        batch = await store.enqueue_queued_work(work(a_wake("w"), source_key="again"))
        claim = await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 1)
        assert claim is not None
        assert [each.batch_id for each in claim.batches] == [batch.batch_id]
        seen += [(batch.enqueue_seq, claim.claim_id, claim.lease_token)]
        await store.commit_runtime_state(
            a_commit(
                fence,
                expected_head_revision=round_,
                completed_queue_claims=(claim.completion(),),
            )
        )
    for column in zip(*seen, strict=True):
        assert len(set(column)) == 3


async def test_what_waits_is_there_when_the_file_is_opened_again(
    path: Path, clock: ManualClock
) -> None:
    """Every value comes back as it was, also one that a live lease holds."""
    drafts = (
        work(a_wake("a"), a_wake("b"), merge_key="payload_default", source_key="k"),
        work(a_command("ünï\u0301"), slot_policy=SlotPolicy.EXCLUSIVE, available_at_ms=7),
    )
    async with SqliteStorage(path) as storage:
        storage.bind(clock=clock, ids=FixedIdSource())
        store = await a_sqlite_store(storage)
        fence = (await hold(store)).fence()
        batches = [await store.enqueue_queued_work(draft) for draft in drafts]
        steer = await store.enqueue_pending_turn_input(said("steer", "t1", source_key="s"))
        held = await store.enqueue_pending_turn_input(said("held"))
        claim = await store.claim_turn_input(SESSION, fence, "held")
        assert claim is not None
    async with SqliteStorage(path) as storage:
        storage.bind(clock=clock, ids=FixedIdSource(1))
        store = await a_sqlite_store(storage)
        assert list(await store.list_queued_work(SESSION)) == batches
        assert list(await store.list_pending_turn_inputs(SESSION)) == [steer]
        found = await store.cancel_pending_turn_input(SESSION, "held")
        assert isinstance(found, InputAlreadyClaimed)
        assert found.input == held
        assert found.claim is not None
        assert found.claim.claim_owner == ALICE
        assert (await store.renew_turn_input_claim(claim, TTL_MS)).inputs == (held,)


async def test_the_images_of_an_input_that_waits_are_kept(
    storage: SqliteStorage, store: SqliteSessionStore, clock: ManualClock
) -> None:
    """A turn that starts tomorrow must still find what was sent with its words."""
    image = await storage.attachments.put(b"pixels", AttachmentCreateMeta(media_type=PNG))
    await store.record_intent(
        AttachmentIntent(
            attachment_id=image.id,
            session_id=SESSION,
            canonical_uri=sha256_uri(image.id),
            intent_at_epoch_ms=clock.timestamp_ms(),
        )
    )
    assert await store.list_uncommitted(clock.timestamp_ms())
    words = TurnInput(items=(TextItem(text="look"), AttachmentItem(ref=image)))
    await store.enqueue_pending_turn_input(said("look", input=words))
    assert await store.list_uncommitted(clock.timestamp_ms()) == []
    assert [each.input for each in await store.list_pending_turn_inputs(SESSION)] == [words]


async def test_a_deferred_input_is_still_the_one_that_was_submitted(
    store: SqliteSessionStore,
) -> None:
    """Whoever repeats a submission whose answer was lost must not be told of a conflict."""
    fence = (await hold(store)).fence()
    draft = said("steer", "t1", source_key="k")
    first = await store.enqueue_pending_turn_input(draft)
    await store.commit_runtime_state(a_commit(fence, interrupted_turn_input_turn_id="t1"))
    again = await store.enqueue_pending_turn_input(draft)
    assert again.input_id == first.input_id
    assert again.ingress.scope == "next_turn"
    with pytest.raises(PendingTurnInputSourceKeyConflict):
        await store.enqueue_pending_turn_input(said("steer", source_key="k"))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ('payloads_json = \'[{"type": "unheard of"}]\'', "queued work"),
        ("payloads_json = 'x'", "queued work"),
        ("slot_policy = 'sideways'", "slot policy"),
        ("delivery_policy = ''", "delivery policy"),
        ("merge_key_json = '{}'", "merge key"),
    ],
)
async def test_a_batch_that_cannot_be_read_is_an_error(
    store: SqliteSessionStore, sql: Statement, damage: str, what: str
) -> None:
    """Passing it over would let later work overtake it without a word."""
    fence = (await hold(store)).fence()
    await store.enqueue_queued_work(work(a_wake("w")))
    sql(f"UPDATE queued_work_batches SET {damage}")
    with pytest.raises(StoreBackendError, match=what):
        await store.list_pending_queued_work(SESSION)
    with pytest.raises(StoreBackendError, match=what):
        await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 1)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("input_json = '{}', state = 'gone'", "state"),
        ("input_json = '[]'", "turn input"),
        ("ingress_turn_id = 't1', ingress_min_boundary = 'never'", "boundary"),
    ],
)
async def test_an_input_that_cannot_be_read_is_an_error(
    store: SqliteSessionStore, sql: Statement, damage: str, what: str
) -> None:
    """What a user said is reported as unreadable, never left out."""
    await store.enqueue_pending_turn_input(said("x"))
    sql(f"UPDATE pending_turn_inputs SET {damage}")
    with pytest.raises(StoreBackendError, match=what):
        await store.cancel_pending_turn_inputs(SESSION, (InputIdTarget(value="x"),))


async def test_what_cannot_be_stored_is_refused_and_takes_nothing_along(
    store: SqliteSessionStore,
) -> None:
    """A host's slip is an error of the store's own kind, and the line goes on."""
    strange = a_wake("w").model_copy(
        update={"wake": a_wake("w").wake.model_copy(update={"input": object()})}
    )
    for draft in (work(a_wake("w"), available_at_ms=2**64), work(strange), work(a_wake("\ud800"))):
        with pytest.raises(StoreBackendError, match=r"cannot be stored|too large"):
            await store.enqueue_queued_work(draft)
    with pytest.raises(StoreBackendError, match="text"):
        await store.enqueue_pending_turn_input(said("half a character: \ud800"))
    assert await store.list_queued_work(SESSION) == ()
    assert await store.list_pending_turn_inputs(SESSION) == ()


async def test_nothing_is_put_in_line_for_a_session_that_was_deleted(
    storage: SqliteStorage,
) -> None:
    """It would come up in the next session of that id. What waited goes with the session."""
    other, store = await a_sqlite_store(storage, "other"), await a_sqlite_store(storage)
    await store.enqueue_queued_work(work(a_wake("w")))
    await store.enqueue_pending_turn_input(said("x"))
    await storage.session_stores.delete_session(SESSION)
    for writer in (other, store):
        with pytest.raises(StoredSessionDeleted):
            await writer.enqueue_queued_work(work(a_wake("w")))
        with pytest.raises(StoredSessionDeleted):
            await writer.enqueue_pending_turn_input(said("x"))
    anew = await a_sqlite_store(storage)
    assert await anew.list_queued_work(SESSION) == ()
    assert await anew.list_pending_turn_inputs(SESSION) == ()
    assert (await anew.enqueue_pending_turn_input(said("x"))).input_id == "x"


async def test_the_tables_hold_what_a_claim_costs_and_no_more(
    store: SqliteSessionStore, sql: Statement
) -> None:
    """Of ten thousand batches a claim touches those that it takes."""
    fence = (await hold(store)).fence()
    await store.enqueue_queued_work(work(a_wake("first")))
    sql(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000)"
        " INSERT INTO queued_work_batches (session_id, batch_id, delivery_policy, slot_policy,"
        " merge_key_json, available_at_ms, enqueued_at_ms, payloads_json)"
        " SELECT session_id, 'b' || i, delivery_policy, slot_policy, merge_key_json, 0, 0,"
        " payloads_json FROM queued_work_batches, n"
    )
    claim = await store.claim_ready_queued_work(SESSION, fence, BOB, IDLE, TTL_MS, 64)
    assert claim is not None
    assert len(claim.batches) == 64
    assert [batch.enqueue_seq for batch in claim.batches] == list(range(1, 65))
    assert sql("SELECT count(*) FROM queued_work_batches WHERE claim_id IS NOT NULL") == [(64,)]


@pytest.mark.parametrize(
    "statement",
    [
        _queue.LOAD_BY_KEY,
        _queue.LOAD_TO_CANCEL,
        _queue.LOAD_ALL,
        _queue.LOAD_UNHELD,
        _queue.LOAD_READY,
        _queue.TAKE,
        _queue.RENEW,
        _queue.LET_GO,
        _queue.OWNED,
        _queue.COMPLETE,
        _turn_inputs.LOAD_BY_ID,
        _turn_inputs.LOAD_BY_KEY,
        _turn_inputs.LOAD_FOR_THE_NEXT_TURN,
        _turn_inputs.LOAD_FOR_A_TURN,
        _turn_inputs.LOAD_OF_TURNS,
        _turn_inputs.TAKE,
        _turn_inputs.RENEW,
        _turn_inputs.LET_GO,
        _turn_inputs.OWNED,
        _turn_inputs.COMPLETE,
        _turn_inputs.DEFER,
    ],
)
async def test_no_statement_reads_a_whole_table_or_sorts_one(
    store: SqliteSessionStore, sql: Statement, statement: str
) -> None:
    """The cost of a claim does not grow with what other sessions, or this one, have in line."""
    plan = [row[3] for row in sql(f"EXPLAIN QUERY PLAN {statement}", *[""] * statement.count("?"))]
    assert [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step] == []
