"""Whose a provider is: who gives it time and ids, who holds it open, and who closes it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from facade.models import StallingProvider
from facade.places import Place, a_core, running
from facade.watched import WatchedStores
from lash_runtime import (
    CancelToken,
    EmbedError,
    LeaseTimings,
    SessionStillInUse,
    TurnBuilder,
)
from lash_runtime.model.llm import LlmRequest, LlmResponse, ProviderFailureKind
from lash_runtime.ports.provider import (
    ProviderFailure,
    ProviderOptions,
    ProviderRateLimitPolicy,
    ProviderReliability,
)
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.providers import ProviderHandle
from lash_runtime.testing import (
    Call,
    FixedIdSource,
    RecordingClock,
    ScriptedProvider,
    TestProvider,
    text_response,
)

pytestmark = pytest.mark.anyio

BUSY = ProviderFailure("busy", kind=ProviderFailureKind.HTTP, status=503, retryable=True)


class Counted(ScriptedProvider):
    """Counts its closings, and whether it was called after the last of them."""

    def __init__(self, kind: str = "own", **settings: Any) -> None:
        super().__init__(otherwise=lambda request: Call.text("yes"), kind=kind, **settings)
        self.closings = 0
        self.open = False

    async def complete(self, request: LlmRequest) -> LlmResponse:
        self.open = True
        return await super().complete(request)

    async def close(self) -> None:
        self.closings += 1
        self.open = False


def busy_once() -> ScriptedProvider:
    return ScriptedProvider([Call(result=BUSY), Call.text("yes")])


def waits(clock: RecordingClock) -> list[float]:
    """How long somebody has waited by that clock, renewing leases apart."""
    return [s for s in clock.sleeps if s != LeaseTimings().renew_interval_ms / 1000]


# --- time and ids -------------------------------------------------------------------------------


async def _on_the_session(place: Place, provider: Any, clock: RecordingClock) -> None:
    core = place.builder(Counted()).clock(clock).ids(FixedIdSource(7)).build()
    async with running(core), core.session("s").provider(provider) as session:
        assert (await session.turn("x").run()).is_success


async def _on_the_turn(place: Place, provider: Any, clock: RecordingClock) -> None:
    core = place.builder(Counted()).clock(clock).ids(FixedIdSource(7)).build()
    async with running(core), core.session("s") as session:
        assert (await session.turn("x").provider(provider).run()).is_success


async def _after_parking(place: Place, provider: Any, clock: RecordingClock) -> None:
    core = place.builder(Counted()).clock(clock).ids(FixedIdSource(7)).build()
    async with running(core):
        session = await core.session("s").provider(provider).open()
        async with await core.resume(await session.park()) as resumed:
            assert (await resumed.turn("x").run()).is_success


Runs = Callable[[Place, Any, RecordingClock], Awaitable[None]]


@pytest.mark.parametrize("run", [_on_the_session, _on_the_turn, _after_parking])
async def test_a_provider_waits_by_the_clock_of_the_core_that_uses_it(
    place: Place, run: Runs
) -> None:
    """A run is repeatable only if nothing in it looks at another clock or rolls other dice."""
    waited = []
    for number in range(2):
        clock = RecordingClock()
        fresh = Place(place.kind, place.database.with_name(f"{number}.db"))
        await run(fresh, busy_once(), clock)
        waited.append(waits(clock))
    assert len(waited[0]) == 1
    assert waited[0] == waited[1]


@pytest.mark.parametrize("run", [_on_the_session, _on_the_turn, _after_parking])
async def test_a_handle_keeps_the_time_that_its_host_gave_it(place: Place, run: Runs) -> None:
    """Whoever makes a handle has decided how it tells time."""
    its_own, of_the_core = RecordingClock(), RecordingClock()
    await run(place, ProviderHandle.of(busy_once(), clock=its_own), of_the_core)
    assert len(waits(its_own)) == 1
    assert waits(of_the_core) == []


async def test_limits_hold_over_all_who_pass_the_same_provider(place: Place) -> None:
    """The endpoint counts calls, whichever session or turn they come from."""
    most = now = 0

    async def answer(request: LlmRequest) -> LlmResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        for _ in range(20):
            await asyncio.sleep(0)
        now -= 1
        return text_response("yes")

    limits = ProviderRateLimitPolicy(max_concurrency=1)
    options = ProviderOptions(reliability=ProviderReliability(rate_limits=limits))
    provider = TestProvider(answer, kind="scripted", options=options)
    async with (
        a_core(place, provider) as core,
        core.session("a") as a,
        core.session("b").provider(provider) as b,
        core.session("c") as c,
        anyio.create_task_group() as callers,
    ):
        for turn in (a.turn("x"), b.turn("x"), c.turn("x").provider(provider)):
            callers.start_soon(turn.run)
    assert most == 1


# --- closing: sessions --------------------------------------------------------------------------


async def test_a_provider_is_closed_with_the_session_that_it_was_given_to(place: Place) -> None:
    """A tenant's own key, in a core that lives for months: nobody else would ever close it."""
    own, of_the_core = Counted(), Counted("scripted")
    async with a_core(place, of_the_core) as core:
        session = await core.session("s").provider(own).open()
        await session.turn("x").run()
        clone = session.clone()
        await session.close()
        assert own.closings == 0
        await clone.turn("y").run()
        await clone.close()
        assert (own.closings, of_the_core.closings) == (1, 0)
    assert (own.closings, of_the_core.closings) == (1, 1)


async def test_a_session_that_is_still_in_use_keeps_its_provider(place: Place) -> None:
    """Closing that was refused has changed nothing."""
    stalled = StallingProvider()
    async with a_core(place, Counted("scripted")) as core:
        session = await core.session("s").provider(stalled).open()
        async with session.turn("x").stream() as stream:
            await stalled.entered.wait()
            for leave in (session.close, session.park):
                with pytest.raises(SessionStillInUse):
                    await leave()
            assert not stalled.closed
            stalled.release.set()
            await stream.finish()
        await session.close()
    assert stalled.closed


async def test_a_parked_session_holds_no_connection_and_opens_it_again(place: Place) -> None:
    """Thousands of them are kept at hand; the provider is called again after resuming."""
    own = Counted()
    async with a_core(place, Counted("scripted")) as core:
        session = await core.session("s").provider(own).open()
        await session.turn("x").run()
        parked = await session.park()
        assert (own.open, own.closings) == (False, 1)
        for closings in (2, 3):
            async with await core.resume(parked) as resumed:
                await resumed.turn("y").run()
                assert own.open
            assert (own.open, own.closings) == (False, closings)


async def test_a_builder_that_is_used_again_uses_its_provider_again(place: Place) -> None:
    """A half-configured builder is kept and reused, one block after the other and at once."""
    own = Counted()
    async with a_core(place, Counted("scripted")) as core:
        builder = core.session("s").provider(own)
        for number in range(2):
            async with builder as one, builder as two:
                await one.turn(f"one {number}").run()
                await one.close()
                assert own.open
                await two.turn(f"two {number}").run()
            assert (own.open, own.closings) == (False, number + 1)


async def test_the_provider_of_a_deleted_session_is_closed(place: Place) -> None:
    """Its handles only say that it is gone; nobody has to close them."""
    own = Counted()
    async with a_core(place, Counted("scripted")) as core:
        session = await core.session("s").provider(own).open()
        await session.turn("x").run()
        await core.delete_session("s")
        assert (own.open, own.closings) == (False, 1)
        await session.close()


async def test_a_core_closes_what_its_sessions_have_left_open(place: Place) -> None:
    """The end of the core is the end of everything that was given to it."""
    own = Counted()
    async with a_core(place, Counted("scripted")) as core:
        session = await core.session("s").provider(own).open()
        await session.turn("x").run()
    assert (own.open, own.closings) == (False, 1)
    assert session.closed


async def test_an_open_that_fails_closes_the_provider_that_it_was_given(place: Place) -> None:
    """There is no session whose end anybody could wait for."""
    own = Counted()
    storage = place.storage()

    async def fail(name: str) -> None:
        if name == "load_session":
            raise StoreBackendError("the disk is on fire")

    stores = WatchedStores(storage, fail)
    core = place.builder(Counted("scripted")).storage(storage).store_factory(stores).build()
    async with running(core):
        with pytest.raises(EmbedError):
            await core.session("s").provider(own).open()
        assert own.closings == 1
        fresh = await core.session("s").provider(own).open_fresh()
        await fresh.turn("x").run()
        parked = await fresh.park()
        assert own.closings == 2
        with pytest.raises(EmbedError):
            await core.resume(parked)
        assert own.closings == 3


# --- closing: turns -----------------------------------------------------------------------------


async def _runs(turn: TurnBuilder) -> None:
    await turn.run()


async def _streams(turn: TurnBuilder) -> None:
    async for _ in turn.stream():
        pass


async def _leaves(turn: TurnBuilder) -> None:
    async with turn.stream():
        pass


async def _cancels(turn: TurnBuilder) -> None:
    token = CancelToken()
    token.cancel()
    await turn.cancel(token).run()


@pytest.mark.parametrize("way", [_runs, _streams, _leaves, _cancels])
async def test_a_provider_is_closed_with_the_turn_that_it_was_given_to(
    anywhere: Place, way: Callable[[TurnBuilder], Awaitable[None]]
) -> None:
    """However the turn ends, by the time its caller knows."""
    own, of_the_core = Counted(), Counted("scripted")
    async with a_core(anywhere, of_the_core) as core, core.session("s") as session:
        turn = session.turn("x").provider(own)
        for closings in (1, 2):
            await way(turn)
            assert (own.open, own.closings) == (False, closings)
        assert of_the_core.closings == 0


async def test_a_turn_does_not_close_what_others_use(place: Place) -> None:
    """The same object given to a core, to sessions and to turns is closed by the last of them."""
    shared = Counted("scripted")
    async with a_core(place, shared) as core:
        async with core.session("a").provider(shared) as a, core.session("b") as b:
            await a.turn("x").provider(shared).run()
            await b.turn("x").provider(shared).run()
        assert shared.closings == 0
    assert shared.closings == 1


async def test_turns_side_by_side_share_a_provider_until_the_last_is_over(place: Place) -> None:
    """The first to end must not cut the others off."""
    own = StallingProvider(kind="own")
    async with (
        a_core(place, Counted("scripted")) as core,
        core.session("a") as a,
        core.session("b") as b,
    ):
        async with anyio.create_task_group() as callers:
            callers.start_soon(a.turn("x").provider(own).run)
            await own.entered.wait()
            token = CancelToken()
            token.cancel()
            await b.turn("x").provider(own).cancel(token).run()
            assert not own.closed
            own.release.set()
        assert own.closed


# --- closing: the host's, and what will not close -----------------------------------------------


async def test_a_handle_is_closed_by_nobody_but_its_host(place: Place) -> None:
    """It may serve other cores, and it is the host that knows."""
    inner = Counted("scripted")
    handle = ProviderHandle.of(inner)
    async with a_core(place, handle) as core:
        async with core.session("s").provider(handle) as session:
            await session.turn("x").provider(handle).run()
        await core.delete_session("s")
    assert inner.closings == 0


class WillNotClose(Counted):
    """Raises, or takes for ever, when it is closed."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self._hangs = hangs

    async def close(self) -> None:
        await super().close()
        if self._hangs:
            await anyio.sleep_forever()
        raise RuntimeError("sk-secret")


@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
async def test_a_provider_that_does_not_close_holds_nobody_up(
    place: Place,
    hangs: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was said is stored; that a connection lingers is for the log, and without its key."""
    monkeypatch.setattr("lash_runtime.providers.shares.CLOSE_DEADLINE_S", 0.01)
    for_turn, for_session = WillNotClose(hangs=hangs), WillNotClose(hangs=hangs)
    for_core = WillNotClose(hangs=hangs)
    async with a_core(place, for_core) as core:
        async with core.session("s").provider(for_session) as session:
            assert (await session.turn("x").provider(for_turn).run()).is_success
    assert [p.closings for p in (for_turn, for_session, for_core)] == [1, 1, 1]
    said = [record.getMessage() for record in caplog.records if "close" in record.getMessage()]
    assert len(said) == 3
    assert "sk-secret" not in caplog.text


async def test_a_caller_that_is_cancelled_while_closing_has_closed(place: Place) -> None:
    """The session is given up and its provider closed, or neither."""
    own = Counted()
    async with a_core(place, Counted("scripted")) as core:
        session = await core.session("s").provider(own).open()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.close()
        assert (own.closings, session.closed) in {(1, True), (0, False)}
        await session.close()
        assert (own.closings, session.closed) == (1, True)
