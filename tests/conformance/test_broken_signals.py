"""The suite of signals, held to its own purpose: a storage that breaks a rule is caught.

Each broken storage is the one in memory with its signals exchanged. The case that is named beside
it must pass on the intact one and fail on the broken one.
"""

from typing import Any

import pytest

from conformance.breaking import passes
from lash_runtime.ports.signals import SignalFilter, StoreSignal
from lash_runtime.stores.local_signals import LocalSignals
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance import signals as suite

pytestmark = pytest.mark.anyio


class Broken:
    """A subscription that does everything as the intact one does, but for one override."""

    def __init__(self, intact: Any) -> None:
        self.intact = intact

    def __getattr__(self, name: str) -> Any:
        return getattr(self.intact, name)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> None:
        if not await self.wait():
            raise StopAsyncIteration

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.intact.close()


class RemembersNothing(Broken):
    """It tells those who happen to wait at that moment."""

    def take(self) -> bool:
        return False


class TellsTwice(Broken):
    """What was answered is answered once more."""

    last = False

    def take(self) -> bool:
        told: bool = self.intact.take()
        answer = told or self.last
        self.last = told
        return answer


class SharesTheWait(Broken):
    """A second waiter takes the place of the first."""

    async def wait(self) -> bool:
        self.intact._waiting = False
        told: bool = await self.intact.wait()
        return told


class WaitsForEver(Broken):
    """Closing it is nothing that a waiter would hear of."""

    def close(self) -> None:
        """Later."""

    async def wait(self) -> bool:
        while not await self.intact.wait():
            await suite.anyio.sleep(1)
        return True


class HearsWhenClosed(Broken):
    """What was announced is told, whether anybody still wants to know or not."""

    def close(self) -> None:
        self.intact.close()
        self.intact._listener.told = True

    def take(self) -> bool:
        return bool(self.intact._listener.told)


class _Signals(LocalSignals):
    """The signals of the memory storage, of another kind."""

    subscription: type[Broken] | None = None

    def listen(self, wanted: SignalFilter) -> Any:
        subscription = super().listen(self.wanted(wanted))
        return subscription if self.subscription is None else self.subscription(subscription)

    def wanted(self, wanted: SignalFilter) -> SignalFilter:
        return wanted


class TellsNobody(_Signals):
    def announce(self, signal: StoreSignal) -> None:
        """Later."""


class TellsEverybody(_Signals):
    def announce(self, signal: StoreSignal) -> None:
        self._hub.tell_everybody()


class IgnoresTheTurn(_Signals):
    def wanted(self, wanted: SignalFilter) -> SignalFilter:
        return SignalFilter(kinds=wanted.kinds, session_id=wanted.session_id)


class IgnoresTheSession(_Signals):
    def wanted(self, wanted: SignalFilter) -> SignalFilter:
        return SignalFilter(kinds=wanted.kinds)


class GoesOnWhenItIsClosed(_Signals):
    def end(self) -> None:
        """Later."""


class LetsAnybodyListen(_Signals):
    def __init__(self, **named: Any) -> None:
        super().__init__(**named | {"check": None})


class TellsOfTheLoopAlone(_Signals):
    """Its own thread is all that it knows."""

    def announce(self, signal: StoreSignal) -> None:
        try:
            suite.anyio.get_current_task()
        except RuntimeError:
            return
        super().announce(signal)


def with_signals(kind: type[_Signals], subscription: type[Broken] | None = None) -> MemoryStorage:
    storage = MemoryStorage()
    library = storage._library
    library.signals = kind(hears_all=True, check=library.check_open)
    library.signals.subscription = subscription
    return storage


ANNOUNCED = (
    "test_an_accepted_turn_is_announced",
    "test_a_settled_turn_is_announced",
    "test_a_turn_that_was_discarded_is_announced",
    "test_a_lane_that_was_given_back_is_announced",
    "test_a_deleted_session_is_announced_to_all_who_listen_to_it",
    "test_a_listener_hears_of_what_it_asked_for",
    "test_any_session_can_be_listened_to",
    "test_however_much_happens_is_one_look",
    "test_a_cancelled_wait_loses_nothing",
)


@pytest.mark.parametrize(
    ("kind", "subscription", "case"),
    [
        *((TellsNobody, None, case) for case in ANNOUNCED),
        (TellsEverybody, None, "test_a_listener_hears_of_what_it_asked_for"),
        (IgnoresTheTurn, None, "test_a_listener_hears_of_what_it_asked_for"),
        (IgnoresTheSession, None, "test_a_listener_hears_of_what_it_asked_for"),
        (IgnoresTheSession, None, "test_any_session_can_be_listened_to"),
        (IgnoresTheSession, None, "test_a_deleted_session_is_announced_to_all_who_listen_to_it"),
        (GoesOnWhenItIsClosed, None, "test_closing_the_storage_ends_every_wait"),
        (LetsAnybodyListen, None, "test_closing_the_storage_ends_every_wait"),
        (TellsOfTheLoopAlone, None, "test_one_who_waits_is_woken_from_any_thread"),
        (_Signals, RemembersNothing, "test_a_cancelled_wait_loses_nothing"),
        (_Signals, TellsTwice, "test_however_much_happens_is_one_look"),
        (_Signals, SharesTheWait, "test_a_second_waiter_is_refused"),
        (_Signals, WaitsForEver, "test_closing_ends_a_wait_and_may_be_repeated"),
        (_Signals, WaitsForEver, "test_iteration_is_one_look_after_the_other"),
        (_Signals, HearsWhenClosed, "test_closing_ends_a_wait_and_may_be_repeated"),
    ],
)
async def test_broken_signals_are_caught(
    kind: type[_Signals],
    subscription: type[Broken] | None,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    monkeypatch.setattr(suite, "WITHIN_S", 0.3)
    assert await passes(case, lambda: with_signals(_Signals))
    assert not await passes(case, lambda: with_signals(kind, subscription))
