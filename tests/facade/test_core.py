"""Cores as a host builds, enters and closes them, and the errors that it can tell apart."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_core import to_jsonable_python

from facade.models import StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from facade.watched import Calls, WatchedStores
from lash_runtime import (
    CoreClosed,
    DurableStorePeerRequired,
    EmbedError,
    InvalidConfiguration,
    InvalidSessionId,
    LashCore,
    LashCoreBuilder,
    LeaseOwnerIdentity,
    MissingAttachmentStore,
    MissingEffectHost,
    MissingModelSpec,
    MissingProtocolPlugin,
    MissingSessionStoreFactory,
    ModelSpec,
    PromptContribution,
    PromptSlot,
    RuntimeFailure,
    SessionClosed,
    SessionNotDurable,
    SessionSpec,
    SessionStillInUse,
    StopReason,
    StoreFailure,
    StoreSessionMismatch,
    TurnOutput,
    WiringError,
    tool,
)
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.model.llm import ProviderFailureKind
from lash_runtime.ports.clock import Clock
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.provider import ProviderFailure
from lash_runtime.protocols.standard import StandardProtocol
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, FixedIdSource, RecordingClock, ScriptedProvider

pytestmark = pytest.mark.anyio


def yes(kind: str = "scripted") -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"), kind=kind)


@tool
async def look() -> str:
    """Look."""
    return "nothing"


# --- builders -----------------------------------------------------------------------------------

SETTERS: list[tuple[str, Callable[[LashCoreBuilder], LashCoreBuilder]]] = [
    ("protocol", lambda b: b.protocol(StandardProtocol())),
    ("provider", lambda b: b.provider(yes("other"))),
    ("model", lambda b: b.model("other-1")),
    ("max_turns", lambda b: b.max_turns(3)),
    ("session_spec", lambda b: b.session_spec(SessionSpec(max_turns=4))),
    ("tools", lambda b: b.tools(look)),
    ("storage", lambda b: b.storage(MemoryStorage())),
    ("store_factory", lambda b: b.store_factory(MemoryStorage().session_stores)),
    ("attachment_store", lambda b: b.attachment_store(MemoryStorage().attachments)),
    ("effect_host", lambda b: b.effect_host(InlineEffectHost())),
    ("clock", lambda b: b.clock(RecordingClock())),
    ("ids", lambda b: b.ids(FixedIdSource())),
    (
        "prompt_contribution",
        lambda b: b.prompt_contribution(
            PromptContribution(slot=PromptSlot.GUIDANCE, content="Be kind.")
        ),
    ),
]


@pytest.mark.parametrize("setter", [s for _, s in SETTERS], ids=[name for name, _ in SETTERS])
def test_a_setter_returns_another_builder(
    setter: Callable[[LashCoreBuilder], LashCoreBuilder],
) -> None:
    """A half-configured builder can be shared: nobody changes it for the others."""
    builder = LashCore.builder()
    changed = setter(builder)
    assert changed is not builder
    assert changed != builder
    assert builder == LashCore.builder()


async def test_a_half_configured_builder_makes_several_cores(tmp_path: Path) -> None:
    """What deployments have in common is said once."""
    common = LashCore.standard_builder().provider(yes()).tools(look)
    small = common.model("small-1").storage(SqliteStorage(tmp_path / "small.db")).build()
    large = common.model("large-1").storage(SqliteStorage(tmp_path / "large.db")).build()
    async with running(small), running(large):
        async with small.session("s") as a, large.session("s") as b:
            await a.turn("x").run()
            assert (a.policy_snapshot().model.id, b.policy_snapshot().model.id) == (
                "small-1",
                "large-1",
            )
            assert lines(b) == []


def test_building_needs_no_event_loop_and_touches_no_file(database: Path) -> None:
    """A core is made where the program's settings are read."""
    core = LashCore.open(database, provider=yes(), model="scripted-1", tools=[look])
    core.session("s").max_turns(2)
    assert not database.exists()


async def test_two_cores_in_memory_share_nothing() -> None:
    """A default must not become a hidden global."""
    builder = LashCore.standard_builder().provider(yes()).model("scripted-1")
    async with running(builder.build()) as a, running(builder.build()) as b:
        async with a.session("s") as session:
            await session.turn("x").run()
        async with b.session("s") as session:
            assert lines(session) == []


# --- what is missing ----------------------------------------------------------------------------


def test_missing_parts_are_named_one_after_the_other() -> None:
    """Protocol, model, effect host, attachments: mend one and the next is named."""
    builder = LashCore.builder()
    storage = MemoryStorage()
    with pytest.raises(MissingProtocolPlugin):
        builder.build()
    builder = builder.protocol(StandardProtocol())
    with pytest.raises(MissingModelSpec):
        builder.build()
    builder = builder.model("scripted-1")
    with pytest.raises(MissingEffectHost):
        builder.build()
    builder = builder.effect_host(InlineEffectHost())
    with pytest.raises(MissingAttachmentStore):
        builder.build()
    builder.attachment_store(storage.attachments).build()


def test_the_protocol_is_missed_before_everything_else() -> None:
    """The order holds also when all of it is missing but one."""
    with pytest.raises(MissingProtocolPlugin):
        LashCore.builder().model("scripted-1").storage(MemoryStorage()).build()
    with pytest.raises(MissingModelSpec):
        LashCore.standard_builder().provider(yes()).build()
    with pytest.raises(MissingEffectHost):
        LashCore.standard_builder().model("m").attachment_store(MemoryStorage().attachments).build()
    with pytest.raises(MissingAttachmentStore):
        LashCore.standard_builder().model("m").effect_host(InlineEffectHost()).build()


class _DurableHost(InlineEffectHost):
    durability_tier = DurabilityTier.DURABLE


def test_a_durable_part_needs_durable_peers(database: Path) -> None:
    """Sessions that outlive their images would be found broken after the first restart."""
    memory = MemoryStorage()
    durable = LashCore.standard_builder().model("m").storage(SqliteStorage(database))
    with pytest.raises(DurableStorePeerRequired) as raised:
        durable.attachment_store(memory.attachments).build()
    assert raised.value.facet == "attachment store"
    assert raised.value.code == "durable_store_peer_required"
    with pytest.raises(DurableStorePeerRequired):
        LashCore.standard_builder().model("m").storage(memory).effect_host(_DurableHost()).build()
    durable.build()
    durable.store_factory(memory.session_stores).build()


def test_tools_with_one_name_are_refused() -> None:
    """The model could not say which of them it means."""

    @tool(name="look")
    async def other() -> str:
        """Look elsewhere."""
        return "there"

    builder = LashCore.standard_builder().model("m").tools(look)
    with pytest.raises(InvalidConfiguration, match="look"):
        builder.tools(other).build()
    with pytest.raises(InvalidConfiguration, match="look"):
        builder.tools(look).build()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b: b.model("m", context_window=0),
        lambda b: b.model("m", output_capacity=-1),
        lambda b: b.model("  ").build(),
        lambda b: b.model(ModelSpec()).build(),
        lambda b: b.max_turns(0),
    ],
    ids=["context_window", "output_capacity", "blank model", "empty spec", "max_turns"],
)
def test_settings_that_cannot_work_are_refused(wrong: Callable[[LashCoreBuilder], Any]) -> None:
    """At the line that has them, as one kind of error."""
    with pytest.raises(InvalidConfiguration):
        wrong(LashCore.standard_builder())


# --- entering and closing -----------------------------------------------------------------------


async def test_open_is_the_whole_program(database: Path) -> None:
    """Three lines to a turn that the next process finds."""
    for said in (2, 4):
        core = LashCore.open(str(database), provider=yes(), model="scripted-1", tools=[look])
        async with core, core.session("s") as session:
            await session.turn("hello").run()
            assert len(lines(session)) == said


async def test_a_core_that_was_not_entered_starts_at_its_first_session(place: Place) -> None:
    """Frameworks that have no place for a block call `aclose()` at their end."""
    core = place.builder(yes()).build()
    async with core.session("s") as session:
        assert (await session.turn("x").run()).is_success
    await core.aclose()


async def test_many_first_sessions_start_a_core_once(place: Place) -> None:
    """A burst of requests right after the start."""
    core = place.builder(yes()).build()

    async def visit(number: int) -> None:
        async with core.session(f"s-{number}") as session:
            await session.turn("x").run()

    async with anyio.create_task_group() as visitors:
        for number in range(20):
            visitors.start_soon(visit, number)
    await core.aclose()


async def test_closing_is_idempotent_and_final(place: Place) -> None:
    """Clean-up code may run twice; a closed core says so to everyone who comes later."""
    core = place.builder(yes()).build()
    async with core:
        session = await core.session("s").open()
        turn = session.turn("x")
    await core.aclose()
    async with anyio.create_task_group() as closers:
        closers.start_soon(core.aclose)
        closers.start_soon(core.aclose)
    assert session.closed
    for use in (core.session("s").open, core.session("s").open_fresh, core.start):
        with pytest.raises(CoreClosed) as raised:
            await use()
        assert (raised.value.code, raised.value.is_terminal) == ("core_closed", True)
    with pytest.raises(SessionClosed):
        await turn.run()
    with pytest.raises(SessionClosed):
        session.read_view()


async def test_a_core_that_was_never_entered_can_be_closed(place: Place) -> None:
    """Nothing was opened, so nothing has to be undone."""
    core = place.builder(yes()).build()
    await core.aclose()
    with pytest.raises(CoreClosed):
        await core.start()


async def test_closing_waits_until_the_core_is_closed_for_every_caller(on_disk: Place) -> None:
    """Two shutdown hooks: whichever returns, the file is free."""
    core = on_disk.builder(yes()).build()
    async with core.session("s") as session:
        await session.turn("x").run()
    closed = []

    async def close() -> None:
        await core.aclose()
        beside = [path.name for path in on_disk.database.parent.iterdir()]
        closed.append(sorted(beside))

    async with anyio.create_task_group() as closers:
        for _ in range(3):
            closers.start_soon(close)
    assert closed == [["agents.db"]] * 3


async def test_a_leaked_core_warns(place: Place) -> None:
    """Its storage was open, and nobody can close it any more."""
    storage = place.storage()
    cores = [place.builder(yes()).storage(storage).build()]
    await cores[0].start()
    with pytest.warns(ResourceWarning, match="LashCore was dropped"):
        drop(cores)
    await storage.aclose()


def drop(cores: list[LashCore]) -> None:
    cores.clear()
    gc.collect()


async def test_a_core_that_was_closed_is_dropped_in_silence(place: Place) -> None:
    """So is one that was never started."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        core = place.builder(yes()).build()
        async with core:
            pass
        del core
        place.builder(yes()).build()


# --- closing under a turn -----------------------------------------------------------------------


async def test_closing_a_core_interrupts_its_turn(unjournaled: Place) -> None:
    """Shutting down cancels nobody's question: it is closed when the session is next opened."""
    stalled = StallingProvider()
    core = unjournaled.builder(stalled).build()
    errors: list[RuntimeFailure] = []

    async def run() -> None:
        async with core.session("s") as session:
            try:
                await session.turn("Pack").turn_id("t-1").run()
            except RuntimeFailure as error:
                errors.append(error)

    async with running(core), anyio.create_task_group() as callers:
        callers.start_soon(run)
        await stalled.entered.wait()
        await core.aclose()
    assert [error.code for error in errors] == ["turn_interrupted"]
    assert stalled.cut_off == 1

    silent = ScriptedProvider()
    async with a_core(unjournaled, silent) as core, core.session("s") as session:
        assert lines(session) == ["user: Pack"]
        found = await session.turn("Pack").turn_id("t-1").run()
        assert found.stop_reason is StopReason.INTERRUPTED
        assert not found.is_success
        assert lines(session) == ["user: Pack"]
        assert silent.calls == 0
    async with a_core(unjournaled, yes()) as core, core.session("s") as session:
        await session.turn("And now?").run()
        assert lines(session) == ["user: Pack", "user: And now?", "assistant: yes"]


async def test_an_interrupted_turn_keeps_the_rounds_that_it_has_finished(
    unjournaled: Place,
) -> None:
    """Paid work is not thrown away, and what was open says that it is unknown."""
    entered = anyio.Event()

    @tool
    async def hang() -> str:
        """Never return."""
        entered.set()
        await anyio.sleep_forever()
        return "never"

    provider = ScriptedProvider([Call.tool("a", "look", {}), Call.tool("b", "hang", {})])
    core = unjournaled.builder(provider, look, hang).build()

    async def run() -> None:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure):
                await session.turn("Pack").turn_id("t-1").run()

    async with running(core), anyio.create_task_group() as callers:
        callers.start_soon(run)
        await entered.wait()
        await core.aclose()

    async with a_core(unjournaled, yes(), look, hang) as core, core.session("s") as session:
        said = lines(session)
        assert said[:3] == [
            "user: Pack",
            "assistant [tool_call]: {}",
            "user [tool_result]: nothing",
        ]
        calls = [line for line in said if "[tool_call]" in line]
        results = [line for line in said if "[tool_result]" in line]
        assert len(calls) == len(results)
        assert (await session.turn("Go on").run()).is_success


async def test_closing_a_core_tells_those_in_line(unjournaled: Place) -> None:
    """Their turns were never accepted; they get an error and leave nothing behind."""
    stalled = StallingProvider()
    core = unjournaled.builder(stalled).build()
    codes: list[str] = []

    async def run(words: str) -> None:
        try:
            await session.turn(words).run()
        except EmbedError as error:
            codes.append(error.code)

    async with running(core):
        session = await core.session("s").open()
        async with anyio.create_task_group() as callers:
            callers.start_soon(run, "one")
            await stalled.entered.wait()
            callers.start_soon(run, "two")
            callers.start_soon(run, "three")
            await anyio.wait_all_tasks_blocked()
            await core.aclose()
    assert codes == ["turn_interrupted"] * 3
    async with a_core(unjournaled, yes()) as core, core.session("s") as session:
        assert lines(session) == ["user: one"]


async def test_a_stream_of_a_closed_core_ends_with_its_error(place: Place) -> None:
    """The reader must neither hang nor take the end for an answer."""
    stalled = StallingProvider()
    core = place.builder(stalled).build()
    async with running(core):
        session = await core.session("s").open()
        stream = session.turn("Pack").stream()
        await stalled.entered.wait()
        await core.aclose()
        with pytest.raises(RuntimeFailure) as raised:
            async for _ in stream:
                pass
        assert raised.value.code == "turn_interrupted"
        with pytest.raises(RuntimeFailure):
            await stream.finish()
        await stream.aclose()


async def test_cancelling_the_close_still_closes(on_disk: Place) -> None:
    """A shutdown with a deadline: what can be closed is closed before it gives up."""
    core = on_disk.builder(yes()).build()
    async with core.session("s") as session:
        await session.turn("x").run()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await core.aclose()
    assert [path.name for path in on_disk.database.parent.iterdir()] == ["agents.db"]


# --- two cores on one file ----------------------------------------------------------------------


async def test_a_session_that_another_core_runs_is_refused_at_once(on_disk: Place) -> None:
    """Before any work: no model is called, no row is left, and trying again may succeed."""
    stalled, idle = StallingProvider("Coat."), yes()
    outputs: list[TurnOutput] = []
    async with a_core(on_disk, stalled) as first, a_core(on_disk, idle) as second:
        async with first.session("s") as a, second.session("s") as b:

            async def run() -> None:
                outputs.append(await a.turn("one").run())

            async with anyio.create_task_group() as callers:
                callers.start_soon(run)
                await stalled.entered.wait()
                for _ in range(2):
                    with pytest.raises(RuntimeFailure) as raised:
                        await b.turn("two").turn_id("t-2").run()
                    assert raised.value.code == "session_execution_busy"
                    assert (raised.value.is_retryable, raised.value.is_terminal) == (True, False)
                    assert "'s'" in str(raised.value)
                assert idle.calls == 0
                assert lines(b) == []
                stalled.release.set()
            output = await b.turn("two").turn_id("t-2").run()
            assert output.is_success
            assert lines(b) == ["user: one", "assistant: Coat.", "user: two", "assistant: yes"]
    assert outputs[0].is_success


async def test_a_session_opened_under_one_name_is_re_entered(on_disk: Place) -> None:
    """A host that lets one process at a session may say so; what the old one still runs is run
    again, and is lost to the old one."""
    stalled = StallingProvider("Coat.")
    name = LeaseOwnerIdentity(owner_id="worker-1", incarnation_id="1")
    async with a_core(on_disk, stalled) as first, a_core(on_disk, yes()) as second:
        a = await first.session("s").session_execution_owner(name).open()
        b = await second.session("s").session_execution_owner(name).open()
        async with a, b:
            old = a.turn("one").stream()
            await stalled.entered.wait()
            assert (await b.turn("two").run()).assistant_message == "yes"
            stalled.release.set()
            with pytest.raises(RuntimeFailure) as raised:
                await old.finish()
            assert raised.value.code == "session_execution_lease_lost"
            assert lines(b) == ["user: one", "assistant: yes", "user: two", "assistant: yes"]


async def test_a_busy_session_can_be_opened_and_read_by_another_core(on_disk: Place) -> None:
    """A dashboard in another process sees what is committed, whoever runs a turn."""
    stalled = StallingProvider()
    async with a_core(on_disk, yes()) as first, a_core(on_disk, yes()) as second:
        async with first.session("s") as a:
            await a.turn("one").run()
            async with anyio.create_task_group() as callers:
                callers.start_soon(a.turn("two").provider(stalled).run)
                await stalled.entered.wait()
                async with second.session("s") as b:
                    assert lines(b) == ["user: one", "assistant: yes"]
                stalled.release.set()


async def test_two_cores_take_turns_on_one_session(on_disk: Place) -> None:
    """Whoever comes next builds on what the other has committed."""
    async with a_core(on_disk, yes()) as first, a_core(on_disk, yes()) as second:
        async with first.session("s") as a, second.session("s") as b:
            for number in range(3):
                await a.turn(f"a{number}").run()
                await b.turn(f"b{number}").run()
            said = [line for line in lines(b) if line.startswith("user")]
    assert said == [f"user: {who}{number}" for number in range(3) for who in "ab"]


async def test_many_cores_asking_at_once_lose_no_turn(on_disk: Place) -> None:
    """Each caller is served or refused; what was served is there, once and in one piece."""
    served: list[str] = []
    refused: list[RuntimeFailure] = []

    async def ask(core: LashCore, who: str) -> None:
        async with core.session("s") as session:
            for number in range(5):
                try:
                    await session.turn(f"{who}{number}").run()
                except RuntimeFailure as error:
                    refused.append(error)
                    continue
                served.append(f"{who}{number}")

    async with (
        a_core(on_disk, yes()) as first,
        a_core(on_disk, yes()) as second,
        a_core(on_disk, yes()) as third,
        anyio.create_task_group() as callers,
    ):
        for core, who in ((first, "a"), (second, "b"), (third, "c")):
            callers.start_soon(ask, core, who)
    async with a_core(on_disk, yes()) as core, core.session("s") as session:
        said = lines(session)
    assert sorted(said[::2]) == sorted(f"user: {words}" for words in served)
    assert set(said[1::2]) == {"assistant: yes"}
    assert served
    assert {error.code for error in refused} <= {"session_execution_busy"}
    assert len(served) + len(refused) == 15


async def test_a_turn_can_be_attached_to_from_another_core(on_disk: Place) -> None:
    """The answer of a settled turn belongs to its id, whoever ran it."""
    async with a_core(on_disk, yes()) as first, a_core(on_disk, ScriptedProvider()) as second:
        async with first.session("s") as a, second.session("s") as b:
            await a.turn("one").turn_id("t-1").run()
            assert (await b.turn("one").turn_id("t-1").run()).assistant_message == "yes"
            assert lines(b) == ["user: one", "assistant: yes"]


# --- wiring -------------------------------------------------------------------------------------


async def test_a_facet_wins_over_the_storage(place: Place) -> None:
    """The bundle is a default for what was not given."""
    calls = Calls()
    elsewhere = MemoryStorage()
    await elsewhere.open()
    core = (
        LashCore.standard_builder()
        .provider(yes())
        .model("scripted-1")
        .store_factory(WatchedStores(elsewhere, calls))
        .storage(MemoryStorage())
        .build()
    )
    async with running(core), core.session("s") as session:
        await session.turn("x").run()
    assert "accept_turn" in calls
    assert place.stores


async def test_clock_and_ids_make_a_run_repeatable(place: Place) -> None:
    """The same script twice gives the same transcript, ids and times included."""

    async def run(clock: Clock) -> tuple[list[Any], list[str]]:
        fresh = Place("memory", place.database)
        core = (
            fresh.builder(ScriptedProvider([Call.tool("c", "look", {}), Call.text("yes")]), look)
            .clock(clock)
            .ids(FixedIdSource(7))
            .build()
        )
        async with running(core), core.session("s") as session:
            output = await session.turn("x").run()
            dumped = [to_jsonable_python(m) for m in session.read_view().messages]
        return dumped, [activity.id for activity in output.activities] + [output.turn_id]

    assert await run(RecordingClock()) == await run(RecordingClock())


async def test_the_clock_and_the_ids_of_a_core_reach_its_provider_and_its_live_log() -> None:
    """A retry waits by the core's clock, and a cursor repeats as everything else does."""

    async def run() -> tuple[list[float], str]:
        clock = RecordingClock()
        unavailable = ProviderFailure(
            "busy", kind=ProviderFailureKind.HTTP, status=503, retryable=True
        )
        provider = ScriptedProvider([Call(result=unavailable), Call.text("yes")])
        builder = Place("nothing", Path()).builder(provider)
        async with running(builder.clock(clock).ids(FixedIdSource(7)).build()) as core:
            async with core.session("s") as session:
                output = await session.turn("x").run()
                cursor = str(session.observe().current_observation().cursor)
        assert output.assistant_message == "yes"
        assert provider.closed
        return clock.sleeps, cursor

    waited, cursor = await run()
    assert len(waited) == 1
    assert (waited, cursor) == await run()


# --- errors -------------------------------------------------------------------------------------

NEITHER, RETRYABLE, TERMINAL = (False, False), (True, False), (False, True)


@pytest.mark.parametrize(
    ("error", "code", "verdict"),
    [
        (MissingProtocolPlugin(), "missing_protocol_plugin", TERMINAL),
        (MissingModelSpec(), "missing_model_spec", TERMINAL),
        (MissingEffectHost(), "missing_effect_host", TERMINAL),
        (MissingAttachmentStore(), "missing_attachment_store", TERMINAL),
        (MissingSessionStoreFactory(), "missing_session_store_factory", TERMINAL),
        (DurableStorePeerRequired(facet="x"), "durable_store_peer_required", TERMINAL),
        (InvalidSessionId(reason="x"), "invalid_session_id", TERMINAL),
        (InvalidConfiguration("x"), "invalid_configuration", TERMINAL),
        (StoreSessionMismatch(loaded="a", requested="b"), "store_session_mismatch", TERMINAL),
        (SessionClosed(session_id="s"), "session_closed", TERMINAL),
        (SessionNotDurable(session_id="s", operation="x"), "session_not_durable", TERMINAL),
        (SessionStillInUse(session_id="s", clones=0, turns=1), "session_still_in_use", NEITHER),
        (CoreClosed(), "core_closed", TERMINAL),
        (StoreFailure("backend", "x"), "backend", NEITHER),
        (StoreFailure("contended", "x"), "contended", RETRYABLE),
        (StoreFailure("store_schema_unsupported", "x"), "store_schema_unsupported", TERMINAL),
        (StoreFailure("storage_wrong_loop", "x"), "storage_wrong_loop", TERMINAL),
        (StoreFailure("storage_forked", "x"), "storage_forked", TERMINAL),
        (RuntimeFailure("session_execution_busy", "x"), "session_execution_busy", RETRYABLE),
        (
            RuntimeFailure("session_execution_lease_lost", "x"),
            "session_execution_lease_lost",
            RETRYABLE,
        ),
        (RuntimeFailure("invalid_turn_id", "x"), "invalid_turn_id", TERMINAL),
        (RuntimeFailure("turn_content_conflict", "x"), "turn_content_conflict", TERMINAL),
        (
            RuntimeFailure("missing_execution_scope_id", "x"),
            "missing_execution_scope_id",
            TERMINAL,
        ),
        (RuntimeFailure("store_commit_failed", "x"), "store_commit_failed", NEITHER),
        (RuntimeFailure("llm_provider", "x"), "llm_provider", TERMINAL),
        (
            RuntimeFailure("durable_effect_host_requires_handler_context", "x"),
            "durable_effect_host_requires_handler_context",
            TERMINAL,
        ),
        (
            RuntimeFailure("execution_scope_turn_id_mismatch", "x"),
            "execution_scope_turn_id_mismatch",
            TERMINAL,
        ),
        (RuntimeFailure("turn_not_available", "x"), "turn_not_available", TERMINAL),
        (RuntimeFailure("turn_of_replaced_history", "x"), "turn_of_replaced_history", TERMINAL),
        (RuntimeFailure("session_head_refresh", "x"), "session_head_refresh", NEITHER),
        (RuntimeFailure("turn_failed", "x"), "turn_failed", NEITHER),
        (RuntimeFailure("turn_interrupted", "x"), "turn_interrupted", NEITHER),
        (RuntimeFailure("of_the_future", "x"), "of_the_future", NEITHER),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_error_says_whether_to_try_again(
    error: EmbedError, code: str, verdict: tuple[bool, bool]
) -> None:
    """A host writes one handler: retry, give up, or look at it."""
    assert isinstance(error, EmbedError)
    assert error.code == code
    assert (error.is_retryable, error.is_terminal) == verdict
    assert str(error)


def test_wiring_errors_are_one_family() -> None:
    """A program that is put together wrongly can be told from one that met bad luck."""
    assert issubclass(MissingModelSpec, WiringError)
    assert not issubclass(RuntimeFailure, WiringError)


async def test_a_tool_that_closes_its_own_core_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for the core, which waits for its turn: somebody has to give up first."""
    monkeypatch.setattr("lash_runtime.runtime.tasks.CLOSE_DEADLINE_S", 0.05)
    monkeypatch.setattr("lash_runtime.runtime.tasks.CUT_OFF_DEADLINE_S", 0.05)

    @tool
    async def close_everything() -> str:
        """Close the core that this runs in."""
        await core.aclose()
        return "closed"

    provider = ScriptedProvider([Call.tool("c1", "close_everything")])
    core = LashCore.standard_builder().provider(provider).model("m").tools(close_everything).build()
    session = await core.session("s").open()
    with anyio.fail_after(10), pytest.raises(EmbedError):
        await session.turn("close").run()
    assert session.closed
