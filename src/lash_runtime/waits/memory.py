"""The book of one process: nothing in it outlives the object.

Every call is one step under a lock, so that several event loops may share a book. The lock is held
for no longer than that, and never while anything of a caller runs.
"""

import secrets
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from ..ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventWaitIdentity,
    Resolution,
    ResolveAccepted,
    ResolveOutcome,
    UnknownOrRevoked,
    mint_await_event_key,
    resolution_adapter,
)
from ..ports.execution_scope import ExecutionScope, session_of
from .book import SECRET_BYTES, Answered, Pending, WaitState

T = TypeVar("T")

FIRST_GENERATION: Final = 1


class _Entry:
    """One wait. It is here from when its key was first given out, and pending only from when
    somebody has waited."""

    __slots__ = ("deadline_ms", "generation", "registered", "scope", "session_id", "terminal")

    def __init__(self, scope: ExecutionScope, session_id: str | None, generation: int) -> None:
        self.scope = scope
        self.session_id = session_id
        self.generation = generation
        self.registered = False
        self.deadline_ms: int | None = None
        self.terminal: str | None = None


class MemoryWaitBook:
    """A `WaitBook` over plain dictionaries, with a secret of its own.

    The secret makes sure that a genuine key was given out here, so a wait that is not here any more
    is one that was dropped. `generation_of` says in which generation a session is; without it the
    book knows what callers have told it. `check` raises where the book may not be used.
    """

    def __init__(
        self,
        *,
        generation_of: Callable[[str], int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._check = check
        self._generation_of = generation_of or self._told_generation
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._of_scope: dict[ExecutionScope, set[str]] = {}
        self._of_session: dict[str, set[str]] = {}
        self._told: dict[str, int] = {}
        self._revoked: dict[str, int] = {}

    async def secret(self) -> bytes:
        self._check()
        return self._secret

    async def mint(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None
    ) -> AwaitEventKey:
        self._check()
        session_id = session_of(scope)
        if session_id is None:
            generation = None
        elif generation is None:
            generation = self._generation_of(session_id)
        key = mint_await_event_key(scope, wait, self._secret, generation)
        with self._lock:
            if session_id is not None and generation is not None:
                self._is_told(session_id, generation)
            if not self._is_dead(key) and key.key_id not in self._entries:
                self._add(key, _Entry(scope, session_id, generation or FIRST_GENERATION))
        return key

    async def register(self, key: AwaitEventKey, deadline_ms: int | None) -> WaitState:
        self._check()
        with self._lock:
            entry = self._entries.get(key.key_id)
            if entry is not None and not entry.registered:
                entry.registered = True
                entry.deadline_ms = deadline_ms
            return _state(entry)

    async def look(self, key: AwaitEventKey) -> WaitState:
        self._check()
        with self._lock:
            return _state(self._entries.get(key.key_id))

    async def answer(self, key: AwaitEventKey, terminal: str) -> ResolveOutcome:
        self._check()
        with self._lock:
            entry = self._entries.get(key.key_id)
            if entry is None:
                return UnknownOrRevoked()
            if entry.terminal is not None:
                return AlreadyResolved(_resolution(entry.terminal))
            entry.terminal = terminal
            return ResolveAccepted()

    async def revoke(self, session_id: str, generation: int | None) -> None:
        self._check()
        self.revoke_now(session_id, generation)

    async def answer_pending(self, session_id: str, terminal: str) -> None:
        self._check()
        with self._lock:
            for key_id in self._of_session.get(session_id, ()):
                entry = self._entries[key_id]
                if entry.registered and entry.terminal is None:
                    entry.terminal = terminal

    def revoke_now(self, session_id: str, generation: int | None) -> None:
        """`revoke`, as a part of whatever else the caller does in the same step."""
        until = self._generation_of(session_id) if generation is None else generation
        with self._lock:
            self._revoked[session_id] = max(until, self._revoked.get(session_id, 0))
            for key_id in tuple(self._of_session.get(session_id, ())):
                if self._entries[key_id].generation <= until:
                    self._drop(key_id)

    def drop_session(self, session_id: str) -> None:
        """Drop the waits of a session that never began."""
        with self._lock:
            for key_id in tuple(self._of_session.get(session_id, ())):
                self._drop(key_id)

    def drop_scope(self, scope: ExecutionScope, is_heard: Callable[[str], bool]) -> tuple[str, ...]:
        """Drop the waits of a scope that is over, but for those that somebody still waits for.

        Returns the latter, which are to be dropped when nobody does any more.
        """
        with self._lock:
            key_ids = tuple(self._of_scope.get(scope, ()))
            heard = tuple(key_id for key_id in key_ids if is_heard(key_id))
            for key_id in set(key_ids) - set(heard):
                self._drop(key_id)
            return heard

    def drop(self, key_id: str) -> None:
        """Drop one wait, if it is here."""
        with self._lock:
            if key_id in self._entries:
                self._drop(key_id)

    def _is_told(self, session_id: str, generation: int) -> None:
        # Only of ids that were used again is there anything to remember.
        if generation > self._told_generation(session_id):
            self._told[session_id] = generation

    def _told_generation(self, session_id: str) -> int:
        return self._told.get(session_id, FIRST_GENERATION)

    def _is_dead(self, key: AwaitEventKey) -> bool:
        session_id = session_of(key.scope)
        if session_id is None or key.generation is None:
            return False
        return key.generation <= self._revoked.get(session_id, 0)

    def _add(self, key: AwaitEventKey, entry: _Entry) -> None:
        self._entries[key.key_id] = entry
        self._of_scope.setdefault(entry.scope, set()).add(key.key_id)
        if entry.session_id is not None:
            self._of_session.setdefault(entry.session_id, set()).add(key.key_id)

    def _drop(self, key_id: str) -> None:
        entry = self._entries.pop(key_id)
        _discard(self._of_scope, entry.scope, key_id)
        if entry.session_id is not None:
            _discard(self._of_session, entry.session_id, key_id)


def _state(entry: _Entry | None) -> WaitState:
    if entry is None:
        return UnknownOrRevoked()
    if entry.terminal is None:
        return Pending(entry.deadline_ms)
    return Answered(_resolution(entry.terminal))


def _resolution(terminal: str) -> Resolution:
    # Read anew for everybody who asks: what one of them does to a payload is not seen by others.
    return resolution_adapter().validate_json(terminal)


def _discard(index: dict[T, set[str]], name: T, key_id: str) -> None:
    remaining = index[name]
    remaining.discard(key_id)
    if not remaining:
        del index[name]
