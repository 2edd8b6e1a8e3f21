"""The record of all waits of one keeper, behind operations that are atomic each.

A book decides nothing but who was first. It takes keys that are genuine: to ask is the keeper's.
"""

from typing import Final, Protocol

from ..model.records import dataclass
from ..ports.await_events import (
    AwaitEventKey,
    AwaitEventWaitIdentity,
    Resolution,
    ResolveOutcome,
    UnknownOrRevoked,
)
from ..ports.execution_scope import ExecutionScope

SECRET_BYTES: Final = 32
"""Of what keys are signed with."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not answered yet. `deadline_ms` is that of the first wait, since the Unix epoch."""

    deadline_ms: int | None


@dataclass(frozen=True, slots=True)
class Answered:
    """Over, for good."""

    terminal: Resolution


WaitState = Pending | Answered | UnknownOrRevoked


class WaitBook(Protocol):
    """Every call happens whole or not at all, and calls of others stand before it or after it.

    What is dead stays dead: a key whose session was revoked, in its generation or a later one, is
    `UnknownOrRevoked` to every call.
    """

    async def secret(self) -> bytes:
        """What keys are signed with; the same for as long as the record is kept."""
        ...

    async def mint(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None
    ) -> AwaitEventKey:
        """As `AwaitEventResolver.await_event_key`."""
        ...

    async def register(self, key: AwaitEventKey, deadline_ms: int | None) -> WaitState:
        """How the wait stands, which is pending from now on if it was unknown."""
        ...

    async def look(self, key: AwaitEventKey) -> WaitState:
        """How a wait stands that was registered; `UnknownOrRevoked` when it is gone."""
        ...

    async def answer(self, key: AwaitEventKey, terminal: str) -> ResolveOutcome:
        """Answer the wait with the text of a resolution, unless it has an answer."""
        ...

    async def revoke(self, session_id: str, generation: int | None) -> None:
        """As `AwaitEventResolver.revoke_await_events_for_session`."""
        ...

    async def answer_pending(self, session_id: str, terminal: str) -> None:
        """Answer every wait of the session that is pending."""
        ...
