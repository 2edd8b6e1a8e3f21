"""Identifiers and randomness, as the library draws them. Inject one to make a run repeatable."""

import os
import random
from typing import Protocol


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


class SystemIds:
    """Ids from the operating system's randomness."""

    def uuid(self) -> str:
        return uuid4_text(int.from_bytes(os.urandom(16)))

    def hex(self) -> str:
        return os.urandom(16).hex()

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


def uuid4_text(bits: int) -> str:
    """128 random bits as the text of a version 4 UUID."""
    bits = (bits & ~(0xF << 76) & ~(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
