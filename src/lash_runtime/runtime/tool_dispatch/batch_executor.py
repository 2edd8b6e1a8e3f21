"""The local executor of a batch: runs its calls here, each attempt an effect of its own.

The parallel calls run side by side, and after them the serial ones, each on its own. No task
group stands around a controller that cannot run effects side by side: it may be an engine,
whose way to suspend a turn is not to be wrapped or held up.
"""

from collections.abc import Callable, Sequence

from ...model.tools import ToolScheduling
from ...ports.effects import (
    EffectControllerError,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ToolBatchCommand,
    ToolBatchOutcome,
    ToolCallDone,
)
from ..children import Child, ended
from .attempts import CallAttempts
from .executors import mismatch
from .preparation import ReadyCall
from .shown_calls import ShownCalls


class ToolBatchExecutor:
    """Runs the calls of one batch; single use. What goes wrong in a call is in its result."""

    def __init__(
        self,
        calls: Sequence[ReadyCall],
        *,
        attempts: Callable[[ReadyCall], CallAttempts],
        side_by_side: bool,
        recorded: bool,
        shown: ShownCalls,
    ) -> None:
        """`recorded` says that the end of a call is put on record, which an interruption of the
        turn has to wait for."""
        self._calls = calls
        self._attempts = attempts
        self._side_by_side = side_by_side
        self._recorded = recorded
        self._shown = shown

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        """Cancelling the task passes through once every call's own task has ended."""
        if not isinstance(envelope.command, ToolBatchCommand):
            raise mismatch(envelope, "a batch of tools")
        together = [call for call in self._calls if self._is_parallel(call)]
        in_turn = [call for call in self._calls if not self._is_parallel(call)]
        await self._run_together(together)
        for call in in_turn:
            await self._run(call)
        return ToolBatchOutcome(tuple(self._result(call) for call in self._calls))

    def _is_parallel(self, call: ReadyCall) -> bool:
        return self._side_by_side and call.tool.manifest.scheduling is ToolScheduling.PARALLEL

    async def _run_together(self, calls: Sequence[ReadyCall]) -> None:
        if len(calls) == 1:
            await self._run(calls[0])
            return
        running = [
            Child(
                self._run(call),
                name=f"lash-call-{call.pending.call_id}",
                insistent=self._recorded,  # which leaves what is shielded in it alone
            )
            for call in calls
        ]
        await ended(*running)
        for child in running:
            if child.verdict is not None:
                child.verdict.unwrap()

    async def _run(self, call: ReadyCall) -> None:
        await self._shown.start(call.index, call.pending)
        done = await self._attempts(call).run()
        await self._shown.complete(call.index, call.pending, done)

    def _result(self, call: ReadyCall) -> ToolCallDone:
        done = self._shown.done(call.index)
        if done is None:
            raise EffectControllerError(
                "tool_batch_missing_result",
                f"call {call.pending.call_id!r} of {call.pending.tool_name!r} was cut off "
                "without a result",
            )
        return done
