"""The journals of unfinished turns. The row of a turn that is over has the summary of its own."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from pydantic import TypeAdapter

from ...ports.invocations import RuntimeEffectKind
from ...ports.journal import (
    EffectIdentity,
    EffectRecorded,
    EffectReserved,
    JournalEntry,
    JournalWrite,
)
from ._records import decode_as, decode_member

_COMPONENTS: Final[TypeAdapter[Mapping[str, str]]] = TypeAdapter(dict[str, str])

RESERVE: Final = """
    INSERT INTO turn_effects
           (session_id, turn_id, replay_key, kind, position, subject, components_json, runs,
            due_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)
        ON CONFLICT (session_id, turn_id, replay_key)
        DO UPDATE SET runs = runs + 1
"""
RECORD: Final = """
    INSERT INTO turn_effects
           (session_id, turn_id, replay_key, kind, position, subject, components_json, runs,
            outcome_json)
    VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)
        ON CONFLICT (session_id, turn_id, replay_key)
        DO UPDATE SET outcome_json = excluded.outcome_json WHERE outcome_json IS NULL
"""
LOAD: Final = """
    SELECT replay_key, kind, position, subject, components_json, runs, outcome_json, due_at_ms
      FROM turn_effects
     WHERE session_id = ? AND turn_id = ?
     ORDER BY seq
"""
RECORDED: Final = """
    SELECT count(*)
      FROM turn_effects
     WHERE session_id = ? AND turn_id = ? AND outcome_json IS NOT NULL
"""
REMOVE: Final = "DELETE FROM turn_effects WHERE session_id = ? AND turn_id = ?"
REMOVE_ALL: Final = "DELETE FROM turn_effects WHERE session_id = ?"
TURNS: Final = "SELECT DISTINCT turn_id FROM turn_effects WHERE session_id = ?"


def write(
    db: sqlite3.Connection, session_id: str, turn_id: str, writes: Sequence[JournalWrite]
) -> None:
    for entry in writes:
        effect = entry.effect
        about = (
            session_id,
            turn_id,
            effect.replay_key,
            effect.kind.value,
            effect.position,
            effect.subject,
            _json(effect.components),
        )
        match entry:
            case EffectReserved(due_at_ms=due_at_ms):
                db.execute(RESERVE, (*about, due_at_ms))
            case EffectRecorded(outcome=outcome):
                db.execute(RECORD, (*about, outcome))
            case _:
                assert_never(entry)


def load(db: sqlite3.Connection, session_id: str, turn_id: str) -> tuple[JournalEntry, ...]:
    """In the order in which entries were made."""
    return tuple(
        JournalEntry(
            effect=EffectIdentity(
                replay_key=replay_key,
                kind=decode_member(RuntimeEffectKind, kind, kind="effect's kind"),
                position=position,
                subject=subject,
                components=decode_as(_COMPONENTS, components, kind="effect's components"),
            ),
            runs=runs,
            outcome=outcome,
            due_at_ms=due_at_ms,
        )
        for replay_key, kind, position, subject, components, runs, outcome, due_at_ms in db.execute(
            LOAD, (session_id, turn_id)
        )
    )


def recorded(db: sqlite3.Connection, session_id: str, turn_id: str) -> int:
    """How many effects of the turn are on record."""
    count: int = db.execute(RECORDED, (session_id, turn_id)).fetchone()[0]
    return count


def remove(db: sqlite3.Connection, session_id: str, turn_id: str) -> None:
    db.execute(REMOVE, (session_id, turn_id))


def remove_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(REMOVE_ALL, (session_id,))


def turns(db: sqlite3.Connection, session_id: str) -> frozenset[str]:
    """The turns that have a journal."""
    return frozenset(turn_id for (turn_id,) in db.execute(TURNS, (session_id,)))


def _json(components: Mapping[str, str]) -> str:
    return json.dumps(dict(components), separators=(",", ":"))
