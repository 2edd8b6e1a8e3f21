"""The rules of durable waits, over any book.

Rule 1: the first answer is the answer. A cancel and a deadline are answers as any other; whoever
gives one goes back to the book for what counts.
Rule 2: only a fired `CancelToken` writes `cancelled`. A waiter whose task is cancelled writes
nothing, and the wait stays as it is for whoever comes back to it.
Rule 3: what a waiter is not told it finds by looking again, so a lost signal costs time alone.
"""

from collections.abc import Callable
from typing import Final

from ..ports.await_events import (
    UNKNOWN_OR_REVOKED,
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventWaitIdentity,
    Resolution,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedTimeout,
    ResolveOutcome,
    UnknownOrRevoked,
    is_genuine,
    resolution_text,
)
from ..ports.cancel import CancelToken
from ..ports.clock import Clock
from ..ports.effect_errors import EffectControllerError
from ..ports.execution_scope import ExecutionScope
from .book import Answered, Pending, WaitBook, WaitState
from .signal import WaitSignal


class AwaitEventKeeper:
    """An `AwaitEventResolver`: keeps waits in a book, and lets waiters of this process know."""

    def __init__(self, book: WaitBook, signal: WaitSignal, clock: Callable[[], Clock]) -> None:
        self._book: Final = book
        self._signal: Final = signal
        self._clock: Final = clock

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        return await self._book.mint(scope, wait, generation)

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        terminal = resolution_text(resolution)
        if not await self._is_genuine(key):
            return UnknownOrRevoked()
        return await self._answer(key, terminal)

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        if not await self._is_genuine(key):
            raise _unknown_or_revoked(key)
        clock = self._clock()
        with self._signal.listening(key) as listener:
            state = await self._book.register(key, deadline_ms)
            while isinstance(state, Pending):
                end = _end_of_waiting(state, cancel, clock)
                if end is not None:
                    state = await self._ended(key, end)
                    continue
                await listener.wait(cancel, state.deadline_ms, clock)
                state = await self._book.look(key)
        if isinstance(state, UnknownOrRevoked):
            raise _unknown_or_revoked(key)
        return state.terminal

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        await self._book.revoke(session_id, generation)
        self._signal.ring_session(session_id)

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        await self._book.answer_pending(session_id, resolution_text(ResolvedCancelled()))
        self._signal.ring_session(session_id)

    async def _is_genuine(self, key: AwaitEventKey) -> bool:
        return is_genuine(key, await self._book.secret())

    async def _answer(self, key: AwaitEventKey, terminal: str) -> ResolveOutcome:
        outcome = await self._book.answer(key, terminal)
        if isinstance(outcome, ResolveAccepted):
            self._signal.ring(key.key_id)
        return outcome

    async def _ended(self, key: AwaitEventKey, end: Resolution) -> WaitState:
        """How the wait stands once `end` was written, unless somebody else was faster."""
        outcome = await self._answer(key, resolution_text(end))
        match outcome:
            case ResolveAccepted():
                return Answered(end)
            case AlreadyResolved(terminal=terminal):
                return Answered(terminal)
            case UnknownOrRevoked():
                return outcome


def _end_of_waiting(state: Pending, cancel: CancelToken, clock: Clock) -> Resolution | None:
    """What a waiter writes that will not wait any longer."""
    if cancel.is_cancelled:
        return ResolvedCancelled()
    if state.deadline_ms is not None and state.deadline_ms <= clock.timestamp_ms():
        return ResolvedTimeout()
    return None


def _unknown_or_revoked(key: AwaitEventKey) -> EffectControllerError:
    return EffectControllerError(
        UNKNOWN_OR_REVOKED,
        f"there is nothing to wait for under {key.promise_key}: the key is not of this keeper, or "
        "its session was deleted or revoked",
    )
