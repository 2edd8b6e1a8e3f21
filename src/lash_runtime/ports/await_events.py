"""Durable waits: one keyed promise for each thing that is waited for; the first answer wins.

A wait outlives the process that asked. Its key is a bearer capability: whoever holds it may
answer, once, from anywhere. Whether a key is genuine is decided here, so that all who keep waits
agree.
"""

import hmac
from typing import Annotated, Any, Literal, Protocol, assert_never, runtime_checkable

from pydantic import Field

from ..model._value import Value, omitted_when_none
from ..model.canonical import canonical_hash, canonical_json
from ..model.records import dataclass
from .cancel import CancelToken
from .effect_errors import EffectControllerError
from .execution_scope import ExecutionScope


class ToolCompletionWait(Value):
    """Waits for the answer to one tool call."""

    type: Literal["tool_completion"] = "tool_completion"
    tool_call_id: str


class ProcessSignalWait(Value):
    """Waits for a signal to a process; `ordinal` counts the waits for that name from 1."""

    type: Literal["process_signal"] = "process_signal"
    process_id: str
    signal_name: str
    ordinal: int


class CustomWait(Value):
    """Waits for what a host or a tool has named itself."""

    type: Literal["custom"] = "custom"
    key: str


AwaitEventWaitIdentity = Annotated[
    ToolCompletionWait | ProcessSignalWait | CustomWait, Field(discriminator="type")
]


class AwaitEventKey(Value):
    """A bearer capability to answer one wait; safe to hand through third parties as JSON.

    `generation` is that of the scope's session, so that a key of a deleted session does not open
    a wait of the next session under that id; `None` for a scope without a session.
    """

    scope: ExecutionScope
    generation: int | None = omitted_when_none()
    wait: AwaitEventWaitIdentity
    key_id: str
    signature: str

    @property
    def promise_key(self) -> str:
        """The name of the wait where an engine keeps it."""
        return f"lash-await-event:{self.key_id}"


def mint_await_event_key(
    scope: ExecutionScope,
    wait: AwaitEventWaitIdentity,
    secret: bytes,
    generation: int | None = None,
) -> AwaitEventKey:
    """The key of a wait, signed with the resolver's secret; equal for equal arguments.

    Raises `invalid_await_event_wait_identity` for a wait with a blank in its identity.
    """
    _check_wait(wait)
    key_id = canonical_hash(_identity(scope, wait, generation))
    return AwaitEventKey(
        scope=scope,
        generation=generation,
        wait=wait,
        key_id=key_id,
        signature=_signature(scope, wait, generation, key_id, secret),
    )


def is_genuine(key: AwaitEventKey, secret: bytes) -> bool:
    """Whether `key` was minted with `secret` and is as it was then. In constant time."""
    expected = _signature(key.scope, key.wait, key.generation, key.key_id, secret)
    return hmac.compare_digest(expected.encode(), key.signature.encode())


def _identity(
    scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None
) -> list[Any]:
    return [scope.model_dump(mode="json"), generation, wait.model_dump(mode="json")]


def _signature(
    scope: ExecutionScope,
    wait: AwaitEventWaitIdentity,
    generation: int | None,
    key_id: str,
    secret: bytes,
) -> str:
    signed = canonical_json([*_identity(scope, wait, generation), key_id])
    return hmac.new(secret, signed, "sha256").hexdigest()


def _check_wait(wait: AwaitEventWaitIdentity) -> None:
    match wait:
        case ToolCompletionWait(tool_call_id=call_id):
            complete = bool(call_id.strip())
        case ProcessSignalWait(process_id=process_id, signal_name=name, ordinal=ordinal):
            complete = bool(process_id.strip() and name.strip()) and ordinal >= 1
        case CustomWait(key=key):
            complete = bool(key.strip())
        case _:
            assert_never(wait)
    if not complete:
        raise EffectControllerError(
            "invalid_await_event_wait_identity", f"nothing tells this wait from others: {wait!r}"
        )


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


@runtime_checkable
class AwaitEventResolver(Protocol):
    """Keeps durable waits. An effect host or a controller that can also is one of these; see
    `await_events_of`."""

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity
    ) -> AwaitEventKey:
        """The key of a wait; the same scope and wait give the equal key.

        Raises `invalid_await_event_wait_identity` as `mint_await_event_key` does.
        """
        ...

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        """Answer a wait, also before anybody waits. A key that is not genuine is unknown."""
        ...

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        """Wait for the answer. The token's firing writes `cancelled`; task cancellation
        leaves the wait pending. `deadline_ms` is since the Unix epoch; its passing writes
        `timeout`. An answer that was there before either of them is the answer."""
        ...

    async def revoke_await_events_for_session(self, session_id: str) -> None:
        """End the session's waits for good: later keys of it are as dead as those of now."""
        ...

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        """Answer the session's open waits with `cancelled`; new ones work. Idempotent."""
        ...
