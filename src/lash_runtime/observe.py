"""Watching a session: snapshots, cursors, and streams that survive a lost connection.

Rule 1: an observer steers nothing. It may be slow, leave, or be one of thousands, and the turn
it watches runs as it would without it.
Rule 2: every event after a cursor is delivered once and in order, or is covered by a gap whose
snapshot stands in for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from ._arguments import an
from .errors import RuntimeFailure
from .kernel.read_view import SessionReadView
from .model.policy import SessionPolicy
from .model.records import dataclass
from .model.usage import SessionUsageReport
from .ports.observation_events import (
    AgentFrameSwitchedPayload,
    CommittedPayload,
    ProcessChangedPayload,
    QueueChangedPayload,
    SessionObservationEvent,
    SessionObservationEventPayload,
    SessionProcessEventKind,
    SessionQueueEventKind,
    TurnActivityPayload,
)
from .ports.replay import (
    Gap,
    LiveReplayClosed,
    LiveReplayCursorError,
    LiveReplayGap,
    LiveReplayGapReason,
    LiveReplayResult,
    LiveReplayStore,
    LiveReplayStoreError,
    LiveReplayStoreFailure,
    LiveReplaySubscribeResult,
    LiveReplaySubscription,
    Replayed,
    Subscribed,
    SubscriberLagged,
)
from .ports.session_cursor import (
    MalformedSessionCursor,
    SessionCursor,
    SessionCursorError,
    SessionRevision,
    WrongSessionCursor,
)
from .replay.memory import InMemoryLiveReplayStore, InMemoryLiveReplayStoreConfig
from .runtime.observation import (
    ObservationCell,
    ObservedSession,
    SessionGap,
    SessionObservation,
)

__all__ = [
    "AgentFrameSwitchedPayload",
    "CommittedPayload",
    "Gap",
    "InMemoryLiveReplayStore",
    "InMemoryLiveReplayStoreConfig",
    "LiveReplayClosed",
    "LiveReplayCursorError",
    "LiveReplayGap",
    "LiveReplayGapReason",
    "LiveReplayResult",
    "LiveReplayStore",
    "LiveReplayStoreError",
    "LiveReplayStoreFailure",
    "LiveReplaySubscribeResult",
    "LiveReplaySubscription",
    "MalformedSessionCursor",
    "ObservableSession",
    "ObservationEvent",
    "ObservationGap",
    "ProcessChangedPayload",
    "QueueChangedPayload",
    "Replayed",
    "SessionCursor",
    "SessionCursorError",
    "SessionEventSubscription",
    "SessionGap",
    "SessionObservation",
    "SessionObservationEvent",
    "SessionObservationEventPayload",
    "SessionObservationStream",
    "SessionObservationStreamItem",
    "SessionObservationSubscription",
    "SessionProcessEventKind",
    "SessionQueueEventKind",
    "SessionResume",
    "SessionRevision",
    "Subscribed",
    "SubscriberLagged",
    "TurnActivityPayload",
    "WrongSessionCursor",
]


@dataclass(frozen=True, slots=True)
class ObservationEvent:
    """Something happened: fold it."""

    event: SessionObservationEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationGap:
    """Events were lost: replace what was folded so far by `observation.read_view`."""

    observation: SessionObservation
    gap: LiveReplayGap


SessionObservationStreamItem = ObservationEvent | ObservationGap
SessionResume = Replayed | SessionGap


class ObservableSession:
    """The session as observers see it, from `session.observe()`. Cheap; make as many as needed.

    It never waits for a running turn and keeps no session open: after `close()` or `park()` it
    shows the last snapshot, and it follows on when the session is opened again on the same core.
    """

    def __init__(self, cell: ObservationCell) -> None:
        self._observed = cell.observed

    @property
    def session_id(self) -> str:
        return self._observed.session_id

    def read_view(self) -> SessionReadView:
        """The committed transcript and counters."""
        return self._observed.latest.read_view

    def policy_snapshot(self) -> SessionPolicy:
        return self._observed.latest.policy

    def usage_report(self) -> SessionUsageReport:
        """What the session has spent in all its turns, as of its last commit."""
        return self._observed.latest.usage_report()

    def current_observation(self) -> SessionObservation:
        """The settled state, with the cursor to follow on from: reading from there brings
        everything that the state lacks, a running turn from its start."""
        return self._observed.current_observation()

    def resume_from_cursor(self, cursor: SessionCursor) -> SessionResume:
        """What has happened since, in one answer: the events, or a gap with a new snapshot.

        Raises `RuntimeFailure("live_replay")` for a cursor that is malformed or of another
        session, with the reason as its cause.
        """
        _check(cursor)
        with _translated():
            return self._observed.resume(cursor)

    def subscribe_from_cursor(self, cursor: SessionCursor) -> "SessionObservationSubscription":
        """What has happened since and what is to come; or a gap, and then no subscription.

        Raises as `resume_from_cursor` does. Most readers want `subscribe_and_recover`.
        """
        _check(cursor)
        with _translated():
            found = self._observed.subscribe(cursor)
        if isinstance(found, SessionGap):
            return found
        return SessionEventSubscription(self._observed, found)

    def subscribe_and_recover(self, cursor: SessionCursor) -> "SessionObservationStream":
        """The same as a stream that gets over gaps by itself. It starts at its first read, so a
        cursor that cannot be used is reported there."""
        _check(cursor)
        return SessionObservationStream(self._observed, cursor)


class SessionEventSubscription:
    """The events after a cursor, from `subscribe_from_cursor`.

    For one reader at a time: a second one gets `RuntimeError`. A cancelled read loses nothing.
    Iteration raises `RuntimeFailure("live_replay")`: with `SubscriberLagged` as its cause when
    this reader fell too far behind (reading on continues with the oldest event that is left),
    with `LiveReplayClosed` when the log is over.
    """

    __slots__ = ("_observed", "_subscription")

    def __init__(self, observed: ObservedSession, subscription: LiveReplaySubscription) -> None:
        # Held so that the session goes on being observed, and its commits told, while somebody
        # reads.
        self._observed = observed
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionObservationEvent:
        try:
            return await self._subscription.__anext__()
        except LiveReplayStoreError as error:
            raise _failure(error) from error

    async def next_event(self) -> SessionObservationEvent:
        """The next event; raises where iteration would stop."""
        with _translated():
            return await self._subscription.next_event()

    async def aclose(self) -> None:
        """Leave, from any task. Ends a read that is under way; idempotent."""
        await self._subscription.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


SessionObservationSubscription = SessionEventSubscription | SessionGap


class SessionObservationStream:
    """Follows a session over gaps, from `subscribe_and_recover`. An iterator with a position:
    dropping it leaks nothing, closing it is merely prompt.

    For one reader at a time: a second one gets `RuntimeError`. A cancelled read loses nothing.
    A gap is an item; an error (`RuntimeFailure("live_replay")`) ends the stream.
    """

    __slots__ = ("_cursor", "_done", "_observed", "_reading", "_subscription")

    def __init__(self, observed: ObservedSession, cursor: SessionCursor) -> None:
        self._observed = observed
        self._cursor: SessionCursor | SessionObservationEvent = cursor
        self._subscription: LiveReplaySubscription | None = None
        self._reading = False
        self._done = False

    @property
    def cursor(self) -> SessionCursor:
        """Where this stream stands. Keep it once the item before it was dealt with."""
        place = self._cursor
        return place if isinstance(place, SessionCursor) else place.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionObservationStreamItem:
        if self._reading:
            raise RuntimeError("this stream is being read already; make one for each reader")
        self._reading = True
        try:
            while not self._done:
                subscription = self._subscription
                if subscription is None:
                    found = self._observed.subscribe(self.cursor)
                    if isinstance(found, SessionGap):
                        self._cursor = found.gap.latest_cursor
                        return ObservationGap(observation=found.observation, gap=found.gap)
                    subscription = self._subscription = found
                try:
                    event = await subscription.__anext__()
                except SubscriberLagged:
                    self._subscription = None
                    continue
                self._cursor = event
                return ObservationEvent(event)
            raise StopAsyncIteration
        except StopAsyncIteration:
            self._done = True
            raise
        except LiveReplayStoreError as error:
            self._done = True
            raise _failure(error) from error
        finally:
            self._reading = False

    async def aclose(self) -> None:
        """Leave, from any task. Ends a read that is under way; idempotent."""
        self._done = True
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _check(cursor: SessionCursor) -> None:
    an(SessionCursor, cursor, "a cursor is a SessionCursor: SessionCursor(text) makes one of text")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LiveReplayStoreError as error:
        raise _failure(error) from error


def _failure(error: LiveReplayStoreError) -> RuntimeFailure:
    return RuntimeFailure("live_replay", str(error))
