"""Durable waits: keys, and answers. The first one stays, whenever it comes and whoever gives it.

A subclass provides the fixture `await_events`: a resolver without any waits, by the clock of the
fixture `clock`.
"""

from datetime import datetime
from typing import Any

import anyio
import pytest

from ...ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    CustomWait,
    ProcessSignalWait,
    Resolution,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedOk,
    ResolvedTimeout,
    ResolveOutcome,
    ToolCompletionWait,
    UnknownOrRevoked,
)
from ...ports.cancel import CancelToken
from ...ports.effect_errors import EffectControllerError
from ...ports.execution_scope import TurnScope
from ..clocks import ManualClock
from ._await_event_case import (
    NO,
    OF_OTHERS,
    OF_THE_SESSION,
    TOOL,
    TURN,
    UNKNOWN,
    WAITS,
    YES,
    AwaitEventCase,
    Waiters,
    a_key,
    answer_now,
)
from ._raises import raised_by

CHANGES: tuple[dict[str, Any], ...] = (
    {"wait": WAITS[1]},
    {"scope": TurnScope(session_id="s", turn_id="other")},
    {"generation": 7},
    {"key_id": "0" * 64},
    {"signature": "0" * 64},
    {"signature": ""},
)
"""What somebody may try who holds a key of another wait."""

NOT_JSON: tuple[Any, ...] = (
    float("nan"),
    {"when": datetime(2025, 6, 15)},
    ["half a \ud83c pair"],
)


class AwaitEventAnswerConformance(AwaitEventCase):
    """What a key is worth, and what becomes of an answer."""

    async def test_the_same_wait_has_the_same_key(self, await_events: AwaitEventResolver) -> None:
        """Whoever runs again asks again, and must get the promise that others already hold."""
        key = await a_key(await_events)
        assert (key.scope, key.wait) == (TURN, TOOL)
        assert await a_key(await_events) == key
        assert await a_key(await_events, wait=WAITS[1]) != key

    @pytest.mark.parametrize(
        "wait",
        [
            ToolCompletionWait(tool_call_id=" "),
            CustomWait(key=""),
            CustomWait(key="half a \ud83c pair"),
            ProcessSignalWait(process_id="", signal_name="go", ordinal=1),
            ProcessSignalWait(process_id="p", signal_name="go", ordinal=0),
        ],
        ids=repr,
    )
    async def test_a_wait_that_nothing_tells_from_others_has_no_key(
        self, await_events: AwaitEventResolver, wait: AwaitEventWaitIdentity
    ) -> None:
        """Two strangers would wait for one answer."""
        error = await raised_by(await_events.await_event_key(TURN, wait), EffectControllerError)
        assert error.code == "invalid_await_event_wait_identity"

    @pytest.mark.parametrize(
        "resolution", [YES, ResolvedOk(), NO, ResolvedTimeout(), ResolvedCancelled()], ids=repr
    )
    async def test_an_answer_before_anybody_waits_is_kept(
        self, await_events: AwaitEventResolver, clock: ManualClock, resolution: Resolution
    ) -> None:
        """The outside world may be faster; each kind of answer comes back as it was given."""
        key = await a_key(await_events)
        assert await await_events.resolve_await_event(key, resolution) == ResolveAccepted()
        assert await answer_now(await_events, key, clock) == resolution

    async def test_an_answer_wakes_everybody_who_waits(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Without anybody's clock being moved."""
        key = await a_key(await_events)
        waiting = [await waiters.start(key) for _ in range(3)]
        assert all(waiter.waits for waiter in waiting)
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
        assert [await waiter.answer() for waiter in waiting] == [YES] * 3

    @pytest.mark.parametrize("second", [NO, YES, ResolvedCancelled()], ids=repr)
    async def test_a_second_answer_is_told_the_first(
        self, await_events: AwaitEventResolver, clock: ManualClock, second: Resolution
    ) -> None:
        """Whatever it says, also the same: a web hook that is called again does nothing twice."""
        key = await a_key(await_events)
        await await_events.resolve_await_event(key, YES)
        assert await await_events.resolve_await_event(key, second) == AlreadyResolved(YES)
        assert await answer_now(await_events, key, clock) == YES

    async def test_of_answers_at_the_same_time_one_is_accepted(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """And all others are told that one."""
        key = await a_key(await_events)
        waiter = await waiters.start(key)
        answers = [ResolvedOk(payload=number) for number in range(10)]
        outcomes: list[ResolveOutcome] = []

        async def give(answer: Resolution) -> None:
            outcomes.append(await await_events.resolve_await_event(key, answer))

        async with anyio.create_task_group() as tasks:
            for answer in answers:
                tasks.start_soon(give, answer)
        first = await waiter.answer()
        assert first in answers
        assert outcomes.count(ResolveAccepted()) == 1
        assert outcomes.count(AlreadyResolved(first)) == len(answers) - 1

    async def test_an_answer_reaches_its_own_wait_alone(
        self, await_events: AwaitEventResolver, waiters: Waiters
    ) -> None:
        """Other scopes, and other waits of the same scope, go on."""
        keys = [await a_key(await_events, scope) for scope in (*OF_THE_SESSION, *OF_OTHERS)]
        keys += [await a_key(await_events, wait=wait) for wait in WAITS[1:]]
        waiting = [await waiters.start(key) for key in keys]
        await await_events.resolve_await_event(keys[0], YES)
        assert await waiting[0].answer() == YES
        await waiters.settle()
        assert [waiter.waits for waiter in waiting[1:]] == [True] * (len(keys) - 1)

    async def test_a_key_that_went_through_others_is_as_good(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """It travels as JSON."""
        for scope in (*OF_THE_SESSION, *OF_OTHERS):
            key = await a_key(await_events, scope)
            back = AwaitEventKey.model_validate_json(key.model_dump_json())
            assert await await_events.resolve_await_event(back, NO) == ResolveAccepted()
            assert await answer_now(await_events, key, clock) == NO

    @pytest.mark.parametrize("changes", CHANGES, ids=str)
    async def test_a_key_that_was_changed_answers_nothing(
        self, await_events: AwaitEventResolver, waiters: Waiters, changes: dict[str, Any]
    ) -> None:
        """Holding one key opens no other wait."""
        key = await a_key(await_events)
        others = [await a_key(await_events, wait=wait) for wait in WAITS]
        waiting = [await waiters.start(each) for each in others]
        forged = key.model_copy(update=changes)
        assert await await_events.resolve_await_event(forged, YES) == UnknownOrRevoked()
        await waiters.settle()
        assert all(waiter.waits for waiter in waiting)

    @pytest.mark.parametrize("changes", CHANGES, ids=str)
    async def test_nobody_waits_for_a_key_that_was_changed(
        self, await_events: AwaitEventResolver, changes: dict[str, Any]
    ) -> None:
        """Nor reads an answer by it."""
        for wait in WAITS:
            key = await a_key(await_events, wait=wait)
            await await_events.resolve_await_event(key, YES)
        forged = (await a_key(await_events)).model_copy(update=changes)
        wait_for_it = await_events.await_await_event(forged, CancelToken(), None)
        with anyio.fail_after(5):
            error = await raised_by(wait_for_it, EffectControllerError)
        assert error.code == UNKNOWN

    @pytest.mark.parametrize("payload", NOT_JSON, ids=repr)
    async def test_an_answer_that_is_not_json_is_refused(
        self, await_events: AwaitEventResolver, clock: ManualClock, payload: Any
    ) -> None:
        """Another process could not read it. Nothing is answered then."""
        key = await a_key(await_events)
        for answer in (ResolvedOk(payload=payload), NO.model_copy(update={"raw": payload})):
            error = await raised_by(
                await_events.resolve_await_event(key, answer), EffectControllerError
            )
            assert error.code == "await_event_encode"
        assert await await_events.resolve_await_event(key, YES) == ResolveAccepted()
        assert await answer_now(await_events, key, clock) == YES

    async def test_an_answer_stays_as_it_was_given(
        self, await_events: AwaitEventResolver, clock: ManualClock
    ) -> None:
        """What becomes of the object afterwards, with whoever gave it or got it, is their own."""
        key = await a_key(await_events)
        given = {"items": ["one"]}
        await await_events.resolve_await_event(key, ResolvedOk(payload=given))
        given["items"].append("two")
        got = await answer_now(await_events, key, clock)
        assert got == ResolvedOk(payload={"items": ["one"]})
        got.payload["items"].clear()
        assert await answer_now(await_events, key, clock) == ResolvedOk(payload={"items": ["one"]})
