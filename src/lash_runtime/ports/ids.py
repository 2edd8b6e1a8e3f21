"""Identifiers and randomness, as the library draws them. Inject one to make a run repeatable."""

import os
import random
from collections.abc import Callable
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


_MADE_AT_ONCE: Final = 64


class _IdPool:
    """Ids from the operating system's randomness, made in advance; `form` makes one of 32 digits.

    Each draw of randomness releases the interpreter's lock, and a busy database thread then keeps
    it: asked for one id at a time, ids cost more than the turns they name.
    """

    __slots__ = ("_form", "_ready")

    def __init__(self, form: Callable[[str], str]) -> None:
        self._form = form
        self._ready: list[str] = []
        # A child that went on with its parent's ids would name its turns alike.
        os.register_at_fork(after_in_child=self._ready.clear)

    def draw(self) -> str:
        """One that nobody else is given. Safe from any thread: taking from a list is one step."""
        try:
            return self._ready.pop()
        except IndexError:
            digits = os.urandom(16 * _MADE_AT_ONCE).hex()
            made = [self._form(digits[at : at + 32]) for at in range(0, len(digits), 32)]
            mine = made.pop()
            self._ready.extend(made)
            return mine


class SystemIds:
    """Ids from the operating system's randomness. Safe from any thread, and after a fork."""

    def uuid(self) -> str:
        return _UUIDS.draw()

    def hex(self) -> str:
        return _HEX.draw()

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid4_text(digits: str) -> str:
    """32 random hex digits as the text of a version 4 UUID."""
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


_UUIDS: Final = _IdPool(uuid4_text)
_HEX: Final = _IdPool(str)
