"""The cancel of one turn in this process: a token, and the request that its end has to heed."""

from ...model.cancelling import CancelRequest, CancelVerdict
from ...ports.cancel import CancelToken


class TurnCancelToken(CancelToken):
    """The token of one turn, which also takes requests to cancel it.

    The token alone asks: a turn that has finished by then keeps its answer. A request decides:
    until the end of the turn is, it makes the turn a cancelled one, whatever it has finished.
    Requests are for the loop that runs the turn.
    """

    __slots__ = ("_ended", "_request")

    def __init__(self) -> None:
        super().__init__()
        self._request: CancelRequest | None = None
        self._ended: CancelVerdict | None = None

    @property
    def request(self) -> CancelRequest | None:
        """The first request that came in time."""
        return self._request

    def ask(self, request: CancelRequest) -> CancelVerdict:
        """Wind the turn down for `request`, if its end is still open.

        Of a turn that has a store the answer `completion_won` is only what is known here: until
        the commit is made, the store may have it otherwise.
        """
        if self._ended is not None:
            return self._ended
        if self._request is None:
            self._request = request
        self.cancel(request.reason or "cancelled by request")
        return CancelVerdict.ACCEPTED

    def decide(self, *, cancelled: bool) -> None:
        """The turn ends like that; a request comes too late from here on."""
        self._ended = CancelVerdict.ACCEPTED if cancelled else CancelVerdict.COMPLETION_WON
