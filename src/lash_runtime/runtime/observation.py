"""What a session shows: its latest settled snapshot, and the live log that leads on from it.

Rule 1: showing never steers. Everything here that a turn calls is synchronous, costs the same
whatever the number of observers, and swallows (and logs) what goes wrong.
Rule 2: a snapshot and the cursor beside it are captured together: reading on from that cursor
brings everything that the snapshot lacks, or says that it cannot.
Rule 3: no reader hears of a commit before the snapshot that shows it is in place. Between the
two nothing is awaited, and readers are only ever woken in a later step of the event loop.
"""

import logging
from collections.abc import Callable, Sequence
from typing import assert_never
from weakref import WeakSet, WeakValueDictionary, ref

from ..kernel.read_view import SessionReadView
from ..model.activity import TurnActivity
from ..model.policy import SessionPolicy
from ..model.records import dataclass
from ..model.usage import SessionUsageReport
from ..ports.observation_events import (
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
from ..ports.replay import (
    Gap,
    LiveReplayCursorError,
    LiveReplayGap,
    LiveReplayGapReason,
    LiveReplayStore,
    LiveReplaySubscription,
    Replayed,
    Subscribed,
)
from ..ports.session_cursor import (
    CursorPlace,
    SessionCursor,
    SessionCursorError,
    SessionRevision,
)

log = logging.getLogger(__name__)

NOTHING_SHOWN = SessionRevision(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationUpdate:
    """What a runtime has to show. `usage_report` is computed when somebody asks for it."""

    session_id: str
    revision: int
    read_view: SessionReadView
    policy: SessionPolicy
    usage_report: Callable[[], SessionUsageReport]
    frame_id: str

    def shows_the_same_as(self, other: "ObservationUpdate") -> bool:
        """Nothing that can be observed differs. O(1): history is append-only, so its length
        and its leaf tell two versions of it apart."""
        mine, theirs = self.read_view, other.read_view
        return (
            self.revision == other.revision
            and self.frame_id == other.frame_id
            and mine.turn_index == theirs.turn_index
            and mine.graph.leaf_node_id == theirs.graph.leaf_node_id
            and len(mine.graph) == len(theirs.graph)
            and mine.token_usage == theirs.token_usage
            and mine.last_prompt_usage == theirs.last_prompt_usage
            and mine.protocol_turn_options == theirs.protocol_turn_options
            and self.policy == other.policy
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionObservation:
    """The settled session, and where to read on from to follow what comes after it."""

    read_view: SessionReadView
    cursor: SessionCursor


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGap:
    """The log cannot go on from the cursor that was asked for: start again from here.

    `observation.cursor` and `gap.latest_cursor` are the same.
    """

    observation: SessionObservation
    gap: LiveReplayGap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    update: ObservationUpdate
    revision: SessionRevision
    cursor: SessionCursor


class ObservedSession:
    """One session as all observers within a core see it, whoever runs it at the moment.

    Observers hold this, never the runtime, so they keep nothing open. After the session was
    closed they see its last snapshot, and they follow on when it is opened again.
    """

    def __init__(self, session_id: str, replay: LiveReplayStore) -> None:
        self.session_id = session_id
        self._replay = replay
        self._snapshot: _Snapshot | None = None
        self._revision = NOTHING_SHOWN
        self._publishers: WeakSet[ObservationCell] = WeakSet()
        self._installer: ref[ObservationCell] | None = None

    @property
    def latest(self) -> ObservationUpdate:
        """The latest snapshot."""
        return self._latest.update

    @property
    def log(self) -> LiveReplayStore:
        """The live log, for those who need no snapshot."""
        return self._replay

    def current_observation(self) -> SessionObservation:
        latest = self._latest
        return SessionObservation(read_view=latest.update.read_view, cursor=latest.cursor)

    def resume(self, cursor: SessionCursor) -> Replayed | SessionGap:
        """The events after the cursor. Raises a `LiveReplayStoreError`."""
        place = self._place(cursor)
        found = self._replay.replay_after_cursor(cursor)
        match found:
            case Gap(reason=reason):
                return self._gap(cursor, reason)
            case Replayed(events=events):
                if self._lacks_commit(place, events):
                    return self._gap(cursor, LiveReplayGapReason.UNAVAILABLE)
                return found
            case _:
                assert_never(found)

    def subscribe(self, cursor: SessionCursor) -> LiveReplaySubscription | SessionGap:
        """The events after the cursor and those to come. Raises a `LiveReplayStoreError`."""
        place = self._place(cursor)
        if place.revision < self._revision:
            # Only the log itself can say whether the commits in between are in it. Nothing is
            # awaited from here to the subscription, so both see the same log.
            missed = self.resume(cursor)
            if isinstance(missed, SessionGap):
                return missed
        found = self._replay.subscribe_after_cursor(cursor)
        match found:
            case Gap(reason=reason):
                return self._gap(cursor, reason)
            case Subscribed(subscription=subscription):
                return subscription
            case _:
                assert_never(found)

    def add_publisher(self, cell: "ObservationCell") -> None:
        self._publishers.add(cell)

    def drop_publisher(self, cell: "ObservationCell") -> None:
        self._publishers.discard(cell)
        if self._installer is not None and self._installer() is cell:
            self._installer = None
        if not self._publishers:
            try:
                self._replay.rest_session(self.session_id)
            except Exception as error:
                self._warn("put the log to rest", error)

    def publish(
        self, cell: "ObservationCell", update: ObservationUpdate, turn_id: str | None
    ) -> None:
        """Show the update, unless it is older than what another publisher has shown."""
        known = self._snapshot
        revision = SessionRevision(update.revision)
        if known is None:
            self._install(cell, update, revision, None)
            return
        if update.revision < known.revision and self._is_shown_by_another(cell):
            return
        if update.shows_the_same_as(known.update):
            self._install(cell, update, revision, known.cursor)
            return
        payloads: list[SessionObservationEventPayload] = []
        if update.frame_id and update.frame_id != known.update.frame_id:
            payloads.append(AgentFrameSwitchedPayload(update.frame_id))
        advanced = update.revision > known.revision
        payloads.append(CommittedPayload(update.read_view, advanced))
        cursor: SessionCursor | None = None
        try:
            events = self._replay.append_many(self.session_id, revision, payloads, turn_id=turn_id)
            cursor = events[-1].cursor
        except Exception as error:
            self._warn("publish a commit", error)
        self._install(cell, update, revision, cursor)

    def record(self, payload: SessionObservationEventPayload, turn_id: str | None = None) -> None:
        """Tell of something that happened beside the committed state."""
        try:
            self._replay.append(self.session_id, self._revision, payload, turn_id=turn_id)
        except Exception as error:
            self._warn("record an event", error)

    @property
    def _latest(self) -> _Snapshot:
        assert self._snapshot is not None, "a session is observed only once it was opened"
        return self._snapshot

    def _install(
        self,
        cell: "ObservationCell",
        update: ObservationUpdate,
        revision: SessionRevision,
        cursor: SessionCursor | None,
    ) -> None:
        self._snapshot = _Snapshot(
            update=update,
            revision=revision,
            cursor=cursor or self._replay.current_cursor(self.session_id, revision),
        )
        self._revision = revision
        self._installer = ref(cell)

    def _is_shown_by_another(self, cell: "ObservationCell") -> bool:
        installer = None if self._installer is None else self._installer()
        return installer is not None and installer is not cell

    def _place(self, cursor: SessionCursor) -> CursorPlace:
        try:
            return cursor.parse_for_session(self.session_id)
        except SessionCursorError as error:
            raise LiveReplayCursorError(error) from error

    def _lacks_commit(self, place: CursorPlace, events: Sequence[SessionObservationEvent]) -> bool:
        """The reader has not seen the current revision and these events do not bring it: it was
        committed by another process, or before this log began, or could not be appended."""
        revision = self._revision
        if place.revision >= revision:
            return False
        return not any(
            event.revision >= revision
            and isinstance(event.payload, CommittedPayload)
            and event.payload.advanced
            for event in events
        )

    def _gap(self, requested: SessionCursor, reason: LiveReplayGapReason) -> SessionGap:
        latest = self._latest
        cursor = latest.cursor
        if isinstance(self._replay.replay_after_cursor(cursor), Gap):
            cursor = self._replay.current_cursor(self.session_id, latest.revision)
        return SessionGap(
            observation=SessionObservation(read_view=latest.update.read_view, cursor=cursor),
            gap=LiveReplayGap(
                session_id=self.session_id,
                requested_cursor=requested,
                latest_cursor=cursor,
                latest_revision=latest.revision,
                reason=reason,
            ),
        )

    def _warn(self, doing: str, error: Exception) -> None:
        log.warning("session %r: could not %s: %s", self.session_id, doing, error)


class ObservationCell:
    """Through which one runtime shows its session. Several runtimes of a session have one each.

    Nothing here waits, and nothing raises because of an observer or of the replay store.
    """

    __slots__ = ("__weakref__", "_observed")

    def __init__(self, observed: ObservedSession) -> None:
        self._observed: ObservedSession | None = observed
        observed.add_publisher(self)

    @property
    def observed(self) -> ObservedSession:
        """What observers hold. Not to be asked for after `release`."""
        assert self._observed is not None, "the session was closed"
        return self._observed

    def publish(self, update: ObservationUpdate, *, turn_id: str | None = None) -> None:
        """Show a new settled state, by an event if anything that can be observed changed.

        To be called with the session's lane held, after the commit that the update shows.
        """
        if self._observed is not None:
            self._observed.publish(self, update, turn_id)

    def record_turn_activity(self, activity: TurnActivity, turn_id: str | None = None) -> None:
        if self._observed is not None:
            self._observed.record(TurnActivityPayload(activity), turn_id)

    def record_queue_changed(
        self, kind: SessionQueueEventKind, ids: tuple[str, ...], turn_id: str | None = None
    ) -> None:
        if self._observed is not None:
            self._observed.record(QueueChangedPayload(kind, ids), turn_id)

    def record_process_changed(
        self, kind: SessionProcessEventKind, ids: tuple[str, ...], turn_id: str | None = None
    ) -> None:
        if self._observed is not None:
            self._observed.record(ProcessChangedPayload(kind, ids), turn_id)

    def release(self) -> None:
        """The runtime is done with the session; what it shows from now on is dropped.

        Idempotent. Observers stay as they are.
        """
        observed, self._observed = self._observed, None
        if observed is not None:
            observed.drop_publisher(self)


class ObservationCells:
    """The observed sessions of one core. A session is kept as long as somebody runs or observes
    it, and leaves nothing here afterwards."""

    def __init__(self, *, replay: LiveReplayStore) -> None:
        self._replay = replay
        self._observed: WeakValueDictionary[str, ObservedSession] = WeakValueDictionary()

    def drop(self, session_id: str) -> None:
        """The session was deleted. Whoever watches it has seen the last of it, and what comes
        under its id is another session, with watchers of its own."""
        self._observed.pop(session_id, None)
        try:
            self._replay.drop_session(session_id)
        except Exception as error:
            log.warning("session %r: could not drop its events: %s", session_id, error)

    def cell(self, session_id: str) -> ObservationCell:
        """A cell for one more runtime of that session."""
        observed = self._observed.get(session_id)
        if observed is None:
            observed = self._observed[session_id] = ObservedSession(session_id, self._replay)
        return ObservationCell(observed)
