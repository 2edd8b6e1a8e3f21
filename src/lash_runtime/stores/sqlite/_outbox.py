"""What a transaction has to tell once it is committed.

Whoever changes a row that somebody may wait for says so on the connection, there and then; the
thread that commits takes it from there. Nobody else has to know what a body does.
"""

import sqlite3
from typing import Any

from ...ports.signals import SignalKind, StoreSignal


class WritingConnection(sqlite3.Connection):
    """A connection with an outbox: the signals of the body that runs on it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.outbox: list[StoreSignal] = []


def tell(
    db: sqlite3.Connection, kind: SignalKind, session_id: str, turn_id: str | None = None
) -> None:
    """Announce that, if the transaction that now runs is committed. A connection without an
    outbox is one of a body that nobody waits for."""
    if isinstance(db, WritingConnection):
        db.outbox.append(StoreSignal(kind, session_id, turn_id))


def taken(db: sqlite3.Connection) -> list[StoreSignal]:
    """Empty the outbox; what was in it."""
    if not isinstance(db, WritingConnection):
        return []
    signals, db.outbox = db.outbox, []
    return signals
