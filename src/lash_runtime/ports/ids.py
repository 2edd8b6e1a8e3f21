"""Identifiers and randomness, as the library draws them. Inject one to make a run repeatable."""

import os
import random
import threading
from typing import Final, Protocol


class IdSource(Protocol):
    """Where every random id comes from."""

    def uuid(self) -> str:
        """A UUID of version 4 in its usual form."""
        ...

    def hex(self) -> str:
        """32 random hex digits."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A random number between the two, for jitter."""
        ...


_POOL_BYTES: Final = 4096


class _RandomPool:
    """Randomness from the operating system, drawn in advance.

    Each draw releases the interpreter's lock, and a busy database thread then keeps it: asked
    for one id at a time, ids cost more than the turns they name.
    """

    __slots__ = ("_at", "_bytes", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""
        self._at = 0
        # A child that went on with its parent's bytes would draw its parent's ids.
        os.register_at_fork(after_in_child=self._forget)

    def draw(self) -> bytes:
        """16 bytes that nobody else is given."""
        with self._lock:
            if self._at == len(self._bytes):
                self._bytes = os.urandom(_POOL_BYTES)
                self._at = 0
            start, self._at = self._at, self._at + 16
            return self._bytes[start : self._at]

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""
        self._at = 0


_POOL: Final = _RandomPool()


class SystemIds:
    """Ids from the operating system's randomness. Safe from any thread, and after a fork."""

    def uuid(self) -> str:
        return uuid4_text(int.from_bytes(_POOL.draw()))

    def hex(self) -> str:
        return _POOL.draw().hex()

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


def uuid4_text(bits: int) -> str:
    """128 random bits as the text of a version 4 UUID."""
    bits = (bits & ~(0xF << 76) & ~(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
