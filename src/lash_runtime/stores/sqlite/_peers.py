"""Telling the other processes that listen to a database, from the thread that has committed.

Rule 1: nothing here waits or raises. Whoever cannot be told looks by itself.
Rule 2: who is there, and by which name, is known without asking for a moment. A listener that has
come meanwhile looks once more when the moment is over, see `KNOWN_FOR_S`.
Rule 3: a socket serves one announcement. What a receiver has not read counts against the socket
that sent it, so one that is stuck would soon silence a lasting socket for all others.
"""

import errno
import socket
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..signal_marks import SignalMark
from ._datagrams import LOOK_AT_EVERYTHING, datagram_of
from ._socket_folder import FoundSocket, SocketFolder, remove_dead

KNOWN_FOR_S: Final = 0.05
"""How long a sender goes by the sockets that it found. That is the time of the machine, which all
processes share, and not of the storage's clock."""

MOST_PEERS: Final = 128
"""More are left to their own looking: it is the commit that waits for all of this."""

_PEERS_OF_A_SOCKET: Final = 16
"""As many of the largest datagrams as a socket of the usual size may have unread."""


class Peers:
    """Those who listen to one database in other storages, here and in other processes."""

    __slots__ = ("_folder", "_known", "_known_until", "_own")

    def __init__(self, folder: SocketFolder, own: Callable[[], str | None]) -> None:
        """`own` is what the path of our own socket begins with, which is not told."""
        self._folder = folder
        self._own = own
        self._known: Sequence[FoundSocket] = ()
        self._known_until = float("-inf")

    def present(self) -> Sequence[FoundSocket]:
        """Their sockets."""
        now = time.monotonic()
        if now >= self._known_until:
            own = self._own()
            found = self._folder.sockets()
            if own is not None:
                found = [each for each in found if not each.path.startswith(own)]
            self._known = found
            self._known_until = now + KNOWN_FOR_S
        return self._known

    def tell(self, marks: Collection[SignalMark]) -> None:
        """Tell those who want to hear of any of the kinds."""
        kinds = {mark.kind[0] for mark in marks}
        wanting = [found.path for found in self._known if found.wants(kinds)]
        if not _send(wanting[:MOST_PEERS], datagram_of(marks)):
            self._known_until = float("-inf")


def _send(paths: Sequence[str], datagram: bytes) -> bool:
    """Send to all of them; `False` if any is gone, or goes by another name now."""
    all_there = True
    for start in range(0, len(paths), _PEERS_OF_A_SOCKET):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                for path in paths[start : start + _PEERS_OF_A_SOCKET]:
                    all_there &= _is_there(out, path, datagram)
        except OSError:  # this process has no descriptor left
            break
    return all_there


def _is_there(out: socket.socket, path: str, datagram: bytes) -> bool:
    """Send to one, if it takes anything."""
    try:
        out.sendto(datagram, path)
    except ConnectionRefusedError:
        remove_dead(path)
        return False
    except FileNotFoundError:
        return False
    except OSError as error:  # it is full, or is no such socket
        if error.errno == errno.EMSGSIZE and datagram != LOOK_AT_EVERYTHING:
            return _is_there(out, path, LOOK_AT_EVERYTHING)
    return True
