"""Ids that repeat: the same seed gives the same ids and the same jitter in the same order."""

import random

from ..ports.ids import uuid4_text


class FixedIdSource:
    """An `IdSource` drawn from a seed; of no use where ids must be unguessable."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def uuid(self) -> str:
        return uuid4_text(f"{self._random.getrandbits(128):032x}")

    def hex(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)
