"""Tools called by a tool: the same kind of batch, one level down."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from ...model.records import dataclass
from ...model.tool_results import CompletedToolCall, PendingToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentCall:
    """The call that asks for a batch, and its place, or its own parent's, among the model's."""

    call_id: str
    call_index: int


RunNested = Callable[[int, Sequence[PendingToolCall]], Awaitable[tuple[CompletedToolCall, ...]]]
"""Runs the n-th batch of a call."""


class NestedToolCalls:
    """The batches that one attempt of a call asks for; its context's `dispatch`."""

    __slots__ = ("_count", "_run", "_running", "_settled")

    def __init__(self, run: RunNested) -> None:
        self._run = run
        self._count = 0
        self._running = 0
        self._settled: anyio.Event | None = None

    async def batch(self, calls: Sequence[PendingToolCall]) -> tuple[CompletedToolCall, ...]:
        number = self._count
        self._count += 1
        self._running += 1
        try:
            return await self._run(number, calls)
        finally:
            self._running -= 1
            if not self._running and self._settled is not None:
                self._settled.set()
                self._settled = None

    async def settled(self) -> None:
        """Return when no batch is running."""
        while self._running:
            if self._settled is None:
                self._settled = anyio.Event()
            await self._settled.wait()
