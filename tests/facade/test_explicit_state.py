"""State that a host has given, and turns that a dead process has left in the same session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from facade.graphs import the_store
from facade.models import asked
from facade.places import Place, a_core
from facade.transcripts import lines
from lash_runtime import LashCore, LashSession, RuntimeFailure
from lash_runtime.model.llm import LlmRequest
from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.testing import Call, ScriptedProvider
from lash_runtime.testing.conformance._samples import accepted, an_acceptance

pytestmark = pytest.mark.anyio

GONE = LeaseOwnerIdentity(owner_id="gone", incarnation_id="1")


def an_echo() -> ScriptedProvider:
    def repeat(request: LlmRequest) -> Call:
        return Call.text(f"re: {asked(request)[-1].removeprefix('user: ')}")

    return ScriptedProvider(otherwise=repeat)


@asynccontextmanager
async def gone_back(place: Place, core: LashCore) -> AsyncIterator[LashSession]:
    """A session as it was before its second turn, with a turn that its owner has not ended
    because it died, long after this handle was opened."""
    async with core.session("s") as session:
        await session.turn("one").run()
        kept = session.read_view()
        await session.turn("two").run()
    back = await core.session("s").open_with_state(kept)
    async with the_store(place) as store:
        await accepted(store, an_acceptance("lost", "three", owner=GONE, lease_ttl_ms=0))
    yield back


async def state_of(place: Place, turn_id: str) -> TurnState:
    async with the_store(place) as store:
        row = await store.load_turn("s", turn_id)
    assert row is not None
    return row.state


@pytest.mark.parametrize("leave", ["close", "park"])
async def test_leaving_closes_what_a_dead_owner_left_before_it_stores_anything(
    place: Place, leave: str
) -> None:
    """Nothing is ever built on history that was left open; what the host said stands."""
    async with a_core(place, an_echo()) as core:
        async with gone_back(place, core) as back:
            await getattr(back, leave)()
        assert await state_of(place, "lost") is TurnState.INTERRUPTED
        async with core.session("s") as session:
            assert lines(session) == ["user: one", "assistant: re: one"]


async def test_a_turn_builds_on_the_given_state_though_a_dead_owner_left_one(
    place: Place,
) -> None:
    """The turn that was lost is closed, and does not take the place of what the host said."""
    async with a_core(place, an_echo()) as core:
        async with gone_back(place, core) as back:
            await back.turn("four").run()
            said = ["user: one", "assistant: re: one", "user: four", "assistant: re: four"]
            assert lines(back) == said
            await back.close()
        assert await state_of(place, "lost") is TurnState.INTERRUPTED
        async with core.session("s") as session:
            assert lines(session) == said


async def test_leaving_a_session_that_another_owner_works_on_changes_nothing(
    place: Place,
) -> None:
    """Its turn is not ours to close, and the handle can be closed when the owner is done."""
    async with a_core(place, an_echo()) as core:
        async with gone_back(place, core) as back, the_store(place) as store:
            claimed = await store.try_claim_session_execution_lease("s", GONE, 60_000)
            assert isinstance(claimed, LeaseAcquired)
            with pytest.raises(RuntimeFailure) as raised:
                await back.close()
            assert raised.value.code == "session_execution_busy"
            assert await state_of(place, "lost") is TurnState.RUNNING
            await store.release_session_execution_lease(claimed.lease.fence())
            await back.close()
        assert await state_of(place, "lost") is TurnState.INTERRUPTED
