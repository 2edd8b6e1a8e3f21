"""One model call inside a turn: stream what arrives, stop when told to, return data.

The provider runs in a child task that this call owns; its callback only queues. The call
itself takes events from the queue in order, so that what observers see, what is accumulated and
what is returned can never disagree. Leaving the call by any path cancels the child and waits
for it.
"""

import asyncio
from collections import deque
from typing import assert_never

from ...kernel.accumulator import StreamAccumulator
from ...kernel.visible_text import normalized_response_parts
from ...model.activity import (
    AssistantProseDelta,
    ReasoningTextDelta,
    RetryScheduled,
    RuntimeDiagnostic,
)
from ...model.llm import (
    AttemptReset,
    LlmAttachment,
    LlmCallError,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    PartDelta,
    ProviderFailureKind,
    ReasoningDelta,
    ReasoningOutput,
    RetryStatus,
    TextDelta,
    TextOutput,
    ToolCallOutputPart,
    UsageDelta,
)
from ...model.llm_attempts import AttemptOutcome, AttemptRecord, LlmCallRecord
from ...model.records import replace
from ...model.usage import NO_USAGE
from ...ports.attachments import AttachmentStoreError
from ...ports.cancel import CancelToken
from ...ports.effects import (
    EffectControllerError,
    LlmCallCommand,
    LlmCallOutcome,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
)
from ...ports.provider import ProviderFailure, ResolvedProvider
from ..children import Child, stopped
from ..session_attachments import SessionAttachments
from ..verdict import Err, Ok
from .reporter import TurnReporter


class LlmCallExecutor:
    """Runs one `LlmCallCommand` against a provider."""

    def __init__(
        self,
        *,
        provider: ResolvedProvider,
        attachments: SessionAttachments,
        reporter: TurnReporter,
        cancel: CancelToken,
        output_token_capacity: int | None,
    ) -> None:
        self._provider = provider
        self._attachments = attachments
        self._reporter = reporter
        self._cancel = cancel
        self._capacity = output_token_capacity
        self.has_run = False

    async def show(self, outcome: LlmCallOutcome) -> None:
        """Show the answer of a call that was not made here, as if it came in one piece."""
        if isinstance(outcome.result, LlmResponse):
            new_id = self._reporter.new_correlation_id
            await _show_whole(
                self._reporter, outcome.result, prose_id=new_id(), reasoning_id=new_id()
            )

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        self.has_run = True
        command = envelope.command
        if not isinstance(command, LlmCallCommand):
            raise EffectControllerError(
                "runtime_effect_local_executor_mismatch",
                f"a model call cannot be run as {command.type.value}",
            )
        call_id = envelope.replay_key
        request = command.request
        cap = request.generation.output_token_cap
        if cap is not None and self._capacity is not None and cap > self._capacity:
            return self._refused(call_id, request, _cap_exceeded(cap, self._capacity))
        resolved = await self._resolve(request)
        if isinstance(resolved, LlmCallError):
            return self._refused(call_id, request, resolved)
        call = _StreamingCall(self._provider, resolved, self._reporter, self._cancel)
        result = await call.run()
        return LlmCallOutcome(
            result, call.text_streamed, self._record(call_id, request, call.attempts())
        )

    def _refused(self, call_id: str, request: LlmRequest, error: LlmCallError) -> LlmCallOutcome:
        """The outcome of a call that was not made."""
        return LlmCallOutcome(error, False, self._record(call_id, request, ()))

    def _record(
        self, call_id: str, request: LlmRequest, attempts: tuple[AttemptRecord, ...]
    ) -> LlmCallRecord:
        return LlmCallRecord(
            call_id=call_id,
            provider_id=self._provider.kind,
            model=request.model,
            label="turn",
            attempts=attempts,
        )

    async def _resolve(self, request: LlmRequest) -> LlmRequest | LlmCallError:
        """Put bytes to the attachments that are still references."""
        if all(attachment.is_resolved() for attachment in request.attachments):
            return request
        resolved: list[LlmAttachment] = []
        for attachment in request.attachments:
            reference = attachment.reference
            if attachment.is_resolved() or reference is None:
                resolved.append(attachment)
                continue
            try:
                stored = await self._attachments.get(reference)
            except AttachmentStoreError as error:
                return LlmCallError(
                    message=f"attachment {reference.id} could not be read: {error}",
                    code="attachment_resolution_failed",
                    kind=ProviderFailureKind.VALIDATION,
                )
            resolved.append(
                LlmAttachment(
                    mime=stored.meta.media_type.mime, data=stored.data, reference=reference
                )
            )
        return replace(request, attachments=tuple(resolved))


class _StreamingCall:
    """The state of one call while it streams."""

    def __init__(
        self,
        provider: ResolvedProvider,
        request: LlmRequest,
        reporter: TurnReporter,
        cancel: CancelToken,
    ) -> None:
        self._provider = provider
        self._request = request
        self._attempts: list[AttemptRecord] = []
        self._reporter = reporter
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._queue: deque[LlmStreamEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        self._accumulator = StreamAccumulator()
        self._usage = NO_USAGE
        self._prose_id = self._reporter.new_correlation_id()
        self._reasoning_id = self._reporter.new_correlation_id()
        self._streamed_prose = False
        self._streamed_reasoning = False

    @property
    def text_streamed(self) -> bool:
        """Whether the text was shown as deltas while it came in."""
        return self._streamed_prose

    def attempts(self) -> tuple[AttemptRecord, ...]:
        """Every attempt so far. The provider knows only that one was cut off; who did it is
        known here."""
        if not self._cancel.is_cancelled:
            return tuple(self._attempts)
        return tuple(
            replace(attempt, outcome=AttemptOutcome.ABORTED)
            if attempt.outcome is AttemptOutcome.INTERRUPTED
            else attempt
            for attempt in self._attempts
        )

    async def run(self) -> LlmResponse | LlmCallError:
        withdraw = self._cancel.on_cancel(self._wake_from_any_thread)
        # Not kept: it leads back here, and what leads to itself waits for the collector.
        observed = replace(
            self._request, stream_events=self._receive, attempt_ended=self._attempts.append
        )
        call: Child[object] = Child(
            self._provider.complete(observed), name="lash-model-call", then=self._wake
        )
        try:
            answer = await self._pump(call)
        finally:
            withdraw()
            await stopped(call)
        return answer if isinstance(answer, LlmCallError) else await self._complete(answer)

    def _receive(self, event: LlmStreamEvent) -> None:
        self._queue.append(event)
        self._wake()

    def _wake_from_any_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _pump(self, call: Child[object]) -> LlmResponse | LlmCallError:
        """Forward events until the call is over; cancellation goes before both."""
        queue = self._queue
        while True:
            while queue and not self._cancel.is_cancelled:
                await self._forward(queue.popleft())
            if self._cancel.is_cancelled:
                return _cancelled()
            if call.is_over and not queue:
                return _answer_of(call.verdict)
            self._waiter = self._loop.create_future()
            await self._waiter
            self._waiter = None

    async def _forward(self, event: LlmStreamEvent) -> None:
        match event:
            case TextDelta(text=text):
                if text:
                    self._accumulator.push_text(text)
                    self._streamed_prose = True
                    await self._reporter.emit(AssistantProseDelta(text), self._prose_id)
            case ReasoningDelta(text=text):
                if text:
                    self._accumulator.push_reasoning(text, None)
                    await self._show_reasoning(text)
            case PartDelta(part=part):
                await self._reconcile(part)
            case UsageDelta(usage=usage):
                self._usage = usage
            case RetryStatus():
                await self._reporter.emit(
                    RetryScheduled(
                        wait_seconds=event.wait_seconds,
                        attempt=event.attempt,
                        max_attempts=event.max_attempts,
                        reason=event.reason,
                    )
                )
            case AttemptReset():
                await self._retract_attempt()
            case _:
                assert_never(event)

    async def _reconcile(self, part: LlmOutputPart) -> None:
        match part:
            case TextOutput(text=text, response_meta=meta):
                self._accumulator.push_text_part(text, meta)
            case ToolCallOutputPart():
                self._accumulator.push_tool_call(part)
            case ReasoningOutput(text=text, replay=replay):
                self._accumulator.push_reasoning(text, replay)
                if text and not self._streamed_reasoning:
                    await self._show_reasoning(text)
            case _:
                assert_never(part)

    async def _show_reasoning(self, text: str) -> None:
        self._streamed_reasoning = True
        await self._reporter.emit(ReasoningTextDelta(text), self._reasoning_id)

    async def _retract_attempt(self) -> None:
        prose = [self._prose_id] if self._streamed_prose else []
        reasoning = [self._reasoning_id] if self._streamed_reasoning else []
        await self._reporter.emit(
            RuntimeDiagnostic(
                kind="model_attempt_reset",
                data={
                    "assistant_prose_correlation_ids": prose,
                    "reasoning_correlation_ids": reasoning,
                },
            )
        )
        self._begin_attempt()

    async def _complete(self, response: LlmResponse) -> LlmResponse:
        response = self._accumulator.apply_to_response(response)
        if response.usage.is_zero():
            response = replace(response, usage=self._usage)
        if not self._streamed_prose:
            shown = self._streamed_reasoning
            await _show_whole(
                self._reporter,
                response,
                prose_id=self._prose_id,
                reasoning_id=None if shown else self._reasoning_id,
            )
        return response


async def _show_whole(
    reporter: TurnReporter,
    response: LlmResponse,
    *,
    prose_id: str,
    reasoning_id: str | None,
) -> None:
    """Show a response that came in one piece as if it had been streamed; its reasoning only
    under a `reasoning_id`."""
    parts = normalized_response_parts(response)
    if reasoning_id is not None:
        for part in parts:
            if isinstance(part, ReasoningOutput) and part.text:
                await reporter.emit(ReasoningTextDelta(part.text), reasoning_id)
    texts = [part for part in parts if isinstance(part, TextOutput) and part.text]
    if any(part.response_meta is not None and part.response_meta.id for part in texts):
        for part in texts:
            item_id = part.response_meta.id if part.response_meta is not None else None
            await reporter.emit(AssistantProseDelta(part.text), item_id)
    elif response.full_text:
        await reporter.emit(AssistantProseDelta(response.full_text), prose_id)


def _answer_of(verdict: Ok[object] | Err | None) -> LlmResponse | LlmCallError:
    match verdict:
        case Ok(value=answer):
            return answer if isinstance(answer, LlmResponse) else _no_response(answer)
        case Err(error=ProviderFailure() as failure):
            return failure.to_call_error()
        case Err(error=error):
            return LlmCallError(
                message=f"the provider failed unexpectedly: {type(error).__name__}: {error}",
                code="provider_panicked",
            )
        case None:
            return _cancelled_itself()
        case _:
            assert_never(verdict)


def _no_response(answer: object) -> LlmCallError:
    """The error of an adapter that returned something else, most often nothing."""
    return LlmCallError(
        message=f"the provider returned {type(answer).__name__} instead of a response",
        code="provider_returned_no_response",
    )


def _cap_exceeded(cap: int, capacity: int) -> LlmCallError:
    return LlmCallError(
        message=f"an output of {cap} tokens was asked for, but the model is limited to {capacity}",
        code="output_token_cap_exceeds_model_capacity",
        kind=ProviderFailureKind.VALIDATION,
    )


def _cancelled() -> LlmCallError:
    return LlmCallError(
        message="the model call was cancelled",
        code="cancelled",
        terminal_reason=LlmTerminalReason.CANCELLED,
    )


def _cancelled_itself() -> LlmCallError:
    return LlmCallError(
        message="the provider was cancelled by its own work, "
        "although nobody had cancelled the call",
        code="provider_cancelled_itself",
    )
