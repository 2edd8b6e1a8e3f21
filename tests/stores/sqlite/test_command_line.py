"""The operators' commands: what they say, what they answer by their exit code, what they leave
alone. Where it matters that they are processes, they are run as such."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime.ports.invocations import RuntimeEffectKind
from lash_runtime.ports.journal import EffectIdentity, EffectRecorded, EffectReserved
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._commands import main
from lash_runtime.testing.conformance._samples import (
    a_chain,
    a_commit,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    first,
    hold,
    spent,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A session with a settled turn and one with nothing but nodes."""
    path = tmp_path / "agents.db"
    async with SqliteStorage(path) as storage:
        store = await a_store(storage, "café")
        turn = await accepted(store, an_acceptance("t1", session_id="café"))
        fence = turn.lease.fence()
        await store.commit_runtime_state(
            a_commit(
                fence,
                session_id="café",
                graph=first(*a_chain("a", "b")),
                usage_deltas=(spent("turn", "m1", 7),),
                turn_settlement=as_committed("t1"),
                release_session_execution_lease=fence,
            )
        )
        other = await a_store(storage, "other")
        fence = (await hold(other, "other")).fence()
        await other.commit_runtime_state(
            a_commit(fence, session_id="other", graph=first(*a_chain("x", "y", "z")))
        )
    return path


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


@dataclass(frozen=True)
class Done:
    code: object
    stdout: str
    stderr: str


Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, which takes a tenth of the time."""

    def in_a_thread(arguments: list[str]) -> object:
        try:
            return main(arguments)
        except SystemExit as exit_of_the_parser:
            return exit_of_the_parser.code

    async def run(*arguments: str | Path) -> Done:
        code = await anyio.to_thread.run_sync(in_a_thread, [*map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return run


def process(*arguments: str | Path, **environment: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "lash_runtime.stores.sqlite", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def said(done: Done) -> Any:
    assert (done.code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def records(done: Done) -> list[dict[str, Any]]:
    assert (done.code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def complaint(done: Done) -> str:
    """The one line on the standard error; nothing else was said."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


async def test_info_tells_what_is_in_a_database(run: Run, path: Path) -> None:
    """As JSON for programs, and as lines for people."""
    facts = said(await run("info", path, "--json"))
    assert facts["schema_version"] == 1
    assert facts["row_counts"]["graph_nodes"] == 5
    assert facts["unfinished_turn_count"] == 0
    lines = (await run("info", path)).stdout.splitlines()
    assert "rows in graph_nodes: 5" in lines
    assert "schema version: 1" in lines


async def test_info_lists_the_sessions(run: Run, path: Path) -> None:
    """Their ids are what `export` asks for."""
    assert sorted((await run("info", "--sessions", path)).stdout.splitlines()) == ["café", "other"]
    listed = records(await run("info", "--sessions", "--json", path))
    assert {entry["session_id"]: entry["message_count"] for entry in listed} == {
        "café": 2,
        "other": 3,
    }


async def test_check_says_whether_something_is_wrong_by_its_exit_code(run: Run, path: Path) -> None:
    """So that a nightly job can alarm somebody."""
    sound = await run("check", path)
    assert (sound.code, sound.stdout) == (0, "no problem found\n")
    with raw(path) as db:
        db.execute("UPDATE graph_nodes SET node_json = '{' WHERE node_id = 'x'")
    damaged = await run("check", path)
    assert damaged.code == 1
    assert damaged.stdout.startswith("session 'other': a stored node cannot be read")
    (problem,) = json.loads((await run("check", path, "--json")).stdout)["problems"]
    assert problem["session_id"] == "other"


async def test_a_backup_made_from_the_command_line_is_whole(
    run: Run, path: Path, tmp_path: Path
) -> None:
    """Made and checked in two commands, as an operator would."""
    target = tmp_path / "copy.db"
    assert said(await run("backup", path, target, "--json")) == {
        "backup": str(target),
        "bytes": target.stat().st_size,
    }
    assert (await run("check", target)).code == 0
    again = await run("backup", path, target)
    assert again.code == 3
    assert "a backup never replaces a file" in complaint(again)


async def test_commands_work_on_a_database_that_is_in_use(
    run: Run, path: Path, tmp_path: Path
) -> None:
    """What was committed a moment ago is in what they show, though it is only in the log yet."""
    async with SqliteStorage(path) as storage:
        store = await a_store(storage, "new")
        fence = (await hold(store, "new")).fence()
        await store.commit_runtime_state(
            a_commit(fence, session_id="new", graph=first(*a_chain("n")))
        )
        assert said(await run("info", path, "--json"))["row_counts"]["graph_nodes"] == 6
        assert (await run("check", path)).code == 0
        assert (await run("backup", path, tmp_path / "copy.db")).code == 0
        assert len(records(await run("export", path, "new"))) == 2
        assert process("vacuum", path).code == 0
        await store.commit_runtime_state(
            a_commit(fence, session_id="new", graph=first(*a_chain("m")))
        )
    assert (await run("export", tmp_path / "copy.db", "new")).code == 0


async def test_export_writes_a_session_as_lines_of_json(run: Run, path: Path) -> None:
    """Session, nodes in order, usage, turns; in UTF-8 whatever the terminal is set to."""
    session, *rest = records(process("export", path, "café", PYTHONIOENCODING="ascii"))
    assert (session["record"], session["format"], session["session_id"]) == ("session", 1, "café")
    assert (session["head_revision"], session["leaf_node_id"]) == (1, "b")
    assert [entry["record"] for entry in rest] == ["node", "node", "usage", "turn"]
    assert [entry["node"]["node_id"] for entry in rest[:2]] == ["a", "b"]
    assert (rest[2]["model"], rest[2]["input_tokens"]) == ("m1", 7)
    assert (rest[3]["turn_id"], rest[3]["state"]) == ("t1", "committed")
    assert rest[3]["result"]["outcome"]


async def an_inspected(path: Path, session_id: str = "café", turn_id: str = "t2") -> None:
    """A turn that runs: one call is on record, and of another nobody knows."""
    async with SqliteStorage(path) as storage:
        store = await a_store(storage, session_id)
        turn = await accepted(
            store, an_acceptance(turn_id, "secret words", session_id=session_id, journaled=True)
        )
        known, unknown = (
            EffectIdentity(
                replay_key=f"{session_id}:{turn_id}:{turn.row.turn_index}:0:tool_batch:3:child:{index}:c{index}",
                kind=RuntimeEffectKind.TOOL_ATTEMPT,
                position="3",
                subject=name,
                components={},
            )
            for index, name in enumerate(("look", "pay"))
        )
        await store.write_journal(
            turn.lease.fence(),
            turn_id,
            [
                EffectReserved(effect=known),
                EffectRecorded(effect=known, outcome='"a secret"'),
                EffectReserved(effect=unknown),
                EffectReserved(effect=unknown),
            ],
        )


async def test_inspect_prints_what_a_turn_did(run: Run, path: Path) -> None:
    """Each effect with how often it was begun, and nothing of what was said."""
    await an_inspected(path)
    done = await run("inspect", path, "t2")
    assert (done.code, done.stderr) == (0, "")
    assert "state: running" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "0:tool_batch:3:child:0:c0: tool_attempt look, recorded",
        "0:tool_batch:3:child:1:c1: tool_attempt pay, of unknown outcome, begun 2 times",
    ]
    assert "secret" not in done.stdout
    report = said(await run("inspect", path, "t2", "--json"))
    assert [effect["subject"] for effect in report["effects"]] == ["look", "pay"]
    assert (report["session_id"], report["attempt"]) == ("café", 1)


async def test_inspect_of_a_turn_that_is_over_tells_how_it_ended(run: Run, path: Path) -> None:
    """Also as a command of the package itself."""
    done = subprocess.run(
        [sys.executable, "-m", "lash_runtime", "inspect", path, "t1", "--json"],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    report = json.loads(done.stdout)
    assert (report["state"], report["outcome"]["kind"]) == ("committed", "finished")
    assert report["effects"] == []
    assert "no effect is on record" in (await run("inspect", path, "t1")).stdout


async def test_inspect_asks_which_session_is_meant(run: Run, path: Path) -> None:
    """A turn id is one within its session."""
    await an_inspected(path)
    await an_inspected(path, "other")
    done = await run("inspect", path, "t2")
    assert (done.code, done.stdout) == (3, "")
    assert "café" in done.stderr
    report = said(await run("inspect", path, "t2", "--session", "other", "--json"))
    assert report["session_id"] == "other"
    missing = await run("inspect", path, "never")
    assert missing.code == 5
    assert "no turn 'never'" in complaint(missing)


async def test_export_of_what_does_not_exist_has_a_code_of_its_own(run: Run, path: Path) -> None:
    """A script can tell a wrong id from a broken database; a deleted session is as none."""
    missing = await run("export", path, "nobody")
    assert missing.code == 5
    assert "no session 'nobody'" in complaint(missing)
    async with SqliteStorage(path) as storage:
        await storage.session_stores.delete_session("other")
    assert (await run("export", path, "other")).code == 5


async def test_export_to_a_reader_that_has_seen_enough_ends_quietly(run: Run, path: Path) -> None:
    """As in `export ... | head -1`."""
    async with SqliteStorage(path) as storage:
        store = await a_store(storage, "long")
        fence = (await hold(store, "long")).fence()
        nodes = a_chain(*(f"n{number}" for number in range(2_000)))
        await store.commit_runtime_state(a_commit(fence, session_id="long", graph=first(*nodes)))
    with subprocess.Popen(
        [sys.executable, "-m", "lash_runtime.stores.sqlite", "export", str(path), "long"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert json.loads(export.stdout.readline())["session_id"] == "long"
        export.stdout.close()
        assert export.stderr.read() == ""
        assert export.wait(60) == 0


async def test_vacuum_removes_and_reports(run: Run, path: Path) -> None:
    """Marked nodes always; turns that are over only if it was asked for."""
    async with SqliteStorage(path) as storage:
        await (await a_store(storage, "other")).tombstone_nodes(["z"])  # type: ignore[attr-defined]
    report = said(await run("vacuum", path, "--json"))
    assert report["removed_node_count"] == 1
    assert "removed_turn_count" not in report
    report = said(await run("vacuum", path, "--json", "--keep-turns", "0"))
    assert (report["removed_node_count"], report["removed_turn_count"]) == (0, 1)
    async with SqliteStorage(path) as storage:
        read = await (await a_store(storage, "café")).load_session(FullGraph())
        assert read is not None
        assert [node.node_id for node in read.nodes] == ["a", "b"]


@pytest.mark.parametrize("command", ["info", "check", "vacuum", "backup", "export"])
async def test_a_command_makes_no_database_and_changes_no_other(
    run: Run, command: str, tmp_path: Path
) -> None:
    """A mistyped path is answered, not turned into an empty database."""
    more = {"backup": [tmp_path / "copy.db"], "export": ["s"]}.get(command, [])
    nothing = tmp_path / "missing.db"
    assert "does not exist" in complaint(await refused(run, command, nothing, *more))
    assert not nothing.exists()

    text = tmp_path / "notes.txt"
    text.write_text("no database, and long enough to be looked at " * 100)
    assert "not a SQLite database" in complaint(await refused(run, command, text, *more))

    photos = tmp_path / "photos.db"
    with raw(photos) as db:
        db.execute("CREATE TABLE photos (name)")
    before = photos.read_bytes()
    assert "another program" in complaint(await refused(run, command, photos, *more))
    assert photos.read_bytes() == before

    empty = tmp_path / "empty.db"
    empty.touch()
    assert "open a storage on it first" in complaint(await refused(run, command, empty, *more))
    assert empty.stat().st_size == 0
    assert not (tmp_path / "copy.db").exists()


async def refused(run: Run, *arguments: str | Path) -> Done:
    done = await run(*arguments)
    assert done.code == 3
    return done


async def test_a_database_of_a_later_release_is_refused_by_its_version(
    run: Run, path: Path
) -> None:
    """Also by a command that only reads: what it would show could be wrong."""
    with raw(path) as db:
        db.execute("PRAGMA user_version = 99")
    for command in (["info"], ["check"], ["vacuum"]):
        assert "schema version 99" in complaint(await refused(run, *command, path))


async def test_reading_commands_change_no_byte(run: Run, path: Path, tmp_path: Path) -> None:
    """Not even the log is folded into the file: somebody may be about to copy it as evidence."""
    before = path.read_bytes()
    for command in (["info"], ["check"], ["export"], ["backup"]):
        more = {"backup": [tmp_path / "copy.db"], "export": ["other"]}.get(command[0], [])
        assert (await run(*command, path, *more)).code == 0
    assert path.read_bytes() == before


async def test_a_database_that_is_locked_is_reported_as_busy(run: Run, path: Path) -> None:
    """The one failure that passes by itself has a code of its own."""
    with raw(path) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        done = await run("info", path)
        db.execute("ROLLBACK")
    assert done.code == 4
    assert "locked" in complaint(done)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["repair", "agents.db"],
        ["info"],
        ["backup", "agents.db"],
        ["vacuum", "agents.db", "--keep-turns", "-1"],
        ["vacuum", "agents.db", "--keep-turns", "nan"],
    ],
)
async def test_a_wrong_command_line_is_answered_with_usage(run: Run, wrong: list[str]) -> None:
    """And with the code that every program has for it."""
    done = await run(*wrong)
    assert (done.code, done.stdout) == (2, "")
    assert "usage:" in done.stderr
