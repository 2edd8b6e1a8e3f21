"""What becomes of leases, as whoever looks into the log of a busy session finds it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_runtime import LashSession, RuntimeFailure
from lash_runtime.ports.commit import RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import HeadRevisionConflict, StoreBackendError
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import GatedProvider, ManualClock
from runtime.test_leases_of_turns import Unreachable, a_core, answering

pytestmark = pytest.mark.anyio

Told = Callable[[], list[str]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """The events since the last time of asking, without what they have in common."""
    caplog.set_level(logging.DEBUG, logger="lash_runtime.leases")

    def since() -> list[str]:
        records = [r for r in caplog.records if r.name == "lash_runtime.leases"]
        caplog.clear()
        for record in records:
            facts = vars(record)
            assert facts["session_id"] == "s"
            assert facts["fencing_token"] > 0
            assert record.getMessage().startswith(facts["lease_event"])
            for name in ("session_id", "owner_id", "incarnation_id"):
                assert repr(facts[name]) in record.getMessage()
        return [vars(r)["lease_event"].removeprefix("session_execution_lease.") for r in records]

    return since


async def test_a_turn_takes_its_lease_and_gives_it_back(tmp_path: Path, told: Told) -> None:
    """Once each, by whichever transaction it was."""
    async with a_core(tmp_path / "a.db", answering(), ManualClock()) as core:
        async with core.session("s") as session:
            await session.turn("hello").run()
            assert told() == ["acquired", "released"]
        assert told() == []


class Wrapped:
    """A session store that works, but for what a subclass overrides."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Refusing(Wrapped):
    """Takes no commit."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        raise HeadRevisionConflict(expected=commit.expected_head_revision, actual=7)


class Failing(Wrapped):
    """Cannot say whether a commit has landed."""

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        raise StoreBackendError("the disk failed")


@asynccontextmanager
async def a_session_over(
    tmp_path: Path, wrapper: type[Any], provider: Any, clock: ManualClock
) -> AsyncIterator[LashSession]:
    async with a_core(tmp_path / "a.db", provider, clock) as core:
        async with SqliteStorage(tmp_path / "a.db") as storage:
            storage.bind(clock=clock, ids=core._wiring.ids)
            request = SessionStoreCreateRequest(session_id="s")
            store = wrapper(await storage.session_stores.create_store(request))
            async with core.session("s").store(store) as session:
                yield session


@pytest.mark.parametrize("wrapper", [Refusing, Failing])
async def test_a_turn_that_cannot_be_stored_gives_its_lease_back(
    tmp_path: Path, told: Told, wrapper: type[Any]
) -> None:
    """With its row if it was refused, and by itself if nobody knows whether it landed."""
    async with a_session_over(tmp_path, wrapper, answering(), ManualClock()) as session:
        with pytest.raises(RuntimeFailure):
            await session.turn("hello").run()
        assert told() == ["acquired", "released"]


async def test_a_long_turn_says_that_it_renews(tmp_path: Path, told: Told) -> None:
    """And whoever is refused meanwhile, whom it has waited for."""
    clock, provider = ManualClock(), GatedProvider()
    async with (
        a_core(tmp_path / "a.db", provider, clock) as core,
        core.session("s") as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(session.turn("slow").run)
        await provider.entered.wait()
        assert told() == ["acquired"]
        await clock.wait_for_sleepers(1)
        clock.advance(10.0)
        await clock.wait_for_sleepers(1)
        assert told() == ["renewed"]
        async with a_core(tmp_path / "a.db", answering(), clock) as other:
            async with other.session("s") as rival:
                # Opening leaves the turn to its holder, or to whoever finishes it.
                assert told() == []
                with pytest.raises(RuntimeFailure):
                    await rival.turn("mine").run()
                assert told() == ["busy"]
        provider.release.set()
    assert told() == ["released"]


async def test_a_lease_that_is_lost_is_a_warning(
    tmp_path: Path, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the one event that somebody should look into."""
    caplog.set_level(logging.WARNING, logger="lash_runtime.leases")
    clock, provider = ManualClock(), GatedProvider()
    async with a_session_over(tmp_path, Unreachable, provider, clock) as session:
        stream = session.turn("slow").stream()
        await provider.entered.wait()
        for _ in range(3):
            await clock.wait_for_sleepers(1)
            clock.advance(10.0)
            await anyio.sleep(0)
        with pytest.raises(RuntimeFailure):
            await stream.finish()
    assert told() == ["lost"]
