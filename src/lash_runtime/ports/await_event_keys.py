"""The key of a durable wait: what it names, and whether it is genuine.

A key is a bearer capability. It is signed with the secret of whoever keeps the wait, and everything
in it is signed, so that holding one opens no other.
"""

import hmac
from typing import Annotated, Any, Literal, assert_never

from pydantic import Field

from ..model._value import Value, omitted_when_none
from ..model.canonical import canonical_hash, canonical_json
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

    Raises `invalid_await_event_wait_identity` for a wait with a blank in its identity, or one
    that is no text.
    """
    _check_wait(wait)
    try:
        key_id = key_id_of(scope, wait, generation)
    except UnicodeError as error:
        raise _no_identity(f"it is not valid Unicode: {error}") from error
    return AwaitEventKey(
        scope=scope,
        generation=generation,
        wait=wait,
        key_id=key_id,
        signature=_signature(scope, wait, generation, key_id, secret),
    )


def key_id_of(scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None) -> str:
    """What a wait is known by: the hash of all that tells it from others."""
    return canonical_hash(_identity(scope, wait, generation))


def is_genuine(key: AwaitEventKey, secret: bytes) -> bool:
    """Whether `key` was minted with `secret` and is as it was then. In constant time."""
    try:
        expected = _signature(key.scope, key.wait, key.generation, key.key_id, secret)
        return hmac.compare_digest(expected.encode(), key.signature.encode())
    except UnicodeError:
        return False  # what is no text was never signed


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
        raise _no_identity(f"nothing tells this wait from others: {wait!r}")


def _no_identity(message: str) -> EffectControllerError:
    return EffectControllerError("invalid_await_event_wait_identity", message)
