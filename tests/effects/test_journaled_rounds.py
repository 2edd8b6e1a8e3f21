"""Rounds of tools that processes have died in: what is run, what is told, what is on record."""

import itertools
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from effects.journaled import (
    Left,
    Lives,
    attempt,
    begun_only,
    finished,
    never_begun,
    outcome_of,
)
from lash_runtime.model.records import replace
from lash_runtime.model.tool_results import FinishTurn, ToolCancelled
from lash_runtime.model.tools import IdempotentRetry, SafeRetry
from lash_runtime.ports.journal import EffectRecorded
from lash_runtime.ports.tools import ToolContext
from lash_runtime.runtime.children import ended
from lash_runtime.runtime.verdict import Ok
from lash_runtime.testing import ManualClock
from lash_runtime.tools import ToolError, ToolResult, batch_tool, tool
from tools.dispatching import calls

pytestmark = pytest.mark.anyio

UNKNOWN = "tool_outcome_unknown"


class Till:
    """A tool of each kind of `on_unknown`, for calls side by side and in turn."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.runs: dict[str, list[int]] = {}
        self.keys: dict[str, set[str]] = {}

    def _note(self, what: str, context: ToolContext) -> str:
        self.ran.append(what)
        self.runs.setdefault(what, []).append(context.run_number)
        self.keys.setdefault(what, set()).add(context.idempotency_key)
        return f"{what} paid"

    @tool
    async def report(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    @tool(on_unknown="rerun")
    async def rerun(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    @tool(on_unknown="ask")
    async def ask(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    @tool(scheduling="serial")
    async def report_in_turn(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    @tool(scheduling="serial", on_unknown="rerun")
    async def rerun_in_turn(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    @tool(scheduling="serial", on_unknown="ask")
    async def ask_in_turn(self, what: str, context: ToolContext) -> str:
        """Pay."""
        return self._note(what, context)

    def tools(self) -> tuple[Any, ...]:
        return (
            self.report,
            self.rerun,
            self.ask,
            self.report_in_turn,
            self.rerun_in_turn,
            self.ask_in_turn,
        )


PARALLEL = calls(("report", {"what": "a"}), ("rerun", {"what": "b"}), ("ask", {"what": "c"}))
SERIAL = calls(
    ("report_in_turn", {"what": "a"}),
    ("rerun_in_turn", {"what": "b"}),
    ("ask_in_turn", {"what": "c"}),
)
MIXED = calls(
    ("report_in_turn", {"what": "a"}), ("rerun", {"what": "b"}), ("ask_in_turn", {"what": "c"})
)
STATES: tuple[Left, ...] = (finished, begun_only, never_begun)
ROUNDS = {"side by side": PARALLEL, "in turn": SERIAL, "mixed": MIXED}


def named(left: tuple[Left, ...]) -> str:
    return "-".join(state.__name__ for state in left)


class TestEveryPlaceToDieIn:
    @pytest.mark.parametrize("wanted", ROUNDS.values(), ids=ROUNDS)
    @pytest.mark.parametrize("left", list(itertools.product(STATES, repeat=3)), ids=named)
    async def test_each_call_goes_on_from_what_is_known_of_it(
        self, wanted: tuple[Any, ...], left: tuple[Left, ...]
    ) -> None:
        """What is recorded is answered, what had not begun is run, and what may have happened is
        told, or run again by a tool that allows it."""
        first = Till()
        lives = Lives(*first.tools())
        undisturbed = [outcome_of(done) for done in await lives.run(*wanted)]
        assert undisturbed == ["a paid", "b paid", "c paid"]
        by_key = {entry.effect.replay_key: entry for entry in lives.journal.entries}
        entries = [by_key[f"s:t:1:2:tool_batch:7:{attempt(index)}"] for index in range(len(wanted))]
        found = [state(entry) for state, entry in zip(left, entries, strict=True)]

        till = Till()
        lives = Lives(*till.tools())
        batches = lives.next_life(entry for entry in found if entry is not None)
        results = [outcome_of(done) for done in await lives.run(*wanted)]

        may_rerun = (False, True, False)
        for at, what in enumerate("abc"):
            if left[at] is finished:
                assert (results[at], till.runs.get(what)) == (f"{what} paid", None)
            elif left[at] is never_begun:
                assert (results[at], till.runs.get(what)) == (f"{what} paid", [1])
            elif may_rerun[at]:
                assert (results[at], till.runs.get(what)) == (f"{what} paid", [2])
                assert till.keys[what] == first.keys[what]
            else:
                assert (results[at], till.runs.get(what)) == (UNKNOWN, None)
            begun = 2 if left[at] is begun_only and may_rerun[at] else 1
            assert lives.record[attempt(at)] == (begun, True)
        assert sorted(batches.shown) == sorted(
            f"{what} c{at}" for what in ("started", "completed") for at in range(3)
        )

        again = Till()
        lives.tools = again.tools()
        lives.next_life()
        assert [outcome_of(done) for done in await lives.run(*wanted)] == results
        assert again.ran == []

    async def test_a_call_that_dies_again_and_again_is_told_how_often(self) -> None:
        """A tool that looks up what an earlier run has done needs to know that there was one."""
        runs: list[int] = []
        entered = anyio.Event()

        @tool(on_unknown="rerun")
        async def pay(context: ToolContext) -> None:
            """Pay."""
            runs.append(context.run_number)
            entered.set()
            await anyio.sleep_forever()

        lives = Lives(pay)
        for life in range(4):
            entered = anyio.Event()
            async with lives.cut_off(*calls(("pay", {}))):
                await entered.wait()
            assert lives.record == {attempt(0): (life + 1, False)}
            lives.next_life()
        assert runs == [1, 2, 3, 4]

    async def test_serial_calls_are_reserved_one_by_one(self) -> None:
        """One that never had its turn is not taken for one that may have happened."""
        entered = anyio.Event()
        made: list[str] = []

        @tool(scheduling="serial")
        async def pay(to: str) -> str:
            """Pay."""
            made.append(to)
            if len(made) == 2:
                entered.set()
                await anyio.sleep_forever()
            return to

        wanted = calls(*(("pay", {"to": to}) for to in "abc"))
        lives = Lives(pay)
        async with lives.cut_off(*wanted):
            await entered.wait()
        assert lives.record == {attempt(0): (1, True), attempt(1): (1, False)}
        lives.next_life()
        results = [outcome_of(done) for done in await lives.run(*wanted)]
        assert results == ["a", UNKNOWN, "c"]
        assert made == ["a", "b", "c"]

    async def test_a_steering_result_steers_from_the_record_too(self) -> None:
        """A tool that ended the turn has ended it for every process."""

        @tool
        async def finish() -> ToolResult:
            """Finish."""
            return ToolResult.ok("over").with_control(FinishTurn(value=7))

        lives = Lives(finish)
        first = await lives.run(*calls(("finish", {})))
        lives.next_life()
        assert await lives.run(*calls(("finish", {}))) == first
        assert first[0].output.control == FinishTurn(value=7)


class TestRetries:
    """Attempts are effects of their own, and the waits between them are, too."""

    @staticmethod
    def flaky(times: int, ran: list[int], **options: Any) -> Any:
        @tool(retry=IdempotentRetry(max_attempts=4, base_delay_ms=10_000), **options)
        async def call(context: ToolContext) -> str:
            """Call."""
            ran.append(context.attempt_number)
            if context.attempt_number <= times:
                raise ToolError("down", retryable=True)
            return "up"

        return call

    async def test_a_wait_ends_when_it_was_due_whoever_waits(self) -> None:
        """Three processes die in one wait of ten seconds, and it is one wait of ten seconds."""
        clock, ran = ManualClock(), list[int]()
        lives = Lives(self.flaky(1, ran), clock=clock)
        wanted = calls(("call", {}))
        for _ in range(3):
            async with lives.cut_off(*wanted):
                await clock.wait_for_sleepers()
                clock.advance(3)
            lives.next_life()
        async with lives.cut_off(*wanted) as last:
            await clock.wait_for_sleepers()
            clock.advance(0.999)
            await checkpoint()
            assert ran == [1]
            clock.advance(0.001)
            await ended(last)
        assert ran == [1, 2]
        assert lives.record == {
            attempt(0): (1, True),
            "child:0:c0:call:attempt:1:sleep": (1, True),
            attempt(0, 2): (1, True),
        }

    async def test_a_wait_that_was_over_is_not_waited_for(self) -> None:
        """The time has passed while nobody was there."""
        clock, ran = ManualClock(), list[int]()
        lives = Lives(self.flaky(1, ran), clock=clock)
        async with lives.cut_off(*calls(("call", {}))):
            await clock.wait_for_sleepers()
        clock.advance(60)
        lives.next_life()
        with anyio.fail_after(5):
            (done,) = await lives.run(*calls(("call", {})))
        assert (outcome_of(done), ran) == ("up", [1, 2])

    async def test_a_replay_reports_the_time_of_the_first_run(self) -> None:
        """What a call took is part of what came of it, whenever it is told."""
        clock, ran = ManualClock(), list[int]()
        lives = Lives(self.flaky(2, ran), clock=clock)
        wanted = calls(("call", {}))
        async with lives.cut_off(*wanted) as running:
            for wait in (10, 20):
                await clock.wait_for_sleepers()
                clock.advance(wait)
            await ended(running)
            assert isinstance(running.verdict, Ok)
            (first,) = running.verdict.value
        assert first.duration_ms == 30_000
        lives.next_life()
        (again,) = await lives.run(*wanted)
        assert again == first
        assert ran == [1, 2, 3]

    @pytest.mark.parametrize(
        ("on_unknown", "told", "attempts"),
        [("report", UNKNOWN, [1, 2]), ("ask", UNKNOWN, [1, 2]), ("rerun", "up", [1, 2, 2])],
    )
    async def test_an_attempt_that_was_cut_off_is_not_retried_by_itself(
        self, on_unknown: str, told: str, attempts: list[int]
    ) -> None:
        """A retry policy is about failures, and this is none: it may have worked."""
        clock, ran, entered = ManualClock(), [], anyio.Event()

        @tool(retry=SafeRetry(max_attempts=3, base_delay_ms=1), on_unknown=on_unknown)
        async def call(context: ToolContext) -> str:
            """Call."""
            ran.append(context.attempt_number)
            if context.attempt_number == 1:
                raise ToolError("down", retryable=True)
            if context.run_number == 1:
                entered.set()
                await anyio.sleep_forever()
            return "up"

        lives = Lives(call, clock=clock)
        async with lives.cut_off(*calls(("call", {}))):
            await clock.wait_for_sleepers()
            clock.advance(1)
            await entered.wait()
        lives.next_life()
        (done,) = await lives.run(*calls(("call", {})))
        assert (outcome_of(done), ran) == (told, attempts)

    async def test_attempts_that_are_used_up_stay_so(self) -> None:
        """The record answers with the last failure, and no attempt is made."""
        ran: list[int] = []

        @tool(retry=SafeRetry(max_attempts=2))
        async def call(context: ToolContext) -> None:
            """Call."""
            ran.append(context.attempt_number)
            raise ToolError("down", code="down", retryable=True)

        lives = Lives(call)
        first = await lives.run(*calls(("call", {})))
        lives.next_life()
        assert await lives.run(*calls(("call", {}))) == first
        assert (ran, outcome_of(first[0])) == ([1, 2], "down")


class TestCallsThatMakeCalls:
    """What a tool has had done is on record by itself."""

    def test_a_batch_may_be_run_again(self) -> None:
        """It does nothing itself: what its calls have done is known of each."""
        (manifest,) = batch_tool().tool_manifests()
        assert manifest.on_unknown == "rerun"

    @pytest.mark.parametrize("left", list(itertools.product(STATES, repeat=2)), ids=named)
    async def test_a_batch_that_was_cut_off_goes_on_inside(self, left: tuple[Left, ...]) -> None:
        """A model that can make one call in an answer loses no more than others."""
        first = Till()
        inner = [{"tool": name, "parameters": {"what": name}} for name in ("report", "rerun")]
        wanted = calls(("batch", {"tool_calls": inner}))
        lives = Lives(*first.tools(), batch_tool())
        (undisturbed,) = await lives.run(*wanted)
        outer, *nested = lives.journal.entries
        found = [begun_only(outer)]
        found += [kept for state, entry in zip(left, nested, strict=True) if (kept := state(entry))]

        till = Till()
        lives = Lives(*till.tools(), batch_tool())
        batches = lives.next_life(found)
        (done,) = await lives.run(*wanted)

        results = done.output.value_for_projection()["results"]
        reported = left[0] is begun_only
        assert [entry["success"] for entry in results] == [not reported, True]
        expected = [
            name
            for name, state in zip(("report", "rerun"), left, strict=True)
            if state is not finished and not (name == "report" and reported)
        ]
        assert till.ran == expected
        if not reported:
            assert done.output == undisturbed.output
        assert sorted(batches.shown) == sorted(
            f"{what} {call}"
            for what in ("started", "completed")
            for call in ("c0", "c0 > c0:00", "c0 > c0:01")
        )

    async def test_a_tool_that_is_run_again_finds_its_own_calls_answered(self) -> None:
        """As long as it asks for the same, in the same order."""
        till, entered, lives_of_tool = Till(), anyio.Event(), []

        @tool(on_unknown="rerun")
        async def shop(context: ToolContext) -> list[str]:
            """Shop."""
            lives_of_tool.append(context.run_number)
            assert context.dispatch is not None
            said = []
            for at, what in enumerate(("hat", "coat")):
                wanted = calls(("report", {"what": what}))[0]
                call_id = f"{context.tool_call_id}.{at}"
                (done,) = await context.dispatch.batch([replace(wanted, call_id=call_id)])
                said.append(outcome_of(done))
                if context.run_number == 1:
                    entered.set()
                    await anyio.sleep_forever()
            return said

        lives = Lives(shop, *till.tools())
        async with lives.cut_off(*calls(("shop", {}))):
            await entered.wait()
        assert till.ran == ["hat"]
        lives.next_life()
        (done,) = await lives.run(*calls(("shop", {})))
        assert outcome_of(done) == ["hat paid", "coat paid"]
        assert till.ran == ["hat", "coat"]
        assert lives_of_tool == [1, 2]

    async def test_a_tool_that_is_reported_has_its_own_calls_left_alone(self) -> None:
        """Whether it would have made them is not known either."""
        till, entered = Till(), anyio.Event()

        @tool
        async def shop(context: ToolContext) -> None:
            """Shop."""
            assert context.dispatch is not None
            entered.set()
            await context.dispatch.batch(calls(("hang", {})))

        @tool
        async def hang() -> None:
            """Hang."""
            await anyio.sleep_forever()

        lives = Lives(shop, hang, *till.tools())
        async with lives.cut_off(*calls(("shop", {}))):
            await entered.wait()
            while len(lives.record) < 2:
                await checkpoint()
        batches = lives.next_life()
        (done,) = await lives.run(*calls(("shop", {})))
        assert outcome_of(done) == UNKNOWN
        assert batches.shown == ["started c0", "completed c0"]


class TestCancelling:
    async def test_what_was_cut_off_by_a_cancel_is_not_on_record(self) -> None:
        """A cancel that nobody commits has not happened; what the call did is unknown."""
        clock, entered = ManualClock(), anyio.Event()

        @tool
        async def hang() -> None:
            """Hang."""
            entered.set()
            await anyio.sleep_forever()

        @tool
        async def quick() -> str:
            """Be quick."""
            return "done"

        wanted = calls(("hang", {}), ("quick", {}))
        lives = Lives(hang, quick, clock=clock)
        async with lives.cut_off(*wanted) as running:
            await entered.wait()
            while "completed c1" not in lives.batches.shown:
                await checkpoint()
            lives.batches.cancel.cancel()
            await clock.wait_for_sleepers()
            clock.advance(0.05)
            await ended(running)
        assert lives.record == {attempt(0): (1, False), attempt(1): (1, True)}
        lives.next_life()
        results = [outcome_of(done) for done in await lives.run(*wanted)]
        assert results == [UNKNOWN, "done"]

    async def test_a_result_that_came_within_the_grace_is_on_record(self) -> None:
        """It is what the tool made of the cancel, and it has been shown."""
        clock, entered = ManualClock(), anyio.Event()

        @tool
        async def search(context: ToolContext) -> str:
            """Search."""
            entered.set()
            await context.cancellation_token.wait()
            return "two of three"

        lives = Lives(search, clock=clock)
        async with lives.cut_off(*calls(("search", {}))) as running:
            await entered.wait()
            lives.batches.cancel.cancel()
            await ended(running)
        lives.next_life()
        (done,) = await lives.run(*calls(("search", {})))
        assert outcome_of(done) == "two of three"

    async def test_a_tool_may_say_itself_that_it_was_cancelled(self) -> None:
        """That is its result: it has ended, and nothing about it is unknown."""

        @tool
        async def ask_user() -> ToolResult:
            """Ask."""
            return ToolResult.cancelled("the user closed the dialogue")

        lives = Lives(ask_user)
        first = await lives.run(*calls(("ask_user", {})))
        assert isinstance(first[0].output.outcome, ToolCancelled)
        assert lives.record == {attempt(0): (1, True)}
        lives.next_life()
        assert await lives.run(*calls(("ask_user", {}))) == first

    async def test_a_cancelled_wait_is_not_on_record(self) -> None:
        """The next process waits for what is left of it."""
        clock, ran = ManualClock(), list[int]()
        lives = Lives(TestRetries.flaky(1, ran), clock=clock)
        async with lives.cut_off(*calls(("call", {}))) as running:
            await clock.wait_for_sleepers()
            lives.batches.cancel.cancel()
            await ended(running)
        assert lives.record["child:0:c0:call:attempt:1:sleep"] == (1, False)
        clock.advance(10)
        lives.next_life()
        (done,) = await lives.run(*calls(("call", {})))
        assert outcome_of(done) == "up"


class TestInterruption:
    @pytest.mark.parametrize("count", [1, 2], ids=["alone", "side by side"])
    async def test_a_call_that_has_ended_is_recorded_though_its_turn_is_interrupted(
        self, count: int
    ) -> None:
        """The record is on its way when the core closes: it is waited for, not forgotten."""
        writing, go_on = anyio.Event(), anyio.Event()

        async def hold(writes: Any) -> None:
            if any(isinstance(write, EffectRecorded) for write in writes):
                writing.set()
                await go_on.wait()

        @tool
        async def pay(to: str) -> str:
            """Pay."""
            return to

        wanted = calls(*(("pay", {"to": str(at)}) for at in range(count)))
        lives = Lives(pay)
        lives.journal.before_write = hold
        async with anyio.create_task_group() as tasks:
            async with lives.cut_off(*wanted):
                await writing.wait()
                tasks.start_soon(_soon, go_on)
        lives.journal.before_write = None
        assert lives.record == {attempt(at): (1, True) for at in range(count)}

    async def test_a_record_that_cannot_be_written_does_not_hold_the_end_up_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After its deadline the process goes, and the call is one that may have happened."""
        monkeypatch.setattr("lash_runtime.effects.journal.controller.RECORD_DEADLINE_S", 0.05)
        writing = anyio.Event()

        async def hold(writes: Any) -> None:
            if any(isinstance(write, EffectRecorded) for write in writes):
                writing.set()
                await anyio.sleep_forever()

        @tool
        async def pay() -> str:
            """Pay."""
            return "paid"

        lives = Lives(pay)
        lives.journal.before_write = hold
        with anyio.fail_after(5):
            async with lives.cut_off(*calls(("pay", {}))):
                await writing.wait()
        lives.journal.before_write = None
        lives.next_life()
        (done,) = await lives.run(*calls(("pay", {})))
        assert outcome_of(done) == UNKNOWN

    async def test_a_tool_does_not_start_before_it_is_reserved(self) -> None:
        """A process that dies while it reserves has done nothing."""
        ran, reserving = [], anyio.Event()

        async def hold(writes: Any) -> None:
            reserving.set()
            await anyio.sleep_forever()

        @tool
        async def pay() -> str:
            """Pay."""
            ran.append("paid")
            return "paid"

        lives = Lives(pay)
        lives.journal.before_write = hold
        async with lives.cut_off(*calls(("pay", {}))):
            await reserving.wait()
        assert (ran, lives.record) == ([], {})
        lives.journal.before_write = None
        lives.next_life()
        (done,) = await lives.run(*calls(("pay", {})))
        assert (outcome_of(done), ran) == ("paid", ["paid"])


async def _soon(event: anyio.Event) -> None:
    for _ in range(20):
        await checkpoint()
    event.set()
