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

    __slots__ = ("_at", "_digits", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digits = ""
        self._at = 0
        # A child that went on with its parent's digits would draw its parent's ids.
        os.register_at_fork(after_in_child=self._forget)

    def draw(self) -> str:
        """32 hex digits that nobody else is given."""
        with self._lock:
            if self._at == len(self._digits):
                self._digits = os.urandom(_POOL_BYTES).hex()
                self._at = 0
            start, self._at = self._at, self._at + 32
            return self._digits[start : self._at]

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._digits = ""
        self._at = 0


_POOL: Final = _RandomPool()


class SystemIds:
    """Ids from the operating system's randomness. Safe from any thread, and after a fork."""

    def uuid(self) -> str:
        return uuid4_text(_POOL.draw())

    def hex(self) -> str:
        return _POOL.draw()

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid4_text(digits: str) -> str:
    """32 random hex digits as the text of a version 4 UUID."""
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
