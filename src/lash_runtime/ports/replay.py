"""The live log: the latest events of each session, kept for those who come back.

Rule 1: the log is freshness, never truth. It is bounded and may forget; what it can no longer
tell is a gap, said openly, and the reader starts again from a snapshot.
Rule 2: a publisher never waits for readers and never runs their code.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, Self

from ..model._value import Value
from ..model.records import dataclass
from .observation_events import SessionObservationEvent, SessionObservationEventPayload
from .session_cursor import SessionCursor, SessionCursorError, SessionRevision


class LiveReplayStoreError(Exception):
    """Base of what a live replay store and its subscriptions raise.

    LiveReplayStoreError
    ├── LiveReplayCursorError   the cursor cannot be used
    ├── LiveReplayStoreFailure  the store failed
    ├── SubscriberLagged        the reader fell too far behind; it may read on
    └── LiveReplayClosed        the log is over
    """


class LiveReplayCursorError(LiveReplayStoreError):
    """The cursor is malformed or of another session; `cause` says which."""

    def __init__(self, cause: SessionCursorError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class LiveReplayStoreFailure(LiveReplayStoreError):
    """The store could not do what was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(f"live replay store error: {message}")
        self.message = message


class SubscriberLagged(LiveReplayStoreError):
    """`skipped` events were dropped before this reader came to them."""

    def __init__(self, skipped: int) -> None:
        super().__init__(f"live replay subscriber lagged by {skipped} events")
        self.skipped = skipped


class LiveReplayClosed(LiveReplayStoreError):
    """The store was closed, or the session deleted; nothing more will come."""

    def __init__(self) -> None:
        super().__init__("live replay channel closed")


class LiveReplayGapReason(StrEnum):
    TRIMMED = "trimmed"
    """The log once reached back to the cursor and no longer does."""
    UNAVAILABLE = "unavailable"
    """The log cannot tell how the cursor relates to what it holds."""


class LiveReplayGap(Value):
    """Events after `requested_cursor` cannot be told; go on from `latest_cursor`, starting with
    the session as it was at `latest_revision`."""

    session_id: str
    requested_cursor: SessionCursor
    latest_cursor: SessionCursor
    latest_revision: SessionRevision
    reason: LiveReplayGapReason


class LiveReplaySubscription(Protocol):
    """The events after a cursor, then those to come, each once and in order.

    What the log held at the moment of subscribing is this reader's own and cannot be dropped
    under it. For one reader at a time; a cancelled read loses nothing, and reading on after
    `SubscriberLagged` continues with the oldest event that is left.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> SessionObservationEvent:
        """The next event. Raises `SubscriberLagged`, which may be survived; `LiveReplayClosed`
        once, when the log is over and all of it was read; then `StopAsyncIteration`.

        A read while another one is under way raises `RuntimeError`.
        """
        ...

    async def next_event(self) -> SessionObservationEvent:
        """The next event; raises `LiveReplayClosed` where iteration would stop."""
        ...

    async def aclose(self) -> None:
        """Leave. Ends a read that another task has under way; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    events: tuple[SessionObservationEvent, ...]


@dataclass(frozen=True, slots=True)
class Subscribed:
    subscription: LiveReplaySubscription


@dataclass(frozen=True, slots=True)
class Gap:
    """The store's own half of a gap: it knows why, and no snapshot to offer instead."""

    reason: LiveReplayGapReason


LiveReplayResult = Replayed | Gap
LiveReplaySubscribeResult = Subscribed | Gap


class LiveReplayStore(Protocol):
    """One bounded log for each session, numbered from 1 without holes while it is kept.

    Every method is synchronous, quick and free of blocking calls, for it is called from within
    a running turn, and may be called from any thread. A store behind a network answers from
    local memory and does its transport elsewhere.
    """

    def append(
        self,
        session_id: str,
        revision: SessionRevision,
        payload: SessionObservationEventPayload,
        *,
        turn_id: str | None = None,
    ) -> SessionObservationEvent:
        """Add an event and let readers know. Their code runs later, never inside this call."""
        ...

    def append_many(
        self,
        session_id: str,
        revision: SessionRevision,
        payloads: Sequence[SessionObservationEventPayload],
        *,
        turn_id: str | None = None,
    ) -> tuple[SessionObservationEvent, ...]:
        """Add events at adjoining positions: all of them or none."""
        ...

    def replay_after_cursor(self, cursor: SessionCursor) -> LiveReplayResult:
        """All events after the cursor, in order; keeps no state for an unknown session.

        Raises `LiveReplayCursorError` for a malformed cursor before anything is looked at. The
        session is the cursor's own; its revision plays no part.
        """
        ...

    def subscribe_after_cursor(self, cursor: SessionCursor) -> LiveReplaySubscribeResult:
        """The same, going on with what is appended later: nothing is lost or given twice
        between the two. Raises as `replay_after_cursor` does."""
        ...

    def current_cursor(self, session_id: str, revision: SessionRevision) -> SessionCursor:
        """The place after the latest event, but before any event of a later revision, so that
        a reader who holds an older snapshot misses nothing. Never raises."""
        ...

    def trim_session(self, session_id: str) -> None:
        """Drop what the bounds no longer keep; nothing happens for an unknown session."""
        ...

    def rest_session(self, session_id: str) -> None:
        """Nobody runs the session now. A store with many of them may forget its events, if no
        subscription still needs them; the next `append` takes the session up again."""
        ...

    def drop_session(self, session_id: str) -> None:
        """Forget the session, which was deleted; its subscriptions end."""
        ...
