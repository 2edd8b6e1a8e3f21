"""The turns of a core that run or stand in line, by session and turn id.

For those who come to a turn by its id and did not start it. What is over is forgotten: of a turn
that was stored, its row tells the rest.
"""

from typing import Protocol

from ..model.cancelling import CancelRequest, CancelVerdict
from ..ports.session_cursor import SessionCursor
from .turn.cancelling import TurnCancelToken
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
        self._recovered: dict[tuple[str, str], TurnCancelToken] = {}

    def ids(self) -> tuple[tuple[str, str], ...]:
        """The session and the id of each turn that is not over."""
        return (*self._turns, *self._recovered)

    def recovering(self, session_id: str, turn_id: str, token: TurnCancelToken) -> None:
        """The turn is finished here for nobody, and can be cancelled by its token."""
        self._recovered[session_id, turn_id] = token

    def recovered(self, session_id: str, turn_id: str) -> None:
        """It is over."""
        del self._recovered[session_id, turn_id]

    def ask(self, session_id: str, turn_id: str, request: CancelRequest) -> CancelVerdict:
        """Cancel the turn at once if it runs here or is in line; as `TurnCancelToken.ask`.

        Every way by which a request comes to this process ends here: that of its own callers,
        and that of a signal from another process which has written the request into the turn's
        row. Without a signal the runner hears of it when it next renews its lease, journals or
        commits.
        """
        key = session_id, turn_id
        tokens = [turn.request.cancel for turn in self._turns.get(key, ())]
        if key in self._recovered:
            tokens.append(self._recovered[key])
        for token in tokens:
            if token.ask(request) is CancelVerdict.COMPLETION_WON:
                return CancelVerdict.COMPLETION_WON
        return CancelVerdict.ACCEPTED if tokens else CancelVerdict.UNKNOWN_TURN

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
