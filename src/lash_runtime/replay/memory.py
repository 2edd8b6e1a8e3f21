"""The live log in memory: a ring for each session, read by position.

Publishing costs the same whatever the number of readers. What nobody needs is released: by age
and number within a session, and whole sessions once they are at rest and enough others are.

Rule 1: one lock, held for microseconds, with no await and no foreign code inside.
Rule 2: a log that was given up leaves only the `floor` behind. New logs count on from there, so
that an old cursor is never mistaken for one of the new log.
"""

import threading
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Self

from ..model.records import dataclass, replace
from ..ports.clock import Clock, SystemClock
from ..ports.ids import IdSource, SystemIds
from ..ports.observation_events import SessionObservationEvent, SessionObservationEventPayload
from ..ports.replay import (
    Gap,
    LiveReplayClosed,
    LiveReplayCursorError,
    LiveReplayGapReason,
    LiveReplayResult,
    LiveReplaySubscribeResult,
    Replayed,
    Subscribed,
)
from ..ports.session_cursor import (
    CursorPlace,
    SessionCursor,
    SessionCursorError,
    SessionRevision,
    cursor_token,
)
from ._log import SessionLog, wake
from ._subscription import InMemorySubscription

SWEEP_EVERY: Final = 64
"""Appends between two looks at sessions that may be idle."""
SWEEP_SESSIONS: Final = 16
"""Sessions looked at each time: four appends pay for one, so the sweep keeps up with growth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InMemoryLiveReplayStoreConfig:
    """How much is kept of each session.

    `max_age` is a duration or seconds; an event is kept while it is not older than that.
    `max_resting_sessions` bounds how many sessions that nobody runs keep their events at all.
    """

    max_events_per_session: int = 2048
    max_age: timedelta | float = 120.0
    max_resting_sessions: int = 32

    @property
    def max_age_s(self) -> float:
        age = self.max_age
        return age.total_seconds() if isinstance(age, timedelta) else age


class InMemoryLiveReplayStore:
    """A `LiveReplayStore` for one process; a restart begins a new incarnation of its logs."""

    def __init__(
        self,
        config: InMemoryLiveReplayStoreConfig | None = None,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self._config = config or InMemoryLiveReplayStoreConfig()
        self._clock = clock or SystemClock()
        self._incarnation = (ids or SystemIds()).hex()
        self._max_age_s = self._config.max_age_s
        self._lock = threading.Lock()
        self._logs: dict[str, SessionLog] = {}
        self._resting: dict[str, None] = {}
        self._floor = 0
        self._appends = 0
        self._to_sweep: deque[str] = deque()
        self._closed = False

    @classmethod
    def with_bounds(
        cls,
        max_events_per_session: int,
        max_age: timedelta | float,
        *,
        clock: Clock | None = None,
    ) -> Self:
        config = replace(
            InMemoryLiveReplayStoreConfig(),
            max_events_per_session=max_events_per_session,
            max_age=max_age,
        )
        return cls(config, clock=clock)

    def append(
        self,
        session_id: str,
        revision: SessionRevision,
        payload: SessionObservationEventPayload,
        *,
        turn_id: str | None = None,
    ) -> SessionObservationEvent:
        now = self._clock.now()
        with self._lock:
            log = self._writable_log(session_id, now)
            event = SessionObservationEvent(
                session_id, revision, payload, turn_id, log.tail + 1, self._incarnation
            )
            log.add(event, now)
            sleepers, log.sleepers = log.sleepers, None
        if sleepers:
            wake(sleepers)
        return event

    def append_many(
        self,
        session_id: str,
        revision: SessionRevision,
        payloads: Sequence[SessionObservationEventPayload],
        *,
        turn_id: str | None = None,
    ) -> tuple[SessionObservationEvent, ...]:
        now = self._clock.now()
        with self._lock:
            log = self._writable_log(session_id, now)
            events = tuple(
                SessionObservationEvent(
                    session_id, revision, payload, turn_id, position, self._incarnation
                )
                for position, payload in enumerate(payloads, log.tail + 1)
            )
            for event in events:
                log.add(event, now)
            sleepers, log.sleepers = log.sleepers, None
        wake(sleepers)
        return events

    def replay_after_cursor(self, cursor: SessionCursor) -> LiveReplayResult:
        place = _parsed(cursor)
        with self._lock:
            self._ensure_open()
            log = self._logs.get(place.session_id)
            if (gap := self._gap(place, log)) is not None:
                return gap
            return Replayed(() if log is None else tuple(log.after(place.position)))

    def subscribe_after_cursor(self, cursor: SessionCursor) -> LiveReplaySubscribeResult:
        place = _parsed(cursor)
        with self._lock:
            self._ensure_open()
            log = self._logs.get(place.session_id)
            if (gap := self._gap(place, log)) is not None:
                return gap
            if log is None:
                log = self._new_log(place.session_id)
            subscription = InMemorySubscription(log, self._lock, log.after(place.position))
            log.add_reader(subscription)
            return Subscribed(subscription)

    def current_cursor(self, session_id: str, revision: SessionRevision) -> SessionCursor:
        with self._lock:
            log = self._logs.get(session_id)
            position = self._floor if log is None else log.position_before_revision_above(revision)
        return SessionCursor(cursor_token(session_id, revision, position, self._incarnation))

    def trim_session(self, session_id: str) -> None:
        with self._lock:
            log = self._logs.get(session_id)
            if log is not None:
                log.trim(self._clock.now())

    def rest_session(self, session_id: str) -> None:
        with self._lock:
            log = self._logs.get(session_id)
            if log is None:
                return
            log.resting = True
            self._resting.pop(session_id, None)
            self._resting[session_id] = None  # at the end: the latest to come to rest
            surplus = len(self._resting) - self._config.max_resting_sessions
            if surplus > 0:
                unread = [key for key in self._resting if not self._logs[key].has_readers]
                for key in unread[:surplus]:
                    self._evict(key)

    def drop_session(self, session_id: str) -> None:
        with self._lock:
            log = self._logs.get(session_id)
            if log is None:
                return
            self._evict(session_id)
            # What comes next under this id is another session: not even the last place leads on.
            self._floor = max(self._floor, log.tail + 1)
            log.closed = True
            sleepers, log.sleepers = log.sleepers, None
        wake(sleepers)

    def sweep(self) -> None:
        """Trim every session now. The store does so itself, bit by bit, as events come in; a
        host whose sessions all went quiet at once may want the memory back sooner."""
        now = self._clock.now()
        with self._lock:
            for session_id in tuple(self._logs):
                self._tidy(session_id, now)

    def close(self) -> None:
        """End every subscription once it has read what there is. Idempotent."""
        with self._lock:
            self._closed = True
            logs = tuple(self._logs.values())
            self._logs.clear()
            self._resting.clear()
            waiting = []
            for log in logs:
                log.closed = True
                waiting.append(log.sleepers)
                log.sleepers = None
        for sleepers in waiting:
            wake(sleepers)

    def _ensure_open(self) -> None:
        if self._closed:
            raise LiveReplayClosed

    def _gap(self, place: CursorPlace, log: SessionLog | None) -> Gap | None:
        """Why what comes after that place cannot be told, or `None`. Trims the log first."""
        if place.incarnation != self._incarnation:
            return Gap(LiveReplayGapReason.UNAVAILABLE)
        if log is None:
            tail, horizon = self._floor, self._floor + 1
        else:
            log.trim(self._clock.now())
            tail, horizon = log.tail, log.horizon
        if place.position > tail:
            return Gap(LiveReplayGapReason.UNAVAILABLE)
        if place.position + 1 < horizon:
            return Gap(LiveReplayGapReason.TRIMMED)
        return None

    def _writable_log(self, session_id: str, now: float) -> SessionLog:
        self._appends += 1
        if self._appends % SWEEP_EVERY == 0:
            self._sweep_some(now)
        log = self._logs.get(session_id)
        if log is None:
            self._ensure_open()
            return self._new_log(session_id)
        if log.resting:
            log.resting = False
            del self._resting[session_id]
        return log

    def _new_log(self, session_id: str) -> SessionLog:
        log = self._logs[session_id] = SessionLog(
            floor=self._floor,
            capacity=self._config.max_events_per_session,
            max_age_s=self._max_age_s,
        )
        return log

    def _sweep_some(self, now: float) -> None:
        if not self._to_sweep:
            self._to_sweep.extend(self._logs)
        for _ in range(min(SWEEP_SESSIONS, len(self._to_sweep))):
            self._tidy(self._to_sweep.popleft(), now)

    def _tidy(self, session_id: str, now: float) -> None:
        log = self._logs.get(session_id)
        if log is None:
            return
        log.trim(now)
        # Only a log at rest: a running session's readers may still come back to its tail.
        if log.resting and log.horizon > log.tail and not log.has_readers:
            self._evict(session_id)

    def _evict(self, session_id: str) -> None:
        log = self._logs.pop(session_id)
        self._resting.pop(session_id, None)
        self._floor = max(self._floor, log.tail)


def _parsed(cursor: SessionCursor) -> CursorPlace:
    try:
        return cursor.parse()
    except SessionCursorError as error:
        raise LiveReplayCursorError(error) from error
