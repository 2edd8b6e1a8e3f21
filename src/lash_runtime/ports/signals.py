"""Signals: word that something in a store may have changed, for those who wait for it.

Rule 1: a signal is a hint and the row is the truth. It may be lost, doubled, late or about
nothing. Whoever is told looks; whoever is not told looks now and then all the same.
Rule 2: a listener is told that there is something to look at, never what. However much happens
while it is busy, that is one look, so nobody has to keep up.
Rule 3: whoever listens before looking misses nothing. `wait_until` of `ports/waiting.py` does it
in that order.
"""

from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from ..model.records import dataclass


class SignalKind(StrEnum):
    """What may have happened. Processes of different releases share these names."""

    TURN_ACCEPTED = "turn_accepted"
    TURN_SETTLED = "turn_settled"
    TURN_CANCEL_REQUESTED = "turn_cancel_requested"
    TURN_LEFT = "turn_left"
    """Whoever ran a turn stops to, and somebody else may finish it."""
    WAIT_RESOLVED = "wait_resolved"
    LANE_FREE = "lane_free"
    """A lease was given back. One that lapses gives no signal: wait no longer than it lasts."""
    SESSION_DELETED = "session_deleted"


@dataclass(frozen=True, slots=True)
class StoreSignal:
    """Something that was committed. Without a `turn_id` it is about every turn of the session."""

    kind: SignalKind
    session_id: str
    turn_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFilter:
    """What a listener wants to hear of: these kinds, of one turn, of one session, or of all.

    The deletion of the session is always among them: it ends whatever one could wait for.
    """

    kinds: frozenset[SignalKind]
    session_id: str | None = None
    turn_id: str | None = None

    def __post_init__(self) -> None:
        if self.turn_id is not None and self.session_id is None:
            raise ValueError("a turn is one of a session: give its session_id too")

    @classmethod
    def of(
        cls, *kinds: SignalKind, session_id: str | None = None, turn_id: str | None = None
    ) -> Self:
        return cls(kinds=frozenset(kinds), session_id=session_id, turn_id=turn_id)


class SignalSubscription(Protocol):
    """A place to wait for signals. Use it as `with`, or close it; belongs to one event loop.

    One that is dropped without being closed is released all the same, with a `ResourceWarning`.
    """

    def take(self) -> bool:
        """Whether there is something to look at since the last time that this, or `wait`, said
        so. Does not wait."""
        ...

    async def wait(self) -> bool:
        """Wait until there is something to look at; `False`, at once, when this is closed.

        Never raises. For one waiter at a time: a second one gets `RuntimeError`.
        Cancellation: what was told and not answered is answered next time.
        """
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> None:
        """As `wait`; iteration ends when this is closed."""
        ...

    def close(self) -> None:
        """Hear nothing more. Ends a wait of another task; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class StoreSignals(Protocol):
    """The signals of one storage, to those who listen through it and, where it can, through
    other storages on the same place.

    A store announces what it has committed: nothing of a call that has failed, and everything
    before the call returns, so that a listener of the same storage has been told by then.
    """

    @property
    def hears_all(self) -> bool:
        """Whether listeners are told what anybody does in the store, but for what gets lost.
        If not, waiting is looking again and again."""
        ...

    def announce(self, signal: StoreSignal) -> None:
        """Tell those who listen. Quick, from any thread, never waits and never raises."""
        ...

    def listen(self, wanted: SignalFilter) -> SignalSubscription:
        """Hear of what is announced from now on, until the subscription or the storage is closed.

        Raises the `StoreError` of a storage that is not open, or is not the caller's.
        """
        ...
