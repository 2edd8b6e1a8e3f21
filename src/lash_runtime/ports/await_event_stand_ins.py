"""Resolvers of durable waits that keep none: one that has none, one that asks another."""

from abc import ABC, abstractmethod

from .await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    Resolution,
    ResolveOutcome,
    UnknownOrRevoked,
)
from .cancel import CancelToken
from .effect_errors import EffectControllerError
from .execution_scope import ExecutionScope


class NoAwaitEvents:
    """The resolver of whoever keeps no waits: says so, and knows no key. A base for the hosts and
    controllers of engines that can do a part of it.

    `of` is whose it is, for messages; the resolver itself unless it is given.
    """

    _of: object | None = None

    def __init__(self, *, of: object | None = None) -> None:
        self._of = of

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        raise self._unsupported("await_event_unsupported", "wait for an event")

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        return UnknownOrRevoked()

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        raise self._unsupported("await_event_unsupported", "wait for an event")

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        """There is nothing to revoke."""

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        raise self._unsupported(
            "await_event_cancel_unsupported", f"cancel the waits of session {session_id!r}"
        )

    def _unsupported(self, code: str, what: str) -> EffectControllerError:
        return EffectControllerError(code, f"{type(self._of or self).__name__} cannot {what}")


class ForwardsAwaitEvents(ABC):
    """A resolver that leaves everything to another one. A base for hosts and controllers that wrap
    others."""

    @abstractmethod
    def kept_by(self) -> AwaitEventResolver:
        """Who keeps the waits. Asked for each call."""
        ...

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        return await self.kept_by().await_event_key(scope, wait, generation)

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        return await self.kept_by().resolve_await_event(key, resolution)

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        return await self.kept_by().await_await_event(key, cancel, deadline_ms)

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        await self.kept_by().revoke_await_events_for_session(session_id, generation)

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        await self.kept_by().cancel_await_events_for_session(session_id)


def waits_of(part: object) -> AwaitEventResolver:
    """The resolver that `part` is, or one that says of it that it is none."""
    return part if isinstance(part, AwaitEventResolver) else NoAwaitEvents(of=part)


def keeps_waits(part: object) -> bool:
    """Whether `part` is a resolver, and not one that leaves everything to somebody who is none."""
    if isinstance(part, ForwardsAwaitEvents):
        return keeps_waits(part.kept_by())
    return isinstance(part, AwaitEventResolver) and type(part) is not NoAwaitEvents
