"""Effects as the cases ask for them, and executors that tell what became of them."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import anyio

from ...model.causes import TurnRef
from ...model.checkpoints import CheckpointKind
from ...model.failure_kinds import ProviderFailureKind
from ...model.llm import (
    LlmCallError,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from ...model.llm_attempts import (
    AttemptOutcome,
    AttemptRecord,
    ExecutionEvidence,
    LlmCallRecord,
    ProtocolPosition,
)
from ...model.messages import ProviderReasoningReplay, ProviderReplayMeta
from ...model.tool_results import (
    FinishTurn,
    RetrySafe,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
)
from ...model.tools import OnUnknown
from ...ports.effects import (
    CheckpointCommand,
    CheckpointOutcome,
    DirectCommand,
    DirectOutcome,
    DurableStepCommand,
    DurableStepOutcome,
    EffectControllerError,
    EffectSubject,
    ExecCodeCommand,
    ExecCodeOutcome,
    LlmCallCommand,
    LlmCallOutcome,
    RuntimeEffectCommand,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeScope,
    SleepCommand,
    SleepOutcome,
    SyncExecutionEnvironmentCommand,
    SyncExecutionEnvironmentOutcome,
    ToolAttemptCommand,
    ToolAttemptOutcome,
    ToolBatchChild,
    ToolBatchCommand,
    ToolBatchOutcome,
    ToolCallDone,
    TurnScope,
    expect_outcome,
    turn_effect_key,
)
from ...ports.tools import PreparedToolCall
from ...runtime.children import Child, stopped
from ..replies import usage

T = TypeVar("T")

SCOPE: Final = TurnScope(session_id="s", turn_id="t1")
ROUND: Final = "2"
"""The effect id of the round of tools; that of the model call before it is 1."""


def a_request(*said: str, model: str = "m1") -> LlmRequest:
    return LlmRequest(
        model=model,
        messages=tuple(LlmMessage.text(LlmRole.USER, text) for text in said or ("hello",)),
        scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"),
    )


def an_effect(
    command: RuntimeEffectCommand, effect_id: str = "1", scope: TurnScope = SCOPE
) -> RuntimeEffectEnvelope:
    """What a turn asks for directly."""
    place = _place(scope)
    return RuntimeEffectEnvelope(
        RuntimeInvocation(
            scope=place,
            subject=EffectSubject(effect_id, command.type),
            replay_key=turn_effect_key(place, command.type, effect_id),
        ),
        command,
    )


def a_call(name: str = "pay", args: Mapping[str, Any] | None = None, at: int = 0) -> ToolBatchChild:
    prepared = PreparedToolCall(
        call_id=f"c{at}", tool_id=f"tool:{name}", tool_name=name, args=args or {"what": "coat"}
    )
    return ToolBatchChild(prepared, f"child:{at}:c{at}")


def an_attempt(
    child: ToolBatchChild, attempt: int = 1, scope: TurnScope = SCOPE
) -> RuntimeEffectEnvelope:
    """One attempt at a call of the round."""
    return _inside(scope, child, f"attempt:{attempt}", ToolAttemptCommand(child.call, attempt, 3))


def a_nap(
    child: ToolBatchChild, duration_ms: int, scope: TurnScope = SCOPE
) -> RuntimeEffectEnvelope:
    """The wait after a call's first attempt."""
    suffix = f"{child.call.tool_name}:attempt:1:sleep"
    return _inside(scope, child, suffix, SleepCommand(duration_ms))


def a_round(*calls: ToolBatchChild, scope: TurnScope = SCOPE) -> RuntimeEffectEnvelope:
    return an_effect(ToolBatchCommand(ROUND, calls), ROUND, scope)


def _inside(
    scope: TurnScope, child: ToolBatchChild, suffix: str, command: RuntimeEffectCommand
) -> RuntimeEffectEnvelope:
    place = _place(scope)
    key = turn_effect_key(place, RuntimeEffectKind.TOOL_BATCH, ROUND)
    return RuntimeEffectEnvelope(
        RuntimeInvocation(
            scope=place,
            subject=EffectSubject(f"{child.call.call_id}:{suffix}", command.type),
            replay_key=f"{key}:{child.replay_suffix}:{suffix}",
            caused_by=TurnRef(session_id=scope.session_id, turn_id=scope.turn_id),
        ),
        command,
    )


def _place(scope: TurnScope) -> RuntimeScope:
    return RuntimeScope(
        session_id=scope.session_id, turn_id=scope.turn_id, turn_index=1, protocol_iteration=0
    )


class Works:
    """Answers `outcome`. `runs` has the number of each run, and `asked` what was asked for."""

    def __init__(
        self, outcome: RuntimeEffectOutcome, on_unknown: OnUnknown = OnUnknown.REPORT
    ) -> None:
        self.outcome = outcome
        self.on_unknown = on_unknown
        self.was_cut_off = False
        self.runs: list[int] = []
        self.asked: list[RuntimeEffectEnvelope] = []
        self._run = 1

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        self.runs.append(self._run)
        self.asked.append(envelope)
        await self._work()
        return self.outcome

    def again(self, run: int) -> "Works":
        self._run = run
        return self

    async def _work(self) -> None:
        pass


class Hangs(Works):
    """Sets `entered`, and waits until `release` is set or it is cancelled."""

    def __init__(
        self, outcome: RuntimeEffectOutcome, on_unknown: OnUnknown = OnUnknown.REPORT
    ) -> None:
        super().__init__(outcome, on_unknown)
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self.cancelled = 0

    async def _work(self) -> None:
        self.entered.set()
        ended = False
        try:
            await self.release.wait()
            ended = True
        finally:
            self.cancelled += not ended


class Raises(Works):
    """Ends in `error`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(SleepOutcome())
        self.error = error

    async def _work(self) -> None:
        raise self.error


class Asks:
    """The executor of a batch: asks `controller` for what `steps` name, all at once or in turn."""

    def __init__(
        self, *steps: Callable[[], Awaitable[ToolCallDone]], side_by_side: bool = False
    ) -> None:
        self._steps = steps
        self._side_by_side = side_by_side

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        done: dict[int, ToolCallDone] = {}

        async def step(at: int) -> None:
            done[at] = await self._steps[at]()

        if self._side_by_side:
            async with anyio.create_task_group() as tasks:
                for at in range(len(self._steps)):
                    tasks.start_soon(step, at)
        else:
            for at in range(len(self._steps)):
                await step(at)
        return ToolBatchOutcome(tuple(done[at] for at in range(len(self._steps))))


async def attempted(
    controller: RuntimeEffectController,
    child: ToolBatchChild,
    executor: Works,
    attempt: int = 1,
    scope: TurnScope = SCOPE,
) -> ToolCallDone:
    """One attempt at `child`. For within a round."""
    envelope = an_attempt(child, attempt, scope)
    outcome = await controller.execute_effect(envelope, executor)
    return expect_outcome(envelope.command, outcome, ToolAttemptOutcome).done


async def ran(
    controller: RuntimeEffectController,
    *calls: tuple[ToolBatchChild, Works],
    scope: TurnScope = SCOPE,
    side_by_side: bool = False,
) -> Sequence[ToolCallDone]:
    """A round of one attempt at each call; what came of each."""

    def step(child: ToolBatchChild, executor: Works) -> Callable[[], Awaitable[ToolCallDone]]:
        return lambda: attempted(controller, child, executor, scope=scope)

    envelope = a_round(*(child for child, _ in calls), scope=scope)
    executor = Asks(*(step(*call) for call in calls), side_by_side=side_by_side)
    outcome = await controller.execute_effect(envelope, executor)
    return expect_outcome(envelope.command, outcome, ToolBatchOutcome).launches


async def called(
    controller: RuntimeEffectController,
    executor: Works,
    request: LlmRequest | None = None,
    scope: TurnScope = SCOPE,
) -> RuntimeEffectOutcome:
    """The model call before the round."""
    envelope = an_effect(LlmCallCommand(request or a_request()), "1", scope)
    return await controller.execute_effect(envelope, executor)


def begun(call: Coroutine[Any, Any, T], then: Callable[[], None] | None = None) -> Child[T]:
    """`call` in a task of its own, which is cancelled by `stopped` as tasks are."""
    return Child(call, name="lash-case", then=then, insistent=False)


async def cut_off(executor: Hangs, call: Coroutine[Any, Any, object]) -> None:
    """Make `call`, and cancel it while `executor` works, unless it ends without."""
    made = begun(call, then=executor.entered.set)
    await executor.entered.wait()
    await stopped(made)


async def value_or_code(call: Awaitable[object]) -> object:
    """What the call gave, or the code of the seam's error that it ended in."""
    try:
        return await call
    except EffectControllerError as error:
        return error.code


def succeeded(value: Any = "bought", duration_ms: int = 7) -> ToolAttemptOutcome:
    return ToolAttemptOutcome(ToolCallDone(ToolCallOutput.success(value), duration_ms))


def answered(text: str = "a coat") -> LlmCallOutcome:
    return LlmCallOutcome(
        LlmResponse(
            full_text=text, parts=(TextOutput(text),), terminal_reason=LlmTerminalReason.STOP
        ),
        False,
    )


FULL_ANSWER: Final = LlmCallOutcome(
    LlmResponse(
        full_text="Buy \U0001f9e5\u2028",
        parts=(
            ReasoningOutput(
                "it is cold", ProviderReasoningReplay(item_id="r1", encrypted_content="e")
            ),
            TextOutput("Buy \U0001f9e5\u2028"),
            ToolCallOutputPart("c0", "pay", '{"what": "coat" }', ProviderReplayMeta(item_id="i1")),
        ),
        usage=usage(input=11, output=5, cache_read=3, cache_write=2, reasoning=1),
        terminal_reason=LlmTerminalReason.TOOL_USE,
        terminal_diagnostic="none",
        provider_usage={"prompt_tokens": 11, "details": [{"cached": 3}, None]},
        http_summary="200",
        evidence=ExecutionEvidence(served_model="m1-2025", reasoning_output_tokens=0),
    ),
    True,
    LlmCallRecord(
        call_id="k",
        provider_id="p",
        model="m1",
        label="turn",
        attempts=(
            AttemptRecord(
                ordinal=1,
                started_at_ms=1,
                duration_ms=2,
                outcome=AttemptOutcome.COMPLETED,
                protocol_position=ProtocolPosition.TERMINAL_OBSERVED,
            ),
        ),
    ),
)
"""An answer with all that one can have, but for the body of its request."""

FAILED_CALL: Final = LlmCallOutcome(
    LlmCallError(
        message="too many requests",
        retryable=True,
        kind=ProviderFailureKind.QUOTA,
        code="rate_limited",
        raw="{}",
    ),
    False,
)

FAILED_ATTEMPT: Final = ToolAttemptOutcome(
    ToolCallDone(
        ToolCallOutput.failure(
            ToolFailure(
                class_=ToolFailureClass.EXTERNAL,
                code="sold_out",
                message="none are left",
                retry=RetrySafe(after_ms=40),
                raw={"left": 0},
            )
        ),
        3,
    )
)

FINAL_ATTEMPT: Final = ToolAttemptOutcome(
    ToolCallDone(
        ToolCallOutput.success(
            {"paid": 1.5, "to": ["a", None, True], "é": "\u2028"}, FinishTurn(value=[1])
        ),
        0,
    )
)

OF_EACH_KIND: Final[Sequence[tuple[RuntimeEffectCommand, RuntimeEffectOutcome]]] = (
    (LlmCallCommand(a_request()), FULL_ANSWER),
    (LlmCallCommand(a_request()), FAILED_CALL),
    (DirectCommand(a_request(), "title"), DirectOutcome(FULL_ANSWER.result)),
    (ExecCodeCommand("python", "1 + 1"), ExecCodeOutcome("there is no executor")),
    (CheckpointCommand(CheckpointKind.AFTER_WORK), CheckpointOutcome()),
    (
        SyncExecutionEnvironmentCommand(update_machine_config=True),
        SyncExecutionEnvironmentOutcome("Be brief.", ()),
    ),
    (SleepCommand(5), SleepOutcome()),
    (DurableStepCommand("step", {"n": 1}), DurableStepOutcome([1, {"two": None}])),
)
"""Commands that a turn asks for directly, with an outcome of each."""
