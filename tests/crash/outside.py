"""What can be counted from outside: the acts of tools and model, and what the file says of them.

Every act appends a line to a file that is no part of the database, before and after it, so that a
death takes nothing of that back. What the database has on record is read from a copy of its files,
for the next process is to find them as the dead one has left them.
"""

import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MODEL_KEY: Final = re.compile(r"(?:^|:)(\d+):llm_call:\d+$")
_TOOL_KEY: Final = re.compile(r":([^:]+):(attempt:\d+)$")
_WAIT_KEY: Final = re.compile(r":([^:]+):[^:]+:(attempt:\d+:sleep)$")


def model_call(number: int) -> str:
    return f"model:{number}"


def tool_attempt(call_id: str, attempt: int) -> str:
    return f"{call_id}:attempt:{attempt}"


def act_of(replay_key: str) -> str:
    """The name of the act that an effect of the journal is."""
    if found := _MODEL_KEY.search(replay_key):
        return model_call(int(found[1]))
    found = _WAIT_KEY.search(replay_key) or _TOOL_KEY.search(replay_key)
    assert found is not None, replay_key
    return f"{found[1]}:{found[2]}"


@dataclass(frozen=True)
class Line:
    """One line: in which life an act `begins` or `ends`, for the how-manieth time it was run,
    under which idempotency key, and at what time."""

    life: int
    what: str
    act: str
    run: int
    key: str
    at_s: float


class Outside:
    """Where one process notes its acts."""

    def __init__(self, path: Path, life: int) -> None:
        self._life = life
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def note(self, what: str, act: str, *, run: int, key: str) -> None:
        line = json.dumps([self._life, what, act, run, key, time.time()])
        os.write(self._file, f"{line}\n".encode())


def lines_of(path: Path) -> list[Line]:
    if not path.exists():
        return []
    return [Line(*json.loads(line)) for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class OnRecord:
    """What the journal says of one act. `due_at_ms` is when a wait is over."""

    runs: int
    recorded: bool
    due_at_ms: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """The rows of one turn at one instant; `state` is `None` before it was accepted.

    `entries` are those of its journal while it is unfinished, and then those of its summary.
    `strays` counts the rows of journals that no unfinished turn has. `held` says whether the lane
    has a holder, `token` is the number of the latest lease, and `lapses_at_ms` its end.
    """

    state: str | None
    attempt: int
    deaths: int
    entries: Mapping[str, OnRecord]
    strays: int
    held: bool
    token: int
    lapses_at_ms: int = 0

    @property
    def is_settled(self) -> bool:
        return self.state not in {None, "accepted", "running", "waiting"}


BEFORE_IT_BEGAN: Final = Snapshot(None, 0, 0, {}, 0, False, 0)


def snapshot(database: Path, session_id: str, turn_id: str) -> Snapshot:
    with tempfile.TemporaryDirectory(dir=database.parent) as place:
        copy = Path(place, database.name)
        for end in ("", "-wal"):
            if (file := database.with_name(f"{database.name}{end}")).exists():
                shutil.copyfile(file, copy.with_name(file.name))
        with closing(sqlite3.connect(copy)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'turns'").fetchone():
                return BEFORE_IT_BEGAN
            return _read(db, session_id, turn_id)


def _read(db: sqlite3.Connection, session_id: str, turn_id: str) -> Snapshot:
    row = db.execute(
        "SELECT state, attempt, deaths, effects_json FROM turns "
        "WHERE session_id = ? AND turn_id = ?",
        (session_id, turn_id),
    ).fetchone()
    effects = db.execute(
        "SELECT replay_key, runs, outcome_json IS NOT NULL, due_at_ms FROM turn_effects "
        "WHERE session_id = ? AND turn_id = ?",
        (session_id, turn_id),
    ).fetchall()
    (strays,) = db.execute(
        "SELECT count(*) FROM turn_effects AS effect WHERE NOT EXISTS "
        "(SELECT 1 FROM turns WHERE session_id = effect.session_id "
        "AND turn_id = effect.turn_id AND settled_at_ms IS NULL)"
    ).fetchone()
    lane = db.execute(
        "SELECT lease_token IS NOT NULL, fencing_token, expires_at_ms "
        "FROM session_execution_leases WHERE session_id = ?",
        (session_id,),
    ).fetchone()
    state, attempt, deaths, summary = row or (None, 0, 0, None)
    entries = {
        act_of(key): OnRecord(runs, bool(recorded), due) for key, runs, recorded, due in effects
    }
    for each in json.loads(summary or "[]"):
        entries[act_of(each["key"])] = OnRecord(each.get("runs", 1), each.get("recorded", True))
    held, token, lapses_at_ms = lane or (0, 0, 0)
    return Snapshot(
        state=state,
        attempt=attempt,
        deaths=deaths,
        entries=entries,
        strays=strays,
        held=bool(held),
        token=token,
        lapses_at_ms=lapses_at_ms,
    )
