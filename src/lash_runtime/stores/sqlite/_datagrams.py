"""Signals on their way between processes: a byte for the format, then one mark after the other.

What cannot be read, and a datagram without marks, says that everything is to be looked at. So
another release may send what this one does not know, and a flood is told in one byte.
"""

from collections.abc import Collection
from typing import Final

from ..signal_marks import ID_BYTES, KIND_BYTES, SignalMark

_FORMAT: Final = b"\x01"
_MARK_BYTES: Final = KIND_BYTES + 2 * ID_BYTES

MOST_MARKS: Final = 256
"""As many as a full group of commits has: 4.6 kB."""

MAX_BYTES: Final = len(_FORMAT) + MOST_MARKS * _MARK_BYTES

LOOK_AT_EVERYTHING: Final = _FORMAT


def datagram_of(marks: Collection[SignalMark]) -> bytes:
    """What to send so that all of them are told."""
    if len(marks) > MOST_MARKS:
        return LOOK_AT_EVERYTHING
    return _FORMAT + b"".join(map(b"".join, marks))


def marks_in(datagram: bytes) -> list[SignalMark] | None:
    """The marks that it holds; `None` if everything is to be looked at."""
    body = datagram[len(_FORMAT) :]
    if not datagram.startswith(_FORMAT) or not body or len(body) % _MARK_BYTES:
        return None
    return [_mark(body[at : at + _MARK_BYTES]) for at in range(0, len(body), _MARK_BYTES)]


def _mark(part: bytes) -> SignalMark:
    session = KIND_BYTES + ID_BYTES
    return SignalMark(part[:KIND_BYTES], part[KIND_BYTES:session], part[session:])
