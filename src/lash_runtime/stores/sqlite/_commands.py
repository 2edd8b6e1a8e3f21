"""The command line for operators: `python -m lash_runtime.stores.sqlite COMMAND DATABASE`.

`info`, `check`, `backup`, `export` and `inspect` open the database so that they cannot change it;
it may be in use. What a command has to say goes to the standard output, as JSON with `--json`; what
went wrong goes to the standard error in one line.

The exit codes are a contract: 0 it is done, 1 `check` has found something, 2 the command line is
wrong, 3 it cannot be done and the message says why, 4 the database was busy and the command may
be repeated, 5 there is no such session or turn.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final, TypeVar

from ...ports.store_errors import StoreBackendError, StoreContended, StoreError
from . import _backup, _check, _export, _inspection, _turn_report
from ._connections import open_read_only
from ._failures import store_error
from ._storage import SqliteStorage

T = TypeVar("T")

PROGRAM: Final = "python -m lash_runtime.stores.sqlite"

DONE: Final = 0
PROBLEMS_FOUND: Final = 1
FAILED: Final = 3
BUSY: Final = 4
NO_SUCH_SESSION: Final = 5
"""Or turn."""
INTERRUPTED: Final = 130
"""What a shell reports of a program that was stopped by Ctrl-C."""


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Run one command and return its exit code. A wrong command line raises `SystemExit(2)`."""
    asked = _parser(program).parse_args(arguments)
    try:
        if not os.path.exists(asked.database):
            raise StoreBackendError(f"{asked.database} does not exist")
        code: int = asked.command(asked)
        sys.stdout.flush()
    except sqlite3.Error as error:
        return _complain(store_error(error))
    except StoreError as error:
        return _complain(error)
    except BrokenPipeError:
        # Whoever read has seen enough. Nothing is left to be flushed when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _info(asked: argparse.Namespace) -> int:
    if asked.sessions:
        return _looking(asked, lambda db: _list_sessions(asked, db))
    found = _looking(asked, lambda db: _inspection.info(db, threading.Event(), path=asked.database))
    facts = asdict(found)
    tables = {} if asked.json else facts.pop("row_counts")
    _show(asked, facts)
    for name, count in tables.items():
        _say(f"rows in {name}: {count}")
    return DONE


def _list_sessions(asked: argparse.Namespace, db: sqlite3.Connection) -> int:
    for session in _inspection.sessions(db):
        _say(json.dumps(session, ensure_ascii=False) if asked.json else str(session["session_id"]))
    return DONE


def _check_it(asked: argparse.Namespace) -> int:
    problems = _looking(asked, lambda db: _check.check(db, threading.Event()))
    if asked.json:
        _show(asked, {"problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            place = "" if problem.session_id is None else f"session {problem.session_id!r}: "
            _say(f"{place}{problem.message}")
        if not problems:
            _say("no problem found")
    return PROBLEMS_FOUND if problems else DONE


def _back_up(asked: argparse.Namespace) -> int:
    size = _looking(asked, lambda db: _backup.copy(db, threading.Event(), target=asked.target))
    _show(asked, {"backup": asked.target, "bytes": size})
    return DONE


def _export_session(asked: argparse.Namespace) -> int:
    def write(db: sqlite3.Connection) -> int:
        written = 0
        for line in _export.lines(db, asked.session):
            _say(line)
            written += 1
        return written

    if _looking(asked, write) == 0:
        _grumble(f"{asked.database} has no session {asked.session!r}")
        return NO_SUCH_SESSION
    return DONE


def _inspect_turn(asked: argparse.Namespace) -> int:
    def look(db: sqlite3.Connection) -> list[dict[str, Any]]:
        named = asked.session
        sessions = _turn_report.sessions_of(db, asked.turn) if named is None else (named,)
        found = (_turn_report.report(db, session_id, asked.turn) for session_id in sessions)
        return [report for report in found if report is not None]

    reports = _looking(asked, look)
    if not reports:
        _grumble(f"{asked.database} has no turn {asked.turn!r}")
        return NO_SUCH_SESSION
    if len(reports) > 1:
        _grumble(f"turn {asked.turn!r} is one of several sessions, name one with --session:")
        for report in reports:
            _grumble(f"  {report['session_id']}")
        return FAILED
    (report,) = reports
    if asked.json:
        _show(asked, report)
        return DONE
    effects = report.pop("effects")
    _show(asked, {name: value for name, value in report.items() if value not in (None, [])})
    for effect in effects:
        runs = "" if effect["runs"] == 1 else f", begun {effect['runs']} times"
        state = "recorded" if effect["recorded"] else "of unknown outcome"
        _say(f"{effect['key']}: {effect['kind']} {effect['subject']}, {state}{runs}")
    if not effects:
        _say("no effect is on record besides its model calls")
    return DONE


def _vacuum(asked: argparse.Namespace) -> int:
    _looking(asked, lambda _: None)  # a database that is not ours is refused before it is opened
    _show(asked, asyncio.run(_vacuumed(asked.database, asked.keep_turns)))
    return DONE


async def _vacuumed(database: str, keep_turns: float | None) -> dict[str, Any]:
    async with SqliteStorage(database) as storage:
        upkeep = storage.maintenance
        report = asdict(await upkeep.vacuum())
        if keep_turns is not None:
            report |= asdict(await upkeep.prune_turns(timedelta(days=keep_turns)))
        report |= asdict(await upkeep.gc_unreachable())
        report["released_bytes"] = await upkeep.compact()
    return report


def _looking(asked: argparse.Namespace, look: Callable[[sqlite3.Connection], T]) -> T:
    """What `look` finds on one snapshot of the database."""
    with closing(open_read_only(asked.database)) as db:
        db.execute("BEGIN")
        return look(db)


def _show(asked: argparse.Namespace, facts: dict[str, Any]) -> None:
    if asked.json:
        _say(json.dumps(facts, ensure_ascii=False))
    else:
        for name, value in facts.items():
            _say(f"{name.replace('_', ' ')}: {value}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _grumble(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _complain(error: StoreError) -> int:
    _grumble(str(error))
    return BUSY if isinstance(error, StoreContended) else FAILED


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days <= _MOST_DAYS:
        raise ValueError
    return days


_MOST_DAYS: Final = 36_500


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Look after a database of sessions. It may be in use.",
        epilog="exit codes: 0 done, 1 check found problems, 2 wrong command line, 3 failed, "
        "4 busy, 5 no such session or turn",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], says: str, *, as_json: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=says, description=says)
        added.set_defaults(command=run)
        added.add_argument("database", metavar="DATABASE")
        if as_json:
            added.add_argument("--json", action="store_true", help="report as one line of JSON")
        return added

    info = command("info", _info, "say how large the database is and what is in it")
    info.add_argument(
        "--sessions", action="store_true", help="list the sessions, last used first, one a line"
    )
    command("check", _check_it, "read the whole database and name what is wrong with it")
    command("backup", _back_up, "copy the database to a new file").add_argument(
        "target", metavar="TARGET"
    )
    vacuum = command("vacuum", _vacuum, "remove what is not needed and give its space back")
    vacuum.add_argument(
        "--keep-turns",
        type=_days,
        metavar="DAYS",
        help="also forget turns that ended longer ago; their messages stay",
    )
    command(
        "export", _export_session, "write a session as lines of JSON", as_json=False
    ).add_argument("session", metavar="SESSION")
    inspect = command("inspect", _inspect_turn, "say what a turn did, effect by effect")
    inspect.add_argument("turn", metavar="TURN", help="the id of the turn")
    inspect.add_argument(
        "--session", metavar="SESSION", help="its session, if several have a turn of that id"
    )
    return parser
