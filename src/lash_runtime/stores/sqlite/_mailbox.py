"""The socket of one storage, at which it is told what other processes have committed.

Rule 1: it is read on the event loop, without waiting. While nobody listens it is not read at all:
it fills, and senders pass it over.
Rule 2: a full socket refuses what is sent. So many datagrams in one go as it can hold may have
been followed by others that it refused: then everything is looked at.
Rule 3: it belongs to the process that opened it. A forked child lets go of it at once, for a
socket that anybody has open does not count as dead.
"""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet

from ..signal_hub import SignalHub
from ._datagrams import MAX_BYTES, marks_in
from ._socket_folder import SocketFolder, named_after, new_stem, remove_dead

_READS_AT_ONCE: Final = 64
"""Datagrams that are read before the event loop does something else."""

_ATTEMPTS: Final = 3
"""A folder may be removed by another process between its making and its use."""

_QUEUE_LENGTH: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
_USUAL_LENGTH: Final = 10


class Mailbox:
    """Open from `open` to `close`. All of it runs on the loop that opened it."""

    __slots__ = (
        "__weakref__",
        "_folder",
        "_hub",
        "_in_a_row",
        "_kinds",
        "_length",
        "_loop",
        "_path",
        "_pid",
        "_reading",
        "_socket",
        "stem",
    )

    def __init__(
        self, folder: SocketFolder, hub: SignalHub, stem: str, path: str, bound: socket.socket
    ) -> None:
        """`stem` is what its path begins with, for as long as it is open."""
        self._folder = folder
        self._hub = hub
        self.stem = stem
        self._path = path
        self._kinds: frozenset[bytes] = frozenset()
        self._socket = bound
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._length = _queue_length()
        self._in_a_row = 0
        self._reading = False
        _OPEN.add(self)

    @classmethod
    def open(cls, folder: SocketFolder, hub: SignalHub) -> "Mailbox | None":
        """A new socket in the folder; `None` where there can be none."""
        try:
            _clear_away(folder)
            stem, path, bound = _bound(folder)
        except OSError:
            return None
        mailbox = cls(folder, hub, stem, path, bound)
        try:
            mailbox.read()
        except RuntimeError:  # an event loop that watches no sockets says that it does not
            mailbox.close()
            return None
        return mailbox

    def wants(self, kinds: frozenset[bytes]) -> bool:
        """Whether others know already that those kinds are wanted here, too. From now on they do.

        Raises `OSError` if the socket is not where it was put.
        """
        wanted = self._kinds | kinds
        path = named_after(self.stem, wanted)
        os.rename(self._path, path)  # to its own name if need be, which says that it is there
        known, self._kinds = wanted == self._kinds, wanted
        self._path = path
        return known

    def read(self) -> None:
        """Tell the hub what arrives, until nobody listens to it any more."""
        if not self._reading:
            self._loop.add_reader(self._socket, self._readable)
            self._reading = True

    def close(self) -> None:
        """Remove the socket. Idempotent."""
        _OPEN.discard(self)
        if self._socket.fileno() < 0:
            return
        self._rest()
        self._socket.close()
        with suppress(OSError):
            os.unlink(self._path)
        self._folder.remove()

    def abandon(self) -> None:
        """Close it from wherever the collector happens to run, also in a forked child."""
        if os.getpid() != self._pid:
            self.let_go()
            return
        try:
            self._loop.call_soon_threadsafe(self.close)
        except RuntimeError:  # the loop is closed, and does not read any more
            self._reading = False
            self.close()

    def let_go(self) -> None:
        """This process was forked from the one that it belongs to."""
        self._reading = False
        self._socket.close()

    def _rest(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _readable(self) -> None:
        if not self._hub.has_listeners:
            self._rest()
            return
        marks = []
        everything = False
        for _ in range(_READS_AT_ONCE):
            datagram = self._received()
            if datagram is None:
                break
            told = marks_in(datagram)
            if told is None or self._in_a_row >= self._length:
                everything = True
            else:
                marks += told
        if everything:
            self._in_a_row = 0
            self._hub.tell_everybody()
        elif marks:
            self._hub.tell(dict.fromkeys(marks))

    def _received(self) -> bytes | None:
        """The next datagram; `None` when there is none."""
        try:
            datagram = self._socket.recv(MAX_BYTES + 1)
        except OSError:
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        return datagram


def _bound(folder: SocketFolder) -> tuple[str, str, socket.socket]:
    """A socket, what its path begins with, and its path. Raises `OSError` where there can be
    none."""
    attempts_left = _ATTEMPTS
    while True:
        attempts_left -= 1
        try:
            stem = f"{folder.make()}/{new_stem()}"
            path = named_after(stem, ())
            return stem, path, _bound_to(path)
        except FileNotFoundError:
            if attempts_left == 0:
                raise


def _bound_to(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.bind(path)
    except OSError:
        made.close()
        raise
    return made


def _clear_away(folder: SocketFolder) -> None:
    """Remove what processes have left that were killed. Senders do so, too, but only to those that
    want to hear of what they have to tell."""
    there = folder.sockets()
    if not there:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        for found in there:
            try:
                asking.connect(found.path)
            except ConnectionRefusedError:
                remove_dead(found.path)
            except OSError:
                continue


def _queue_length() -> int:
    """How many unread datagrams make a socket full."""
    try:
        # One more than the system says is taken.
        return int(_QUEUE_LENGTH.read_text("ascii")) + 1
    except (OSError, ValueError):
        return _USUAL_LENGTH


_OPEN: Final[WeakSet[Mailbox]] = WeakSet()


def _let_go_of_all() -> None:
    for mailbox in tuple(_OPEN):
        mailbox.let_go()
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)
