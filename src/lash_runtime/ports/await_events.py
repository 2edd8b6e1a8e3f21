"""Durable waits: one keyed promise for each thing that is waited for; the first answer wins.

A wait outlives the process that asked. Whoever holds its key may answer, once, from anywhere. What
an answer is as text is decided here, so that all who keep waits agree.
"""

from functools import cache
from typing import Annotated, Any, Final, Literal, Protocol, runtime_checkable

from pydantic import Field, TypeAdapter

from ..model._value import Value, omitted_when_none
from ..model.records import dataclass
from ..model.tool_values import compact_json
from .await_event_keys import (
    AwaitEventKey,
    AwaitEventWaitIdentity,
    CustomWait,
    ProcessSignalWait,
    ToolCompletionWait,
    is_genuine,
    key_id_of,
    mint_await_event_key,
)
from .cancel import CancelToken
from .effect_errors import EffectControllerError
from .execution_scope import ExecutionScope

__all__ = [
    "UNKNOWN_OR_REVOKED",
    "AlreadyResolved",
    "AwaitEventKey",
    "AwaitEventResolver",
    "AwaitEventWaitIdentity",
    "CustomWait",
    "ProcessSignalWait",
    "Resolution",
    "ResolveAccepted",
    "ResolveOutcome",
    "ResolvedCancelled",
    "ResolvedErr",
    "ResolvedOk",
    "ResolvedTimeout",
    "ToolCompletionWait",
    "UnknownOrRevoked",
    "is_genuine",
    "key_id_of",
    "mint_await_event_key",
    "resolution_adapter",
    "resolution_text",
]


class ResolvedOk(Value):
    """What was waited for is there: `payload` is JSON."""

    status: Literal["ok"] = "ok"
    payload: Any = None


class ResolvedErr(Value):
    """What was waited for went wrong. `code` is whoever answers' own; `raw` is JSON."""

    status: Literal["err"] = "err"
    code: str
    message: str
    raw: Any = omitted_when_none()


class ResolvedTimeout(Value):
    """Nobody answered in time."""

    status: Literal["timeout"] = "timeout"


class ResolvedCancelled(Value):
    """Nobody wants to know any more."""

    status: Literal["cancelled"] = "cancelled"


Resolution = Annotated[
    ResolvedOk | ResolvedErr | ResolvedTimeout | ResolvedCancelled, Field(discriminator="status")
]


def resolution_text(resolution: Resolution) -> str:
    """An answer as JSON text, which is what is kept of it.

    Raises `await_event_encode` for one that holds what JSON does not know (objects, numbers that
    are not finite, text that is not Unicode), or that is nested too deeply to be read back.
    """
    try:
        text = compact_json({name: value for name, value in resolution if value is not None})
        resolution_adapter().validate_json(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise EffectControllerError(
            "await_event_encode", f"the answer cannot be written as JSON: {error}"
        ) from error
    return text


@cache
def resolution_adapter() -> TypeAdapter[Resolution]:
    """Reads what `resolution_text` has written."""
    return TypeAdapter(Resolution)


@dataclass(frozen=True, slots=True)
class ResolveAccepted:
    """This answer is the one that counts."""

    status: Literal["accepted"] = "accepted"


@dataclass(frozen=True, slots=True)
class AlreadyResolved:
    """There was an answer before, and it stays."""

    terminal: Resolution
    status: Literal["already_resolved"] = "already_resolved"


@dataclass(frozen=True, slots=True)
class UnknownOrRevoked:
    """No such wait, or its session is gone."""

    status: Literal["unknown_or_revoked"] = "unknown_or_revoked"


ResolveOutcome = ResolveAccepted | AlreadyResolved | UnknownOrRevoked


@runtime_checkable
class AwaitEventResolver(Protocol):
    """Keeps durable waits. An effect host or a controller that can also is one of these; see
    `await_events_of`.

    A wait is unknown until it is first waited for or answered, then pending, then resolved for
    good by whoever is first: an answer, the cancel token of a waiter, or the deadline. A revoked
    session's waits are dead in each of these states.

    Raises `EffectControllerError`, and where waits are kept in a storage its `StoreError`s.
    """

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        """The key of a wait; the same scope and wait give the equal key.

        `generation` is that of the scope's session as the caller knows it, who may belong to one
        that was deleted since; without it, the one that the session is in.

        Raises `invalid_await_event_wait_identity` as `mint_await_event_key` does.
        """
        ...

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        """Answer a wait, also before anybody waits. A key that is not genuine is unknown.

        Raises `await_event_encode` as `resolution_text` does; nothing is answered then.
        Cancellation: the answer was given or it was not; giving it again tells which.
        """
        ...

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        """Wait for the answer, any number of waiters at a time.

        The token's firing writes `cancelled` for all of them. `deadline_ms` is since the Unix
        epoch; its passing while somebody waits writes `timeout`. The first wait for a key says
        which deadline it has, or none, and that stays: later ones only come back to it. An answer
        that was there before either of them is the answer.

        Raises `await_event_unknown_or_revoked` for a key that is not genuine or whose session is
        revoked, also while waiting.
        Cancellation of the task is an interruption and leaves the wait pending.
        """
        ...

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        """End the session's waits for good: later keys of it are as dead as those of now.

        It reaches the scopes that name a session, in `generation` and those before; without it, in
        the one that the session is in. Whatever uses the id after a deletion is not touched.
        """
        ...

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        """Answer with `cancelled` what has been waited for under the session and is not answered.

        New waits work, and so does the session. Idempotent.
        Raises `await_event_cancel_unsupported` where that cannot be done.
        """
        ...


UNKNOWN_OR_REVOKED: Final = "await_event_unknown_or_revoked"
"""The code of an error: there is nothing to wait for under this key, and never will be."""
