"""What a signal is compared by: marks of a fixed length in place of ids.

An id may be long and is nobody's business. Marks may collide; then somebody looks for nothing,
which a hint is allowed to cause.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from ..ports.signals import SignalFilter, SignalKind, StoreSignal

KIND_BYTES: Final = 2
ID_BYTES: Final = 8


class SignalMark(NamedTuple):
    """A signal. `turn` is `NO_TURN` where it is about every turn of the session."""

    kind: bytes
    session: bytes
    turn: bytes


NO_TURN: Final = bytes(ID_BYTES)


def mark_of(signal: StoreSignal) -> SignalMark:
    turn_id = signal.turn_id
    return SignalMark(
        _KINDS[signal.kind],
        _id_mark(signal.session_id),
        NO_TURN if turn_id is None else _id_mark(turn_id),
    )


class Interest:
    """A filter, as marks are compared with it. `session` is `None` where every one is meant."""

    __slots__ = ("_turn", "kinds", "session")

    def __init__(self, wanted: SignalFilter) -> None:
        kinds = {_KINDS[kind] for kind in wanted.kinds}
        self.session: bytes | None = None
        self._turn = NO_TURN
        if wanted.session_id is not None:
            self.session = _id_mark(wanted.session_id)
            kinds.add(_KINDS[SignalKind.SESSION_DELETED])
        if wanted.turn_id is not None:
            self._turn = _id_mark(wanted.turn_id)
        self.kinds = frozenset(kinds)

    def matches(self, mark: SignalMark) -> bool:
        """Whether the listener is to be told. That the session is the right one was seen to."""
        return mark.kind in self.kinds and (
            self._turn == NO_TURN or mark.turn in (NO_TURN, self._turn)
        )


def _digest(text: str, size: int) -> bytes:
    # Never raises: a signal about an id that cannot be encoded is a signal all the same.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


@lru_cache(maxsize=512)  # the sessions and turns at work are few, and each is announced often
def _id_mark(text: str) -> bytes:
    return _digest(text, ID_BYTES)


# By name and not by number, so that another release's kinds are nobody else's.
_KINDS: Final = {kind: _digest(kind.value, KIND_BYTES) for kind in SignalKind}
