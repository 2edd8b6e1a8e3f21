"""The test kit's recording doubles, and tools run outside of any turn."""

import json
from pathlib import Path
from typing import Any

import pytest

from facade.places import running
from lash_runtime import LashCore, RuntimeFailure, ToolContext, ToolError, tool
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.model.tool_results import ToolCallOutput, ToolFailed
from lash_runtime.model.tools import SafeRetry
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    EffectControllerError,
    EffectHost,
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ScopedEffectController,
    TurnScope,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreError
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import (
    Call,
    RecordingClock,
    RecordingEffectHost,
    RecordingStores,
    ScriptedProvider,
    mock_tool_context,
    run_tool,
)
from lash_runtime.tools import FunctionToolProvider, StaticToolProvider

pytestmark = pytest.mark.anyio


@tool
async def weather(city: str) -> str:
    """Look up the weather.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


def script() -> ScriptedProvider:
    return ScriptedProvider([Call.tool("c0", "weather", {"city": "Oslo"}), Call.text("Coat.")])


def a_core(host: EffectHost) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(script())
        .model("m")
        .tools(weather)
        .storage(MemoryStorage())
        .effect_host(host)
        .build()
    )


# --- effects --------------------------------------------------------------------------------------


async def test_a_recording_host_keeps_every_step_of_a_turn() -> None:
    """In the order in which they were asked for, with where they belong and under which key."""
    host = RecordingEffectHost()
    async with running(a_core(host)) as core, core.session("s") as session:
        assert (await session.turn("Pack").turn_id("t").run()).is_success

    assert [kind.value for kind in host.kinds] == [
        "sync_execution_environment",
        "llm_call",
        "tool_batch",
        "tool_attempt",
        "checkpoint",
        "sync_execution_environment",
        "llm_call",
        "checkpoint",
    ]
    assert host.scopes == [TurnScope(session_id="s", turn_id="t")]
    assert set(host.turn_ids) == {"t"}
    assert len(set(host.replay_keys)) == len(host.envelopes) == len(host.kinds)
    assert all(key.startswith("s:t:1:") for key in host.replay_keys)


async def test_the_same_turn_asks_the_same_under_the_same_keys() -> None:
    """What lets a record of the first run answer the second."""
    asked = []
    for _ in range(2):
        host = RecordingEffectHost()
        async with running(a_core(host)) as core, core.session("s") as session:
            await session.turn("Pack").turn_id("t").run()
        asked.append([(envelope.replay_key, envelope.stable_hash()) for envelope in host.envelopes])
        for envelope in host.envelopes:
            json.dumps(envelope.document())
    assert asked[0] == asked[1]


class _Counting:
    """A host that has nothing in common with the one that ships."""

    durability_tier = DurabilityTier.DURABLE

    def __init__(self) -> None:
        self.executed = 0

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(_CountingController(self), scope)

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController | None:
        return self.scoped(scope)


class _CountingController:
    durability_tier = DurabilityTier.DURABLE
    supports_concurrent_effects = False

    def __init__(self, host: _Counting) -> None:
        self._host = host

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        self._host.executed += 1
        return await executor.execute(envelope)


async def test_a_host_of_ones_own_is_recorded_as_it_is(tmp_path: Path) -> None:
    """Its tier, its abilities and its refusals are passed on."""
    inner = _Counting()
    host = RecordingEffectHost(inner)
    assert host.durability_tier is DurabilityTier.DURABLE
    scoped = host.scoped(TurnScope(session_id="s", turn_id="t"))
    assert scoped.controller.supports_concurrent_effects is False
    assert scoped.controller.durability_tier is DurabilityTier.DURABLE
    core = (
        LashCore.standard_builder()
        .provider(script())
        .model("m")
        .tools(weather)
        .storage(SqliteStorage(tmp_path / "agents.db"))
        .effect_host(host)
        .build()
    )
    async with running(core), core.session("s") as session:
        assert (await session.turn("Pack").run()).is_success
    assert inner.executed == len(host.envelopes) > 4


async def test_what_a_host_cannot_do_is_not_made_up_by_its_recorder() -> None:
    """A host that needs its handler still refuses."""

    class Handlers(InlineEffectHost):
        def scoped_static(self, scope: ExecutionScope) -> None:  # type: ignore[override]
            return None

    async with running(a_core(RecordingEffectHost(Handlers()))) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure):
                await session.turn("Pack").run()


async def test_a_step_that_fails_is_on_record_too() -> None:
    """It was asked for."""

    class Failing(InlineRuntimeEffectController):
        async def execute_effect(
            self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
        ) -> RuntimeEffectOutcome:
            raise EffectControllerError("full", "no room")

    host = RecordingEffectHost(InlineEffectHost(Failing()))
    async with running(a_core(host)) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
    assert not output.is_success
    assert len(host.envelopes) == 1


# --- stores ---------------------------------------------------------------------------------------


async def test_recording_stores_keep_the_name_of_every_call(tmp_path: Path) -> None:
    """Of each session's store and of the factory, over a storage that really stores."""
    storage = SqliteStorage(tmp_path / "agents.db")
    stores = RecordingStores(storage.session_stores)
    core = (
        LashCore.standard_builder()
        .provider(ScriptedProvider([Call.text("Coat.")]))
        .model("m")
        .storage(storage)
        .store_factory(stores)
        .build()
    )
    async with running(core):
        async with core.session("s") as session:
            stores.calls.clear()
            assert (await session.turn("Pack").run()).is_success
        writes = [call for call in stores.calls if call.method != "load_head_stamp"]
        assert [(call.session_id, call.method) for call in writes] == [
            ("s", "accept_turn"),
            ("s", "commit_runtime_state"),
        ]
        page = await core.list_sessions()
        await core.delete_session("s")
    assert [found.session_id for found in page.sessions] == ["s"]
    assert stores.methods[-2:] == ["list_sessions", "delete_session"]


async def test_a_recorded_store_is_the_store() -> None:
    """Same answers, same errors, same tier."""
    storage = MemoryStorage()
    await storage.open()
    inner = storage.session_stores
    stores = RecordingStores(inner)
    assert stores.durability_tier is inner.durability_tier
    request = SessionStoreCreateRequest(session_id="s")
    assert await stores.open_existing_store(request) is None
    store = await stores.create_store(request)
    assert store.durability_tier is inner.durability_tier
    assert await store.load_session_meta() is not None
    assert await stores.open_existing_store(request) is not None
    await stores.delete_session("s")
    with pytest.raises(StoreError):
        await store.load_head_stamp()
    assert stores.methods[-1] == "load_head_stamp"
    await storage.aclose()


# --- tools ----------------------------------------------------------------------------------------


async def test_a_tool_is_run_as_a_turn_would_run_it() -> None:
    """Validation, adaptation of the result and failures included."""
    assert await run_tool(weather, {"city": "Oslo"}) == ToolCallOutput.success("sunny in Oslo")
    wrong = await run_tool(weather, {"town": "Oslo"})
    assert isinstance(wrong.outcome, ToolFailed)
    assert "city" in wrong.outcome.payload.message


async def test_a_tool_that_may_be_repeated_is_repeated() -> None:
    """On a clock of the test's, so that nobody waits."""
    tries: list[int] = []

    @tool(retry=SafeRetry(max_attempts=3, base_delay_ms=500))
    async def flaky(context: ToolContext) -> str:
        """Fail twice."""
        tries.append(context.attempt_number)
        if len(tries) < 3:
            raise ToolError("not yet", retryable=True)
        return "done"

    clock = RecordingClock()
    output = await run_tool(flaky, clock=clock)
    assert output == ToolCallOutput.success("done")
    assert tries == [1, 2, 3]
    assert clock.slept > 0


async def test_one_tool_of_a_provider_is_run_by_its_name() -> None:
    """A provider may bring many."""

    @tool
    async def other() -> str:
        """Another."""
        return "other"

    provider = FunctionToolProvider(weather, other)
    assert await run_tool(provider, {"city": "Oslo"}, name="weather") == ToolCallOutput.success(
        "sunny in Oslo"
    )
    with pytest.raises(ValueError, match="'other', 'weather'"):
        await run_tool(provider)
    with pytest.raises(ValueError, match="offers no tool"):
        await run_tool(StaticToolProvider([], executor=None))  # type: ignore[arg-type]


def test_a_context_for_a_tool_has_what_a_tool_may_ask_for() -> None:
    """And takes whatever a test cares about."""
    context = mock_tool_context()
    assert context.session_id == "test-session"
    assert context.idempotency_key == mock_tool_context().idempotency_key
    changed: Any = mock_tool_context(attempt_number=2, tool_call_id="other")
    assert (changed.attempt_number, changed.tool_call_id) == (2, "other")
    assert changed.idempotency_key != context.idempotency_key
    assert not context.cancellation_token.is_cancelled
    assert context.cancellation_token is not changed.cancellation_token
