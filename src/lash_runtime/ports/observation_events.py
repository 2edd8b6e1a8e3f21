"""What observers of a session are told, one event at a time.

Events are made by the thousand and shared by all readers: plain frozen values, never copied,
whose cursor is written out only when somebody asks for it.
"""

from enum import StrEnum
from typing import ClassVar, Literal, NamedTuple

from ..kernel.read_view import SessionReadView
from ..model.activity import TurnActivity
from ..model.records import dataclass
from .session_cursor import SessionCursor, SessionRevision, cursor_token


class SessionQueueEventKind(StrEnum):
    ENQUEUED = "enqueued"
    CANCELLED = "cancelled"


class SessionProcessEventKind(StrEnum):
    STARTED = "started"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TurnActivityPayload:
    """A turn did something; provisional until the next `CommittedPayload`."""

    activity: TurnActivity
    type: ClassVar[Literal["turn_activity"]] = "turn_activity"


@dataclass(frozen=True, slots=True)
class CommittedPayload:
    """The session's settled state is now `read_view`.

    `advanced` says that the revision rose. Only then may provisional rows be settled; without
    it something else that can be observed has changed, such as the policy.
    """

    read_view: SessionReadView
    advanced: bool
    type: ClassVar[Literal["committed"]] = "committed"


@dataclass(frozen=True, slots=True)
class AgentFrameSwitchedPayload:
    """`frame_id` is the current frame; the commit that made it so follows at once."""

    frame_id: str
    type: ClassVar[Literal["agent_frame_switched"]] = "agent_frame_switched"


@dataclass(frozen=True, slots=True)
class QueueChangedPayload:
    """Read the queues again. `batch_ids` holds ids of pending inputs and of queued batches."""

    kind: SessionQueueEventKind
    batch_ids: tuple[str, ...]
    type: ClassVar[Literal["queue_changed"]] = "queue_changed"


@dataclass(frozen=True, slots=True)
class ProcessChangedPayload:
    """Read the session's processes again."""

    kind: SessionProcessEventKind
    process_ids: tuple[str, ...]
    type: ClassVar[Literal["process_changed"]] = "process_changed"


SessionObservationEventPayload = (
    TurnActivityPayload
    | CommittedPayload
    | AgentFrameSwitchedPayload
    | QueueChangedPayload
    | ProcessChangedPayload
)


# A tuple, because it is the one frozen thing that costs no more to make than its fields: one is
# made for every piece of text that a model streams.
class SessionObservationEvent(NamedTuple):
    """One event of one session, at its place in the log.

    `revision` is that of the session when the event was made: the one before the commit for all
    that happens during a turn. `position` counts from 1 in the log of `replay_incarnation_id`.
    `turn_id` is the turn that the event belongs to, where there is one.
    """

    session_id: str
    revision: SessionRevision
    payload: SessionObservationEventPayload
    turn_id: str | None
    position: int
    replay_incarnation_id: str

    @property
    def cursor(self) -> SessionCursor:
        """The place just after this event."""
        return SessionCursor(
            cursor_token(self.session_id, self.revision, self.position, self.replay_incarnation_id)
        )
