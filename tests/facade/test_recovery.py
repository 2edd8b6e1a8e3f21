"""Turns that a process has left are finished by another, without anybody asking."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from facade.models import StallingProvider
from facade.places import Place, a_core, running
from facade.transcripts import lines
from lash_runtime import CancelVerdict, LashCore, LashSession, RuntimeFailure, StopReason, tool
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.testing import Call, ScriptedProvider

pytestmark = pytest.mark.anyio


@tool
async def look() -> str:
    """Look around."""
    return "nothing"


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"), record=False)


async def left(place: Place, turn_id: str = "t-1", session_id: str = "s") -> None:
    """A core that ends while a turn waits for its model."""
    stalled = StallingProvider()
    async with running(place.builder(stalled).recover(False).build()) as core:
        session = await core.session(session_id).open()
        stream = session.turn("Pack").turn_id(turn_id).stream()
        await stalled.entered.wait()
    with pytest.raises(RuntimeFailure):
        await stream.finish()


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(10):
        while not await holds():
            await anyio.sleep(0.005)


async def nothing_is_unfinished(core: LashCore) -> bool:
    return not await core.unfinished_turns()


async def seen(core: LashCore, session_id: str = "s") -> list[str]:
    async with core.session(session_id) as session:
        return lines(session)


async def test_a_core_finishes_what_another_has_left(on_disk: Place) -> None:
    """Nobody comes back for the turn, and it is finished all the same, once."""
    await left(on_disk)
    provider = yes()
    async with a_core(on_disk, provider) as core:
        await soon(lambda: nothing_is_unfinished(core))
        assert await seen(core) == ["user: Pack", "assistant: yes"]
        assert provider.calls == 1
    async with a_core(on_disk, provider) as core, core.session("s") as session:
        again = await session.turn("Pack").turn_id("t-1").run()
        assert again.assistant_message == "yes"
        assert provider.calls == 1


async def test_many_sessions_are_finished_a_few_at_a_time(on_disk: Place) -> None:
    """No stampede on the model, and nobody is forgotten."""
    for number in range(20):
        await left(on_disk, session_id=f"s-{number}")
    at_once = most = 0

    class Counting(ScriptedProvider):
        async def complete(self, request: object) -> object:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await anyio.sleep(0.005)
                return await super().complete(request)  # type: ignore[arg-type]
            finally:
                at_once -= 1

    provider = Counting(otherwise=lambda request: Call.text("yes"), record=False)
    async with a_core(on_disk, provider) as core:
        await soon(lambda: nothing_is_unfinished(core))
        for number in range(20):
            assert await seen(core, f"s-{number}") == ["user: Pack", "assistant: yes"]
    assert provider.calls == 20
    assert 1 < most <= 8


async def test_a_core_without_recovery_leaves_turns_alone(on_disk: Place) -> None:
    """A script that looks into the database must not start to call models."""
    await left(on_disk)
    provider = yes()
    async with running(on_disk.builder(provider).recover(False).build()) as core:
        await anyio.sleep(0.05)
        (turn,) = await core.unfinished_turns()
        assert (turn.session_id, turn.turn_id, turn.state) == ("s", "t-1", TurnState.RUNNING)
        assert (turn.journaled, turn.held_by, turn.missing) == (True, None, ())
        assert provider.calls == 0


async def test_a_turn_that_a_core_cannot_finish_is_listed_with_what_is_missing(
    on_disk: Place,
) -> None:
    """It stays as it is, until a core comes that has what it needs."""
    stalled = StallingProvider()
    async with running(on_disk.builder(stalled, look).recover(False).build()) as core:
        session = await core.session("s").open()
        stream = session.turn("Pack").turn_id("t-1").stream()
        await stalled.entered.wait()
    with pytest.raises(RuntimeFailure):
        await stream.finish()
    async with a_core(on_disk, yes()) as core:
        await anyio.sleep(0.05)
        (turn,) = await core.unfinished_turns()
        assert turn.missing == ("tool 'look'",)
        async with core.session("s") as session:
            with pytest.raises(RuntimeFailure, match="look") as raised:
                await session.turn("More").run()
            assert raised.value.code == "turn_wiring_missing"
            assert lines(session) == []
    async with a_core(on_disk, yes(), look) as core:
        await soon(lambda: nothing_is_unfinished(core))
        assert await seen(core) == ["user: Pack", "assistant: yes"]


async def test_a_turn_of_a_living_owner_is_left_to_it(on_disk: Place) -> None:
    """Another core of the same process is another owner, and it lives."""
    stalled = StallingProvider("Coat.")
    async with a_core(on_disk, stalled) as first, first.session("s") as session:
        stream = session.turn("Pack").turn_id("t-1").stream()
        await stalled.entered.wait()
        rival = yes()
        async with a_core(on_disk, rival) as second:
            await anyio.sleep(0.05)
            (turn,) = await second.unfinished_turns()
            assert turn.held_by is not None
            stalled.release.set()
            assert (await stream.finish()).assistant_message == "Coat."
            assert rival.calls == 0


async def test_two_cores_finish_a_turn_once(on_disk: Place) -> None:
    """Both see it at the same moment; one takes it."""
    for number in range(10):
        await left(on_disk, session_id=f"s-{number}")
    one, two = yes(), yes()
    async with a_core(on_disk, one) as first, a_core(on_disk, two) as second:
        await soon(lambda: nothing_is_unfinished(first))
        for number in range(10):
            assert await seen(second, f"s-{number}") == ["user: Pack", "assistant: yes"]
    assert one.calls + two.calls == 10


async def test_a_turn_with_a_provider_of_its_session_waits_for_such_a_session(
    on_disk: Place,
) -> None:
    """The core does not have it; who opens the session with it lets the turn be finished."""
    async with running(on_disk.builder(yes()).recover(False).build()) as core:
        stalled = StallingProvider(kind="own")
        session = await core.session("s").provider(stalled).open()
        stream = session.turn("Pack").turn_id("t-1").stream()
        await stalled.entered.wait()
    with pytest.raises(RuntimeFailure):
        await stream.finish()
    own = StallingProvider("Coat.", kind="own")
    own.release.set()
    async with a_core(on_disk, yes()) as core:
        await anyio.sleep(0.05)
        (turn,) = await core.unfinished_turns()
        assert turn.missing == ("provider 'own'",)
        async with core.session("s").provider(own) as session:
            await soon(lambda: nothing_is_unfinished(core))
            await soon_shows(session, ["user: Pack", "assistant: Coat."])


async def soon_shows(session: LashSession, expected: list[str]) -> None:
    async def shows() -> bool:
        return lines(session) == expected

    await soon(shows)


async def test_closing_a_core_leaves_what_it_was_finishing(on_disk: Place) -> None:
    """It is interrupted like any turn, and no death is counted."""
    await left(on_disk)
    for _ in range(8):
        stalled = StallingProvider()
        async with a_core(on_disk, stalled):
            await stalled.entered.wait()
    async with a_core(on_disk, yes()) as core:
        await soon(lambda: nothing_is_unfinished(core))
        assert await seen(core) == ["user: Pack", "assistant: yes"]


async def test_a_turn_that_fails_while_it_is_finished_is_over(on_disk: Place) -> None:
    """A settled row is never driven again."""
    await left(on_disk)
    broken = ScriptedProvider(otherwise=lambda request: Call(result=ValueError("no")), record=False)
    async with a_core(on_disk, broken) as core:
        await soon(lambda: nothing_is_unfinished(core))
        await anyio.sleep(0.05)
        assert broken.calls == 1


async def test_nothing_of_a_memory_storage_is_recovered(database: Path) -> None:
    """What is in memory ends with its process; turns there are closed by their next use."""
    place = Place("memory", database)
    await left(place)
    provider = yes()
    async with a_core(place, provider) as core:
        await anyio.sleep(0.02)
        (turn,) = await core.unfinished_turns()
        assert not turn.journaled
        assert provider.calls == 0
        assert await seen(core) == ["user: Pack"]
        assert await nothing_is_unfinished(core)


async def test_a_turn_that_was_to_be_cancelled_is_finished_as_cancelled(on_disk: Place) -> None:
    """The request is in its row, whoever finishes it; no model is called any more."""
    await left(on_disk)
    provider = yes()
    async with running(on_disk.builder(provider).recover(False).build()) as core:
        assert await core.cancel_turn("s", "t-1", reason="late") is CancelVerdict.ACCEPTED
    async with a_core(on_disk, provider) as core:
        await soon(lambda: nothing_is_unfinished(core))
        async with core.session("s") as session:
            output = await session.turn("Pack").turn_id("t-1").run()
        assert output.stop_reason is StopReason.CANCELLED
        assert output.cancellation is not None
        assert output.cancellation.reason == "late"
        assert provider.calls == 0


async def test_a_turn_that_a_core_leaves_is_taken_over_by_one_that_is_open(on_disk: Place) -> None:
    """It is told, and need not look again and again."""
    stalled, provider = StallingProvider(), yes()
    async with a_core(on_disk, provider) as heir:
        async with running(on_disk.builder(stalled).recover(False).build()) as core:
            session = await core.session("s").open()
            stream = session.turn("Pack").turn_id("t-1").stream()
            await stalled.entered.wait()
        with pytest.raises(RuntimeFailure):
            await stream.finish()
        await soon(lambda: nothing_is_unfinished(heir))
        assert await seen(heir) == ["user: Pack", "assistant: yes"]
