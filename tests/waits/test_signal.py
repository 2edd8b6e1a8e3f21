"""When a waiter looks again: at once when it is told, else seldom, and not at all without need."""

from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.ports.await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    CustomWait,
    ResolvedTimeout,
    mint_await_event_key,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock, RecordingClock
from lash_runtime.testing.conformance._await_event_case import TURN, a_key, waiters_on
from lash_runtime.waits.signal import WaitSignal

pytestmark = pytest.mark.anyio

KEY: AwaitEventKey = mint_await_event_key(TURN, CustomWait(key="k"), b"secret", 1)


async def test_a_waiter_looks_by_itself_less_and_less_often(tmp_path: Path) -> None:
    """Other processes tell nobody. From 25 milliseconds to a second, and at the deadline."""
    clock = RecordingClock()
    storage = SqliteStorage(tmp_path / "agents.db")
    storage.bind(clock=clock, ids=FixedIdSource())
    async with storage:
        key = await a_key(storage.await_events)
        deadline_ms = clock.timestamp_ms() + 4_000
        answer = await storage.await_events.await_await_event(key, CancelToken(), deadline_ms)
    assert answer == ResolvedTimeout()
    pauses = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert clock.sleeps == pytest.approx([*pauses, 4.0 - sum(pauses)])


async def test_a_signal_starts_the_pauses_over() -> None:
    """Where something has happened, more may happen soon."""
    clock, signal, token = RecordingClock(), WaitSignal(shared_book=True), CancelToken()
    with signal.listening(KEY) as listener:
        for _ in range(4):
            await listener.wait(token, None, clock)
        signal.ring(KEY.key_id)
        await checkpoint()
        await listener.wait(token, None, clock)
        await listener.wait(token, None, clock)
    assert clock.sleeps == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.025])


async def test_a_signal_between_two_looks_is_not_lost() -> None:
    """It came while the waiter was reading, which may or may not have seen it."""
    clock, signal = ManualClock(), WaitSignal(shared_book=False)
    with signal.listening(KEY) as listener:
        signal.ring(KEY.key_id)
        with anyio.fail_after(5):
            await listener.wait(CancelToken(), None, clock)
        signal.ring_session("s")
        with anyio.fail_after(5):
            await listener.wait(CancelToken(), None, clock)
        with anyio.move_on_after(0) as waited:
            await listener.wait(CancelToken(), None, clock)
        assert waited.cancelled_caught, "one signal is one look"


async def test_a_waiter_is_woken_by_its_own_signals_alone() -> None:
    """Whoever answers one of ten thousand waits does not make them all look."""
    signal = WaitSignal(shared_book=False)
    other = mint_await_event_key(
        TURN.model_copy(update={"session_id": "other"}), CustomWait(key="k"), b"secret", 1
    )
    with signal.listening(KEY) as listener:
        signal.ring(other.key_id)
        signal.ring_session("other")
        await checkpoint()
        with anyio.move_on_after(0) as waited:
            await listener.wait(CancelToken(), None, ManualClock())
        assert waited.cancelled_caught


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_waiting_costs_nothing_where_nobody_else_writes(kind: str) -> None:
    """No timer: an idle process stays idle. What waits is gone without a trace when it ends."""
    clock = ManualClock()
    storage = MemoryStorage() if kind == "memory" else SqliteStorage(":memory:")
    storage.bind(clock=clock, ids=FixedIdSource())
    await storage.open()
    waits: AwaitEventResolver = storage.await_events
    async with waiters_on(waits) as waiters:
        waiter = await waiters.start(await a_key(waits))
        assert (waiter.waits, clock.sleeping) == (True, 0)
        timed = await waiters.start(
            await a_key(waits, wait=CustomWait(key="timed")),
            deadline_ms=clock.timestamp_ms() + 1_000,
        )
        assert clock.sleeping == 1
        await timed.interrupt()
        assert clock.sleeping == 0
    await storage.aclose()


async def test_a_listener_that_has_gone_is_forgotten() -> None:
    """Also when it is interrupted while it waits."""
    signal = WaitSignal(shared_book=True)
    with anyio.move_on_after(0), signal.listening(KEY) as listener:
        with signal.listening(KEY):
            assert signal.is_heard(KEY.key_id)
        assert signal.is_heard(KEY.key_id)
        await listener.wait(CancelToken(), None, ManualClock())
    assert not signal.is_heard(KEY.key_id)


async def test_a_clock_that_fails_is_told_as_it_is() -> None:
    """Not as one of a group of errors."""

    class Broken(ManualClock):
        async def sleep_until(self, deadline: float) -> None:
            raise OSError("no clock")

    signal = WaitSignal(shared_book=True)
    with signal.listening(KEY) as listener, pytest.raises(OSError, match="no clock"):
        await listener.wait(CancelToken(), None, Broken())
