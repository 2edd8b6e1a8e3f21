"""The suites of durable waits, held to their own purpose: whoever breaks a rule is caught.

Each broken keeper is the one in memory with one thing wrong. The case that is named beside it must
pass on the intact one and fail on the broken one, and every case is named.
"""

import inspect
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from lash_runtime.ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventWaitIdentity,
    CustomWait,
    Resolution,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedErr,
    ResolvedOk,
    ResolvedTimeout,
    ResolveOutcome,
    UnknownOrRevoked,
    mint_await_event_key,
    resolution_text,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.clock import Clock
from lash_runtime.ports.effect_errors import EffectControllerError
from lash_runtime.ports.execution_scope import ExecutionScope, session_of
from lash_runtime.ports.session_catalogue import SessionDeleteReport
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance import (
    DurableAwaitEventConformance,
    StorageAwaitEventConformance,
    _await_event_case,
    await_event_ends,
)
from lash_runtime.testing.conformance._await_event_case import waiters_on
from lash_runtime.waits.book import Pending, WaitState
from lash_runtime.waits.keeper import AwaitEventKeeper
from lash_runtime.waits.memory import MemoryWaitBook
from lash_runtime.waits.signal import WaitSignal

pytestmark = pytest.mark.anyio


HANGS_AFTER_S = 0.3
"""A waiter that waits so long for what is in memory waits for ever."""


class EveryCase(StorageAwaitEventConformance, DurableAwaitEventConformance):
    """All that is said of durable waits."""


class Waits(AwaitEventKeeper):
    """An intact keeper, with its parts in reach."""

    def __init__(self, book: MemoryWaitBook, signal: WaitSignal, clock: Callable[[], Clock]):
        super().__init__(book, signal, clock)
        self.book = book
        self.ringer = signal
        self.time = clock


class Place:
    """What outlives a storage: handed on from one opening to the next, and shared by two."""

    def __init__(self) -> None:
        self.intact = MemoryStorage()
        self.opened = 0


class Storage:
    """The memory storage, with its waits kept by `broken`. Several may be open on one place."""

    broken: type[Waits] = Waits

    def __init__(self, place: Place) -> None:
        self.place = place
        keeper = place.intact.await_events
        self.await_events = self.broken(keeper._book, keeper._signal, keeper._clock)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.place.intact, name)

    async def open(self) -> None:
        self.place.opened += 1
        await self.place.intact.open()

    async def aclose(self) -> None:
        self.place.opened = 0
        await self.place.intact.aclose()


class GivesNewKeys(Waits):
    """Each time another one."""

    numbers = itertools.count()

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        return await super().await_event_key(scope, wait, next(self.numbers) % 40 + 1)


class TakesAnyWait(Waits):
    """A blank is as good as a name."""

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        try:
            return await super().await_event_key(scope, wait, generation)
        except EffectControllerError:
            key = mint_await_event_key(scope, type(wait).model_validate(_WHOLE[wait.type]), b"")
            return key.model_copy(update={"wait": wait})


_WHOLE = {
    "tool_completion": {"tool_call_id": "x"},
    "custom": {"key": "x"},
    "process_signal": {"process_id": "x", "signal_name": "x", "ordinal": 1},
}


class KnowsOnlyWaiters(Waits):
    """Who answers before anybody waits, answers nothing."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        if not self.ringer.is_heard(key.key_id):
            return ResolveAccepted()
        return await super().resolve_await_event(key, resolution)


class WakesNobody(Waits):
    """What is answered is found by whoever looks."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        return await self.book.answer(key, resolution_text(resolution))


class LetsTheLastWin(Waits):
    """Whatever was said before."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        outcome = await super().resolve_await_event(key, resolution)
        if isinstance(outcome, AlreadyResolved):
            self.book._entries[key.key_id].terminal = resolution_text(resolution)
        return outcome


class AcceptsEveryAnswer(Waits):
    """And keeps the first."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        await super().resolve_await_event(key, resolution)
        return ResolveAccepted()


class AnswersTheWholeScope(Waits):
    """What is said to one wait of a turn is said to all of them."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        for key_id in tuple(self.book._of_scope[key.scope]):
            await self.book.answer(key.model_copy(update={"key_id": key_id}), "{}")
            self.book._entries[key_id].terminal = resolution_text(resolution)
            self.ringer.ring(key_id)
        return ResolveAccepted()


class KnowsKeysByIdentity(Waits):
    """One that was copied is none."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.given: list[AwaitEventKey] = []

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        self.given.append(await super().await_event_key(scope, wait, generation))
        return self.given[-1]

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        if not any(key is each for each in self.given):
            return UnknownOrRevoked()
        return await super().resolve_await_event(key, resolution)


class TakesTheWordOfAKey(Waits):
    """A key names a wait, and that is that."""

    async def _is_genuine(self, key: AwaitEventKey) -> bool:
        return True

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        for known in (key.key_id, *self.book._of_session.get("s", ())):
            outcome = await super().resolve_await_event(
                key.model_copy(update={"key_id": known}), resolution
            )
            if not isinstance(outcome, UnknownOrRevoked):
                return outcome
        return outcome


class ReadsByTheIdAlone(Waits):
    """Whoever has the id of a wait may read its answer."""

    async def _is_genuine(self, key: AwaitEventKey) -> bool:
        return True

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        for known in self.book._of_session.get("s", ()):
            key = key.model_copy(update={"key_id": known})
        return await super().await_await_event(key, cancel, deadline_ms)


class WritesWhatItCan(Waits):
    """An object becomes its name, and what cannot be becomes nothing."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        try:
            return await super().resolve_await_event(key, resolution)
        except EffectControllerError:
            return await super().resolve_await_event(key, ResolvedOk())


class KeepsTheObject(Waits):
    """Not a copy of it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.given: dict[str, Resolution] = {}

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        self.given[key.key_id] = resolution
        return await super().resolve_await_event(key, resolution)

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        await super().await_await_event(key, cancel, deadline_ms)
        return self.given[key.key_id]


class ForgetsItsTokens(Waits):
    """A cancel is nothing to it."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        return await super().await_await_event(key, CancelToken(), deadline_ms)


class CancelsItselfAlone(Waits):
    """A cancelled waiter tells nobody."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        found: list[Resolution] = []

        async def wait() -> None:
            found.append(
                await super(CancelsItselfAlone, self).await_await_event(
                    key, CancelToken(), deadline_ms
                )
            )
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await cancel.wait()
            tasks.cancel_scope.cancel()
        return found[0] if found else ResolvedCancelled()


class BelievesTheTokenFirst(Waits):
    """A waiter that is cancelled does not look what there is."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        if cancel.is_cancelled:
            await super().resolve_await_event(key, ResolvedCancelled())
            return ResolvedCancelled()
        answer = await super().await_await_event(key, cancel, deadline_ms)
        return ResolvedCancelled() if cancel.is_cancelled else answer


class HasNoDeadlines(Waits):
    """It waits."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        return await super().await_await_event(key, cancel, None)


class IsAMinuteEarly(Waits):
    """Its deadlines are the day's, not the minute's."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        early = deadline_ms and deadline_ms - 60_000
        return await super().await_await_event(key, cancel, early)


class BelievesTheDeadlineFirst(Waits):
    """What comes too late is too late, also if it is there."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        if deadline_ms is not None and deadline_ms <= self.time().timestamp_ms():
            await super().resolve_await_event(key, ResolvedTimeout())
            return ResolvedTimeout()
        return await super().await_await_event(key, cancel, deadline_ms)


class EnforcesDeadlines(Waits):
    """An answer after the deadline is refused, although nobody had given up."""

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        state = await self.book.look(key)
        if isinstance(state, Pending) and (state.deadline_ms or 2**62) < self.time().timestamp_ms():
            await super().resolve_await_event(key, ResolvedTimeout())
        return await super().resolve_await_event(key, resolution)


class StartsTheTimeAnew(Waits):
    """The last deadline holds."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        if key.key_id in self.book._entries:
            self.book._entries[key.key_id].deadline_ms = deadline_ms
        return await super().await_await_event(key, cancel, deadline_ms)


class TakesInterruptionsForCancels(Waits):
    """Who stops waiting does not want to know."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        try:
            return await super().await_await_event(key, cancel, deadline_ms)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await super().resolve_await_event(key, ResolvedCancelled())
            raise


class ListensToTokensForEver(Waits):
    """Also of waiters that have gone."""

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        def write() -> None:
            entry = self.book._entries.get(key.key_id)
            if entry is not None and entry.terminal is None:
                entry.terminal = resolution_text(ResolvedCancelled())

        cancel.on_cancel(write)
        return await super().await_await_event(key, cancel, deadline_ms)


class CancelsNothing(Waits):
    """It says that it has."""

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        return None


class CancelsWhoIsThere(Waits):
    """A wait whose waiter has gone is not seen."""

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        for key_id in tuple(self.book._of_session.get(session_id, ())):
            if self.ringer.is_heard(key_id):
                self.book._entries[key_id].terminal = resolution_text(ResolvedCancelled())
                self.ringer.ring(key_id)


class CancelsEverything(Waits):
    """Whosever it is, answered or not."""

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        for key_id, entry in tuple(self.book._entries.items()):
            entry.terminal = resolution_text(ResolvedCancelled())
            self.ringer.ring(key_id)


class CancelsForGood(Waits):
    """A cancelled session is over."""

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        await self.revoke_await_events_for_session(session_id)


class RevokesNothing(Waits):
    """It says that it has."""

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        return None


class RevokesWhatThereIs(Waits):
    """And nothing of what comes."""

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        self.book.drop_session(session_id)
        self.ringer.ring_session(session_id)


class RevokesEverybody(Waits):
    """One session, all sessions."""

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        for key_id in tuple(self.book._entries):
            self.book.drop(key_id)
            self.ringer.ring(key_id)


class RevokesAllGenerations(Waits):
    """An id that was deleted is used up."""

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        await super().revoke_await_events_for_session(session_id, 1_000)


class RevokesTheLastThatWasNamed(Waits):
    """Also when that was said before."""

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        self.book._revoked.pop(session_id, None)
        await super().revoke_await_events_for_session(session_id, generation)

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        if session_of(key.scope) is not None:
            await self.await_event_key(key.scope, key.wait, key.generation)
        return await super().resolve_await_event(key, resolution)


class Unrevoked(Storage):
    """Its waits know nothing of deletions."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.await_events = Waits(_ever(place), WaitSignal(shared_book=False), _clock_of(place))


def _ever(place: Place) -> MemoryWaitBook:
    if not hasattr(place, "book"):
        place.book = MemoryWaitBook()  # type: ignore[attr-defined]
    book: MemoryWaitBook = place.book  # type: ignore[attr-defined]
    return book


def _clock_of(place: Place) -> Callable[[], Clock]:
    return lambda: place.intact._library.clock


class ClosesInSilence(Unrevoked):
    """Its waiters do not hear that it is closed."""


class NeverAgain(Storage):
    """An id that was deleted is used up, for waits."""

    broken = Waits

    @property
    def session_stores(self) -> Any:
        return _Deleting(self, 1_000)


class EndsAllSessions(Storage):
    """The deletion of one session ends the waits of everybody."""

    broken = RevokesEverybody

    @property
    def session_stores(self) -> Any:
        return _Deleting(self, 1)


class _Deleting:
    def __init__(self, storage: Storage, generation: int) -> None:
        self.storage = storage
        self.generation = generation

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage.place.intact.session_stores, name)

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        report = await self.storage.place.intact.session_stores.delete_session(session_id)
        waits = self.storage.await_events
        await waits.revoke_await_events_for_session(session_id, self.generation)
        return report


class MakesKeysOfToday(Waits):
    """Whoever asks gets a key of the session that is there now."""

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        return await super().await_event_key(scope, wait)


class Fresh(Storage):
    """Each opening begins with nothing: no key, no answer, no deadline."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.await_events = Waits(MemoryWaitBook(), WaitSignal(shared_book=False), _clock_of(place))


class FreshWithTheOldSecret(Storage):
    """Keys are good in each opening, and nothing else of the others is known in it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        book = _Forgetful()
        book._secret = _ever(place)._secret
        self.await_events = Waits(book, WaitSignal(shared_book=False), _clock_of(place))


class _Forgetful(MemoryWaitBook):
    """Knows every key that is genuine."""

    async def register(self, key: AwaitEventKey, deadline_ms: int | None) -> WaitState:
        await self.mint(key.scope, key.wait, key.generation)
        return await super().register(key, deadline_ms)

    async def answer(self, key: AwaitEventKey, terminal: str) -> ResolveOutcome:
        await self.mint(key.scope, key.wait, key.generation)
        return await super().answer(key, terminal)


def kept_by(broken: type[Waits]) -> type[Storage]:
    return type(broken.__name__, (Storage,), {"broken": broken})


async def passes(case: str, made: type[Storage], arguments: dict[str, Any]) -> bool:
    """Whether one case holds for storages of that class."""
    place, clock = Place(), ManualClock()
    method = getattr(EveryCase(), case)
    asked = inspect.signature(method).parameters
    async with AsyncExitStack() as opened:

        async def open_storage() -> Storage:
            storage = made(place)
            storage.bind(clock=clock, ids=FixedIdSource())
            await storage.open()
            opened.push_async_callback(storage.aclose)
            return storage

        given: dict[str, Any] = {"clock": clock, "open_storage": open_storage, **arguments}
        if "open_storage" not in asked:
            storage = await open_storage()
            waits = storage.await_events
            given |= {"storage": storage, "await_events": waits}
        try:
            if "waiters" in asked:
                async with waiters_on(waits) as waiters:
                    await method(waiters=waiters, **_asked(given, asked))
            else:
                await method(**_asked(given, asked))
        except (AssertionError, pytest.fail.Exception, EffectControllerError, TimeoutError):
            return False
    return True


def _asked(given: dict[str, Any], asked: Any) -> dict[str, Any]:
    return {name: given[name] for name in asked if name in given}


ONE_OF: dict[str, Any] = {
    "wait": CustomWait(key=""),
    "later_ms": 600_000,
    "second": ResolvedErr(code="c", message="m"),
    "resolution": ResolvedOk(payload=1),
    "changes": {"signature": ""},
    "payload": float("nan"),
}
"""Of the values that a parametrized case is run with."""


BROKEN: list[tuple[type[Storage], str]] = [
    *(
        (kept_by(broken), case)
        for broken, case in [
            (GivesNewKeys, "test_the_same_wait_has_the_same_key"),
            (TakesAnyWait, "test_a_wait_that_nothing_tells_from_others_has_no_key"),
            (KnowsOnlyWaiters, "test_an_answer_before_anybody_waits_is_kept"),
            (WakesNobody, "test_an_answer_wakes_everybody_who_waits"),
            (LetsTheLastWin, "test_a_second_answer_is_told_the_first"),
            (AcceptsEveryAnswer, "test_of_answers_at_the_same_time_one_is_accepted"),
            (AnswersTheWholeScope, "test_an_answer_reaches_its_own_wait_alone"),
            (KnowsKeysByIdentity, "test_a_key_that_went_through_others_is_as_good"),
            (TakesTheWordOfAKey, "test_a_key_that_was_changed_answers_nothing"),
            (ReadsByTheIdAlone, "test_nobody_waits_for_a_key_that_was_changed"),
            (WritesWhatItCan, "test_an_answer_that_is_not_json_is_refused"),
            (KeepsTheObject, "test_an_answer_stays_as_it_was_given"),
            (ForgetsItsTokens, "test_a_token_that_fires_is_an_answer"),
            (CancelsItselfAlone, "test_a_token_of_one_waiter_ends_the_wait_for_all"),
            (ForgetsItsTokens, "test_a_token_that_has_fired_before_is_an_answer"),
            (BelievesTheTokenFirst, "test_an_answer_counts_more_than_a_token_that_has_fired"),
            (
                BelievesTheTokenFirst,
                "test_an_answer_counts_more_than_a_token_that_fires_after_it",
            ),
            (HasNoDeadlines, "test_a_deadline_that_passes_is_an_answer"),
            (IsAMinuteEarly, "test_a_deadline_that_passes_is_an_answer"),
            (HasNoDeadlines, "test_a_deadline_that_has_passed_before_is_an_answer"),
            (
                BelievesTheDeadlineFirst,
                "test_an_answer_counts_more_than_a_deadline_that_has_passed",
            ),
            (EnforcesDeadlines, "test_an_answer_counts_more_than_a_deadline_that_has_passed"),
            (StartsTheTimeAnew, "test_the_first_wait_says_which_deadline_holds"),
            (StartsTheTimeAnew, "test_a_wait_without_a_deadline_stays_without"),
            (
                TakesInterruptionsForCancels,
                "test_an_interrupted_waiter_leaves_the_wait_pending",
            ),
            (
                ListensToTokensForEver,
                "test_a_token_that_fires_after_an_interruption_answers_nothing",
            ),
            (
                TakesInterruptionsForCancels,
                "test_an_interrupted_waiter_does_not_end_the_wait_of_others",
            ),
            (CancelsNothing, "test_cancelling_a_session_answers_its_open_waits"),
            (
                CancelsWhoIsThere,
                "test_cancelling_a_session_reaches_waits_whose_waiter_has_gone",
            ),
            (CancelsEverything, "test_cancelling_a_session_reaches_nothing_else"),
            (CancelsEverything, "test_cancelling_a_session_changes_no_answer"),
            (CancelsForGood, "test_a_cancelled_session_waits_again"),
            (RevokesNothing, "test_revoking_a_session_ends_its_waits"),
            (RevokesNothing, "test_the_keys_of_a_revoked_session_are_unknown"),
            (RevokesWhatThereIs, "test_a_revoked_session_stays_revoked"),
            (RevokesEverybody, "test_revoking_a_session_reaches_nothing_else"),
            (RevokesAllGenerations, "test_a_revocation_names_a_generation"),
            (RevokesTheLastThatWasNamed, "test_a_late_revocation_does_not_undo_a_later_one"),
            (MakesKeysOfToday, "test_a_turn_that_outlives_its_session_makes_dead_keys"),
        ]
    ),
    (Unrevoked, "test_deleting_a_session_ends_its_waits"),
    (Unrevoked, "test_the_keys_of_a_deleted_session_are_unknown"),
    (NeverAgain, "test_an_id_that_is_used_again_has_waits_of_its_own"),
    (EndsAllSessions, "test_deleting_a_session_leaves_the_waits_of_others"),
    (ClosesInSilence, "test_closing_the_storage_ends_the_waiting"),
    (Fresh, "test_a_key_outlives_its_process"),
    (FreshWithTheOldSecret, "test_an_answer_is_kept_while_nobody_is_there"),
    (FreshWithTheOldSecret, "test_a_deadline_outlives_its_process"),
    (FreshWithTheOldSecret, "test_a_revocation_outlives_its_process"),
    (FreshWithTheOldSecret, "test_an_answer_through_one_handle_reaches_who_waits_on_another"),
    (FreshWithTheOldSecret, "test_what_ends_a_session_is_felt_through_every_handle"),
    (FreshWithTheOldSecret, "test_of_answers_through_several_handles_one_is_accepted"),
]


def _arguments(case: str) -> dict[str, Any]:
    """One set of the values that a case is run with."""
    asked = inspect.signature(getattr(EveryCase, case)).parameters
    return {name: value for name, value in ONE_OF.items() if name in asked}


@pytest.mark.parametrize(
    ("broken", "case"), BROKEN, ids=[f"{broken.__name__}-{case}" for broken, case in BROKEN]
)
async def test_a_broken_keeper_is_caught(
    broken: type[Storage], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    for module in (_await_event_case, await_event_ends):
        monkeypatch.setattr(module, "ENDS_WITHIN_S", HANGS_AFTER_S)
    assert await passes(case, Storage, _arguments(case))
    assert not await passes(case, broken, _arguments(case))


def test_every_case_is_shown_able_to_fail() -> None:
    """One that is added later has to be added above, too."""
    cases = {name for name in dir(EveryCase) if name.startswith("test_")}
    assert cases == {case for _, case in BROKEN}
