"""A batch of tool calls: order, failures, retries, time limits, and what is shown of it."""

import asyncio
from typing import Any

import anyio
import pytest

from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.causes import TurnRef
from lash_runtime.model.schema import SchemaContract
from lash_runtime.model.tool_results import (
    NoRetry,
    PendingToolCall,
    RetryExhausted,
    RetrySafe,
    ReturnAttachment,
    ReturnText,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_runtime.model.tools import (
    IdempotentRetry,
    SafeRetry,
    ToolContract,
    ToolDefinition,
    ToolManifest,
)
from lash_runtime.ports.effects import (
    EffectControllerError,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepCommand,
    SleepOutcome,
    ToolAttemptCommand,
    ToolAttemptOutcome,
    ToolCallDone,
)
from lash_runtime.ports.tools import PreparedToolCall, ToolContext
from lash_runtime.testing import ManualClock, RecordingClock
from lash_runtime.tools import StaticToolProvider, ToolError, ToolResult, tool
from tools.dispatching import BATCH_KEY, SCOPE, Batches, RecordingController, calls, failure_of

pytestmark = pytest.mark.anyio


@tool
async def echo(text: str) -> str:
    """Say it again."""
    return text


class Meeting:
    """Tools that can only end when all of them run at once."""

    def __init__(self, guests: int) -> None:
        self._missing = guests
        self._complete = anyio.Event()

    @tool
    async def meet(self) -> str:
        """Wait for the others."""
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()
        return "met"


class Diary:
    """Tools that write down when they begin and end."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def _note(self, name: str) -> None:
        self.lines.append(f"{name} begins")
        await anyio.lowlevel.checkpoint()
        self.lines.append(f"{name} ends")

    @tool
    async def parallel(self, name: str) -> None:
        """Run beside others."""
        await self._note(name)

    @tool(scheduling="serial")
    async def serial(self, name: str) -> None:
        """Run alone."""
        await self._note(name)


class Flaky:
    """A tool that fails a number of times before it works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.contexts: list[ToolContext] = []

    async def run(self, context: ToolContext) -> str:
        """Try it."""
        self.contexts.append(context)
        if self.errors:
            raise self.errors.pop(0)
        return "worked"


class TestOrder:
    async def test_parallel_calls_run_at_the_same_time(self) -> None:
        """Ten slow lookups should cost as much time as one."""
        batches = Batches(Meeting(guests=3).meet)

        results = await batches.run(*calls(("meet", {}), ("meet", {}), ("meet", {})))

        assert [result.output.value_for_projection() for result in results] == ["met"] * 3

    async def test_serial_calls_wait_for_the_parallel_ones_and_for_each_other(self) -> None:
        """What must not overlap anything, such as a payment, declares itself serial."""
        diary = Diary()
        batches = Batches(diary.serial, diary.parallel)

        await batches.run(
            *calls(
                ("serial", {"name": "s1"}),
                ("parallel", {"name": "p1"}),
                ("serial", {"name": "s2"}),
                ("parallel", {"name": "p2"}),
            )
        )

        assert diary.lines[:4] == ["p1 begins", "p2 begins", "p1 ends", "p2 ends"]
        assert diary.lines[4:] == ["s1 begins", "s1 ends", "s2 begins", "s2 ends"]

    async def test_results_come_in_the_order_of_the_calls(self) -> None:
        """Providers match results with calls, some of them by position."""
        diary = Diary()
        batches = Batches(diary.serial, diary.parallel, echo)
        wanted = calls(
            ("serial", {"name": "a"}), ("nope", {}), ("echo", {"text": "b"}), ("echo", {})
        )

        results = await batches.run(*wanted)

        assert [result.call_id for result in results] == ["c0", "c1", "c2", "c3"]
        assert [result.output.is_success for result in results] == [True, False, True, False]
        assert [result.model_return.call_id for result in results] == ["c0", "c1", "c2", "c3"]

    async def test_a_controller_that_runs_one_effect_at_a_time_gets_them_one_by_one(self) -> None:
        """An engine that records a strict sequence must never see two attempts overlap."""
        diary = Diary()
        controller = RecordingController(concurrent=False)
        batches = Batches(diary.serial, diary.parallel, controller=controller)

        await batches.run(
            *calls(
                ("serial", {"name": "a"}), ("parallel", {"name": "b"}), ("parallel", {"name": "c"})
            )
        )

        assert not controller.overlaps
        assert [line for line in diary.lines if "begins" in line] == [
            "a begins",
            "b begins",
            "c begins",
        ]

    async def test_calls_of_one_tool_with_equal_arguments_are_all_made(self) -> None:
        """A repetition is the model's wish until it says otherwise."""
        batches = Batches(echo)

        results = await batches.run(*calls(("echo", {"text": "a"}), ("echo", {"text": "a"})))

        assert [result.model_return.text for result in results] == ["a", "a"]

    async def test_no_calls_have_no_results(self) -> None:
        """A nested batch may be empty."""
        assert await Batches(echo).run() == ()


class TestWhatIsShown:
    async def test_every_call_has_a_start_and_an_end(self) -> None:
        """A watcher that saw a call asked for must not wait for ever to see it end."""
        batches = Batches(echo)

        await batches.run(*calls(("echo", {"text": "a"}), ("nope", {}), ("echo", {})))

        assert sorted(batches.shown) == sorted(
            f"{what} c{index}" for what in ("started", "completed") for index in range(3)
        )
        for index in range(3):
            started, completed = (f"{what} c{index}" for what in ("started", "completed"))
            assert batches.shown.index(started) < batches.shown.index(completed)

    async def test_the_end_carries_the_whole_result(self) -> None:
        """The model may be shown less; the host sees what there is."""
        batches = Batches(echo)

        await batches.run(*calls(("echo", {"text": "a"})))

        (completed,) = batches.completions
        assert (completed.name, completed.args) == ("echo", {"text": "a"})
        assert completed.output == ToolCallOutput.success("a")

    async def test_starts_are_shown_in_the_order_of_the_calls(self) -> None:
        """Rows that jump about are hard to follow."""
        batches = Batches(Meeting(guests=3).meet)

        await batches.run(*calls(("meet", {}), ("meet", {}), ("meet", {})))

        assert batches.shown[:3] == ["started c0", "started c1", "started c2"]


class TestFailures:
    async def test_an_unknown_tool_is_named(self) -> None:
        """Models invent tools."""
        failure = failure_of(await Batches(echo).output("teleport", to="Oslo"))

        assert failure.class_ is ToolFailureClass.UNAVAILABLE
        assert failure.code == "tool_unavailable"
        assert failure.source is ToolFailureSource.RUNTIME
        assert "teleport" in failure.message

    async def test_bad_arguments_name_the_argument_and_the_reason(self) -> None:
        """The same words for functions and for schemas: path first."""
        failure = failure_of(await Batches(echo).output("echo"))

        assert failure.class_ is ToolFailureClass.INVALID_REQUEST
        assert (failure.code, failure.message) == ("invalid_tool_args", "text: Field required")

    async def test_arguments_that_were_no_json_say_so(self) -> None:
        """The protocol could not read them; the model is told what it wrote."""
        call = PendingToolCall(
            call_id="c0", tool_name="echo", args={}, args_error="Unterminated string at 9"
        )
        (completed,) = await Batches(echo).run(call)

        failure = failure_of(completed.output)
        assert failure.code == "invalid_tool_args"
        assert failure.message == "arguments: Unterminated string at 9"

    async def test_an_exception_is_a_failure_that_the_model_sees(self) -> None:
        """Its type and text, and nothing of the host's code."""

        @tool
        async def divide(by: int) -> float:
            """Divide."""
            return 1 / by

        (completed,) = await Batches(divide).run(*calls(("divide", {"by": 0})))

        failure = failure_of(completed.output)
        assert failure.class_ is ToolFailureClass.EXECUTION
        assert failure.code == "tool_error"
        assert failure.message == "ZeroDivisionError: division by zero"
        assert completed.model_return.text == (
            "[Tool execution failed]\nZeroDivisionError: division by zero"
        )

    async def test_a_sync_function_fails_like_an_async_one(self) -> None:
        """The thread is nobody's concern."""

        @tool
        def fail() -> None:
            """Fail."""
            raise ToolError("no such city", code="not_found")

        failure = failure_of(await Batches(fail).output("fail"))
        assert (failure.code, failure.message) == ("not_found", "no such city")

    async def test_the_one_error_in_an_exception_group_is_told(self) -> None:
        """Tools use task groups, whose wrapping says nothing to a model."""

        @tool
        async def grouped() -> None:
            """Fail in a group."""
            async with anyio.create_task_group():
                raise LookupError("no such city")

        failure = failure_of(await Batches(grouped).output("grouped"))
        assert failure.message == "LookupError: no such city"

    async def test_a_failing_call_does_not_disturb_its_siblings(self) -> None:
        """Half of the answers are better than none."""

        @tool
        async def fail() -> None:
            """Fail."""
            raise OSError("no network")

        meeting = Meeting(guests=2)
        batches = Batches(fail, meeting.meet)

        results = await batches.run(*calls(("fail", {}), ("meet", {}), ("meet", {})))

        assert [result.output.is_success for result in results] == [False, True, True]

    async def test_a_tool_whose_own_work_was_cancelled_ends_that_call_alone(self) -> None:
        """Awaiting a task that someone else cancelled raises `CancelledError` in the tool."""

        @tool
        async def orphan() -> None:
            """Wait for a task that is gone."""
            raise anyio.get_cancelled_exc_class()

        batches = Batches(orphan, Meeting(guests=2).meet)

        results = await batches.run(*calls(("meet", {}), ("orphan", {}), ("meet", {})))

        assert [result.output.outcome.status for result in results] == [
            "success",
            "cancelled",
            "success",
        ]
        assert "completed c1" in batches.shown

    async def test_a_tool_that_cancels_its_own_task_ends_that_call_alone(self) -> None:
        """Some libraries cancel the current task when their time is up."""

        @tool
        async def give_up() -> None:
            """Cancel whatever runs this, and wait."""
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await anyio.sleep_forever()

        batches = Batches(give_up, Meeting(guests=2).meet)

        results = await batches.run(*calls(("meet", {}), ("give_up", {}), ("meet", {})))

        assert [result.output.outcome.status for result in results] == [
            "success",
            "cancelled",
            "success",
        ]

    async def test_a_value_that_cannot_be_stored_is_a_failure(self) -> None:
        """From a provider of one's own, too, which encodes its values itself."""

        class Careless:
            async def execute(self, call: PreparedToolCall, context: ToolContext) -> object:
                return ToolCallOutput.success({"score": float("nan")})

        failure = failure_of(await Batches(static(Careless())).output("static"))
        assert failure.message.startswith("Failed to serialize tool result: ")

    async def test_a_failure_that_carries_what_cannot_be_stored_is_told_without_it(self) -> None:
        """It would fail in the store, with the whole turn."""

        class Careless:
            async def execute(self, call: PreparedToolCall, context: ToolContext) -> object:
                failure = ToolFailure(
                    class_=ToolFailureClass.EXECUTION,
                    code="off_scale",
                    message="Off the scale",
                    raw={"score": float("inf")},
                )
                return ToolCallOutput.failure(failure)

        failure = failure_of(await Batches(static(Careless())).output("static"))
        assert failure.message.startswith("Failed to serialize tool result: ")
        assert failure.raw is None

    async def test_a_provider_that_breaks_while_it_checks_is_a_failure_of_that_call(self) -> None:
        """Providers are the host's code."""

        class Broken(StaticToolProvider):
            def validate_arguments(self, tool_id: str, args: Any) -> str | None:
                raise KeyError(tool_id)

        results = await Batches(static(Echo(), kind=Broken), echo).run(
            *calls(("static", {}), ("echo", {"text": "a"}))
        )
        assert failure_of(results[0].output).code == "tool_validation_failed"
        assert results[1].output.is_success

    async def test_a_tool_whose_schema_cannot_be_had_is_not_called(self) -> None:
        """Unchecked arguments never reach a tool."""

        class Bare(StaticToolProvider):
            def resolve_contract(self, tool_id: str) -> ToolContract | None:
                return None

        failure = failure_of(await Batches(static(Echo(), kind=Bare)).output("static"))
        assert failure.code == "tool_contract_unavailable"

    async def test_an_attachment_in_a_value_stays_in_its_place(self) -> None:
        """The model is shown text and images in the order in which the tool gave them."""
        image = AttachmentRef(id="ab", byte_len=3, media_type=MediaType(type=ImageFormat.PNG))

        @tool
        async def chart() -> dict[str, Any]:
            """Draw."""
            return {"before": 1, "image": image, "after": 2}

        (completed,) = await Batches(chart).run(*calls(("chart", {})))

        assert completed.model_return.parts == (
            ReturnText(text='{"before":1,"image":'),
            ReturnAttachment(ref=image),
            ReturnText(text=',"after":2}'),
        )


class Echo:
    async def execute(self, call: PreparedToolCall, context: ToolContext) -> object:
        return call.args


def static(executor: Any, *, kind: type[StaticToolProvider] = StaticToolProvider) -> Any:
    schema = SchemaContract(canonical={"type": "object"})
    definition = ToolDefinition(
        manifest=ToolManifest(id="tool:static", name="static"),
        contract=ToolContract(input_schema=schema),
    )
    return kind((definition,), executor)


class TestEffects:
    async def test_each_attempt_is_an_effect_under_a_key_of_its_own(self) -> None:
        """A second run after a crash asks under the same keys, and only then is it answered."""
        controller = RecordingController()
        await Batches(echo, controller=controller).run(
            *calls(("echo", {"text": "a"}), ("nope", {}), ("echo", {"text": "b"}))
        )

        assert controller.keys == [
            f"{BATCH_KEY}:child:0:c0:attempt:1",
            f"{BATCH_KEY}:child:2:c2:attempt:1",
        ]
        first = controller.envelopes[0]
        assert first.invocation.effect_kind is RuntimeEffectKind.TOOL_ATTEMPT
        assert first.invocation.scope == SCOPE
        assert first.invocation.caused_by == TurnRef(session_id="s", turn_id="t")
        assert first.command == ToolAttemptCommand(
            PreparedToolCall(
                call_id="c0", tool_id="tool:echo", tool_name="echo", args={"text": "a"}
            ),
            1,
            1,
        )

    async def test_an_answer_from_a_record_is_taken_without_running_the_tool(self) -> None:
        """What was paid for is not paid for again."""
        recorded = ToolCallDone(ToolCallOutput.success("from the record"), 17)

        async def replay(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return ToolAttemptOutcome(recorded)

        flaky = Flaky()
        batches = Batches(
            tool(name="run")(flaky.run), controller=RecordingController(instead=replay)
        )
        (completed,) = await batches.run(*calls(("run", {})))

        assert completed.output == recorded.output
        assert completed.duration_ms == 17
        assert flaky.contexts == []

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (EffectControllerError("journal_full", "the journal is full"), "tool_attempt_failed"),
            (KeyError("seq"), "tool_retry_loop_failed"),
        ],
    )
    async def test_a_controller_that_fails_is_a_failure_of_the_call(
        self, error: Exception, code: str
    ) -> None:
        """The siblings have their results all the same."""

        async def fail(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome | None:
            if "c0" in envelope.invocation.replay_key:
                raise error
            return None

        results = await Batches(echo, controller=RecordingController(instead=fail)).run(
            *calls(("echo", {"text": "a"}), ("echo", {"text": "b"}))
        )

        failure = failure_of(results[0].output)
        assert (failure.class_, failure.code) == (ToolFailureClass.INTERNAL, code)
        assert results[1].output.is_success

    async def test_an_outcome_of_another_kind_is_a_failure_of_the_call(self) -> None:
        """A record that belongs to something else must not pass for a result."""

        async def confuse(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return SleepOutcome()

        batches = Batches(echo, controller=RecordingController(instead=confuse))
        failure = failure_of(await batches.output("echo", text="a"))
        assert failure.code == "tool_attempt_failed"

    async def test_a_suspension_by_an_engine_passes_through_as_it_is(self) -> None:
        """Engines suspend a turn by an exception that nobody may catch or wrap."""

        class Suspended(BaseException):
            pass

        async def suspend(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            raise Suspended

        controller = RecordingController(concurrent=False, instead=suspend)
        with pytest.raises(Suspended):
            await Batches(echo, controller=controller).run(*calls(("echo", {"text": "a"})))


class TestRetries:
    @staticmethod
    def batches(
        flaky: Flaky, policy: Any, *, controller: RecordingController | None = None
    ) -> tuple[Batches, RecordingClock, RecordingController]:
        clock, controller = RecordingClock(), controller or RecordingController()
        made = tool(name="run", retry=policy)(flaky.run)
        return Batches(made, controller=controller, clock=clock), clock, controller

    async def test_a_safe_failure_is_tried_again_after_growing_waits(self) -> None:
        """Waits are effects too: a turn that is resumed does not wait twice."""
        flaky = Flaky(*(ToolError("down", retryable=True) for _ in range(2)))
        policy = SafeRetry(max_attempts=5, base_delay_ms=100)
        batches, clock, controller = self.batches(flaky, policy)

        (completed,) = await batches.run(*calls(("run", {})))

        assert completed.output == ToolCallOutput.success("worked")
        assert completed.duration_ms == 300
        assert clock.sleeps == [0.1, 0.2]
        call_key = f"{BATCH_KEY}:child:0:c0"
        assert controller.keys == [
            f"{call_key}:attempt:1",
            f"{call_key}:run:attempt:1:sleep",
            f"{call_key}:attempt:2",
            f"{call_key}:run:attempt:2:sleep",
            f"{call_key}:attempt:3",
        ]
        assert controller.envelopes[1].command == SleepCommand(100)
        assert batches.shown == ["started c0", "completed c0"]

    async def test_the_tool_knows_its_attempt_and_keeps_its_key(self) -> None:
        """Outside services recognise a repeated request by the key."""
        flaky = Flaky(*(ToolError("down", retryable=True) for _ in range(2)))
        batches, _, _ = self.batches(flaky, SafeRetry(max_attempts=3))

        await batches.output("run")

        assert [c.attempt_number for c in flaky.contexts] == [1, 2, 3]
        assert {c.max_attempts for c in flaky.contexts} == {3}
        assert {c.idempotency_key for c in flaky.contexts} == {"lash-tool:s:t:2.0:c0:run"}

    async def test_a_call_that_fails_to_the_end_is_exhausted(self) -> None:
        """The model reads that trying again is of no use."""
        flaky = Flaky(*(ToolError("down", retryable=True) for _ in range(9)))
        batches, clock, _ = self.batches(flaky, SafeRetry(max_attempts=3))

        failure = failure_of(await batches.output("run"))

        assert failure.retry == RetryExhausted(attempts=3)
        assert len(flaky.contexts) == 3
        assert clock.sleeps == []

    @pytest.mark.parametrize(
        ("policy", "error", "attempts"),
        [
            (None, ToolError("down", retryable=True), 1),
            (SafeRetry(max_attempts=3), ToolError("no such city"), 1),
            (SafeRetry(max_attempts=3), OSError("reset"), 1),
            (IdempotentRetry(max_attempts=3), ToolError("no such city"), 1),
            (IdempotentRetry(max_attempts=3), OSError("reset"), 2),
        ],
        ids=["no policy", "not safe", "unknown effect", "not safe either", "idempotent"],
    )
    async def test_what_may_have_had_an_effect_is_repeated_by_idempotent_tools_alone(
        self, policy: Any, error: Exception, attempts: int
    ) -> None:
        """Nothing is silently done twice."""
        flaky = Flaky(error)
        batches, _, _ = self.batches(flaky, policy)

        await batches.output("run")

        assert len(flaky.contexts) == attempts

    async def test_a_wait_that_the_controller_refuses_ends_the_retries(self) -> None:
        """Without the wait the next attempt would come too soon."""

        async def refuse(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome | None:
            if isinstance(envelope.command, SleepCommand):
                raise EffectControllerError("no_timers", "no timers here")
            return None

        flaky = Flaky(ToolError("down", retryable=True, after_ms=50))
        batches, _, _ = self.batches(
            flaky, SafeRetry(max_attempts=3), controller=RecordingController(instead=refuse)
        )

        failure = failure_of(await batches.output("run"))

        assert (failure.code, failure.message) == ("tool_retry_sleep_failed", "no timers here")
        assert len(flaky.contexts) == 1

    async def test_a_retryable_result_is_retried_like_an_exception(self) -> None:
        """Returning and raising are two ways to say the same."""
        results = [
            ToolResult.retryable_failure(ToolFailureClass.EXTERNAL, "busy", "Busy", 20),
            ToolResult.ok("worked"),
        ]

        @tool(retry=SafeRetry(max_attempts=2))
        async def poll() -> ToolResult:
            """Poll."""
            return results.pop(0)

        clock = RecordingClock()
        output = await Batches(poll, clock=clock).output("poll")
        assert output == ToolCallOutput.success("worked")
        assert clock.sleeps == [0.02]


class TestTimeLimits:
    async def test_an_attempt_that_takes_too_long_is_a_timeout(self) -> None:
        """By the injected clock: a simulation decides what too long is."""
        clock = ManualClock()
        stopped: list[bool] = []

        @tool(timeout_ms=1_000)
        async def hang() -> None:
            """Hang."""
            try:
                await anyio.sleep_forever()
            finally:
                stopped.append(True)

        batches = Batches(hang, clock=clock)
        outputs: list[ToolCallOutput] = []

        async def run() -> None:
            outputs.append(await batches.output("hang"))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await clock.wait_for_sleepers()
            clock.advance(1)
            await clock.wait_for_sleepers()  # the grace in which it may still return
            clock.advance(0.05)

        failure = failure_of(outputs[0])
        assert (failure.class_, failure.code) == (ToolFailureClass.TIMEOUT, "tool_timeout")
        assert "1000 ms" in failure.message
        assert failure.retry == NoRetry()
        assert stopped == [True]
        assert batches.shown == ["started c0", "completed c0"]

    async def test_a_tool_that_notices_that_its_time_is_up_keeps_its_result(self) -> None:
        """Half a page of results is better than a timeout."""

        @tool(timeout_ms=1)
        async def search(context: ToolContext) -> str:
            """Search until the time is up."""
            await context.cancellation_token.wait()
            return f"found some: {context.cancellation_token.reason}"

        batches = Batches(search)
        output = await batches.output("search")
        assert output == ToolCallOutput.success("found some: tool_timeout")
        assert not batches.cancel.is_cancelled

    async def test_a_timeout_is_retried_by_idempotent_tools(self) -> None:
        """Whether the call took effect is unknown; they do not mind."""
        attempts: list[int] = []

        @tool(timeout_ms=1, retry=IdempotentRetry(max_attempts=2))
        async def slow(context: ToolContext) -> str:
            """Be slow once."""
            attempts.append(context.attempt_number)
            if context.attempt_number == 1:
                await anyio.sleep_forever()
            return "worked"

        output = await Batches(slow, clock=RecordingClock()).output("slow")

        assert output == ToolCallOutput.success("worked")
        assert attempts == [1, 2]

    async def test_a_tool_within_its_time_is_not_touched(self) -> None:
        """The timer ends with the call."""

        @tool(timeout_ms=60_000)
        async def quick() -> str:
            """Be quick."""
            return "done"

        clock = ManualClock()
        assert (await Batches(quick, clock=clock).output("quick")).is_success
        assert clock.sleeping == 0

    async def test_a_failure_that_asks_for_another_attempt_is_marked_as_such(self) -> None:
        """Hosts show it; only the policy decides whether it is done."""
        flaky = Flaky(ToolError("down", retryable=True, after_ms=10))
        failure = failure_of(await Batches(tool(name="run")(flaky.run)).output("run"))

        assert failure.retry == RetrySafe(after_ms=10)
