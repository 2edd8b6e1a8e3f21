"""A turn keeps its session's lease alive while it runs, and stores nothing once it has lost it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime import FunctionTool, LashCore, LeaseTimings, RuntimeFailure, tool
from lash_runtime.ports.leases import LeaseRenewed, SessionExecutionLeaseFence
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._store import SqliteSessionStore
from lash_runtime.testing import (
    Call,
    GatedProvider,
    ManualClock,
    ScriptedProvider,
    text_response,
    tool_calls_response,
)

pytestmark = pytest.mark.anyio

TIMINGS = LeaseTimings(ttl_ms=30_000, renew_interval_ms=10_000)


class Unreachable:
    """A session store that can no longer be reached for renewals, and works otherwise."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        self.refused += 1
        raise StoreBackendError("the database is out of reach")


@asynccontextmanager
async def a_core(
    database: Path, provider: Any, clock: ManualClock, *tools: FunctionTool
) -> AsyncIterator[LashCore]:
    core = (
        LashCore.standard_builder()
        .provider(provider)
        .model("m")
        .tools(*tools)
        .storage(SqliteStorage(database))
        .lease_timings(TIMINGS)
        .clock(clock)
        .build()
    )
    async with core:
        yield core


def answering() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: text_response("here"), record=False)


async def test_a_long_turn_keeps_its_lease_by_renewing_it(tmp_path: Path) -> None:
    """Nobody takes a session from a turn that is merely slow."""
    clock, provider = ManualClock(), GatedProvider()
    async with a_core(tmp_path / "a.db", provider, clock) as core, core.session("s") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.turn("slow").run)
            await provider.entered.wait()
            async with a_core(tmp_path / "a.db", answering(), clock) as other:
                for _ in range(6):
                    await clock.wait_for_sleepers(1)
                    clock.advance(10.0)
                    await clock.wait_for_sleepers(1)
                async with other.session("s") as rival:
                    with pytest.raises(RuntimeFailure) as refused:
                        await rival.turn("mine").run()
            assert refused.value.code == "session_execution_busy"
            provider.release.set()
        assert len(session.read_view().messages) == 2


async def test_a_turn_that_could_not_renew_loses_to_whoever_came_after_it(tmp_path: Path) -> None:
    """Its commit is refused whole, and the caller is told that the session went elsewhere."""
    clock, provider = ManualClock(), GatedProvider(kind="scripted")
    storage = SqliteStorage(tmp_path / "a.db")
    async with a_core(tmp_path / "a.db", provider, clock) as core:
        storage.bind(clock=clock, ids=core._wiring.ids)
        await storage.open()
        try:
            store = Unreachable(
                await storage.session_stores.create_store(SessionStoreCreateRequest(session_id="s"))
            )
            async with core.session("s").store(store) as session:
                stream = session.turn("slow").turn_id("lost").stream()
                await provider.entered.wait()
                while store.refused < 3:
                    await clock.wait_for_sleepers(1)
                    clock.advance(10.0)
                    await anyio.sleep(0)
                with pytest.raises(RuntimeFailure) as lost:
                    await stream.finish()
                assert lost.value.code == "session_execution_lease_lost"
                assert lost.value.is_retryable
                assert list(session.read_view().messages) == []
        finally:
            await storage.aclose()
        async with a_core(tmp_path / "a.db", answering(), clock) as other, other.session("s") as s:
            assert (await s.turn("after").run()).assistant_message == "here"
            again = await s.turn("slow").turn_id("lost").run()
            assert again.assistant_message == "here"


@pytest.mark.parametrize(
    ("method", "times", "calls", "acts"),
    [("accept_turn", 1, 0, 0), ("write_journal", 1, 1, 0), ("write_journal", 2, 1, 2)],
    ids=["before its model", "before its tools", "before its model again"],
)
async def test_a_turn_that_slept_past_its_lease_begins_nothing_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    times: int,
    calls: int,
    acts: int,
) -> None:
    """Whoever has taken over meanwhile does all that is left, and should be the only one."""
    clock, acted, left = ManualClock(), [], [times]
    two = tool_calls_response(("a", "act", {}), ("b", "act", {}))
    provider = ScriptedProvider([two, Call.text("done")])
    write = getattr(SqliteSessionStore, method)

    @tool
    async def act() -> None:
        """Act on the world."""
        acted.append("once")

    async def write_and_sleep(*args: Any) -> Any:
        answer = await write(*args)
        left[0] -= 1
        if left[0] == 0:
            clock.advance(TIMINGS.ttl_ms / 1000)
        return answer

    monkeypatch.setattr(SqliteSessionStore, method, write_and_sleep)
    async with (
        a_core(tmp_path / "a.db", provider, clock, act) as core,
        core.session("s") as session,
    ):
        with pytest.raises(RuntimeFailure) as lost:
            await session.turn("act").run()
    assert lost.value.code == "session_execution_lease_lost"
    assert (provider.calls, len(acted)) == (calls, acts)
