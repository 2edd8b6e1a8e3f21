"""Turns whose effects an engine records: what leaves them when it fails, and what is left."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from facade.places import running
from facade.transcripts import lines
from lash_runtime import LashCore, RuntimeFailure, StopReason, tool
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.model.llm import LlmRequest
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    EffectControllerError,
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    ScopedEffectController,
    SleepOutcome,
)
from lash_runtime.ports.provider import Provider
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio

LOST = EffectControllerError("engine_gone", "the engine could not be reached")
KINDS = [
    RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT,
    RuntimeEffectKind.LLM_CALL,
    RuntimeEffectKind.TOOL_BATCH,
    RuntimeEffectKind.CHECKPOINT,
]


class Engine(InlineRuntimeEffectController):
    """Records outcomes by key, and loses touch at the effects that `fails` picks."""

    def __init__(
        self,
        fails: Callable[[RuntimeEffectEnvelope], bool] = lambda envelope: False,
        *,
        records: Mapping[str, RuntimeEffectOutcome] | None = None,
        tier: DurabilityTier = DurabilityTier.DURABLE,
    ) -> None:
        self.durability_tier = tier
        self.records = dict(records or {})
        self.fails = fails

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        key = envelope.invocation.replay_key
        if (recorded := self.records.get(key)) is not None:
            return recorded
        if self.fails(envelope):
            raise LOST
        return self.records.setdefault(key, await executor.execute(envelope))


def at(kind: RuntimeEffectKind) -> Callable[[RuntimeEffectEnvelope], bool]:
    return lambda envelope: envelope.command.type is kind


class Shop:
    def __init__(self) -> None:
        self.sold: list[str] = []

    @tool
    async def buy(self, what: str) -> str:
        """Buy."""
        self.sold.append(what)
        return f"{what} bought"


def shopper() -> ScriptedProvider:
    return ScriptedProvider([Call.tool("c0", "buy", {"what": "coat"}), Call.text("Done.")])


def a_core(
    database: Path, provider: Provider, engine: InlineRuntimeEffectController, shop: Shop
) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(provider)
        .model("m")
        .tools(shop.buy)
        .storage(SqliteStorage(database))
        .effect_host(InlineEffectHost(engine))
        .build()
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engines_error_leaves_the_turn_and_stores_nothing(
    database: Path, kind: RuntimeEffectKind
) -> None:
    """Its engine has a record to go on from; a stored end would be the end for the engine, too."""
    engine = Engine(at(kind))
    async with running(a_core(database, shopper(), engine, Shop())) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Shop.").turn_id("t").run()
            assert raised.value.code == LOST.code
            assert isinstance(raised.value.__cause__, Exception)
            assert lines(session) == []


async def test_an_answer_of_the_wrong_kind_is_an_engines_error_too(database: Path) -> None:
    """A record that belongs to something else is nothing a turn can end on."""

    class Confused(Engine):
        async def execute_effect(
            self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
        ) -> RuntimeEffectOutcome:
            if envelope.command.type is RuntimeEffectKind.LLM_CALL:
                return SleepOutcome()
            return await super().execute_effect(envelope, executor)

    async with running(a_core(database, shopper(), Confused(), Shop())) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure) as raised:
                await session.turn("Shop.").run()
    assert raised.value.code == "runtime_effect_wrong_outcome"


async def test_the_lane_is_free_when_the_turn_was_left(database: Path) -> None:
    """For whoever comes next, on another machine too: a lease takes half a minute to lapse."""
    engine = Engine(at(RuntimeEffectKind.LLM_CALL))
    provider = ScriptedProvider(otherwise=lambda request: Call.text("Hm."))
    async with running(a_core(database, provider, engine, Shop())) as core:
        async with core.session("s") as session, core.session("s") as other:
            with pytest.raises(RuntimeFailure):
                await session.turn("Shop.").turn_id("t").run()
            engine.fails = lambda envelope: False
            assert (await other.turn("Anything else?").run()).is_success
            assert lines(other) == ["user: Shop.", "user: Anything else?", "assistant: Hm."]


async def test_a_round_of_tools_is_the_records_alone_to_keep(database: Path) -> None:
    """Half a turn in the session would be there twice when the turn goes on from the record."""
    shop = Shop()
    engine = Engine(
        lambda envelope: envelope.command.type is RuntimeEffectKind.LLM_CALL and bool(shop.sold)
    )
    async with running(a_core(database, shopper(), engine, shop)) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure):
                await session.turn("Shop.").turn_id("t").run()
            assert shop.sold == ["coat"]
            assert lines(session) == []
        async with core.session("s") as session:
            assert lines(session) == ["user: Shop."]


async def test_a_turn_that_was_left_is_closed_at_the_next_open(database: Path) -> None:
    """As one whose process has died: the user's words stay, and the session can be used."""
    engine = Engine(at(RuntimeEffectKind.LLM_CALL))
    async with running(a_core(database, shopper(), engine, Shop())) as core:
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure):
                await session.turn("Shop.").turn_id("t").run()
    inline = a_core(database, shopper(), InlineRuntimeEffectController(), Shop())
    async with running(inline) as core, core.session("s") as session:
        assert lines(session) == ["user: Shop."]
        output = await session.turn("Shop.").turn_id("t").run()
    assert output.stop_reason is StopReason.INTERRUPTED


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[3]])
async def test_an_inline_controllers_error_ends_the_turn_with_a_reason(
    database: Path, kind: RuntimeEffectKind
) -> None:
    """Nobody would run it again, so the session gets a closed history."""
    engine = Engine(at(kind), tier=DurabilityTier.INLINE)
    async with running(a_core(database, shopper(), engine, Shop())) as core:
        async with core.session("s") as session:
            output = await session.turn("Shop.").run()
            assert lines(session)[0] == "user: Shop."
    assert output.stop_reason is StopReason.RUNTIME_ERROR
    assert [(issue.kind, issue.code) for issue in output.errors] == [
        ("runtime_effect_controller", LOST.code)
    ]


async def test_a_session_without_a_store_is_left_as_it_was() -> None:
    """Its turn raises, too, and its memory shows nothing of it."""
    engine = Engine(at(RuntimeEffectKind.LLM_CALL))
    shelf = _DurableShelf(MemoryStorage().attachments)
    core = (
        LashCore.standard_builder()
        .provider(shopper())
        .model("m")
        .effect_host(InlineEffectHost(engine))
        .attachment_store(shelf)
        .build()
    )
    async with running(core), core.session("s") as session:
        with pytest.raises(RuntimeFailure):
            await session.turn("Shop.").run()
        assert lines(session) == []


class _DurableShelf:
    """A store of attachments that says it is durable."""

    durability_tier = DurabilityTier.DURABLE

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class _LateEngine(InlineEffectHost):
    """Says only with the controller of a turn that it is durable: its tier is not known before."""

    @property
    def durability_tier(self) -> DurabilityTier:
        return DurabilityTier.INLINE

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(Engine(), scope)


@pytest.mark.parametrize(
    ("attachments_durable", "facet"), [(False, "attachment_store"), (True, "session_store")]
)
async def test_a_recorded_turn_needs_stores_that_outlive_it(
    attachments_durable: bool, facet: str
) -> None:
    """An engine that remembers a turn over a store that forgets it would tell two stories."""
    asked: list[LlmRequest] = []

    def answer(request: LlmRequest) -> Call:
        asked.append(request)
        return Call.text("Hm.")

    storage = MemoryStorage()
    builder = LashCore.standard_builder().provider(ScriptedProvider(otherwise=answer)).model("m")
    builder = builder.storage(storage).effect_host(_LateEngine())
    if attachments_durable:
        builder = builder.attachment_store(_DurableShelf(storage.attachments))
    async with running(builder.build()) as core, core.session("s") as session:
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("Shop.").run()
        assert lines(session) == []
    assert raised.value.code == f"durable_store_required:{facet}"
    assert raised.value.is_terminal
    assert asked == []


async def test_an_engine_that_needs_its_handler_refuses_a_plain_turn(database: Path) -> None:
    """For ever, so a host must not retry."""

    class Handlers(InlineEffectHost):
        def scoped_static(self, scope: ExecutionScope) -> None:  # type: ignore[override]
            return None

    core = (
        LashCore.standard_builder()
        .provider(shopper())
        .model("m")
        .storage(SqliteStorage(database))
        .effect_host(Handlers(Engine()))
        .build()
    )
    async with running(core), core.session("s") as session:
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("Shop.").run()
    assert raised.value.code == "durable_effect_host_requires_handler_context"
    assert raised.value.is_terminal
