"""The folder in which those who listen to one database have their sockets.

It is the user's own, in the temporary directory, because the path of a socket may only be some
hundred characters long. Databases are told apart by what they are on the disk, so that a link or
another spelling of the path leads to the same folder.

Rule 1: only a folder that belongs to this user and to nobody else is used.
Rule 2: it is made by those who listen, and removed by the last of them that leaves in order.
Rule 3: the name of a socket says of which kinds of signals it wants to hear, so that no process is
woken for what nobody waits for in it.
"""

import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final, NamedTuple

_NAME: Final = re.compile("[0-9a-f]{16}-((?:[0-9a-f]{2})*)")


class FoundSocket(NamedTuple):
    """Living or dead. `kinds` are the first bytes of the marks of those that it wants."""

    path: str
    kinds: frozenset[int]

    def wants(self, kinds: Collection[int]) -> bool:
        return not self.kinds.isdisjoint(kinds)


class SocketFolder:
    """Safe from any thread. Nothing is made before `make`."""

    __slots__ = ("_database", "_paths")

    def __init__(self, database: str) -> None:
        self._database = database
        self._paths: tuple[str, str] | None = None

    def make(self) -> str:
        """The path of the folder, which is there now. Raises `OSError` if it cannot be used."""
        root, folder = self._located()
        for path in (root, folder):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        if not _is_private(root):
            raise PermissionError(f"{root} is not this user's alone")
        return folder

    def sockets(self) -> Sequence[FoundSocket]:
        """Those that are there."""
        try:
            root, folder = self._located()
            if not _is_private(root):
                return ()
            names = os.listdir(folder)
        except OSError:
            return ()
        found = map(_NAME.fullmatch, names)
        return tuple(
            FoundSocket(f"{folder}/{name[0]}", frozenset(bytes.fromhex(name[1])))
            for name in found
            if name is not None
        )

    def remove(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):
            for path in reversed(self._located()):
                os.rmdir(path)

    def _located(self) -> tuple[str, str]:
        """The folder of the user, and in it that of the database."""
        if self._paths is None:
            if not hasattr(os, "geteuid"):
                raise OSError("this system has no sockets that belong to a user")
            found = os.stat(self._database)
            name = blake2b(b"%x:%x" % (found.st_dev, found.st_ino), digest_size=8).hexdigest()
            root = f"{tempfile.gettempdir()}/lash-{os.geteuid()}"
            self._paths = (root, f"{root}/{name}")
        return self._paths


def new_stem() -> str:
    """The beginning of a name that nobody else has."""
    return f"{os.urandom(8).hex()}-"


def named_after(stem: str, kinds: Iterable[bytes]) -> str:
    """The name of the socket that wants those kinds."""
    return stem + bytes(sorted({kind[0] for kind in kinds})).hex()


def remove_dead(path: str) -> None:
    """Remove the socket of a process that is gone. Anything else is left where it is."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _is_private(path: str) -> bool:
    found = os.lstat(path)
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )
