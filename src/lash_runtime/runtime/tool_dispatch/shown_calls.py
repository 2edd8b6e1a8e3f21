"""What has been shown of the calls of one batch, so that each start and end is shown once.

A call may end where it is run, or its end may be learned from a record, or from the failure of
the whole batch. Whoever learns of it first says so here; to say it again changes nothing.
"""

from typing import Protocol

from ...model.tool_results import PendingToolCall, ToolCallOutput
from ...ports.effects import ToolCallDone


class ToolCallReporter(Protocol):
    """Shows calls to whoever watches the turn. Called from several tasks, in any order."""

    async def tool_started(
        self, call: PendingToolCall, parent_call_id: str | None = None
    ) -> None: ...

    async def tool_completed(
        self,
        call: PendingToolCall,
        output: ToolCallOutput,
        duration_ms: int,
        parent_call_id: str | None = None,
    ) -> None: ...


class ShownCalls:
    """The calls of one batch, by their place in it."""

    __slots__ = ("_done", "_parent_call_id", "_reporter", "_started")

    def __init__(self, reporter: ToolCallReporter, parent_call_id: str | None) -> None:
        self._reporter = reporter
        self._parent_call_id = parent_call_id
        self._started: set[int] = set()
        self._done: dict[int, ToolCallDone] = {}

    def done(self, index: int) -> ToolCallDone | None:
        """How the call ended; `None` as long as it has not."""
        return self._done.get(index)

    async def start(self, index: int, call: PendingToolCall) -> None:
        if index not in self._started:
            self._started.add(index)
            await self._reporter.tool_started(call, self._parent_call_id)

    async def complete(self, index: int, call: PendingToolCall, done: ToolCallDone) -> None:
        """Show the end, and before it the start if nobody has seen one."""
        if index in self._done:
            return
        self._done[index] = done
        await self.start(index, call)
        await self._reporter.tool_completed(
            call, done.output, done.duration_ms, self._parent_call_id
        )
