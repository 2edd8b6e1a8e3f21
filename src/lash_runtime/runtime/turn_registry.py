"""The turns of a core that run or stand in line, by session and turn id.

For those who come to a turn by its id and did not start it. What is over is forgotten: of a turn
that was stored, its row tells the rest.
"""

from typing import Protocol

from ..ports.session_cursor import SessionCursor
from .turn.request import TurnRequest
from .turn.result import TurnResult


class TurnWatcher(Protocol):
    """Somebody who has to know when a turn is over."""

    def turn_is_over(self) -> None:
        """Called once. Quick, and raises nothing."""
        ...


class LiveTurn(Protocol):
    """A turn that was asked for, as those see it who did not start it."""

    @property
    def turn_id(self) -> str: ...

    @property
    def request(self) -> TurnRequest:
        """What its caller has asked for."""
        ...

    @property
    def began_at(self) -> SessionCursor | None:
        """The place in the session's log before its first activity; `None` until it begins, and
        where the log could not tell."""
        ...

    @property
    def is_over(self) -> bool: ...

    @property
    def is_cancelled(self) -> bool:
        """Whether it is winding down, or will as soon as it begins."""
        ...

    @property
    def gave_up(self) -> bool:
        """It is over and nothing came of it: its caller has left before it began, or while it
        was merely attached to the same turn elsewhere."""
        ...

    def watch(self, watcher: TurnWatcher) -> None:
        """Tell `watcher` when the turn is over, at once if it is. Holds it weakly."""
        ...

    async def settled(self) -> None:
        """Wait until the turn is over. Cancelling the wait does nothing to the turn."""
        ...

    def outcome(self) -> TurnResult:
        """What a turn that is over came to. Raises what it has failed with."""
        ...


class TurnRegistry:
    """Who runs or stands in line under which id, in the order in which they came.

    Several may have the same id: the same turn that was asked for again, or in a session without
    a store turns that merely share a name. The first of them is the one that runs.
    """

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], list[LiveTurn]] = {}

    def register(self, session_id: str, turn: LiveTurn) -> None:
        self._turns.setdefault((session_id, turn.turn_id), []).append(turn)

    def forget(self, session_id: str, turn: LiveTurn) -> None:
        """The turn is over. Idempotent."""
        key = (session_id, turn.turn_id)
        turns = self._turns.get(key)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._turns[key]

    def find(self, session_id: str, turn_id: str) -> LiveTurn | None:
        """The turn of that id that runs, or is the first of them in line."""
        for turn in self._turns.get((session_id, turn_id), ()):
            if not turn.is_over:
                return turn
        return None

    def drop(self, session_id: str) -> None:
        """The session was deleted: what still winds down is no turn of the next one."""
        for key in [key for key in self._turns if key[0] == session_id]:
            del self._turns[key]
