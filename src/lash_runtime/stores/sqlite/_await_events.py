"""Durable waits in the database of the sessions: answered from any process that has it open."""

import secrets
import sqlite3
from functools import partial

from ...ports.await_events import (
    AwaitEventKey,
    AwaitEventWaitIdentity,
    ResolveOutcome,
    mint_await_event_key,
)
from ...ports.execution_scope import ExecutionScope, session_of
from ...waits.book import SECRET_BYTES, WaitState
from ...waits.keeper import AwaitEventKeeper
from . import _waits
from ._database import Database
from ._scope import StorageScope


class SqliteWaitBook:
    """A `WaitBook`, each call one transaction. The secret is the database's own and stays."""

    __slots__ = ("_scope", "_secret")

    def __init__(self, scope: StorageScope) -> None:
        self._scope = scope
        self._secret: tuple[Database, bytes] | None = None

    async def secret(self) -> bytes:
        database = self._scope.database
        database.check_owner()
        # Another opening may be of another file under the same path.
        if self._secret is None or self._secret[0] is not database:
            secret = await database.read(_waits.secret)
            if secret is None:
                drawn = secrets.token_bytes(SECRET_BYTES)
                secret = await database.write(partial(_waits.keep_secret, drawn=drawn))
            self._secret = (database, secret)
        return self._secret[1]

    async def mint(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None
    ) -> AwaitEventKey:
        secret = await self.secret()
        session_id = session_of(scope)
        if session_id is None:
            generation = None
        elif generation is None:
            generation = await self._scope.database.read(
                partial(_waits.generation, session_id=session_id)
            )
        return mint_await_event_key(scope, wait, secret, generation)

    async def register(self, key: AwaitEventKey, deadline_ms: int | None) -> WaitState:
        def body(db: sqlite3.Connection) -> WaitState:
            return _waits.register(db, key, deadline_ms, self._now_ms())

        return await self._scope.database.write(body)

    async def look(self, key: AwaitEventKey) -> WaitState:
        return await self._scope.database.read(partial(_waits.look, key=key))

    async def answer(self, key: AwaitEventKey, terminal: str) -> ResolveOutcome:
        def body(db: sqlite3.Connection) -> ResolveOutcome:
            return _waits.answer(db, key, terminal, self._now_ms())

        return await self._scope.database.write(body, len(terminal))

    async def revoke(self, session_id: str, generation: int | None) -> None:
        def body(db: sqlite3.Connection) -> None:
            _waits.revoke(db, session_id, generation, self._now_ms())

        await self._scope.database.write(body)

    async def answer_pending(self, session_id: str, terminal: str) -> None:
        def body(db: sqlite3.Connection) -> None:
            _waits.answer_pending(db, session_id, terminal, self._now_ms())

        await self._scope.database.write(body)

    def _now_ms(self) -> int:
        return self._scope.clock.timestamp_ms()


def await_events_over(scope: StorageScope) -> AwaitEventKeeper:
    """The keeper of the waits in the database of `scope`."""
    return AwaitEventKeeper(SqliteWaitBook(scope), scope.wait_signal, lambda: scope.clock)
