"""Durable waits: one keyed promise for each thing that is waited for; the first answer wins.

A wait outlives the process that asked. Its key is a bearer capability: whoever holds it may
answer, once, from anywhere.
"""

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from ..model._value import Value, omitted_when_none
from ..model.records import dataclass
from .cancel import CancelToken
from .effects import ExecutionScope


class ToolCompletionWait(Value):
    """Waits for the answer to one tool call."""

    type: Literal["tool_completion"] = "tool_completion"
    tool_call_id: str


class CustomWait(Value):
    type: Literal["custom"] = "custom"
    key: str


AwaitEventWaitIdentity = Annotated[ToolCompletionWait | CustomWait, Field(discriminator="type")]


class AwaitEventKey(Value):
    """A bearer capability to answer one wait; safe to hand through third parties as JSON."""

    session_id: str
    generation: int
    turn_id: str
    wait: AwaitEventWaitIdentity
    key_id: str
    signature: str


class ResolvedOk(Value):
    status: Literal["ok"] = "ok"
    payload: Any = None


class ResolvedErr(Value):
    status: Literal["err"] = "err"
    code: str
    message: str
    raw: Any = omitted_when_none()


class ResolvedTimeout(Value):
    status: Literal["timeout"] = "timeout"


class ResolvedCancelled(Value):
    status: Literal["cancelled"] = "cancelled"


Resolution = Annotated[
    ResolvedOk | ResolvedErr | ResolvedTimeout | ResolvedCancelled, Field(discriminator="status")
]


@dataclass(frozen=True, slots=True)
class ResolveAccepted:
    """This answer is the one that counts."""


@dataclass(frozen=True, slots=True)
class AlreadyResolved:
    terminal: Resolution


@dataclass(frozen=True, slots=True)
class UnknownOrRevoked:
    """No such wait, or its session is gone."""


ResolveOutcome = ResolveAccepted | AlreadyResolved | UnknownOrRevoked


class AwaitEventResolver(Protocol):
    """Durable waits: one keyed promise, first answer wins. An effect host may provide it."""

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity
    ) -> AwaitEventKey:
        """The key of a wait; the same scope and wait give the equal key."""
        ...

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome: ...

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        """Wait for the answer. The token's firing writes `cancelled`; task cancellation
        leaves the wait pending."""
        ...

    async def revoke_await_events_for_session(self, session_id: str) -> None: ...

    async def cancel_await_events_for_session(self, session_id: str) -> None: ...
