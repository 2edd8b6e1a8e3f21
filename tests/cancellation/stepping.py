"""An event loop that tells when it has taken a step, so that a test can act at the n-th one."""

import asyncio
from collections.abc import Callable
from typing import Self


class SteppingLoop(asyncio.SelectorEventLoop):
    """Calls `on_step` after every pass over its ready callbacks."""

    on_step: Callable[[], None] | None = None

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if self.on_step is not None:
            self.on_step()


class AtStep:
    """Does something once, when the loop has taken `step` more steps."""

    def __init__(self, loop: SteppingLoop, step: int, act: Callable[[], object]) -> None:
        self._loop = loop
        self._left = step
        self._act = act
        self.reached = False

    def __enter__(self) -> Self:
        self._loop.on_step = self._count
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.on_step = None

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0 and not self.reached:
            self.reached = True
            self._act()
