"""Scopes, the keys of durable waits, which are bearer capabilities that travel as JSON, and what
an answer is as text."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.ports.await_events import (
    AlreadyResolved,
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    CustomWait,
    ProcessSignalWait,
    Resolution,
    ResolveAccepted,
    ResolvedCancelled,
    ResolvedErr,
    ResolvedOk,
    ResolvedTimeout,
    ToolCompletionWait,
    UnknownOrRevoked,
    is_genuine,
    mint_await_event_key,
    resolution_adapter,
    resolution_text,
)
from lash_runtime.ports.cancel import CancelToken
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import (
    EffectControllerError,
    ExecutionScope,
    LocalEffectExecutor,
    ProcessScope,
    QueueDrainScope,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeOperationScope,
    ScopedEffectController,
    SessionDeleteScope,
    TurnScope,
    await_events_of,
    session_of,
    turn_of,
)
from lash_runtime.testing import RecordingEffectHost

pytestmark = pytest.mark.anyio

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


class _WithoutWaits:
    """A controller that does nothing but its work."""

    durability_tier = DurabilityTier.INLINE
    supports_concurrent_effects = True

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        return await executor.execute(envelope)


async def test_the_waits_of_a_host_are_found_where_it_has_any() -> None:
    """And where it has none, that is said before somebody waits for ever."""
    host = InlineEffectHost()
    resolver: AwaitEventResolver = await_events_of(host)
    assert resolver is host
    assert await_events_of(host.scoped(TURN).controller) is host.scoped(TURN).controller
    without = [_WithoutWaits(), InlineEffectHost(_WithoutWaits())]
    for part in (*without, RecordingEffectHost(InlineEffectHost(_WithoutWaits()))):
        with pytest.raises(EffectControllerError, match=type(part).__name__) as raised:
            await_events_of(part)
        assert raised.value.code == "await_event_unsupported"


async def test_a_host_keeps_no_waits_that_its_controller_does_not_keep() -> None:
    """It knows no key, and says what it cannot do, and whose fault that is."""
    host, key = InlineEffectHost(_WithoutWaits()), mint_await_event_key(TURN, WAITS[0], SECRET)
    assert await host.resolve_await_event(key, ResolvedOk()) == UnknownOrRevoked()
    await host.revoke_await_events_for_session("s")
    for code, call in [
        ("await_event_unsupported", host.await_event_key(TURN, WAITS[0])),
        ("await_event_unsupported", host.await_await_event(key, CancelToken(), None)),
        ("await_event_cancel_unsupported", host.cancel_await_events_for_session("s")),
    ]:
        with pytest.raises(EffectControllerError, match="_WithoutWaits") as raised:
            await call
        assert raised.value.code == code


def test_a_wait_that_is_no_text_has_no_key() -> None:
    """It could not be signed, and a key that claims to be of such a wait was never given out."""
    odd = CustomWait(key="half a \ud83c pair")
    with pytest.raises(EffectControllerError) as raised:
        mint_await_event_key(TURN, odd, SECRET)
    assert raised.value.code == "invalid_await_event_wait_identity"
    key = mint_await_event_key(TURN, WAITS[0], SECRET)
    assert not is_genuine(key.model_copy(update={"wait": odd}), SECRET)


# --- answers ------------------------------------------------------------------------------------

ANSWERS = [
    ResolvedOk(payload={"a": [1, 2.5, None, True, "\N{SNOWFLAKE}", "\x00", 2**80]}),
    ResolvedOk(),
    ResolvedErr(code="c", message="m", raw=[1]),
    ResolvedErr(code="c", message="m"),
    ResolvedTimeout(),
    ResolvedCancelled(),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_reads_back_as_it_was(answer: Resolution) -> None:
    """From its text, which is all that is kept."""
    assert resolution_adapter().validate_json(resolution_text(answer)) == answer


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def in_a_circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "payload",
    [object(), {1, 2}, b"bytes", float("inf"), "\ud83c", nested(5_000), nested(250), in_a_circle()],
    ids=["object", "set", "bytes", "infinity", "half a pair", "deep", "too deep", "circle"],
)
def test_what_json_does_not_know_is_no_answer(payload: Any) -> None:
    """Whoever reads it later, in another process, would be the one to fail."""
    for answer in (ResolvedOk(payload=payload), ResolvedErr(code="c", message="m", raw=payload)):
        with pytest.raises(EffectControllerError) as raised:
            resolution_text(answer)
        assert raised.value.code == "await_event_encode"


def test_an_outcome_says_what_it_is() -> None:
    """A web hook hands the word on."""
    outcomes = [ResolveAccepted(), AlreadyResolved(ResolvedTimeout()), UnknownOrRevoked()]
    assert [o.status for o in outcomes] == ["accepted", "already_resolved", "unknown_or_revoked"]
