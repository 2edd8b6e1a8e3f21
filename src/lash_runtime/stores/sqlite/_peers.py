"""Telling the other processes that listen to a database, from the thread that has committed.

Rule 1: nothing here waits or raises. Whoever cannot be told looks by itself.
Rule 2: who is there is known without asking, for a moment. A listener that has come meanwhile
looks once more when the moment is over, see `KNOWN_FOR_S`.
Rule 3: no socket sends twice. What a receiver has not read counts against the socket that sent it,
so one that is stuck would soon silence a lasting socket for all others.
"""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from ._datagrams import LOOK_AT_EVERYTHING
from ._socket_folder import SocketFolder, remove_dead

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
        """`own` is the path of the socket that is ours, and is not told."""
        self._folder = folder
        self._own = own
        self._known: Sequence[str] = ()
        self._known_until = float("-inf")

    def present(self) -> Sequence[str]:
        """The paths of their sockets."""
        now = time.monotonic()
        if now >= self._known_until:
            own = self._own()
            found = [path for path in self._folder.sockets() if path != own]
            self._known = found[:MOST_PEERS]
            self._known_until = now + KNOWN_FOR_S
        return self._known

    def send(self, peers: Sequence[str], datagram: bytes) -> None:
        gone: set[str] = set()
        for start in range(0, len(peers), _PEERS_OF_A_SOCKET):
            gone.update(_not_there(peers[start : start + _PEERS_OF_A_SOCKET], datagram))
        if gone:
            self._known = [path for path in self._known if path not in gone]


def _not_there(peers: Sequence[str], datagram: bytes) -> Sequence[str]:
    """Send to some; those that are not there any more."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            return [path for path in peers if not _is_there(out, path, datagram)]
    except OSError:  # this process has no descriptor left
        return ()


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
