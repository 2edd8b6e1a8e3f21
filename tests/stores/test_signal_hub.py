"""The signals within a process: who is told, and what becomes of listeners that just leave."""

import asyncio
import gc
import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.ports.signals import SignalFilter, SignalKind, StoreSignal
from lash_runtime.stores.signal_hub import SignalHub
from lash_runtime.stores.signal_marks import Interest, mark_of

pytestmark = pytest.mark.anyio

SETTLED = SignalFilter.of(SignalKind.TURN_SETTLED)
A_SIGNAL = StoreSignal(SignalKind.TURN_SETTLED, "s", "t")

kinds = st.sampled_from(SignalKind)
names = st.sampled_from(["", "s", "t", "s\x00t", "\ud800", "x" * 10_000])
signals = st.builds(StoreSignal, kinds, names, st.none() | names)
filters = st.builds(
    lambda kinds, session, turn: SignalFilter(
        kinds=kinds, session_id=session, turn_id=None if session is None else turn
    ),
    st.frozensets(kinds),
    st.none() | names,
    st.none() | names,
)


def is_meant(wanted: SignalFilter, signal: StoreSignal) -> bool:
    """The rule in plain words."""
    if wanted.session_id is None:
        return signal.kind in wanted.kinds
    if wanted.session_id != signal.session_id:
        return False
    kind = signal.kind in wanted.kinds or signal.kind is SignalKind.SESSION_DELETED
    turn = None in (wanted.turn_id, signal.turn_id) or wanted.turn_id == signal.turn_id
    return kind and turn


@given(filters, st.lists(signals, max_size=4))
def test_whoever_is_meant_is_told_and_nobody_else(
    wanted: SignalFilter, announced: list[StoreSignal]
) -> None:
    """Comparing marks in place of ids changes nothing."""
    hub = SignalHub()
    with hub.listen(Interest(wanted)) as told:
        for signal in announced:
            hub.announce(signal)
        assert told.take() == any(is_meant(wanted, signal) for signal in announced)


def test_a_subscription_that_is_dropped_is_released_with_a_warning() -> None:
    """A hub lives as long as its storage, and would collect them."""
    hub = SignalHub()
    told = hub.listen(Interest(SETTLED))
    with pytest.warns(ResourceWarning, match="never closed"):
        del told
        gc.collect()
    assert not hub.has_listeners
    hub.announce(A_SIGNAL)


def test_one_that_was_closed_is_dropped_in_silence() -> None:
    """By itself, by its block, or by its storage."""
    hub = SignalHub()
    hub.listen(Interest(SETTLED)).close()
    with hub.listen(Interest(SETTLED)):
        pass
    ended = hub.listen(Interest(SETTLED))
    hub.end_all()
    del ended
    gc.collect()
    assert not hub.has_listeners


def test_a_listener_whose_loop_is_over_harms_nobody() -> None:
    """Its program has ended without closing anything; the one that announces goes on."""
    hub = SignalHub()
    told = hub.listen(Interest(SETTLED))

    async def wait() -> None:
        await told.wait()

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    hub.announce(A_SIGNAL)
    assert told.take()
    told.close()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    waiting.get_coro().close()  # type: ignore[union-attr]


async def test_many_who_wait_are_all_woken() -> None:
    """Each by what it asked for, and in one go."""
    hub = SignalHub()
    woken: list[int] = []

    async def wait(number: int) -> None:
        wanted = SignalFilter.of(SignalKind.TURN_SETTLED, session_id=f"s{number}")
        with hub.listen(Interest(wanted)) as told:
            assert await told.wait()
            woken.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(wait, number)
            await anyio.wait_all_tasks_blocked()
            hub.tell(
                mark_of(StoreSignal(SignalKind.TURN_SETTLED, f"s{number}")) for number in range(50)
            )
            await anyio.wait_all_tasks_blocked()
            assert woken == list(range(50))
            hub.tell_everybody()
    assert sorted(woken) == list(range(100))


async def test_threads_announce_while_listeners_come_and_go() -> None:
    """Nobody who listens before something is announced misses it."""
    hub = SignalHub()
    stop = threading.Event()

    def announce_for_ever() -> None:
        while not stop.is_set():
            hub.announce(A_SIGNAL)

    threads = [threading.Thread(target=announce_for_ever) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with anyio.fail_after(60):
            for number in range(300):
                with hub.listen(Interest(SETTLED)) as told:
                    assert await told.wait()
                if number % 50 == 0:
                    hub.end_all()
                    await anyio.lowlevel.checkpoint()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not hub.has_listeners
