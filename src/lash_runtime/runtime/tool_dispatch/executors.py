"""The local executors of a tool call: one attempt of the tool, and the wait between two.

The tool runs in a task of its own. Whatever it does there, an exception or a cancellation that
nobody asked for, ends this attempt and nothing else. When the turn is cancelled, or its time is
up, the tool has `CANCEL_GRACE_S` to return by itself; then its task is cancelled and awaited. A
tool that shields itself from that, or blocks the event loop, delays the turn: it is never left
running.
"""

import asyncio
from functools import cache, partial
from typing import Any, Final, assert_never

from ...model.records import replace
from ...model.tool_results import (
    RetrySafe,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from ...model.tool_values import ToolValueError, attachments_of
from ...model.tools import OnUnknown, ToolManifest
from ...ports.cancel import CancelToken, resolve
from ...ports.clock import Clock
from ...ports.effects import (
    EffectControllerError,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    SleepCommand,
    SleepOutcome,
    ToolAttemptCommand,
    ToolAttemptOutcome,
    ToolCallDone,
)
from ...ports.tools import PreparedToolCall, ToolContext
from ...tools.catalog import CatalogTool
from ...tools.results import adapt_result, failure_of_exception, unserialisable
from ...tools.retry import is_repeatable
from ..children import Child, stopped
from ..session_attachments import SessionAttachments
from ..verdict import Err, Ok
from .nested import NestedToolCalls

CANCEL_GRACE_S: Final = 0.05
SLEEP_CANCELLED: Final = "runtime_effect_sleep_cancelled"


@cache
def cut_off() -> ToolCallDone:
    """What is left of a call that the cancelled turn did not wait for."""
    return ToolCallDone(ToolCallOutput.cancelled("tool call cancelled"), 0)


class ToolAttemptExecutor:
    """Runs one attempt of one tool; single use."""

    def __init__(
        self,
        tool: CatalogTool,
        context: ToolContext,
        *,
        nested: NestedToolCalls | None,
        attachments: SessionAttachments | None,
        clock: Clock,
    ) -> None:
        """`nested` and `attachments` are what the context's lead to. The context's token is that of
        this attempt alone where the tool has a time limit: it fires when that is over."""
        self._tool = tool
        self._context = context
        self._nested = nested
        self._attachments = attachments
        self._clock = clock
        self._verdict: Ok[ToolCallOutput] | Err | None = None
        self._expired = False
        self.was_cut_off = False

    @property
    def on_unknown(self) -> OnUnknown:
        return self._tool.manifest.on_unknown

    def again(self, run: int) -> "ToolAttemptExecutor":
        return ToolAttemptExecutor(
            self._tool,
            replace(self._context, run_number=run),
            nested=self._nested,
            attachments=self._attachments,
            clock=self._clock,
        )

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        command = envelope.command
        if not isinstance(command, ToolAttemptCommand):
            raise mismatch(envelope, "a tool's attempt")
        started = self._clock.now()
        await self._attempt(command.call)
        duration_ms = round((self._clock.now() - started) * 1000)
        output = self._output()
        if output is None:
            self.was_cut_off = True
            return ToolAttemptOutcome(cut_off())
        return ToolAttemptOutcome(ToolCallDone(output, duration_ms))

    def _output(self) -> ToolCallOutput | None:
        """What came of the attempt; `None` when it was cut off."""
        manifest = self._tool.manifest
        match self._verdict:
            case Ok(value=value):
                return value
            case _ if self._expired:
                return ToolCallOutput.failure(_timed_out(manifest))
            case Err(error=error):
                repeatable = is_repeatable(manifest.retry_policy)
                return ToolCallOutput.failure(failure_of_exception(error, repeatable=repeatable))
            case None:
                return None
            case _:
                assert_never(self._verdict)

    async def _attempt(self, call: PreparedToolCall) -> None:
        token = self._context.cancellation_token
        timeout_ms = self._tool.manifest.timeout_ms
        # Resolved by the end of the tool or by the token, whichever comes first: a call that ends
        # by itself, as most do, has no second task that would have to be cancelled then.
        over = asyncio.get_running_loop().create_future()
        name = f"lash-tool-{call.tool_name}"
        tool = Child(self._call(call), name=name, then=partial(resolve, over))
        children: list[Child[Any]] = [tool]
        withdraw = token.resolve_on_cancel(over)
        try:
            if timeout_ms is not None:
                children.append(Child(self._expire(timeout_ms), name=f"{name}-limit"))
            await over
            if not tool.is_over:
                grace = Child(self._grace(), name=f"{name}-grace")
                children.append(grace)
                await asyncio.wait((tool.task, grace.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            withdraw()
            await stopped(*children)
            self._verdict = tool.verdict

    async def _call(self, call: PreparedToolCall) -> ToolCallOutput:
        value = await self._tool.provider.execute(call, self._context)
        output = await adapt_result(value, self._attachments)
        try:
            refs = attachments_of(output)
        except ToolValueError as error:
            return unserialisable(error)
        if self._attachments is not None:
            await self._attachments.adopt(refs)
        return output

    async def _expire(self, timeout_ms: int) -> None:
        await self._clock.sleep(timeout_ms / 1000)
        self._expired = True
        self._context.cancellation_token.cancel("tool_timeout")

    async def _grace(self) -> None:
        """Let the time pass that a tool has after a cancel; the end of the tool ends it."""
        await self._clock.sleep(CANCEL_GRACE_S)
        if self._nested is not None:
            # Its children are being cut off by the same cancel, and report that first.
            await self._nested.settled()


class SleepExecutor:
    """Waits between two attempts; ends early when the turn is cancelled."""

    def __init__(self, token: CancelToken, clock: Clock) -> None:
        self._token = token
        self._clock = clock

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        command = envelope.command
        if not isinstance(command, SleepCommand):
            raise mismatch(envelope, "a sleep")
        over = asyncio.get_running_loop().create_future()
        sleep = Child(
            self._clock.sleep(command.duration_ms / 1000),
            name="lash-tool-retry-wait",
            then=partial(resolve, over),
        )
        withdraw = self._token.resolve_on_cancel(over)
        try:
            await over
        finally:
            withdraw()
            await stopped(sleep)
        if sleep.verdict is not None:
            sleep.verdict.unwrap()
        if self._token.is_cancelled:
            raise EffectControllerError(SLEEP_CANCELLED, "the turn was cancelled meanwhile")
        return SleepOutcome()


def mismatch(envelope: RuntimeEffectEnvelope, what: str) -> EffectControllerError:
    return EffectControllerError(
        "runtime_effect_local_executor_mismatch",
        f"{envelope.command.type.value} cannot be run as {what}",
    )


def _timed_out(manifest: ToolManifest) -> ToolFailure:
    failure = ToolFailure(
        class_=ToolFailureClass.TIMEOUT,
        code="tool_timeout",
        message=f"The tool was stopped after {manifest.timeout_ms} ms",
        source=ToolFailureSource.RUNTIME,
    )
    if is_repeatable(manifest.retry_policy):
        return failure.model_copy(update={"retry": RetrySafe()})
    return failure
