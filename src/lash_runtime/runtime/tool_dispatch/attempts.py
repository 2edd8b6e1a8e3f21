"""All attempts of one call: each an effect of its own, with the waits between them.

What the controller itself gets wrong becomes a failure of the call. A suspension by an engine is
no exception and passes through.
"""

from collections.abc import Callable

from ...model.causes import CausalRef
from ...model.records import dataclass
from ...ports.cancel import CancelToken
from ...ports.clock import Clock
from ...ports.effects import (
    EffectControllerError,
    EffectSubject,
    LocalEffectExecutor,
    RuntimeEffectCommand,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeScope,
    SleepCommand,
    SleepOutcome,
    ToolAttemptCommand,
    ToolAttemptOutcome,
    ToolCallDone,
    expect_outcome,
)
from ...tools.results import exception_text
from ...tools.retry import attempts_allowed, delay_before_retry_ms, exhausted, wants_retry
from ..faults import RuntimeFault
from .executors import SLEEP_CANCELLED, SleepExecutor, cut_off
from .preparation import ReadyCall, failed, runtime_failure

MakeAttempt = Callable[[int, int, str], LocalEffectExecutor]
"""An executor for one attempt: its number, how many there may be, its replay key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAttempts:
    """Makes a call until it has its result."""

    call: ReadyCall
    call_key: str
    scope: RuntimeScope
    caused_by: CausalRef
    controller: RuntimeEffectController
    make_attempt: MakeAttempt
    token: CancelToken
    clock: Clock

    async def run(self) -> ToolCallDone:
        """The last attempt's output, with the time of all attempts and waits together.

        The time is summed up from what each effect reports, so a replay reports the same.
        """
        try:
            return await self._run()
        except RuntimeFault:
            raise  # what the call does could not be put on record, so that its turn must stop
        except Exception as error:
            return failed(runtime_failure("tool_retry_loop_failed", exception_text(error)))

    async def _run(self) -> ToolCallDone:
        policy = self.call.tool.manifest.retry_policy
        allowed = attempts_allowed(policy)
        attempt, spent_ms = 1, 0
        while not self.token.is_cancelled:
            try:
                done = await self._attempt(attempt, allowed)
            except EffectControllerError as error:
                return failed(runtime_failure("tool_attempt_failed", error.message))
            spent_ms += done.duration_ms
            if allowed == 1 or not wants_retry(done.output):
                return ToolCallDone(done.output, spent_ms)
            if attempt == allowed:
                return ToolCallDone(exhausted(done.output, allowed), spent_ms)
            if delay_ms := delay_before_retry_ms(policy, done.output, attempt):
                try:
                    await self._sleep(attempt, delay_ms)
                except EffectControllerError as error:
                    if error.code == SLEEP_CANCELLED:
                        break
                    return failed(runtime_failure("tool_retry_sleep_failed", error.message))
                spent_ms += delay_ms
            attempt += 1
        return cut_off()

    async def _attempt(self, attempt: int, allowed: int) -> ToolCallDone:
        suffix = f"attempt:{attempt}"
        command = ToolAttemptCommand(self.call.prepared, attempt, allowed)
        executor = self.make_attempt(attempt, allowed, f"{self.call_key}:{suffix}")
        outcome = await self._execute(suffix, command, executor)
        return expect_outcome(command, outcome, ToolAttemptOutcome).done

    async def _sleep(self, attempt: int, delay_ms: int) -> None:
        suffix = f"{self.call.prepared.tool_name}:attempt:{attempt}:sleep"
        command = SleepCommand(delay_ms)
        outcome = await self._execute(suffix, command, SleepExecutor(self.token, self.clock))
        expect_outcome(command, outcome, SleepOutcome)

    async def _execute(
        self, suffix: str, command: RuntimeEffectCommand, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        invocation = RuntimeInvocation(
            scope=self.scope,
            subject=EffectSubject(f"{self.call.prepared.call_id}:{suffix}", command.type),
            replay_key=f"{self.call_key}:{suffix}",
            caused_by=self.caused_by,
        )
        return await self.controller.execute_effect(
            RuntimeEffectEnvelope(invocation, command), executor
        )
