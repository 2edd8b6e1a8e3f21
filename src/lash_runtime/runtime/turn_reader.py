"""The activities of one turn, read out of its session's live log by somebody who did not start it.

Rule 1: reading steers nothing. The turn does not know how many read, and never waits for one.
Rule 2: what the log has given up is said in its place, by a `RuntimeDiagnostic` of the kind
`activities_gap`.
Rule 3: a log that fails costs its readers activities, and never an error: the result is whole.
"""

import logging
from bisect import bisect_left
from typing import Final

import anyio

from ..model.activity import RuntimeDiagnostic, TurnActivity
from ..ports.ids import IdSource
from ..ports.observation_events import SessionObservationEvent, TurnActivityPayload
from ..ports.replay import (
    Gap,
    LiveReplayClosed,
    LiveReplayStore,
    LiveReplaySubscription,
    SubscriberLagged,
)
from ..ports.session_cursor import SessionCursor, SessionRevision
from .observation import ObservedSession
from .turn_registry import LiveTurn

log = logging.getLogger(__name__)

ACTIVITIES_GAP: Final = "activities_gap"
LAGGED: Final = "lagged"
"""The reader fell behind; the other reasons are those of `LiveReplayGapReason`."""

_ANY_REVISION: Final = SessionRevision(2**64 - 1)


class TurnReader:
    """Reads one turn, for one reader at a time. Dropping it leaks nothing."""

    __slots__ = (
        "__weakref__",
        "_at",
        "_closed",
        "_end",
        "_gap",
        "_ids",
        "_kept",
        "_observed",
        "_parked",
        "_subscription",
        "_turn",
    )

    def __init__(self, observed: ObservedSession, turn: LiveTurn, ids: IdSource) -> None:
        """What the log has of the turn by now is this reader's own and cannot be lost to it."""
        self._observed = observed
        self._turn = turn
        self._ids = ids
        self._subscription: LiveReplaySubscription | None = None
        self._gap: str | None = None
        self._at = 0
        # Up to this position there certainly is an event to read, so that no read has to be ended.
        self._kept = 0
        self._end: int | None = None
        self._parked: anyio.CancelScope | None = None
        self._closed = False
        try:
            self._subscribe(turn.began_at)
        except Exception as error:
            self._lose(error)
        turn.watch(self)

    async def next(self) -> TurnActivity | None:
        """The next activity; `None` once the turn is over and all were read, or after `aclose`.

        Being cancelled here loses nothing.
        """
        while not self._closed:
            if self._gap is not None:
                reason, self._gap = self._gap, None
                return self._diagnostic(reason)
            if self._has_ended:
                return None
            event = await self._event()
            if event is None:
                continue
            self._at = event.position
            payload = event.payload
            if event.turn_id == self._turn.turn_id and isinstance(payload, TurnActivityPayload):
                return payload.activity
        return None

    def turn_is_over(self) -> None:
        """Nothing is added any more: what is logged by now is the rest."""
        end = end_of_log(self._observed)
        self._end = self._kept = self._at if end is None else end.parse().position
        self._wake()

    async def aclose(self) -> None:
        """Read no more; ends a read that is under way. Idempotent."""
        self._closed = True
        subscription, self._subscription = self._subscription, None
        self._wake()
        if subscription is not None:
            await subscription.aclose()

    @property
    def _has_ended(self) -> bool:
        return self._end is not None and (self._subscription is None or self._at >= self._end)

    def _subscribe(self, began_at: SessionCursor | None) -> None:
        replay = self._observed.log
        end = replay.current_cursor(self._observed.session_id, _ANY_REVISION)
        since = began_at or end
        found = replay.subscribe_after_cursor(since)
        if isinstance(found, Gap):
            self._gap = found.reason.value
            since = _earliest_kept(replay, since, end)
            found = replay.subscribe_after_cursor(since)
        if not isinstance(found, Gap):
            self._subscription = found.subscription
            self._at, self._kept = since.parse().position, end.parse().position

    async def _event(self) -> SessionObservationEvent | None:
        """The next event of the log; `None` when the wait for it was ended."""
        subscription = self._subscription
        try:
            if subscription is not None and self._at < self._kept:
                return await subscription.__anext__()
            # The log does not say when a turn is over, so its end has to end the wait.
            with anyio.CancelScope() as self._parked:
                if subscription is not None:
                    return await subscription.__anext__()
                await self._turn.settled()
        except SubscriberLagged:
            self._gap = LAGGED
        except (LiveReplayClosed, StopAsyncIteration):
            self._subscription = None
        except Exception as error:
            self._lose(error)
        finally:
            self._parked = None
        return None

    def _wake(self) -> None:
        if self._parked is not None:
            self._parked.cancel()

    def _lose(self, error: Exception) -> None:
        log.warning("turn %r: its activities cannot be read: %s", self._turn.turn_id, error)
        self._subscription = None
        self._gap = "unavailable"

    def _diagnostic(self, reason: str) -> TurnActivity:
        identity = self._ids.uuid()
        data = {"turn_id": self._turn.turn_id, "reason": reason}
        return TurnActivity(identity, identity, RuntimeDiagnostic(kind=ACTIVITIES_GAP, data=data))


def end_of_log(observed: ObservedSession) -> SessionCursor | None:
    """The place after the latest event; `None` from a log that cannot tell."""
    try:
        return observed.log.current_cursor(observed.session_id, _ANY_REVISION)
    except Exception as error:
        log.warning("session %r: its log has no end: %s", observed.session_id, error)
        return None


def _earliest_kept(
    replay: LiveReplayStore, given_up: SessionCursor, end: SessionCursor
) -> SessionCursor:
    """The first place from which the log can still tell everything up to `end`.

    A log is numbered without holes and forgets its oldest first, so halving finds it.
    """
    first, last = given_up.parse(), end.parse()
    assert last.incarnation is not None
    incarnation = last.incarnation

    def place(position: int) -> SessionCursor:
        return SessionCursor.for_position(last.session_id, last.revision, position, incarnation)

    def is_kept(position: int) -> bool:
        return not isinstance(replay.replay_after_cursor(place(position)), Gap)

    return place(bisect_left(range(last.position), True, lo=first.position, key=is_kept))
