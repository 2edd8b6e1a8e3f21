"""What a commit leaves in the tables, and what unreadable tables lead to."""

import resource
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_runtime.model.cancelling import CancelVerdict
from lash_runtime.model.frames import AgentFrameAssignment, AgentFrameRecord
from lash_runtime.model.messages import MessageRole
from lash_runtime.model.policy import ProtocolTurnOptions
from lash_runtime.ports.session_state import (
    ActivePath,
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedTurnState,
)
from lash_runtime.ports.store_errors import (
    InvalidRecordSchemaVersion,
    MissingRecordSchemaVersion,
    RecordSchemaVersionError,
    StoreBackendError,
    UnsupportedRecordSchemaVersion,
)
from lash_runtime.ports.turn_ledger import TurnState, cancelled_before_start
from lash_runtime.ports.turn_persistence import TurnPersistence
from lash_runtime.stores.sqlite import SqliteStorage, _nodes, _turns
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    append,
    as_committed,
    at_turn,
    first,
    hold,
)

pytestmark = pytest.mark.anyio

Statement = Callable[..., list[Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage(path) as storage:
        yield storage


@pytest.fixture
def sql(path: Path) -> Statement:
    """Runs a statement as another program would."""

    def run(statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(path)) as db, db:
            return db.execute(statement, values).fetchall()

    return run


async def test_superseded_checkpoints_do_not_pile_up(
    storage: SqliteStorage, sql: Statement
) -> None:
    """A session of many turns keeps one checkpoint, and the state its frames were left with."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    kept = HydratedSessionCheckpoint(execution_state=b"of the first frame")
    left = (await store.commit_runtime_state(a_commit(fence, checkpoint=kept))).manifest
    frame = AgentFrameRecord(
        frame_id="f",
        session_id="s",
        created_at="",
        assignment=AgentFrameAssignment(),
        execution_state_ref=left.execution_state_ref,
    )
    for turn in range(20):
        checkpoint = HydratedSessionCheckpoint(
            turn_state=PersistedTurnState(turn_index=turn), execution_state=b"%d" % turn * 5000
        )
        await store.commit_runtime_state(
            a_commit(fence, agent_frames=(frame,), checkpoint=checkpoint)
        )
    assert sql("SELECT count(*) FROM checkpoints") == [(1,)]
    assert sql("SELECT count(*) FROM blobs") == [(2,)]
    read = await store.load_session(ActivePath())
    assert read is not None
    assert read.checkpoint is not None
    assert read.checkpoint.execution_state == b"19" * 5000


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False)])
async def test_what_only_looks_alike_is_written_anew(
    storage: SqliteStorage, one: object, other: object
) -> None:
    """Python takes one, true and 1.0 for equal, and a plugin that reads them back may not."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    for value in (one, other):
        options = ProtocolTurnOptions(payload={"depth": value})
        frame = AgentFrameRecord(
            frame_id="f",
            session_id="s",
            created_at="",
            assignment=AgentFrameAssignment(plugin_options={"depth": value}),
            protocol_turn_options=options,
        )
        checkpoint = HydratedSessionCheckpoint(
            turn_state=PersistedTurnState(protocol_turn_options=options)
        )
        await store.commit_runtime_state(
            a_commit(fence, agent_frames=(frame,), checkpoint=checkpoint)
        )
    read = await store.load_session(ActivePath())
    assert read is not None
    assert read.checkpoint is not None
    (kept,) = read.agent_frames
    assert [
        repr(kept.assignment.plugin_options["depth"]),
        repr(kept.protocol_turn_options.payload["depth"]),
        repr(read.checkpoint.turn_state.protocol_turn_options.payload["depth"]),
    ] == [repr(other)] * 3


async def test_a_settled_turn_keeps_the_hash_of_its_input_and_not_the_input(
    storage: SqliteStorage, sql: Statement
) -> None:
    """The words are in the transcript; nothing keeps them twice."""
    store = await a_store(storage)
    turn = await accepted(store, an_acceptance("t1", "remember me"))
    fence = turn.lease.fence()
    assert "remember me" in sql("SELECT input_json FROM turns")[0][0]
    await store.commit_runtime_state(
        a_commit(fence, turn_commit=a_stamp("t1"), turn_settlement=as_committed("t1"))
    )
    assert sql("SELECT input_json, content_hash FROM turns") == [(None, turn.row.content_hash)]


async def test_a_database_grows_by_less_than_three_times_the_text_it_takes(
    storage: SqliteStorage, path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing large is written twice, and what is superseded makes room for what follows."""
    empty = tmp_path_factory.mktemp("empty") / "empty.db"
    async with SqliteStorage(empty):
        pass
    store = await a_store(storage)
    leaf, text, turns = None, 0, 250
    for turn in range(1, turns + 1):
        question, answer = f"{turn} why? " * 60, f"{turn} because " * 130
        text += len(question) + len(answer)
        acceptance = an_acceptance(f"7f3d{turn:028d}-turn", question)
        started = await accepted(store, acceptance)
        fence = started.lease.fence()
        ids = (f"m:{acceptance.turn_id}:0", f"m:{acceptance.turn_id}:1")
        nodes = (
            a_node(ids[0], leaf, question),
            a_node(ids[1], ids[0], answer, MessageRole.ASSISTANT),
        )
        leaf = ids[1]
        await store.commit_runtime_state(
            a_commit(
                fence,
                graph=append(*nodes),
                checkpoint=at_turn(turn),
                turn_commit=a_stamp(acceptance.turn_id),
                turn_settlement=as_committed(acceptance.turn_id, ""),
                release_session_execution_lease=fence,
            )
        )
    await storage.aclose()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_size - empty.stat().st_size < 3 * text


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE graph_nodes SET node_json = '{\"node_id\"' WHERE node_id = 'b'", "node"),
        ("UPDATE session_heads SET head_json = replace(head_json, 'config', 'cfg')", "Head"),
        ("UPDATE checkpoints SET manifest_json = '[]'", "Checkpoint"),
        ("DELETE FROM checkpoints", "checkpoint"),
    ],
)
async def test_a_row_that_cannot_be_read_is_an_error(
    storage: SqliteStorage, sql: Statement, damage: str, what: str
) -> None:
    """A transcript with a hole in it must never pass for the whole one."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
    sql(damage)
    with pytest.raises((StoreBackendError, RecordSchemaVersionError), match=what):
        await store.load_session(FullGraph())


async def test_the_error_for_an_unreadable_row_quotes_nothing_of_it(
    storage: SqliteStorage, sql: Statement
) -> None:
    """Tracebacks end up in logs, where a transcript has no business."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
    sql("UPDATE graph_nodes SET node_json = json_set(node_json, '$.payload.odd', 'a secret')")
    with pytest.raises(StoreBackendError) as refusal:
        await store.load_session(FullGraph())
    shown = "".join(traceback.format_exception(refusal.value))
    assert "odd" in shown
    assert "a secret" not in shown


@pytest.mark.parametrize("table", ["session_heads", "checkpoints"])
async def test_a_record_of_another_version_is_named_with_both_versions(
    storage: SqliteStorage, sql: Statement, table: str
) -> None:
    """Reading it as if it were ours would drop what the other release put there."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence))
    column = {"session_heads": "head_json", "checkpoints": "manifest_json"}[table]
    sql(f"UPDATE {table} SET {column} = json_set({column}, '$.schema_version', 7)")
    with pytest.raises(UnsupportedRecordSchemaVersion) as refusal:
        await store.load_session(FullGraph())
    assert (refusal.value.actual, refusal.value.expected) == (7, 1)


@pytest.mark.parametrize("table", ["session_heads", "checkpoints"])
@pytest.mark.parametrize("written", ["true", '"1"', "1.0", "null", "-1", "4294967296", "[1]"])
async def test_what_only_resembles_the_version_is_another_one(
    storage: SqliteStorage, sql: Statement, table: str, written: str
) -> None:
    """Who writes a version otherwise than we do writes the rest otherwise, too."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence))
    column = {"session_heads": "head_json", "checkpoints": "manifest_json"}[table]
    sql(f"UPDATE {table} SET {column} = json_set({column}, '$.schema_version', json('{written}'))")
    with pytest.raises(InvalidRecordSchemaVersion) as refusal:
        await store.load_session(FullGraph())
    assert refusal.value.actual == written


@pytest.mark.parametrize("table", ["session_heads", "checkpoints"])
@pytest.mark.parametrize("record", ["{}", "[]", "1", '{"schemaVersion": 1}'])
async def test_a_record_without_a_version_is_named_as_such(
    storage: SqliteStorage, sql: Statement, table: str, record: str
) -> None:
    """A version that has to be guessed is none."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence))
    column = {"session_heads": "head_json", "checkpoints": "manifest_json"}[table]
    sql(f"UPDATE {table} SET {column} = ?", record)
    with pytest.raises(MissingRecordSchemaVersion) as refusal:
        await store.load_session(FullGraph())
    assert refusal.value.expected == 1


@pytest.mark.parametrize("table", ["session_heads", "checkpoints"])
async def test_the_version_is_asked_before_the_rest_is_read(
    storage: SqliteStorage, sql: Statement, table: str
) -> None:
    """A record that a later release shaped otherwise is not taken for a damaged one of ours."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence))
    column = {"session_heads": "head_json", "checkpoints": "manifest_json"}[table]
    sql(f"""UPDATE {table} SET {column} = '{{"schema_version": 7, "new": []}}'""")
    with pytest.raises(UnsupportedRecordSchemaVersion) as refusal:
        await store.load_session(FullGraph())
    assert refusal.value.actual == 7


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE turns SET state = 'odd'",
        "UPDATE turns SET members_json = '['",
        "UPDATE turns SET members_json = '{}'",
        "UPDATE turns SET members_json = x'ff'",
        "UPDATE turns SET cancel_request_json = '{}'",
    ],
)
async def test_a_turn_that_cannot_be_read_is_an_error_of_the_store(
    storage: SqliteStorage, sql: Statement, damage: str
) -> None:
    """A host catches the errors of the store, not those of the parser underneath."""
    store = await a_store(storage)
    turn = await accepted(store, an_acceptance("t1"))
    sql(damage)
    with pytest.raises(StoreBackendError, match="a stored turn's"):
        await store.load_turn("s", "t1")
    with pytest.raises(StoreBackendError, match="a stored turn's"):
        await store.list_unfinished_turns("s")
    with pytest.raises(StoreBackendError, match="a stored turn's"):
        await store.request_turn_cancel("s", "t1", reason=None, origin=None)
    if "state" in damage or "cancel" in damage:
        with pytest.raises(StoreBackendError, match=r"a stored turn's (state|cancel request)"):
            await store.settle_turn(turn.lease.fence(), as_committed("t1"), release=True)


async def test_a_row_that_has_not_started_is_cancelled_at_once(
    storage: SqliteStorage, sql: Statement
) -> None:
    """Nobody runs it who could heed a request, so nobody is waited for."""
    store = await a_store(storage)
    turn = await accepted(store, an_acceptance("t1"))
    sql("UPDATE turns SET state = 'accepted'")
    answer = await store.request_turn_cancel("s", "t1", reason="too late", origin=None)
    assert answer.verdict is CancelVerdict.ACCEPTED
    assert answer.request is not None
    row = await store.load_turn("s", "t1")
    assert row == replace(
        turn.row,
        state=TurnState.CANCELLED,
        input=None,
        settled_at_ms=answer.request.requested_at_ms,
        result=cancelled_before_start(answer.request),
        cancel_request=answer.request,
    )
    assert list(await store.list_unfinished_turns("s")) == []
    assert await store.request_turn_cancel("s", "t1", reason=None, origin=None) == answer
    assert await storage.maintenance.check() == ()


async def test_a_write_that_does_not_fit_leaves_the_session_as_it_was(
    storage: SqliteStorage, sql: Statement
) -> None:
    """A full disk refuses a turn; it does not damage a session."""
    store: TurnPersistence = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence, graph=first(a_node("a"))))

    def set_limit(db: sqlite3.Connection) -> int:
        pages: int = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        return pages

    # Another connection cannot limit this one, so the limit is set from the inside.
    pages = await storage.session_stores._scope.database.write(set_limit)
    large = a_commit(fence, graph=append(a_node("b", "a", "x" * 1_000_000)))
    with pytest.raises(StoreBackendError, match="full"):
        await store.commit_runtime_state(large)
    read = await store.load_session(FullGraph())
    assert read is not None
    assert (read.head_revision, read.leaf_node_id) == (1, "a")
    await storage.session_stores._scope.database.write(
        lambda db: db.execute(f"PRAGMA max_page_count = {pages + 10_000}").fetchone()
    )
    assert (await store.commit_runtime_state(large)).head_revision == 2


async def test_a_disk_that_takes_no_more_leaves_the_session_as_it_was(
    storage: SqliteStorage, path: Path
) -> None:
    """The flush itself fails; once there is room the same commit goes through."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(a_commit(fence, graph=first(a_node("a"))))
    large = a_commit(
        fence,
        expected_head_revision=1,
        graph=append(a_node("b", "a", "x" * 500_000)),
        turn_commit=a_stamp(),
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(StoreBackendError, match="disk"):
            await store.commit_runtime_state(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    read = await store.load_session(FullGraph())
    assert read is not None
    assert (read.head_revision, read.leaf_node_id) == (1, "a")
    assert (await store.commit_runtime_state(large)).head_revision == 2


async def test_text_that_is_not_unicode_is_refused_whole(storage: SqliteStorage) -> None:
    """Half a character from a careless cut must not take the transaction's neighbours along."""
    store = await a_store(storage)
    fence = (await hold(store)).fence()
    with pytest.raises(StoreBackendError, match="text"):
        await store.commit_runtime_state(a_commit(fence, graph=append(a_node("a", text="\ud83d"))))
    assert await store.load_head_stamp() is None


@pytest.mark.parametrize(
    "statement",
    [
        _nodes.LOAD,
        _nodes.LOAD_ALL,
        _nodes.LOAD_PATH,
        _nodes.COUNT,
        _turns.LOAD,
        _turns.LOAD_UNFINISHED,
        _turns.LAST_SEQ,
    ],
)
async def test_no_statement_of_a_turn_reads_a_whole_table(
    storage: SqliteStorage, sql: Statement, statement: str
) -> None:
    """The cost of a turn does not grow with what other sessions have stored."""
    values = [""] * statement.count("?") or [":"]
    if "?" in statement:
        plan = sql(f"EXPLAIN QUERY PLAN {statement}", *values)
    else:
        for name in (":session_id", ":leaf_node_id", ":limit"):
            statement = statement.replace(name, "'1'")
        plan = sql(f"EXPLAIN QUERY PLAN {statement}")
    scans = [row[3] for row in plan if row[3].startswith("SCAN") and row[3] != "SCAN path"]
    assert scans == []
