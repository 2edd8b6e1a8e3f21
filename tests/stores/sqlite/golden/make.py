"""Makes `version_1.sql`: a database of version 1 as text, with every kind of row in it.

    PYTHONPATH=src:tests python -m stores.sqlite.golden.make

It was run when version 1 was finished. Later releases open what it made then; what they would
make themselves is another golden database, beside this one.
"""

import asyncio
import sqlite3
import tempfile
from contextlib import chdir, closing
from pathlib import Path

import anyio

from lash_runtime import CancelToken, LashCore, ResolvedOk, tool
from lash_runtime.model.attachments import AttachmentCreateMeta, ImageFormat, MediaType
from lash_runtime.model.outcome import StopReason
from lash_runtime.model.policy import SessionPolicy
from lash_runtime.ports.attachments import AttachmentIntent
from lash_runtime.ports.await_events import CustomWait
from lash_runtime.ports.execution_scope import RuntimeOperationScope, TurnScope
from lash_runtime.ports.invocations import RuntimeEffectKind
from lash_runtime.ports.journal import EffectIdentity, EffectRecorded, EffectReserved
from lash_runtime.ports.leases import LeaseOwnerIdentity
from lash_runtime.ports.session_state import HydratedSessionCheckpoint, PluginSessionSnapshot
from lash_runtime.ports.turn_inputs import InputIdTarget
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, FixedIdSource, ManualClock, ScriptedProvider
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_failed,
    first,
    hold,
    spent,
)
from lash_runtime.testing.conformance._waiting_samples import (
    a_queued_command,
    claimed_inputs,
    claimed_work,
    enqueued,
    for_next_turn,
    for_turn,
    joining,
    some_work,
    submitted,
)
from lash_runtime.testing.conformance.turn_cancels import as_stopped

GOLDEN = Path(__file__).with_name("version_1.sql")
SCRIPTED = SessionPolicy(provider_id="scripted")
SETTLED = TurnScope(session_id="waiting", turn_id="settled")
OPERATION = RuntimeOperationScope(operation_id="order-17")
ANSWER = ResolvedOk(payload={"paid": ["a", 1, None]})
DEADLINE_MS = 1_800_000_000_000
PRAGMAS = ("page_size", "auto_vacuum", "application_id", "user_version")


@tool
async def temperature(city: str) -> int:
    """Say how warm it is."""
    return len(city)


async def talk(path: Path) -> None:
    """A session as a host makes it: two turns, one of them with a tool."""
    provider = ScriptedProvider(
        [
            Call.tool("call-1", "temperature", {"city": "Oslo"}),
            Call.text("It is 4 degrees: take a coat \N{SNOWFLAKE}."),
            Call.text("Boots as well."),
        ]
    )
    core = (
        LashCore.standard_builder()
        .provider(provider)
        .model("scripted-1")
        .storage(SqliteStorage(path))
        .tools(temperature)
        .clock(ManualClock())
        .ids(FixedIdSource(7))
        .build()
    )
    async with core, core.session("weather") as session:
        await session.turn("What should I wear in Oslo?").turn_id("first").run()
        await session.turn("And in the mountains?").turn_id("second").run()


async def fill(storage: SqliteStorage) -> None:
    """What the store alone may hold besides."""
    branches = await a_store(storage, "branches")
    fence = (await hold(branches, "branches")).fence()
    snapshot = PluginSessionSnapshot(plugins={"notes": {"kept": [1, None, "two"]}})
    await branches.commit_runtime_state(
        a_commit(
            fence,
            session_id="branches",
            graph=first(
                *a_chain("a", "b", "c"), a_node("left", "a"), a_node("hidden", "a"), leaf="c"
            ),
            checkpoint=HydratedSessionCheckpoint(
                execution_state=b"\x00state " * 1_000, plugin_snapshot=snapshot
            ),
            usage_deltas=(spent("turn", "m1", 7), spent("child", "m2", 11)),
        )
    )
    await branches.tombstone_nodes(["hidden"])

    waiting = await a_store(storage, "waiting")
    turn = await accepted(waiting, an_acceptance("settled", session_id="waiting"))
    fence = turn.lease.fence()
    await waiting.commit_runtime_state(
        a_commit(
            fence,
            session_id="waiting",
            turn_commit=a_stamp("settled", session_id="waiting"),
            turn_settlement=as_committed("settled"),
        )
    )
    drafts = [
        for_next_turn(text, key=f"key-{text}", input_id=text, session_id="waiting")
        for text in ("taken", "waits", "cancelled")
    ]
    await submitted(
        waiting, *drafts, for_turn("some turn", "steers", input_id="steers", session_id="waiting")
    )
    await waiting.cancel_pending_turn_inputs("waiting", [InputIdTarget(value="cancelled")])
    await claimed_inputs(waiting, turn.lease, 1)
    await enqueued(
        waiting,
        some_work(session_id="waiting", key="exclusive"),
        joining("never", session_id="waiting"),
        a_queued_command(session_id="waiting"),
    )
    await claimed_work(waiting, turn.lease)

    unfinished = await a_store(storage, "unfinished")
    turn = await accepted(unfinished, an_acceptance("failed", session_id="unfinished"))
    await unfinished.settle_turn(turn.lease.fence(), as_failed("failed"), release=True)
    turn = await accepted(unfinished, an_acceptance("cancelled", session_id="unfinished"))
    fence = turn.lease.fence()
    await unfinished.request_turn_cancel(
        "unfinished", "cancelled", reason="too slow", origin="an operator"
    )
    await unfinished.settle_turn(fence, as_stopped(StopReason.CANCELLED, "cancelled"), release=True)
    await accepted(unfinished, an_acceptance("open", "Still there?", session_id="unfinished"))
    await unfinished.request_turn_cancel("unfinished", "open", reason=None, origin=None)

    journaled = await a_store(storage, "journaled")
    asked = an_acceptance(
        "open", "And here?", session_id="journaled", journaled=True, policy=SCRIPTED
    )
    turn = await accepted(journaled, asked)
    call, sleep = (
        EffectIdentity(
            replay_key=f"journaled:open:1:0:{kind.value}:2",
            kind=kind,
            position="9",
            subject=subject,
            components={"tool": "0f0f"},
        )
        for kind, subject in (
            (RuntimeEffectKind.TOOL_ATTEMPT, "temperature"),
            (RuntimeEffectKind.SLEEP, "5 ms"),
        )
    )
    await journaled.write_journal(
        turn.lease.fence(),
        "open",
        [
            EffectReserved(effect=call),
            EffectRecorded(effect=call, outcome='{"done":null}'),
            EffectReserved(effect=sleep, due_at_ms=1_750_000_000_005),
        ],
    )

    png = AttachmentCreateMeta(media_type=MediaType(type=ImageFormat.PNG), label="a picture")
    ref = await storage.attachments.put(b"\x89PNG picture", png)
    intent = AttachmentIntent(
        attachment_id=ref.id,
        session_id="branches",
        canonical_uri=f"sha256:{ref.id}",
        intent_at_epoch_ms=1_750_000_000_000,
    )
    await branches.record_intent(intent)
    await branches.commit_refs("branches", [ref.id])
    await branches.record_intent(
        AttachmentIntent(
            attachment_id="0" * 64,
            session_id="branches",
            canonical_uri=f"sha256:{'0' * 64}",
            intent_at_epoch_ms=1_750_000_000_000,
        )
    )
    envs = storage.process_env_store
    await envs.put_process_execution_env("env:small", b'{"plugin_options": {}}')
    await envs.put_process_execution_env("env:again", b'{"plugin_options": {}}')
    await envs.put_process_execution_env("env:large", b"policy " * 1_000)
    waits = storage.await_events
    for scope in (SETTLED, OPERATION):
        key = await waits.await_event_key(scope, CustomWait(key="answered"))
        await waits.resolve_await_event(key, ANSWER)
    key = await waits.await_event_key(SETTLED, CustomWait(key="open"))
    with anyio.move_on_after(0.5):
        await waits.await_await_event(key, CancelToken(), DEADLINE_MS)
    await storage.await_events.revoke_await_events_for_session("revoked")
    await a_store(storage, "gone")
    await storage.session_stores.delete_session("gone")


async def make(path: Path) -> None:
    await talk(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        # Otherwise it would be another one each time, and all keys with it.
        db.execute("INSERT INTO await_event_meta VALUES (1, ?)", (bytes(range(32)),))
    storage = SqliteStorage(path)
    storage.bind(clock=ManualClock(), ids=FixedIdSource())
    async with storage:
        await fill(storage)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        # On which machine this was made is nobody's business: neither in which folder, nor who
        # held the leases that were released.
        db.execute("UPDATE session_meta SET meta_json = json_set(meta_json, '$.cwd', '/srv')")
        nobody = LeaseOwnerIdentity(owner_id="somebody", incarnation_id="1")
        db.execute(
            """
            UPDATE session_execution_leases
               SET owner_id = ?, owner_incarnation_id = ?, owner_liveness_json = ?
             WHERE lease_token IS NULL
            """,
            (nobody.owner_id, nobody.incarnation_id, nobody.liveness.model_dump_json()),
        )


def as_text(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        pragmas = [
            f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0]};" for name in PRAGMAS
        ]
        return "\n".join([*pragmas, *db.iterdump(), ""])


def restore(golden: Path, path: Path) -> None:
    """The database that `golden` is the text of."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(golden.read_text(encoding="utf-8"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "agents.db")
        # A session remembers the folder it was begun in, which is nobody's business either.
        with chdir("/"):
            asyncio.run(make(made))
        GOLDEN.write_text(as_text(made), encoding="utf-8")
