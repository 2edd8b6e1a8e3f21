"""Databases of earlier releases, as they were written then: this release opens and continues them.

Until version 1 is released, a change to its tables or records is followed by making the golden
database anew; see `golden/make.py`. After that it stays, and a migration leads on from it.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lash_runtime import LashCore
from lash_runtime.model.outcome import StopReason, stopped
from lash_runtime.ports.await_events import (
    AlreadyResolved,
    CustomWait,
    ResolveAccepted,
    ResolvedOk,
    UnknownOrRevoked,
)
from lash_runtime.ports.execution_scope import TurnScope
from lash_runtime.ports.session_catalogue import SessionQuery
from lash_runtime.ports.session_state import ActivePath, FullGraph
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._connections import ConnectionSettings, open_writer
from lash_runtime.stores.sqlite._migrations import CURRENT, version_of
from lash_runtime.testing import Call, ScriptedProvider
from lash_runtime.testing.conformance._samples import ALICE, a_store
from stores.sqlite.golden.make import (
    ANSWER,
    DEADLINE_MS,
    GOLDEN,
    OPERATION,
    SCRIPTED,
    SETTLED,
    restore,
    temperature,
)

pytestmark = pytest.mark.anyio

SESSIONS = {"weather", "branches", "waiting", "unfinished", "journaled"}

pytestmark = pytest.mark.anyio

REVOKED = TurnScope(session_id="revoked", turn_id="t")
OPEN_KEY_WAS_SIGNED = "031e726048b1012788ec1dd644fc9d4b5e4b21e52f5842a0fd6524a1d64894db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.db"
    restore(GOLDEN, path)
    return path


def tables(path: Path) -> list[tuple[str, str, str | None]]:
    """What the database is made of, however the statements are laid out."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    with closing(sqlite3.connect(path)) as db:
        return [(kind, name, " ".join(sql.split())) for kind, name, sql in db.execute(query)]


async def test_an_old_database_comes_to_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    """Otherwise a session would behave by when its database was made."""
    new = tmp_path / "new.db"
    for each in (path, new):
        async with SqliteStorage(each):
            pass
    assert tables(path) == tables(new)


async def test_an_old_database_is_whole_and_lists_its_sessions(path: Path) -> None:
    """The deleted one is not among them."""
    async with SqliteStorage(path) as storage:
        assert await storage.maintenance.check() == ()
        page = await storage.session_stores.list_sessions(SessionQuery(limit=10))
        request = SessionStoreCreateRequest(session_id="gone")
        assert await storage.session_stores.open_existing_store(request) is None
    counts = {entry.session_id: entry.message_count for entry in page.sessions}
    assert counts == {"weather": 6, "branches": 4, "waiting": 1, "unfinished": 0, "journaled": 0}


async def test_every_session_of_an_old_database_can_be_read(path: Path) -> None:
    """Graph, state, usage, turns, what waits, attachments: by value, not by count alone."""
    async with SqliteStorage(path) as storage:
        stores = {session_id: await a_store(storage, session_id) for session_id in SESSIONS}

        weather = await stores["weather"].load_session(FullGraph())
        assert weather is not None
        assert (weather.head_revision, len(weather.nodes)) == (2, 6)
        assert weather.config.model.id == "scripted-1"
        first = await stores["weather"].load_turn("weather", "first")
        assert first is not None
        assert (first.state, first.required_wiring.tool_names) == (
            TurnState.COMMITTED,
            ("temperature",),
        )
        assert first.result is not None

        branches = await stores["branches"].load_session(ActivePath())
        assert branches is not None
        assert [node.node_id for node in branches.nodes] == ["a", "b", "c"]
        assert await stores["branches"].load_node("left") is not None
        assert await stores["branches"].load_node("hidden") is None
        assert branches.checkpoint is not None
        assert branches.checkpoint.execution_state == b"\x00state " * 1_000
        assert branches.checkpoint.plugin_snapshot is not None
        assert branches.checkpoint.plugin_snapshot.plugins == {"notes": {"kept": [1, None, "two"]}}
        assert [entry.usage.input_tokens for entry in branches.token_ledger] == [7, 11]

        (open_turn,) = await stores["unfinished"].list_unfinished_turns("unfinished")
        assert open_turn.input is not None
        assert open_turn.turn_id == "open"
        failed = await stores["unfinished"].load_turn("unfinished", "failed")
        assert failed is not None
        assert failed.failure is not None
        assert failed.failure.code == "llm_provider"
        cancelled = await stores["unfinished"].load_turn("unfinished", "cancelled")
        assert cancelled is not None
        assert cancelled.outcome == stopped(StopReason.CANCELLED)
        assert cancelled.cancel_request is not None
        assert cancelled.cancel_request.reason == "too slow"
        assert cancelled.cancel_request.origin == "an operator"
        assert open_turn.cancel_request is not None

        call, sleep = await stores["journaled"].load_journal("journaled", "open")
        assert (call.effect.subject, call.runs, call.outcome) == ("temperature", 1, '{"done":null}')
        assert call.effect.components == {"tool": "0f0f"}
        assert (sleep.outcome, sleep.due_at_ms) == (None, 1_750_000_000_005)
        (to_finish,) = await stores["journaled"].list_unfinished_turns("journaled")
        assert (to_finish.journaled, to_finish.attempt) == (True, 1)
        assert to_finish.policy == SCRIPTED

        inputs = await stores["waiting"].list_pending_turn_inputs("waiting")
        assert [pending.input_id for pending in inputs] == ["taken", "waits", "steers"]
        work = await stores["waiting"].list_queued_work("waiting")
        assert [batch.source_key for batch in work] == ["exclusive", None, None]

        (abandoned,) = await stores["branches"].list_uncommitted(2**62)
        assert abandoned.attachment_id == "0" * 64
        digest = "61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f"
        assert (await storage.attachments.get(digest)).data == b"\x89PNG picture"


async def test_environments_of_an_old_database_can_be_read(path: Path) -> None:
    """Also those that were stored once under two refs, and those that were compressed."""
    async with SqliteStorage(path) as storage:
        envs = storage.process_env_store
        kept = [
            await envs.get_process_execution_env(f"env:{name}")
            for name in ("small", "again", "large")
        ]
    assert kept == [b'{"plugin_options": {}}'] * 2 + [b"policy " * 1_000]
    assert (rows(path)["artifact_refs"], rows(path)["artifact_blobs"]) == (3, 2)


async def test_keys_to_an_old_database_are_good(path: Path) -> None:
    """They were given to third parties; what was answered stays, and what was not can be."""
    async with SqliteStorage(path) as storage:
        for scope in (SETTLED, OPERATION):
            key = await storage.await_events.await_event_key(scope, CustomWait(key="answered"))
            outcome = await storage.await_events.resolve_await_event(key, ResolvedOk())
            assert outcome == AlreadyResolved(ANSWER)
        key = await storage.await_events.await_event_key(SETTLED, CustomWait(key="open"))
        assert key.signature == OPEN_KEY_WAS_SIGNED
        assert await storage.await_events.resolve_await_event(key, ANSWER) == ResolveAccepted()
        gone = await storage.await_events.await_event_key(REVOKED, CustomWait(key="open"))
        assert await storage.await_events.resolve_await_event(gone, ANSWER) == UnknownOrRevoked()
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT deadline_ms FROM await_event_waits WHERE deadline_ms NOT NULL"
        assert db.execute(query).fetchall() == [(DEADLINE_MS,)]


async def test_sessions_of_an_old_database_go_on(path: Path) -> None:
    """A new turn sees what was said then. A turn that was open is closed, or finished from its
    journal."""
    provider = ScriptedProvider(otherwise=lambda _: Call.text("Still a coat."))
    async with LashCore.open(
        path, provider=provider, model="scripted-1", tools=[temperature], recover=False
    ) as core:
        async with core.session("journaled").session_execution_owner(ALICE) as session:
            await session.turn("Hello?").run()
        async with core.session("weather") as session:
            again = await session.turn("And tomorrow?").run()
            said = [message.text for message in session.read_view().messages]
        async with core.session("unfinished") as session:
            await session.turn("Hello?").run()
    assert again.assistant_message == "Still a coat."
    assert said[0] == "What should I wear in Oslo?"
    assert said[-1] == "Still a coat."
    async with SqliteStorage(path) as storage:
        row = await (await a_store(storage, "unfinished")).load_turn("unfinished", "open")
        assert row is not None
        assert row.state is TurnState.INTERRUPTED
        row = await (await a_store(storage, "journaled")).load_turn("journaled", "open")
        assert row is not None
        assert row.state is TurnState.COMMITTED
        assert await storage.maintenance.check() == ()


async def test_an_old_database_moves_on_to_a_later_version_with_all_its_rows(path: Path) -> None:
    """The way that the databases of users will go, tried on a version that does not exist yet."""

    def add_moods(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE session_heads ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")

    before = rows(path)
    later = replace(CURRENT, migrations=(*CURRENT.migrations, add_moods))
    settings = ConnectionSettings(
        path=str(path), synchronous="normal", busy_timeout_ms=1_000, schema=later
    )
    with closing(open_writer(settings)) as db:
        assert version_of(db) == CURRENT.version + 1
        moods = {row[0] for row in db.execute("SELECT mood FROM session_heads")}
    assert moods == {"calm"}
    assert rows(path) == before


def rows(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        names = [name for kind, name, _ in tables(path) if kind == "table"]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
