"""The turns of a core by their ids, from the moment they are asked for until they are over."""

from ..model.cancelling import CancelRequest, CancelVerdict
from .turn.cancelling import TurnCancelToken


class TurnRegistry:
    """Finds a turn of this core for whoever knows no more of it than its session and its id."""

    def __init__(self) -> None:
        # Several callers may ask for the same turn. They stand in one line: the first of them
        # runs it, and the others get its result.
        self._turns: dict[tuple[str, str], list[TurnCancelToken]] = {}

    def add(self, session_id: str, turn_id: str, token: TurnCancelToken) -> None:
        self._turns.setdefault((session_id, turn_id), []).append(token)

    def remove(self, session_id: str, turn_id: str, token: TurnCancelToken) -> None:
        """Forget a turn that was added."""
        tokens = self._turns[session_id, turn_id]
        tokens.remove(token)
        if not tokens:
            del self._turns[session_id, turn_id]

    def ask(self, session_id: str, turn_id: str, request: CancelRequest) -> CancelVerdict:
        """Cancel the turn at once if it runs here or is in line; as `TurnCancelToken.ask`.

        Every way by which a request comes to this process ends here: that of its own callers,
        and that of a signal from another process which has written the request into the turn's
        row. Without a signal the runner hears of it when it next renews its lease or commits.
        """
        for token in self._turns.get((session_id, turn_id), ()):
            if token.ask(request) is CancelVerdict.COMPLETION_WON:
                return CancelVerdict.COMPLETION_WON
        if (session_id, turn_id) in self._turns:
            return CancelVerdict.ACCEPTED
        return CancelVerdict.UNKNOWN_TURN
