"""Where a turn's activities go: a caller's sink, a list, or several of them."""

import logging
from typing import Protocol

from ...model.activity import TurnActivity

log = logging.getLogger(__name__)


class TurnActivitySink(Protocol):
    """Receives activities in order. The turn awaits it: a slow sink slows the turn.

    An exception is logged and costs the sink that one activity; it never harms the turn.
    """

    async def emit(self, activity: TurnActivity) -> None: ...


class CollectingSink:
    """Keeps every activity."""

    def __init__(self) -> None:
        self.activities: list[TurnActivity] = []

    async def emit(self, activity: TurnActivity) -> None:
        self.activities.append(activity)


class TurnActivityFanout:
    """Hands each activity to several sinks, in order; one that fails does not spoil the rest."""

    def __init__(self, *sinks: TurnActivitySink) -> None:
        self._sinks = sinks

    async def emit(self, activity: TurnActivity) -> None:
        for sink in self._sinks:
            await emit_contained(sink, activity)


async def emit_contained(sink: TurnActivitySink, activity: TurnActivity) -> None:
    """Emit, keeping the sink's own failure away from the turn."""
    try:
        await sink.emit(activity)
    except Exception:
        log.exception("a sink failed on activity %s", activity.id)
