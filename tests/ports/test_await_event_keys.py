"""Scopes, and the keys of durable waits: bearer capabilities that travel as JSON."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.ports.await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    CustomWait,
    ProcessSignalWait,
    Resolution,
    ResolveAccepted,
    ResolveOutcome,
    ToolCompletionWait,
    is_genuine,
    mint_await_event_key,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.effects import (
    EffectControllerError,
    ExecutionScope,
    ProcessScope,
    QueueDrainScope,
    RuntimeOperationScope,
    ScopedEffectController,
    SessionDeleteScope,
    TurnScope,
    await_events_of,
    session_of,
    turn_of,
)

SECRET = b"0123456789abcdef0123456789abcdef"
TURN = TurnScope(session_id="s", turn_id="t")
SCOPES = [
    (TURN, "t", "s", "t"),
    (ProcessScope(process_id="p"), "p", None, None),
    (QueueDrainScope(session_id="s", drain_id="d"), "d", "s", None),
    (SessionDeleteScope(session_id="s"), "s", "s", None),
    (RuntimeOperationScope(operation_id="o"), "o", None, None),
]
WAITS = [
    ToolCompletionWait(tool_call_id="x"),
    CustomWait(key="x"),
    ProcessSignalWait(process_id="x", signal_name="go", ordinal=1),
    ProcessSignalWait(process_id="x", signal_name="go", ordinal=2),
]


@pytest.mark.parametrize(("scope", "scope_id", "session", "turn"), SCOPES)
def test_a_scope_says_whose_it_is(
    scope: ExecutionScope, scope_id: str, session: str | None, turn: str | None
) -> None:
    """Ending a session reaches what belongs to it, and nothing else."""
    bound = InlineEffectHost().scoped(scope)
    assert (bound.scope_id, bound.turn_id) == (scope_id, turn)
    assert bound.execution_scope == scope
    assert (session_of(scope), turn_of(scope)) == (session, turn)
    assert TypeAdapter(ExecutionScope).validate_json(scope.model_dump_json()) == scope


@pytest.mark.parametrize(
    "scope", [TURN.model_copy(update={"turn_id": " "}), ProcessScope(process_id="")]
)
def test_a_controller_cannot_be_bound_to_nobody(scope: ExecutionScope) -> None:
    """Its records would be found by everybody else who forgot an id."""
    with pytest.raises(EffectControllerError) as raised:
        ScopedEffectController(InlineEffectHost().scoped(TURN).controller, scope)
    assert raised.value.code == "missing_execution_scope_id"


def test_the_same_wait_has_the_same_key() -> None:
    """A second run asks again, and must get the promise that others already hold."""
    one = mint_await_event_key(TURN, WAITS[0], SECRET, generation=1)
    assert one == mint_await_event_key(TURN, WAITS[0], SECRET, generation=1)
    assert one.promise_key == f"lash-await-event:{one.key_id}"


def test_different_waits_have_different_keys() -> None:
    """By scope, by generation of the session, by kind and by identity of the wait."""
    keys = [
        mint_await_event_key(scope, wait, SECRET, generation).key_id
        for scope, *_ in SCOPES
        for wait in WAITS
        for generation in (None, 1, 2)
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("wait", WAITS)
def test_a_key_that_went_through_others_is_still_genuine(wait: AwaitEventWaitIdentity) -> None:
    """A web hook gives it back as JSON."""
    key = mint_await_event_key(TURN, wait, SECRET, generation=1)
    back = AwaitEventKey.model_validate_json(key.model_dump_json())
    assert back == key
    assert is_genuine(back, SECRET)


@pytest.mark.parametrize(
    "changes",
    [
        {"wait": WAITS[1]},
        {"scope": TurnScope(session_id="s", turn_id="other")},
        {"generation": 2},
        {"generation": None},
        {"key_id": "0" * 64},
        {"signature": "0" * 64},
        {"signature": ""},
        {"signature": "ü"},
    ],
)
def test_a_key_that_was_changed_is_not_genuine(changes: dict[str, Any]) -> None:
    """Holding one key must not open other waits."""
    key = mint_await_event_key(TURN, WAITS[0], SECRET, generation=1)
    assert not is_genuine(key.model_copy(update=changes), SECRET)
    assert not is_genuine(key, b"another secret")


@pytest.mark.parametrize(
    "wait",
    [
        ToolCompletionWait(tool_call_id=" "),
        CustomWait(key=""),
        ProcessSignalWait(process_id="", signal_name="go", ordinal=1),
        ProcessSignalWait(process_id="p", signal_name=" ", ordinal=1),
        ProcessSignalWait(process_id="p", signal_name="go", ordinal=0),
    ],
)
def test_a_wait_that_nothing_tells_from_others_has_no_key(wait: AwaitEventWaitIdentity) -> None:
    """Two strangers would wait for one answer."""
    with pytest.raises(EffectControllerError) as raised:
        mint_await_event_key(TURN, wait, SECRET)
    assert raised.value.code == "invalid_await_event_wait_identity"


class _Waits(InlineEffectHost):
    """A host that also keeps waits."""

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity
    ) -> AwaitEventKey:
        return mint_await_event_key(scope, wait, SECRET)

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        return ResolveAccepted()

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        raise AssertionError("nobody waits here")

    async def revoke_await_events_for_session(self, session_id: str) -> None: ...

    async def cancel_await_events_for_session(self, session_id: str) -> None: ...


def test_the_waits_of_a_host_are_found_where_it_has_any() -> None:
    """And where it has none, that is said before somebody waits for ever."""
    host = _Waits()
    resolver: AwaitEventResolver = await_events_of(host)
    assert resolver is host
    for part in (InlineEffectHost(), InlineEffectHost().scoped(TURN).controller):
        with pytest.raises(EffectControllerError) as raised:
            await_events_of(part)
        assert raised.value.code == "await_event_unsupported"
