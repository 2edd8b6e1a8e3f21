"""What each session has spent: one row for each source and model, added up as it comes."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from ...model.usage import TokenLedgerEntry, TokenUsage, merge_ledger

ADD: Final = """
    INSERT INTO usage_totals
           (session_id, source, model, input_tokens, output_tokens, cache_read_input_tokens,
            cache_write_input_tokens, reasoning_output_tokens)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (session_id, source, model) DO UPDATE
       SET input_tokens = input_tokens + excluded.input_tokens,
           output_tokens = output_tokens + excluded.output_tokens,
           cache_read_input_tokens = cache_read_input_tokens + excluded.cache_read_input_tokens,
           cache_write_input_tokens = cache_write_input_tokens + excluded.cache_write_input_tokens,
           reasoning_output_tokens = reasoning_output_tokens + excluded.reasoning_output_tokens
"""
LOAD: Final = """
    SELECT source, model, input_tokens, output_tokens, cache_read_input_tokens,
           cache_write_input_tokens, reasoning_output_tokens
      FROM usage_totals
     WHERE session_id = ?
     ORDER BY rowid
"""
DELETE_ALL: Final = "DELETE FROM usage_totals WHERE session_id = ?"


def add(db: sqlite3.Connection, session_id: str, entries: Iterable[TokenLedgerEntry]) -> None:
    """Entries of no tokens leave no row."""
    for entry in merge_ledger(entries):
        usage = entry.usage
        db.execute(
            ADD,
            (
                session_id,
                entry.source,
                entry.model,
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_input_tokens,
                usage.cache_write_input_tokens,
                usage.reasoning_output_tokens,
            ),
        )


def load(db: sqlite3.Connection, session_id: str) -> tuple[TokenLedgerEntry, ...]:
    """In the order in which the pairs were first seen."""
    return tuple(
        TokenLedgerEntry(
            source=source,
            model=model,
            usage=TokenUsage(
                input_tokens=fresh,
                output_tokens=output,
                cache_read_input_tokens=read,
                cache_write_input_tokens=written,
                reasoning_output_tokens=reasoning,
            ),
        )
        for source, model, fresh, output, read, written, reasoning in db.execute(
            LOAD, (session_id,)
        )
    )


def delete_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(DELETE_ALL, (session_id,))
