"""What a host can tell from an error: its class, and whether the same call may be made again."""

from typing import Any

import pytest

from facade.places import Place, a_core, running
from facade.transcripts import lines
from lash_runtime import (
    LashCore,
    RuntimeFailure,
    SessionBuilder,
    SessionReadView,
    StoreSessionMismatch,
)
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.ports.effects import ExecutionScope, ScopedEffectController
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio


def yes(kind: str = "scripted") -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"), kind=kind)


# --- what no retry can mend ---------------------------------------------------------------------


async def test_a_session_of_another_provider_is_refused_for_good(place: Place) -> None:
    """No retry brings the provider back; a loop around the turn has to end."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("x").run()
    async with a_core(place, yes("other")) as core, core.session("s") as session:
        with pytest.raises(RuntimeFailure, match="scripted") as raised:
            await session.turn("y").run()
    assert (raised.value.code, raised.value.is_terminal) == ("llm_provider", True)


class EngineHost(InlineEffectHost):
    """A host whose engine runs turns inside its own handlers alone."""

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController | None:
        return None


async def test_a_turn_outside_the_handler_of_its_engine_is_refused_for_good(place: Place) -> None:
    """The program has to be changed, not the call repeated."""
    core = place.builder(yes()).effect_host(EngineHost()).build()
    async with running(core), core.session("s") as session:
        with pytest.raises(RuntimeFailure) as raised:
            await session.turn("x").run()
    assert raised.value.code == "durable_effect_host_requires_handler_context"
    assert (raised.value.is_terminal, raised.value.is_retryable) == (True, False)


# --- the store of another session ---------------------------------------------------------------


async def _store_of(core: LashCore, storage: Any, session_id: str, *, used: bool) -> Any:
    async with core.session(session_id) as session:
        if used:
            await session.turn("secret").run()
    return await storage.session_stores.create_store(
        SessionStoreCreateRequest(session_id=session_id)
    )


async def _fresh(builder: SessionBuilder) -> None:
    await builder.open_fresh()


async def _with_state(builder: SessionBuilder) -> None:
    await builder.open_with_state(SessionReadView(session_id="y", graph=SessionGraph()))


async def _as_stored(builder: SessionBuilder) -> None:
    await builder.open()


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
@pytest.mark.parametrize("way", [_as_stored, _fresh, _with_state])
async def test_the_store_of_another_session_is_refused_by_class(
    place: Place, way: Any, used: bool
) -> None:
    """A wrong key in a host's table of stores: said when the session is opened, by any open, and
    before one conversation can end up in another."""
    storage = place.storage()
    core = place.builder(yes()).storage(storage).build()
    async with running(core):
        store = await _store_of(core, storage, "x", used=used)
        with pytest.raises(StoreSessionMismatch, match="'x'") as raised:
            await way(core.session("y").store(store))
        assert (raised.value.loaded, raised.value.requested) == ("x", "y")
        assert (raised.value.code, raised.value.is_terminal) == ("store_session_mismatch", True)
        async with core.session("x").store(store) as session:
            assert lines(session) == (["user: secret", "assistant: yes"] if used else [])
            await session.turn("go on").run()


class OneStoreForAll:
    """The factory that the docs warn of: one store, opened beforehand, whatever is asked for."""

    def __init__(self, storage: MemoryStorage, session_id: str) -> None:
        self._stores = storage.session_stores
        self._session_id = session_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores, name)

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return await self._stores.create_store(
            SessionStoreCreateRequest(session_id=self._session_id)
        )


async def test_a_factory_that_gives_the_store_of_another_session_is_found_out() -> None:
    """The session that was stored there names itself, and so does its store at the commit."""
    storage = MemoryStorage()
    core = (
        LashCore.standard_builder()
        .provider(yes())
        .model("scripted-1")
        .storage(storage)
        .store_factory(OneStoreForAll(storage, "x"))
        .build()
    )
    async with running(core):
        async with core.session("y") as session:
            with pytest.raises(StoreSessionMismatch) as raised:
                await session.turn("unstored").run()
            assert (raised.value.loaded, raised.value.requested) == ("x", "y")
        async with core.session("x") as session:
            await session.turn("stored").run()
        with pytest.raises(StoreSessionMismatch):
            await core.session("y").open()
