"""How a core tells its own recovery that a turn was left."""

from collections.abc import Callable


class RecoveryBell:
    """Rung by whoever leaves a turn unfinished; heard by the recovery, if the core has one."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: Callable[[], None] | None = None

    def ring(self) -> None:
        if self.heard is not None:
            self.heard()
