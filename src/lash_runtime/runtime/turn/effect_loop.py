"""Drives a turn machine: takes its effects one by one, has them executed, feeds the answers back.

The machine decides and the controller executes; this loop only connects them. Everything that
touches the world goes through the controller, under a replay key that a second run would use
again.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar, assert_never

from ...kernel.machine.effects import (
    CallLlm,
    CallTools,
    Checkpoint,
    CheckpointDelivered,
    Done,
    EmitEvent,
    EnvironmentSynced,
    ExecCode,
    ExecCompleted,
    ExecutionEnvironment,
    LlmCompleted,
    LogEvent,
    Progress,
    SyncExecutionEnvironment,
    ToolsCompleted,
)
from ...kernel.machine.machine import TurnMachine
from ...model.outcome import ErrorEnvelope, StopReason, stopped
from ...model.session_events import ErrorEvent
from ...ports.cancel import CancelToken
from ...ports.effects import (
    CheckpointCommand,
    CheckpointOutcome,
    EffectControllerError,
    EffectSubject,
    LlmCallCommand,
    LlmCallOutcome,
    LocalEffectExecutor,
    RuntimeEffectCommand,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeScope,
    SyncExecutionEnvironmentCommand,
    SyncExecutionEnvironmentOutcome,
    expect_outcome,
    is_engine,
    turn_effect_key,
)
from .executors import TurnExecutors
from .reporter import TurnReporter

log = logging.getLogger(__name__)

O = TypeVar("O", bound=RuntimeEffectOutcome)  # noqa: E741


class EffectLoop:
    """Runs one machine to its end."""

    def __init__(
        self,
        *,
        machine: TurnMachine,
        controller: RuntimeEffectController,
        executors: TurnExecutors,
        reporter: TurnReporter,
        cancel: CancelToken,
        scope: Callable[[int], RuntimeScope],
        ensure_held: Callable[[], None],
        keep_progress: Callable[[Progress | Done], None],
        store_progress: Callable[[], Awaitable[None]],
    ) -> None:
        """`ensure_held` raises when the turn's lease is gone, in which case no model is called.
        `keep_progress` takes what the machine has finished into the draft; `store_progress`
        writes it, and is called between a round of tools and the next model call, so that
        paid work is not lost."""
        self._machine = machine
        self._controller = controller
        self._executors = executors
        self._reporter = reporter
        self._cancel = cancel
        self._scope = scope
        self._ensure_held = ensure_held
        self._keep_progress = keep_progress
        self._store_progress = store_progress
        self._unstored_work = False

    async def run(self) -> None:
        """Return when the machine is done. A controller's errors end the turn as `runtime_error`.

        Raises the `EffectControllerError` of a controller with an engine behind it.
        """
        machine = self._machine
        while (effect := machine.poll_effect()) is not None:
            try:
                match effect:
                    case EmitEvent(event=event):
                        await self._reporter.raw(event)
                    case Progress() | Done():
                        self._keep_progress(effect)
                    case CallLlm():
                        await self._call_llm(effect)
                    case CallTools():
                        await self._call_tools(effect)
                    case Checkpoint():
                        await self._checkpoint(effect)
                    case SyncExecutionEnvironment():
                        await self._sync_environment(effect)
                    case ExecCode(effect_id=effect_id):
                        machine.handle_response(
                            ExecCompleted(effect_id, "this core has no code executor")
                        )
                    case LogEvent(name=name, data=data):
                        log.info("turn machine: %s %s", name, data)
                    case _:
                        assert_never(effect)
            except EffectControllerError as error:
                if is_engine(self._controller):
                    raise
                machine.fail_turn(_controller_failed(error))

    async def _call_llm(self, effect: CallLlm) -> None:
        if self._unstored_work and not self._cancel.is_cancelled:
            await self._store_progress()
            self._unstored_work = False
        # Asked after the write, which may have brought the request.
        if self._cancel.is_cancelled:
            self._machine.finish_with_outcome(stopped(StopReason.CANCELLED))
            return
        self._ensure_held()
        executor = self._executors.llm_call()
        outcome = await self._execute(
            effect.effect_id, LlmCallCommand(effect.request), executor, LlmCallOutcome
        )
        if not executor.has_run:
            await executor.show(outcome)
        self._machine.handle_response(
            LlmCompleted(effect.effect_id, outcome.result, outcome.text_streamed)
        )

    async def _call_tools(self, effect: CallTools) -> None:
        # Also in a cancelled turn: its calls end at once, and whoever watches sees them end.
        results = await self._executors.run_tools(
            effect.calls,
            scope=self._scope(self._machine.protocol_iteration),
            effect_id=str(effect.effect_id),
        )
        self._unstored_work = True
        self._machine.handle_response(ToolsCompleted(effect.effect_id, results))

    async def _checkpoint(self, effect: Checkpoint) -> None:
        outcome = await self._execute(
            effect.effect_id,
            CheckpointCommand(effect.checkpoint),
            self._executors.checkpoint(),
            CheckpointOutcome,
        )
        self._machine.handle_response(
            CheckpointDelivered(
                effect.effect_id, outcome.messages, outcome.transient_messages, outcome.turn_causes
            )
        )

    async def _sync_environment(self, effect: SyncExecutionEnvironment) -> None:
        outcome = await self._execute(
            effect.effect_id,
            SyncExecutionEnvironmentCommand(effect.update_machine_config),
            self._executors.sync_environment(),
            SyncExecutionEnvironmentOutcome,
        )
        environment = None
        if outcome.system_prompt is not None and outcome.tool_specs is not None:
            environment = ExecutionEnvironment(outcome.system_prompt, outcome.tool_specs)
        self._machine.handle_response(EnvironmentSynced(effect.effect_id, environment))

    async def _execute(
        self,
        effect_id: int,
        command: RuntimeEffectCommand,
        executor: LocalEffectExecutor,
        expected: type[O],
    ) -> O:
        scope = self._scope(self._machine.protocol_iteration)
        identity = str(effect_id)
        invocation = RuntimeInvocation(
            scope=scope,
            subject=EffectSubject(identity, command.type),
            replay_key=turn_effect_key(scope, command.type, identity),
        )
        outcome = await self._controller.execute_effect(
            RuntimeEffectEnvelope(invocation, command), executor
        )
        return expect_outcome(command, outcome, expected)


def _controller_failed(error: EffectControllerError) -> ErrorEvent:
    return ErrorEvent(
        error.message,
        ErrorEnvelope(
            kind="runtime_effect_controller", code=error.code, user_message=error.message
        ),
    )
