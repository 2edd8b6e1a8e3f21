"""Turns as a host runs them: what comes out, what is stored, what a repetition gives."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.models import StallingProvider, asked
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Calls, WatchedStores
from lash_runtime import (
    AssistantProseDelta,
    CollectingSink,
    EmbedError,
    ErrorReported,
    LashCore,
    ModelRequestStarted,
    ModelSpec,
    PromptContribution,
    PromptSlot,
    ReasoningTextDelta,
    RetryScheduled,
    RuntimeFailure,
    StopReason,
    ToolCallCompleted,
    ToolCallStarted,
    TurnActivity,
    TurnActivityFanout,
    TurnInput,
    UsageReported,
    tool,
)
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.model.llm import LlmResponse, ReasoningOutput, TextDelta, TextOutput
from lash_runtime.ports.provider import ProviderFailure
from lash_runtime.ports.provider_options import (
    ProviderOptions,
    ProviderReliability,
    ProviderRetryPolicy,
)
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import (
    Call,
    ManualClock,
    ScriptedProvider,
    TestProvider,
    stream_text,
    text_response,
    tool_calls_response,
    usage,
)

pytestmark = pytest.mark.anyio


@tool
async def weather(city: str) -> str:
    """Look up the weather.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


@tool
async def broken(why: str) -> str:
    """Always fails."""
    raise RuntimeError(f"out of order: {why}")


def kinds(activities: list[TurnActivity] | tuple[TurnActivity, ...]) -> list[str]:
    return [activity.event.type for activity in activities]


# --- what comes out -----------------------------------------------------------------------------


async def test_run_stream_and_stream_to_give_the_same_turn(anywhere: Place) -> None:
    """Three ways to read a turn, one turn: a host may change its mind without surprises."""
    script = [
        answer
        for _ in range(3)
        for answer in (
            Call.tool("call-1", "weather", {"city": "Oslo"}, usage=usage(10, 2)),
            Call.text("Take a coat.", chunk=3, usage=usage(20, 4)),
        )
    ]
    provider = ScriptedProvider(script)
    async with a_core(anywhere, provider, weather) as core:
        async with core.session("run") as session:
            output = await session.turn("Pack for Oslo").run()
        async with core.session("stream") as session:
            async with session.turn("Pack for Oslo").stream() as stream:
                streamed = [activity async for activity in stream]
                result = await stream.finish()
        async with core.session("sink") as session:
            sink = CollectingSink()
            pushed = await session.turn("Pack for Oslo").stream_to(sink)

    assert output.assistant_message == result.assistant_message == pushed.assistant_message
    assert output.assistant_message == "Take a coat."
    assert kinds(output.activities) == kinds(streamed) == kinds(sink.activities)
    assert output.usage == result.usage == pushed.usage == usage(30, 6)


async def test_activities_come_in_the_order_in_which_things_happened(anywhere: Place) -> None:
    """Interfaces are drawn from this order: a request before its text, a start before its end."""
    provider = ScriptedProvider(
        [
            Call.tool("call-1", "weather", {"city": "Oslo"}, usage=usage(1, 1)),
            Call.text("Coat.", chunk=2, usage=usage(1, 1)),
        ]
    )
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Pack").run()

    assert kinds(output.activities) == [
        "model_request_started",
        "usage",
        "tool_call_started",
        "tool_call_completed",
        "model_request_started",
        "assistant_prose_delta",
        "assistant_prose_delta",
        "assistant_prose_delta",
        "usage",
    ]


async def test_deltas_put_together_are_the_text(anywhere: Place) -> None:
    """Live text and committed text agree for an answer in one piece, whatever the pieces were."""
    text = "Blåbærsyltetøy 🫐, naïve café – and a\nsecond line."
    provider = ScriptedProvider(
        [Call.text(text, chunk=1), Call.text(text), Call.text(text, chunk=7)]
    )
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        for _ in range(3):
            output = await session.turn("Say it").run()
            deltas = [
                a.event.text for a in output.activities if isinstance(a.event, AssistantProseDelta)
            ]
            assert "".join(deltas) == text == output.assistant_message
        correlation = {
            a.correlation_id for a in output.activities if isinstance(a.event, AssistantProseDelta)
        }
        assert len(correlation) == 1
        assert lines(session)[1] == f"assistant: {text}"


async def test_reasoning_is_shown_apart_from_the_answer(anywhere: Place) -> None:
    """What the model thought must never be taken for what it said."""
    answer = LlmResponse(
        full_text="Coat.", parts=(ReasoningOutput("It is cold."), TextOutput("Coat."))
    )
    async with (
        a_core(anywhere, ScriptedProvider([answer])) as core,
        core.session("s") as session,
    ):
        output = await session.turn("Pack").run()
    reasoning = [a.event.text for a in output.activities if isinstance(a.event, ReasoningTextDelta)]
    assert (reasoning, output.assistant_message) == (["It is cold."], "Coat.")


async def test_a_retried_attempt_is_announced_and_its_text_does_not_count(place: Place) -> None:
    """A model that breaks off and starts again has said its second answer alone."""
    failure = ProviderFailure("reset by peer", retryable=True)
    provider = ScriptedProvider(
        [
            Call(result=failure, stream=stream_text("Take an umb")),
            Call.text("Take a coat.", chunk=4),
        ],
        options=ProviderOptions(
            reliability=ProviderReliability(
                retry=ProviderRetryPolicy(base_delay_ms=0, max_delay_ms=0)
            )
        ),
    )
    async with a_core(place, provider) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        assert lines(session) == ["user: Pack", "assistant: Take a coat."]
    assert output.assistant_message == "Take a coat."
    assert any(isinstance(a.event, RetryScheduled) for a in output.activities)
    assert "runtime_diagnostic" in kinds(output.activities)


async def test_a_sink_that_fails_costs_itself_one_activity(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken display must not lose the turn, nor the displays beside it."""

    class Failing:
        def __init__(self) -> None:
            self.seen = 0

        async def emit(self, activity: TurnActivity) -> None:
            self.seen += 1
            raise ValueError("the socket is gone")

    failing, collecting = Failing(), CollectingSink()
    provider = ScriptedProvider([Call.text("Coat.", chunk=1)])
    async with a_core(place, provider) as core, core.session("s") as session:
        result = await session.turn("Pack").stream_to(TurnActivityFanout(failing, collecting))
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert result.is_success
    assert failing.seen == len(collecting.activities) > 5
    assert "a sink failed" in caplog.text


async def test_an_output_says_what_its_result_says(place: Place) -> None:
    """A host that collects activities must not have to reach through for the rest."""
    clock = ManualClock()
    started = clock.timestamp_datetime()

    @tool
    async def slow() -> str:
        """Take a while."""
        clock.advance(1.5)
        return "done"

    provider = ScriptedProvider(
        [Call.tool("c0", "slow", usage=usage(3, 1)), Call.text("Done.", usage=usage(5, 2))]
    )
    core = place.builder(provider, slow).clock(clock).build()
    async with running(core), core.session("s") as session:
        output = await session.turn("Go").run()
        assert output.state.messages == session.read_view().messages

    result = output.result
    assert output.state is result.state
    assert output.execution is result.execution
    assert output.assistant_output == result.assistant_output
    assert output.started_at() == result.started_at() == started
    assert output.duration() == result.duration() == timedelta(seconds=1.5)
    assert output.total_usage() == result.total_usage() == output.usage == usage(8, 3)
    assert output.children_usage == ()


# --- tools --------------------------------------------------------------------------------------


async def test_a_tools_result_is_stored_and_shown_to_the_model(anywhere: Place) -> None:
    """The whole point of a round: the next request carries what the tool said."""
    provider = ScriptedProvider(
        [Call.tool("call-1", "weather", {"city": "Oslo"}), Call.text("Coat.")]
    )
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        stored = lines(session)

    assert [call.tool for call in output.tool_calls] == ["weather"]
    assert output.tool_calls[0].output.value_for_projection() == "sunny in Oslo"
    assert asked(provider.requests[1])[-2:] == [
        'assistant: [call-1] weather {"city": "Oslo"}',
        "user: [call-1] sunny in Oslo",
    ]
    assert stored == [
        "user: Pack",
        'assistant [tool_call]: {"city": "Oslo"}',
        "user [tool_result]: sunny in Oslo",
        "assistant: Coat.",
    ]


async def test_parallel_calls_run_at_the_same_time_and_keep_the_models_order(
    anywhere: Place,
) -> None:
    """Ten lookups take as long as one; the history lists them as the model asked."""
    started = 0
    everyone = anyio.Event()

    @tool
    async def meet(name: str) -> str:
        """Wait until all others are here."""
        nonlocal started
        started += 1
        if started == 3:
            everyone.set()
        await everyone.wait()
        return f"met {name}"

    calls = tool_calls_response(
        ("a", "meet", {"name": "Ada"}),
        ("b", "meet", {"name": "Bob"}),
        ("c", "meet", {"name": "Cy"}),
    )
    provider = ScriptedProvider([calls, Call.text("All met.")])
    async with a_core(anywhere, provider, meet) as core, core.session("s") as session:
        output = await session.turn("Meet").run()

    started_ids = [
        a.event.call_id for a in output.activities if isinstance(a.event, ToolCallStarted)
    ]
    completed = [
        a.event.call_id for a in output.activities if isinstance(a.event, ToolCallCompleted)
    ]
    assert started_ids == ["a", "b", "c"]
    assert sorted(completed) == ["a", "b", "c"]
    assert asked(provider.requests[1])[-3:] == [
        "user: [a] met Ada",
        "user: [b] met Bob",
        "user: [c] met Cy",
    ]


async def test_start_and_end_of_a_call_share_one_row(anywhere: Place) -> None:
    """Every requested call gets exactly one pair, also one that fails or does not exist."""
    calls = tool_calls_response(
        ("a", "weather", {"city": "Oslo"}),
        ("b", "broken", {"why": "rust"}),
        ("c", "teleport", {}),
        ("d", "weather", {"town": "Oslo"}),
    )
    provider = ScriptedProvider([calls, Call.text("Done.")])
    async with a_core(anywhere, provider, weather, broken) as core, core.session("s") as session:
        output = await session.turn("Try").run()

    rows: dict[str, list[str]] = {}
    for activity in output.activities:
        if isinstance(activity.event, ToolCallStarted | ToolCallCompleted):
            rows.setdefault(activity.correlation_id, []).append(activity.event.type)
    assert list(rows.values()) == [["tool_call_started", "tool_call_completed"]] * 4


async def test_the_model_sees_why_a_tool_failed(anywhere: Place) -> None:
    """A raised exception is an answer to the model, not the end of the turn."""
    provider = ScriptedProvider(
        [Call.tool("call-1", "broken", {"why": "rust"}), Call.text("Never mind.")]
    )
    async with a_core(anywhere, provider, broken) as core, core.session("s") as session:
        output = await session.turn("Try").run()
        again = await _text(session, "And now?", provider)

    assert output.is_success
    assert not output.tool_calls[0].output.is_success
    shown = asked(provider.requests[1])[-1]
    assert "out of order: rust" in shown
    assert again == "answer"


async def _text(session: Any, words: str, provider: ScriptedProvider) -> str | None:
    provider.extend([Call.text("answer")])
    message: str | None = (await session.turn(words).run()).assistant_message
    return message


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_a_turn_ends_when_its_rounds_are_used_up(anywhere: Place, rounds: int) -> None:
    """A model that only ever calls tools is stopped, and the history says so."""
    provider = ScriptedProvider(
        otherwise=lambda request: Call.tool("call", "weather", {"city": "Oslo"})
    )
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Pack").max_turns(rounds).run()
        last = lines(session)[-1]
    assert output.stop_reason is StopReason.MAX_TURNS
    assert not output.is_success
    assert provider.calls == rounds
    assert f"Turn limit reached ({rounds})" in last


async def test_a_session_goes_on_after_its_rounds_were_used_up(place: Place) -> None:
    """A stopped turn leaves a closed history that any provider accepts."""
    provider = ScriptedProvider(
        [Call.tool("call-1", "weather", {"city": "Oslo"}), Call.text("Coat.")]
    )
    async with a_core(place, provider, weather) as core, core.session("s") as session:
        await session.turn("Pack").max_turns(1).run()
        output = await session.turn("Go on").run()
    assert output.assistant_message == "Coat."
    assert "[call-1] sunny in Oslo" in "\n".join(asked(provider.requests[1]))


async def test_a_tool_sees_the_context_of_its_caller(anywhere: Place) -> None:
    """Whose request it is, a trace, a log's fields: they reach the tools, sync ones too."""
    caller: ContextVar[str] = ContextVar("caller")

    @tool
    async def who() -> str:
        """Who asks?"""
        return caller.get("nobody")

    @tool
    def who_in_a_thread() -> str:
        """Who asks?"""
        return caller.get("nobody")

    calls = tool_calls_response(("a", "who", {}), ("b", "who_in_a_thread", {}))
    provider = ScriptedProvider([calls, Call.text("Done.")])
    async with a_core(anywhere, provider, who, who_in_a_thread) as core:
        async with core.session("s") as session:
            caller.set("Ada")
            output = await session.turn("Who am I?").run()
    assert [c.output.value_for_projection() for c in output.tool_calls] == ["Ada", "Ada"]


# --- usage --------------------------------------------------------------------------------------


async def test_usage_adds_up_over_calls_turns_and_reopening(place: Place) -> None:
    """The bill is of the session, not of the process."""
    provider = ScriptedProvider(
        [
            Call.tool("call-1", "weather", {"city": "Oslo"}, usage=usage(100, 10, cache_read=7)),
            Call.text("Coat.", usage=usage(200, 20)),
            Call.text("Boots.", usage=usage(300, 30)),
        ]
    )
    async with a_core(place, provider, weather) as core, core.session("s") as session:
        first = await session.turn("Pack").run()
        second = await session.turn("More").run()
        report = session.usage_report()

    reported = [a.event for a in first.activities if isinstance(a.event, UsageReported)]
    assert [r.usage.input_tokens for r in reported] == [100, 200]
    assert [r.cumulative.input_tokens for r in reported] == [100, 300]
    assert first.usage == usage(300, 30, cache_read=7)
    assert first.result.total_usage() == first.usage
    assert second.usage == usage(300, 30)
    assert (report.usage.input_tokens, report.usage.output_tokens) == (600, 60)
    assert set(report.by_model) == {"scripted-1"}
    assert set(report.by_source) == {"turn"}
    async with a_core(place, provider, weather) as core, core.session("s") as session:
        assert session.usage_report() == report


# --- overrides ----------------------------------------------------------------------------------


async def test_overrides_hold_for_one_turn_and_change_nothing(place: Place) -> None:
    """A host that tries another model once does not want to have changed the session."""
    usual, other = (
        ScriptedProvider([Call.text("one"), Call.text("three")]),
        ScriptedProvider([Call.text("two")], kind="other"),
    )
    model = ModelSpec.from_token_limits("bigger-2", context_window=5_000, output_capacity=99)
    async with a_core(place, usual) as core, core.session("s") as session:
        await session.turn("1").run()
        before = session.policy_snapshot()
        output = await (
            session.turn("2")
            .provider(other)
            .model(model)
            .max_turns(7)
            .prompt_contribution(
                PromptContribution(slot=PromptSlot.GUIDANCE, content="Answer like a sailor.")
            )
            .run()
        )
        assert output.assistant_message == "two"
        assert session.policy_snapshot() == before
        await session.turn("3").run()

    assert other.requests[0].model == "bigger-2"
    assert "Answer like a sailor." in asked(other.requests[0])[0]
    assert [request.model for request in usual.requests] == ["scripted-1", "scripted-1"]
    assert "sailor" not in "\n".join(asked(usual.requests[1]))
    async with a_core(place, usual) as core, core.session("s") as session:
        assert session.policy_snapshot() == before


async def test_a_provider_override_alone_keeps_the_model(anywhere: Place) -> None:
    """Another endpoint for the same model is the common case."""
    other = ScriptedProvider([Call.text("two")], kind="other")
    async with a_core(anywhere, ScriptedProvider()) as core, core.session("s") as session:
        await session.turn("2").provider(other).run()
    assert other.requests[0].model == "scripted-1"


async def test_a_turn_builder_can_be_kept_and_used_again(anywhere: Place) -> None:
    """Builders are values: each run of one is a turn of its own."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("yes"))
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        plain = session.turn("Again?")
        limited = plain.max_turns(2)
        first, second, third = await plain.run(), await plain.run(), await limited.run()
        assert lines(session) == ["user: Again?", "assistant: yes"] * 3
    assert len({first.turn_id, second.turn_id, third.turn_id}) == 3


async def test_max_turns_below_one_is_refused_at_once(anywhere: Place) -> None:
    """A setting that cannot work is a mistake of the program, found where it is made."""
    async with a_core(anywhere, ScriptedProvider()) as core, core.session("s") as session:
        with pytest.raises(EmbedError) as raised:
            session.turn("x").max_turns(0)
    assert raised.value.code == "invalid_configuration"


# --- turn ids -----------------------------------------------------------------------------------


async def test_the_same_turn_twice_is_run_once(place: Place) -> None:
    """A caller that did not hear back asks again under the same id, and pays once."""
    provider = ScriptedProvider(
        [
            Call.tool("call-1", "weather", {"city": "Oslo"}, usage=usage(3, 4)),
            Call.text("Coat.", chunk=2, usage=usage(5, 6)),
        ]
    )
    async with a_core(place, provider, weather) as core, core.session("s") as session:
        first = await session.turn("Pack").turn_id("t-1").run()
        second = await session.turn("Pack").turn_id("t-1").run()
        async with session.turn(TurnInput.text("Pack").with_turn_id("t-1")).stream() as stream:
            third = await stream.finish()
        assert len(lines(session)) == 4

    assert provider.calls == 2
    assert second.turn_id == third.turn_id == first.turn_id == "t-1"
    assert second.outcome == third.outcome == first.outcome
    assert second.usage == third.usage == first.usage
    assert second.result.assistant_output == first.result.assistant_output
    assert [c.call_id for c in second.tool_calls] == ["call-1"]
    assert second.tool_calls[0].output.value_for_projection() == "sunny in Oslo"


async def test_a_settled_turn_is_found_by_another_core(place: Place) -> None:
    """The next process is where the question is usually asked again."""
    async with a_core(place, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            first = await session.turn("Pack").turn_id("t-1").run()
    silent = ScriptedProvider()
    async with a_core(place, silent) as core, core.session("s") as session:
        second = await session.turn("Pack").turn_id("t-1").run()
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert (second.assistant_message, second.outcome) == ("Coat.", first.outcome)
    assert silent.calls == 0


@pytest.mark.parametrize("wired", ["another provider", "none"])
async def test_a_settled_turn_is_found_without_its_provider(place: Place, wired: str) -> None:
    """Telling what became of a turn takes no model; running another one does."""
    async with a_core(place, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            await session.turn("Pack").turn_id("t-1").run()
    other = ScriptedProvider(kind="other")
    builder = LashCore.standard_builder().model("m").storage(place.storage())
    core = (builder if wired == "none" else builder.provider(other)).build()
    async with running(core), core.session("s") as session:
        again = await session.turn("Pack").turn_id("t-1").run()
        assert again.assistant_message == "Coat."
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("Unpack").turn_id("t-1").run()
        assert raised.value.code == "turn_content_conflict"
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("Pack").turn_id("t-2").run()
        assert raised.value.code == "llm_provider"
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert other.calls == 0


async def test_an_older_settled_turn_gives_its_own_answer(place: Place) -> None:
    """Not the latest answer: the one that belongs to the id."""
    provider = ScriptedProvider([Call.text("one"), Call.text("two"), Call.text("three")])
    async with a_core(place, provider) as core, core.session("s") as session:
        for number in ("1", "2", "3"):
            await session.turn(number).turn_id(f"t-{number}").run()
        again = await session.turn("2").turn_id("t-2").run()
        assert again.assistant_message == "two"
        assert len(lines(session)) == 6


@pytest.mark.parametrize(
    "changed",
    [
        lambda turn: turn.max_turns(3),
        lambda turn: turn.model(ModelSpec.from_token_limits("other", context_window=10)),
        lambda turn: turn.prompt_contribution(
            PromptContribution(slot=PromptSlot.GUIDANCE, content="Be brief.")
        ),
    ],
    ids=["max_turns", "model", "prompt"],
)
async def test_the_same_id_with_other_options_is_a_conflict(
    place: Place, changed: Callable[[Any], Any]
) -> None:
    """Options are content: the caller would get a result of something it did not ask for."""
    async with (
        a_core(place, ScriptedProvider([Call.text("Coat.")])) as core,
        core.session("s") as session,
    ):
        await session.turn("Pack").turn_id("t-1").run()
        with pytest.raises(RuntimeFailure) as raised:
            await changed(session.turn("Pack").turn_id("t-1")).run()
    assert raised.value.code == "turn_content_conflict"


async def test_the_same_id_with_other_words_is_a_conflict(place: Place) -> None:
    """Nothing is written for it, and it never becomes right by asking again."""
    provider = ScriptedProvider([Call.text("Coat."), Call.text("Boots.")])
    async with a_core(place, provider) as core, core.session("s") as session:
        await session.turn("Pack").turn_id("t-1").run()
        for _ in range(2):
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Unpack").turn_id("t-1").run()
            assert raised.value.code == "turn_content_conflict"
            assert (raised.value.is_terminal, raised.value.is_retryable) == (True, False)
        assert lines(session) == ["user: Pack", "assistant: Coat."]
        assert (await session.turn("Unpack").turn_id("t-2").run()).assistant_message == "Boots."


async def test_the_same_turn_asked_for_twice_at_once_is_run_once(place: Place) -> None:
    """Two tabs, one click each: one turn, one answer for both."""
    provider = ScriptedProvider([Call.text("Coat.", chunk=1, delay_s=0.001)])
    answers = []

    async def ask(session: Any) -> None:
        answers.append(await session.turn("Pack").turn_id("t-1").run())

    async with a_core(place, provider) as core, core.session("s") as session:
        async with core.session("s") as other, anyio.create_task_group() as callers:
            callers.start_soon(ask, session)
            callers.start_soon(ask, session)
            callers.start_soon(ask, other)
        assert lines(session) == ["user: Pack", "assistant: Coat."]
    assert [answer.assistant_message for answer in answers] == ["Coat."] * 3
    assert provider.calls == 1


async def test_a_turn_id_that_comes_again_where_nothing_is_stored_is_another_turn() -> None:
    """Without rows no repetition can be recognised; nothing that was said may be lost for it."""
    provider = ScriptedProvider([Call.text("Coat."), Call.text("Umbrella.")])
    builder = LashCore.standard_builder().provider(provider).model("scripted-1")
    builder = builder.effect_host(InlineEffectHost()).attachment_store(MemoryStorage().attachments)
    async with running(builder.build()) as core, core.session("s") as session:
        await session.turn("Pack").turn_id("t-1").run()
        second = await session.turn("It rains").turn_id("t-1").run()
        said = lines(session)
    assert second.assistant_message == "Umbrella."
    assert said == ["user: Pack", "assistant: Coat.", "user: It rains", "assistant: Umbrella."]


async def test_a_turn_id_that_was_forgotten_names_a_new_turn(database: Path) -> None:
    """The second turn's words and answer are stored, and asking again finds the second answer."""
    place = Place("sqlite", database)
    provider = ScriptedProvider([Call.text("Coat."), Call.text("Umbrella.")])
    async with a_core(place, provider) as core, core.session("s") as session:
        await session.turn("Pack").turn_id("t-1").run()
    async with SqliteStorage(database) as storage:
        await storage.maintenance.prune_turns(timedelta())
    async with a_core(place, provider) as core, core.session("s") as session:
        await session.turn("It rains").turn_id("t-1").run()
    async with a_core(place, provider) as core, core.session("s") as session:
        again = await session.turn("It rains").turn_id("t-1").run()
        said = lines(session)
    assert again.assistant_message == "Umbrella."
    assert provider.calls == 2
    assert said == ["user: Pack", "assistant: Coat.", "user: It rains", "assistant: Umbrella."]


async def test_the_stamp_of_a_turn_covers_what_was_answered(tmp_path: Path) -> None:
    """A repeated commit is recognised by its content; another answer is not a repetition."""
    stamps = []
    for number, answer in enumerate(["Yes", "Yes", "No"]):
        database = tmp_path / f"{number}.db"
        async with (
            a_core(Place("sqlite", database), ScriptedProvider([Call.text(answer)])) as core,
            core.session("s") as session,
        ):
            await session.turn("Pack?").turn_id("t-1").run()
        with closing(sqlite3.connect(database)) as db:
            stamps += db.execute("SELECT turn_commit_hash FROM turn_stamps").fetchall()
    first, repeated, other = stamps
    assert first == repeated != other


async def test_one_turn_id_in_two_sessions_is_two_turns(place: Place) -> None:
    """Ids belong to their session."""
    provider = ScriptedProvider([Call.text("one"), Call.text("two")])
    async with a_core(place, provider) as core, core.session("a") as a, core.session("b") as b:
        first = await a.turn("x").turn_id("t").run()
        second = await b.turn("x").turn_id("t").run()
    assert (first.assistant_message, second.assistant_message) == ("one", "two")


@pytest.mark.parametrize(
    ("turn_id", "code"),
    [
        ("", "missing_execution_scope_id"),
        (" \n\t", "missing_execution_scope_id"),
        ("root:agent-frame:1", "invalid_turn_id"),
        ("half a \ud83c pair", "invalid_turn_id"),
        ("nul\x00l", "invalid_turn_id"),
    ],
)
async def test_a_turn_id_that_cannot_be_one_is_refused(
    anywhere: Place, turn_id: str, code: str
) -> None:
    """Refused before anything is written, however the turn was to be read."""
    provider = ScriptedProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("x").turn_id(turn_id).run()
        assert raised.value.code == code
        with pytest.raises(RuntimeFailure) as raised:
            session.turn(TurnInput.text("x").with_turn_id(turn_id)).stream()
        assert raised.value.code == code
        assert lines(session) == []
    assert provider.calls == 0


async def test_two_different_ids_for_one_turn_are_refused(anywhere: Place) -> None:
    """Which of them would the result be found under?"""
    named = TurnInput.text("x").with_turn_id("t-1")
    provider = ScriptedProvider([Call.text("yes")])
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn(named).turn_id("t-2").run()
        assert raised.value.code == "execution_scope_turn_id_mismatch"
        assert raised.value.is_terminal
        assert (await session.turn(named).turn_id("t-1").run()).turn_id == "t-1"


@pytest.mark.parametrize("turn_id", ["t" * 10_000, "../../etc/passwd", "Zug 🚂", "'; DROP TABLE"])
async def test_any_other_text_can_name_a_turn(place: Place, turn_id: str) -> None:
    """Ids are keys: no length and no sign in them means anything."""
    provider = ScriptedProvider([Call.text("yes")])
    async with a_core(place, provider) as core, core.session("s") as session:
        assert (await session.turn("x").turn_id(turn_id).run()).turn_id == turn_id
        assert (await session.turn("x").turn_id(turn_id).run()).assistant_message == "yes"


# --- cost ---------------------------------------------------------------------------------------


READS = {"load_session", "load_head_stamp", "load_turn", "list_unfinished_turns", "load_node"}


async def test_a_text_turn_costs_two_writes_and_at_most_one_read(place: Place) -> None:
    """Accept and commit: the price of durability is known, and stays what it is."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("yes", chunk=1))
    storage = place.storage()
    calls = Calls()
    stores = WatchedStores(storage, calls)
    core = place.builder(provider).storage(storage).store_factory(stores).build()
    async with running(core), core.session("s") as session:
        for number in range(3):
            calls.clear()
            await session.turn(f"{number}").run()
            writes = [call for call in calls if call not in READS]
            assert writes == ["accept_turn", "commit_runtime_state"]
            assert len(calls) - len(writes) <= 1


async def test_a_round_of_tools_costs_one_more_write(unjournaled: Place) -> None:
    """Paid work is stored before more is paid for, once for each round."""
    assert await the_writes_of_two_rounds(unjournaled) == [
        "accept_turn",
        *["commit_runtime_state"] * 3,
    ]


async def test_a_round_of_tools_in_a_journal_costs_two(on_disk: Place) -> None:
    """What a tool is about to do, and what it has done; the model's answers ride along."""
    assert await the_writes_of_two_rounds(on_disk) == [
        "accept_turn",
        *["write_journal"] * 4,
        "commit_runtime_state",
    ]


async def the_writes_of_two_rounds(place: Place) -> list[str]:
    provider = ScriptedProvider(
        [
            Call.tool("a", "weather", {"city": "Oslo"}),
            Call.tool("b", "weather", {"city": "Rome"}),
            Call.text("Coat."),
        ]
    )
    storage = place.storage()
    calls = Calls()
    stores = WatchedStores(storage, calls)
    core = place.builder(provider, weather).storage(storage).store_factory(stores).build()
    async with running(core), core.session("s") as session:
        await session.turn("0").run()
        return [call for call in calls if call not in READS]


# --- what a turn leaves -------------------------------------------------------------------------


async def test_a_turn_is_there_when_run_returns(place: Place) -> None:
    """`run()` came back, so another core finds the turn: that is the promise."""
    async with a_core(place, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            output = await session.turn("Pack").run()
            assert [m.text for m in output.result.state.messages] == ["Pack", "Coat."]
    async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
        assert lines(session) == ["user: Pack", "assistant: Coat."]
        assert session.read_view().turn_index == 1


async def test_every_turn_sees_the_whole_conversation(anywhere: Place) -> None:
    """The request of a turn holds all settled turns in order, each once."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text(f"a{len(request.messages)}"))
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        for number in range(4):
            await session.turn(f"q{number}").run()
        said = [line.split(": ")[1] for line in lines(session)]
    users = [line for line in asked(provider.requests[-1]) if line.startswith("user")]
    assert users == ["user: q0", "user: q1", "user: q2", "user: q3"]
    assert said[::2] == ["q0", "q1", "q2", "q3"]


async def test_empty_input_is_a_turn_without_words(anywhere: Place) -> None:
    """A host may let the model go on by itself; empty pieces of text are dropped."""
    provider = ScriptedProvider([Call.text("one"), Call.text("two")])
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        output = await session.turn(TurnInput.of("Pack", "", " now")).run()
        assert lines(session)[0] == "user: Pack now"
        assert output.is_success
        again = await session.turn(TurnInput.empty()).run()
    assert again.assistant_message == "two"


async def test_every_model_request_is_announced(anywhere: Place) -> None:
    """`protocol_iteration` counts the requests of a turn from nought."""
    provider = ScriptedProvider([Call.tool("a", "weather", {"city": "Oslo"}), Call.text("Coat.")])
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
    started = [a.event for a in output.activities if isinstance(a.event, ModelRequestStarted)]
    assert [event.protocol_iteration for event in started] == [0, 1]
    assert not any(isinstance(a.event, ErrorReported) for a in output.activities)


async def test_a_slow_reader_slows_the_turn_and_loses_nothing(anywhere: Place) -> None:
    """Backpressure: the model waits at 64 unread activities instead of filling the memory."""
    sent = 0

    async def talk(request: Any) -> LlmResponse:
        nonlocal sent
        for _ in range(1_000):
            request.stream_events(TextDelta("x"))
            sent += 1
        return text_response("x" * 1_000)

    async with a_core(anywhere, TestProvider(talk)) as core, core.session("s") as session:
        async with session.turn("Talk").stream() as stream:
            read = 0
            async for activity in stream:
                read += isinstance(activity.event, AssistantProseDelta)
                await anyio.lowlevel.checkpoint()
            result = await stream.finish()
    assert read == sent == 1_000
    assert result.assistant_message == "x" * 1_000


async def test_a_second_reader_of_one_stream_is_refused(anywhere: Place) -> None:
    """Two readers would each get half of the story."""
    provider = StallingProvider("")
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        async with session.turn("Pack").stream() as stream:
            await anext(stream)
            async with anyio.create_task_group() as readers:
                readers.start_soon(stream.next_activity)
                await provider.entered.wait()
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(RuntimeError, match="already reading"):
                    await stream.next_activity()
                provider.release.set()
