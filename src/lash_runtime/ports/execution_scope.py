"""What an effect controller executes for: a turn, a process, or an operation of its own.

A scope is stored in keys that travel through third parties, so its JSON tells the kinds apart.
"""

from typing import Annotated, Literal

from pydantic import Field

from ..model._value import Value


class TurnScope(Value):
    """The execution of one turn."""

    type: Literal["turn"] = "turn"
    session_id: str
    turn_id: str

    @property
    def id(self) -> str:
        return self.turn_id


class ProcessScope(Value):
    """A background process; it belongs to no session."""

    type: Literal["process"] = "process"
    process_id: str

    @property
    def id(self) -> str:
        return self.process_id


class QueueDrainScope(Value):
    """One pass over the work that waits for a session."""

    type: Literal["queue_drain"] = "queue_drain"
    session_id: str
    drain_id: str

    @property
    def id(self) -> str:
        return self.drain_id


class SessionDeleteScope(Value):
    """The deletion of a session."""

    type: Literal["session_delete"] = "session_delete"
    session_id: str

    @property
    def id(self) -> str:
        return self.session_id


class RuntimeOperationScope(Value):
    """An operation of the host that belongs to no turn."""

    type: Literal["runtime_operation"] = "runtime_operation"
    operation_id: str

    @property
    def id(self) -> str:
        return self.operation_id


ExecutionScope = Annotated[
    TurnScope | ProcessScope | QueueDrainScope | SessionDeleteScope | RuntimeOperationScope,
    Field(discriminator="type"),
]


def session_of(scope: ExecutionScope) -> str | None:
    """The session that the scope belongs to; `None` for a process and a host's operation."""
    if isinstance(scope, TurnScope | QueueDrainScope | SessionDeleteScope):
        return scope.session_id
    return None


def turn_of(scope: ExecutionScope) -> str | None:
    """The turn that is executed; `None` if it is no turn."""
    return scope.turn_id if isinstance(scope, TurnScope) else None
