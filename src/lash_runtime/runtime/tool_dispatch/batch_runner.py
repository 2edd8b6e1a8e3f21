"""Runs the tool calls of one model response and brings back one result for each.

Rule 1: calls are prepared one by one in the model's order. Those that can be run are one effect,
so that a controller can note the whole batch before any of its tools has started.
Rule 2: every call is shown as started and as completed, whether its tool ran, a record answered
or the controller failed.
Rule 3: what counts is the controller's answer. Where it has none, what has run keeps its result
and the other calls fail; a durable controller's error passes through, for what happens then is
its engine's to decide, from its record.
"""

from collections.abc import Sequence
from functools import partial

from ...model.causes import CausalRef, ToolCallRef, TurnRef
from ...model.records import dataclass, replace
from ...model.tool_results import CompletedToolCall, PendingToolCall, ToolFailure
from ...model.tool_values import model_return
from ...ports.cancel import CancelToken
from ...ports.clock import Clock
from ...ports.effects import (
    EffectControllerError,
    EffectSubject,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeInvocation,
    RuntimeScope,
    ToolBatchChild,
    ToolBatchCommand,
    ToolBatchOutcome,
    ToolCallDone,
    expect_count,
    expect_outcome,
    is_engine,
    keeps_record,
)
from ...ports.tools import ToolContext
from ...tools.catalog import ToolCatalog
from ..session_attachments import SessionAttachments
from .attempts import CallAttempts
from .batch_executor import ToolBatchExecutor
from .executors import ToolAttemptExecutor, cut_off
from .nested import NestedToolCalls, ParentCall
from .preparation import ReadyCall, failed, prepare, runtime_failure
from .shown_calls import ShownCalls, ToolCallReporter


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBatchRunner:
    """One batch. `batch_id` is the id of its effect, and `batch_key` that effect's replay key,
    which the keys of all its calls extend.

    `parent` is the call that asked for the batch, where that was a tool and not the model.
    """

    catalog: ToolCatalog
    controller: RuntimeEffectController
    scope: RuntimeScope
    batch_id: str
    batch_key: str
    reporter: ToolCallReporter
    cancel: CancelToken
    clock: Clock
    session_id: str
    turn_id: str
    agent_frame_id: str
    attachments: SessionAttachments | None = None
    parent: ParentCall | None = None

    async def run(self, calls: Sequence[PendingToolCall]) -> tuple[CompletedToolCall, ...]:
        """Run `calls`; results come in their order, one for each.

        What goes wrong in a call is in its result. When the turn's token fires, running calls
        get a short grace and the rest end as cancelled. Cancelling the task passes through once
        every call's own task has ended. Raises `EffectControllerError` when a durable
        controller fails at the batch.
        """
        shown = ShownCalls(self.reporter, None if self.parent is None else self.parent.call_id)
        results: dict[int, ToolCallDone] = {}
        ready: list[ReadyCall] = []
        for index, call in enumerate(calls):
            prepared = prepare(self.catalog, index, call)
            if isinstance(prepared, ToolFailure):
                results[index] = failed(prepared)
                await shown.complete(index, call, results[index])
            else:
                ready.append(prepared)
        if ready:
            done_calls = await self._done(ready, shown)
            for prepared, done in zip(ready, done_calls, strict=True):
                results[prepared.index] = done
                await shown.complete(prepared.index, prepared.pending, done)
        return tuple(_completed(call, results[index]) for index, call in enumerate(calls))

    async def _done(self, calls: Sequence[ReadyCall], shown: ShownCalls) -> Sequence[ToolCallDone]:
        """What became of each call."""
        token = self.cancel.child()
        if token.is_cancelled:
            return [cut_off()] * len(calls)
        try:
            return await self._execute(calls, token, shown)
        except EffectControllerError as error:
            if keeps_record(self.controller):
                raise
            unanswered = failed(runtime_failure(error.code, error.message))
            return [shown.done(call.index) or unanswered for call in calls]

    async def _execute(
        self, calls: Sequence[ReadyCall], token: CancelToken, shown: ShownCalls
    ) -> tuple[ToolCallDone, ...]:
        children = tuple(ToolBatchChild(call.prepared, call.replay_suffix) for call in calls)
        command = ToolBatchCommand(self.batch_id, children)
        cause = self._cause()
        invocation = RuntimeInvocation(
            scope=self.scope,
            subject=EffectSubject(self.batch_id, command.type),
            replay_key=self.batch_key,
            caused_by=cause,
        )
        executor = ToolBatchExecutor(
            calls,
            attempts=partial(self._attempts, token, cause),
            side_by_side=self.controller.supports_concurrent_effects,
            recorded=keeps_record(self.controller),
            shown=shown,
        )
        answer = await self.controller.execute_effect(
            RuntimeEffectEnvelope(invocation, command), executor
        )
        outcome = expect_outcome(command, answer, ToolBatchOutcome)
        expect_count(outcome, calls)
        return outcome.launches

    def _attempts(self, token: CancelToken, cause: CausalRef, call: ReadyCall) -> CallAttempts:
        return CallAttempts(
            call=call,
            call_key=f"{self.batch_key}:{call.replay_suffix}",
            scope=self.scope,
            caused_by=cause,
            controller=self.controller,
            make_attempt=partial(self._make_attempt, call, token),
            token=token,
            clock=self.clock,
        )

    def _make_attempt(
        self, call: ReadyCall, token: CancelToken, attempt: int, allowed: int, key: str
    ) -> ToolAttemptExecutor:
        if call.tool.manifest.timeout_ms is not None:
            token = token.child()
        nested = self._nested(call, token, attempt, key)
        context = ToolContext(
            session_id=self.session_id,
            turn_id=self.turn_id,
            agent_frame_id=self.agent_frame_id,
            tool_name=call.pending.tool_name,
            tool_call_id=call.pending.call_id,
            protocol_iteration=self.scope.protocol_iteration or 0,
            call_index=self._top_index(call),
            attempt_number=attempt,
            max_attempts=allowed,
            cancellation_token=token,
            dispatch=nested,
            attachments=self.attachments,
        )
        return ToolAttemptExecutor(
            call.tool, context, nested=nested, attachments=self.attachments, clock=self.clock
        )

    def _nested(
        self, call: ReadyCall, token: CancelToken, attempt: int, key: str
    ) -> NestedToolCalls | None:
        controller = self.controller
        if is_engine(controller) or not controller.supports_concurrent_effects:
            return None  # effects inside an attempt that is recorded whole have no place to go

        async def run(
            number: int, calls: Sequence[PendingToolCall]
        ) -> tuple[CompletedToolCall, ...]:
            runner = replace(
                self,
                batch_id=f"{call.pending.call_id}:attempt:{attempt}:batch:{number}",
                batch_key=f"{key}:batch:{number}",
                cancel=token,
                parent=ParentCall(call_id=call.pending.call_id, call_index=self._top_index(call)),
            )
            return await runner.run(calls)

        return NestedToolCalls(run)

    def _top_index(self, call: ReadyCall) -> int:
        """The place among the model's calls, which tells equal call ids of two batches apart."""
        return call.index if self.parent is None else self.parent.call_index

    def _cause(self) -> CausalRef:
        if self.parent is None:
            return TurnRef(session_id=self.session_id, turn_id=self.turn_id)
        return ToolCallRef(session_id=self.session_id, call_id=self.parent.call_id)


def _completed(call: PendingToolCall, done: ToolCallDone) -> CompletedToolCall:
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=done.output,
        model_return=model_return(call.call_id, call.tool_name, done.output),
        duration_ms=done.duration_ms,
        replay=call.replay,
    )
