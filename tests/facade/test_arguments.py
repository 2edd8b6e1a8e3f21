"""Every setter and every method says at once what was wrong with what it was given.

A wrong value that is taken ends hours later, in another file, as somebody else's TypeError.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.places import Place, a_core
from lash_runtime import (
    AttachedTurn,
    Completions,
    EmbedError,
    InvalidAwaitEventKey,
    InvalidConfiguration,
    InvalidSessionId,
    LashCore,
    LashCoreBuilder,
    LashSession,
    LeaseTimings,
    ModelSpec,
    PromptContribution,
    PromptSlot,
    PromptTemplate,
    ResolvedOk,
    SessionBuilder,
    SessionSpec,
    TurnBuilder,
    TurnStream,
    tool,
)
from lash_runtime._arguments import DEFAULT_CONTEXT_WINDOW
from lash_runtime.attachment_access import CoreAttachmentAccess, SessionAttachmentAccess
from lash_runtime.observe import ObservableSession, SessionCursor
from lash_runtime.ports.await_events import CustomWait, mint_await_event_key
from lash_runtime.ports.execution_scope import TurnScope
from lash_runtime.ports.leases import LeaseTimingsError
from lash_runtime.protocols.standard import StandardProtocol
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing import Call, RecordingClock, ScriptedProvider

pytestmark = pytest.mark.anyio

NAN = float("nan")


@tool
async def look() -> str:
    """Look."""
    return "nothing"


def yes() -> ScriptedProvider:
    return ScriptedProvider(otherwise=lambda request: Call.text("yes"))


class Hollow:
    """Has nothing that anybody could call."""


@dataclass(frozen=True)
class Refused:
    """`subject.method(*args, **named)` raises `error`, whose text says `because`."""

    method: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    because: str
    error: type[EmbedError] = InvalidConfiguration
    code: str = "invalid_configuration"

    def __str__(self) -> str:
        said = [*map(_short, self.args), *(f"{k}={_short(v)}" for k, v in self.named.items())]
        return f"{self.method}({', '.join(said)})"


def _short(value: object) -> str:
    if value is None or isinstance(value, int | float | str | bytes | list | type):
        return getattr(value, "__name__", repr(value))
    return f"<{type(value).__name__}>"


def refused(method: str, because: str, *values: Any, at: str | None = None) -> Iterator[Refused]:
    """Each of `values` is refused, as the argument `at` or as the first one."""
    for value in values:
        args, named = ((value,), {}) if at is None else ((), {at: value})
        yield Refused(method, args, named, because)


NOT_TEXT = (None, 5, True, b"x", NAN, ["x"])
NOT_A_COUNT = (True, "3", 2.0, NAN, 0, -1)
NOT_A_PART = (None, 5, "x", True, [], Hollow())
NOT_A_LAYER = (None, 5, "Be kind.", True, {})


def id_refused(method: str, *values: Any) -> Iterator[Refused]:
    for value in values:
        yield Refused(method, (value,), {}, "session id", InvalidSessionId, "invalid_session_id")


def of_all_builders() -> Iterator[Refused]:
    """What the builders of cores, sessions and turns have in common."""
    yield from refused("provider", "provider", *NOT_A_PART, ScriptedProvider)
    yield from refused("provider", "kind", ScriptedProvider(kind=" "))
    yield from refused("model", "model", None, 5, True, NAN, ["gpt"], "", "  ", ModelSpec())
    for named in ("context_window", "output_capacity"):
        for value in NOT_A_COUNT:
            yield Refused("model", ("gpt",), {named: value}, named)
    yield Refused("model", ("gpt",), {"context_window": None}, "context_window")
    yield Refused("model", ("gpt",), {"variant": 5}, "variant")
    yield from refused("max_turns", "max_turns", *NOT_A_COUNT)
    yield from refused("prompt_layer", "PromptLayer", *NOT_A_LAYER)
    yield from refused("prompt_template", "PromptTemplate", *NOT_A_LAYER)
    yield from refused("prompt_contribution", "PromptContribution", *NOT_A_LAYER)
    yield from refused("clear_prompt_slot", "slot", None, 5, "cellar", [])
    yield from refused("replace_prompt_slot", "slot", None, 5, "cellar", [])
    yield Refused("replace_prompt_slot", (PromptSlot.INTRO, "Be kind."), {}, "PromptContribution")


def specs_refused() -> Iterator[Refused]:
    yield from refused("session_spec", "SessionSpec", None, 5, "x", True, {})
    for value in NOT_A_COUNT:
        yield from refused("session_spec", "max_turns", SessionSpec(max_turns=value))
    yield from refused("session_spec", "model", SessionSpec(model=5), SessionSpec(model="gpt"))  # type: ignore[arg-type]
    yield from refused("session_spec", "model", SessionSpec(model=ModelSpec()))
    yield from refused("session_spec", "provider_id", SessionSpec(provider_id=5))  # type: ignore[arg-type]
    yield from refused("session_spec", "PromptLayer", SessionSpec(prompt="x"))  # type: ignore[arg-type]


def of_core_builders() -> Iterator[Refused]:
    yield from of_all_builders()
    yield from specs_refused()
    yield from refused("max_turns", "max_turns", None)
    yield from refused("protocol", "protocol", *NOT_A_PART, StandardProtocol)
    yield from refused("tools", "@tool", 5, None, "x", True, len, [look], Hollow())
    yield from refused("storage", "storage", *NOT_A_PART, MemoryStorage, Path("a.db"))
    yield from refused("store_factory", "store factory", *NOT_A_PART, MemoryStorage())
    yield from refused("attachment_store", "attachment store", *NOT_A_PART, MemoryStorage())
    yield from refused("max_attachment_bytes", "max_attachment_bytes", None, *NOT_A_COUNT)
    yield from refused("effect_host", "effect host", *NOT_A_PART)
    yield from refused("residency", "residency", None, 5, "most", [], NAN)
    yield from refused("live_replay_store", "live replay store", *NOT_A_PART)
    yield from refused("lease_timings", "LeaseTimings", None, 5, NAN, "30s", {"ttl_ms": 5})
    yield from refused("recover", None, 1, "yes")
    yield from refused("clock", "clock", *NOT_A_PART, RecordingClock)
    yield from refused("ids", "id source", *NOT_A_PART)


def of_cores() -> Iterator[Refused]:
    for method in ("session", "delete_session", "session_exists"):
        yield from id_refused(method, None, 5, True, b"s", NAN, "", " ", "nul\x00l")
    yield from refused("resume", "ParkedSession", None, 5, "x", True, Hollow())
    yield from refused("list_sessions", "order", None, 5, "best", at="order")
    yield from refused("list_sessions", "limit", None, *NOT_A_COUNT, 1001, at="limit")
    yield from refused("list_sessions", "after", 5, True, b"x", NAN, at="after")
    for value in (None, 5, True, b"s", NAN, "", " ", "nul\x00l"):
        error = InvalidSessionId
        yield Refused("cancel_turn", (value, "t"), {}, "session id", error, "invalid_session_id")
    for value in NOT_TEXT:
        yield Refused("cancel_turn", ("s", value), {}, "turn id")
    for value in (5, True, b"x", NAN, ["x"], "half a \ud83c pair"):
        yield Refused("cancel_turn", ("s", "t"), {"reason": value}, "reason")
        yield Refused("cancel_turn", ("s", "t"), {"origin": value}, "origin")


def of_session_builders() -> Iterator[Refused]:
    yield from of_all_builders()
    yield from specs_refused()
    yield from id_refused("parent", None, 5, True, b"s", "", " ", "nul\x00l")
    yield from refused("store", "store", *NOT_A_PART, MemoryStorage())
    yield from refused("session_execution_owner", "LeaseOwnerIdentity", None, 5, "me", True)
    yield from refused("open_with_state", "SessionReadView", None, 5, "x", True, {})


def of_sessions() -> Iterator[Refused]:
    yield from refused("turn", "TurnInput", None, 5, True, b"x", ["x"], {"text": "x"}, NAN)
    yield from refused("attach", "turn id", *NOT_TEXT)
    yield from refused("historic_node", "node id", *NOT_TEXT)


def of_turns() -> Iterator[Refused]:
    yield from of_all_builders()
    yield from refused("max_turns", "max_turns", None)
    yield from refused("turn_id", "turn id", *NOT_TEXT)
    yield from refused("cancel", "CancelToken", None, 5, "x", True, lambda: None)
    yield from refused("protocol_turn_options", "ProtocolTurnOptions", None, 5, "x", {"a": 1})
    yield from refused("stream_to", "sink", *NOT_A_PART, print)


def of_observers() -> Iterator[Refused]:
    for method in ("resume_from_cursor", "subscribe_from_cursor", "subscribe_and_recover"):
        yield from refused(method, "SessionCursor", None, 5, "abc", True, NAN)


def of_core_attachments() -> Iterator[Refused]:
    yield from refused("get", "attachment", None, 5, True, b"x")
    yield from refused("sweep", "timedelta", None, 5, NAN, "1d")


def of_session_attachments() -> Iterator[Refused]:
    yield from refused("get", "attachment", None, 5, True, b"x")
    yield from refused("put", "bytes", None, 5, "x", True)
    for named, value in (("mime", 5), ("label", 5)):
        yield Refused("put", (b"x",), {named: value}, named)


A_KEY = mint_await_event_key(TurnScope(session_id="s", turn_id="t"), CustomWait(key="k"), b"")


def of_completions() -> Iterator[Refused]:
    for method, rest in (("resolve", (ResolvedOk(),)), ("complete", ()), ("fail", ("c", "m"))):
        for value in (None, 5, True, b"x", {}, Hollow()):
            yield Refused(method, (value, *rest), {}, "AwaitEventKey")
        for text in ("", "k", "{}"):
            error, code = InvalidAwaitEventKey, "invalid_await_event_key"
            yield Refused(method, (text, *rest), {}, "AwaitEventKey", error, code)
    for value in (None, 5, True, "ok", {"status": "ok"}, ResolvedOk):
        yield Refused("resolve", (A_KEY, value), {}, "ResolvedOk")
    for value in (object(), NAN, {1, 2}, "half a \ud83c pair"):
        yield Refused("resolve", (A_KEY, ResolvedOk(payload=value)), {}, "JSON")
        yield Refused("complete", (A_KEY, value), {}, "JSON")
        yield Refused("fail", (A_KEY, "c", "m"), {"raw": value}, "JSON")
    for value in NOT_TEXT:
        yield Refused("fail", (A_KEY, value, "m"), {}, "code")
        yield Refused("fail", (A_KEY, "c", value), {}, "message")


SUBJECTS: dict[type, Callable[[], Iterator[Refused]]] = {
    LashCoreBuilder: of_core_builders,
    LashCore: of_cores,
    SessionBuilder: of_session_builders,
    LashSession: of_sessions,
    TurnBuilder: of_turns,
    ObservableSession: of_observers,
    CoreAttachmentAccess: of_core_attachments,
    SessionAttachmentAccess: of_session_attachments,
    Completions: of_completions,
}
CASES = [(subject, case) for subject, cases in SUBJECTS.items() for case in cases()]


@pytest.mark.parametrize(
    ("subject", "case"), CASES, ids=[f"{subject.__name__}.{case}" for subject, case in CASES]
)
async def test_what_cannot_work_is_refused_where_it_is_said(
    database: Path, subject: type, case: Refused
) -> None:
    """One class and one code for all of it, before anything is opened, stored or called."""
    provider = yes()
    async with a_core(Place("memory", database), provider) as core:
        session = await core.session("s").open()
        subjects: dict[type, Any] = {
            LashCoreBuilder: LashCore.standard_builder(),
            LashCore: core,
            SessionBuilder: core.session("s"),
            LashSession: session,
            TurnBuilder: session.turn("x"),
            ObservableSession: session.observe(),
            CoreAttachmentAccess: core.attachments,
            SessionAttachmentAccess: session.attachments,
            Completions: core.completions(),
        }
        with pytest.raises(case.error, match=case.because) as raised:
            answer = getattr(subjects[subject], case.method)(*case.args, **case.named)
            if inspect.isawaitable(answer):
                await answer
        assert (raised.value.code, raised.value.is_terminal) == (case.code, True)
        assert len(session.read_view().messages) == 0
        await session.close()
    assert provider.calls == 0


@pytest.mark.parametrize("subject", [*SUBJECTS, TurnStream, AttachedTurn])
def test_no_method_is_left_out(subject: type) -> None:
    """A setter that is added later has to be added to the tables above, too."""
    takes_something = {
        name
        for name, method in inspect.getmembers(subject, inspect.isfunction)
        if not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    }
    assert takes_something == {case.method for of, case in CASES if of is subject}


@pytest.mark.parametrize(
    ("named", "because"),
    [
        ({"path": 5}, "path"),
        ({"path": None}, "path"),
        ({"path": True}, "path"),
        ({"path": b"agents.db"}, "path"),
        ({"provider": None}, "provider"),
        ({"provider": "openai"}, "provider"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"tools": look}, "tools"),
        ({"tools": None}, "tools"),
        ({"tools": [len]}, "@tool"),
    ],
    ids=str,
)
def test_the_shortest_form_says_which_argument_is_wrong(
    database: Path, named: dict[str, Any], because: str
) -> None:
    """The first line that a newcomer writes is the one most likely to be wrong."""
    wanted: dict[str, Any] = {"path": database, "provider": yes(), "model": "m"} | named
    with pytest.raises(InvalidConfiguration, match=because):
        LashCore.open(wanted.pop("path"), **wanted)


@pytest.mark.parametrize("turn_id", ["", " ", "half a \ud83c pair", "a:agent-frame:1"])
async def test_a_turn_id_that_cannot_be_one_is_refused_wherever_it_is_given(
    place: Place, turn_id: str
) -> None:
    """With the codes that an id inside the input is refused with."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        with pytest.raises(EmbedError) as raised:
            session.turn("x").turn_id(turn_id)
        assert raised.value.code in {"missing_execution_scope_id", "invalid_turn_id"}
        assert raised.value.is_terminal
        with pytest.raises(EmbedError) as cancelling:
            await core.cancel_turn("s", turn_id)
        assert cancelling.value.code == raised.value.code


async def test_a_cursor_that_says_nothing_is_refused_when_it_is_used(place: Place) -> None:
    """Any text makes a cursor; what it is worth is found out by reading."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        with pytest.raises(EmbedError) as raised:
            session.observe().resume_from_cursor(SessionCursor("abc"))
    assert raised.value.code == "live_replay"


async def test_a_stream_outside_the_event_loop_is_refused_by_an_error_of_ours(
    place: Place, recwarn: pytest.WarningsRecorder
) -> None:
    """It starts the turn, which needs a loop to run in; nothing is left half started."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        with pytest.raises(InvalidConfiguration, match="event loop"):
            await anyio.to_thread.run_sync(session.turn("x").stream)
        assert session.cancel_running_turns() == 0
    assert [str(w.message) for w in recwarn if "never awaited" in str(w.message)] == []


@pytest.mark.parametrize("named", [{"ttl_ms": NAN}, {"ttl_ms": "30"}, {"renew_interval_ms": 1.5}])
def test_lease_timings_are_whole_milliseconds(named: dict[str, Any]) -> None:
    """A lease that never compares would never lapse."""
    with pytest.raises(LeaseTimingsError) as raised:
        LeaseTimings(**named)
    assert raised.value.code == "not_whole_milliseconds"


# --- what is taken ------------------------------------------------------------------------------


async def test_a_model_can_be_given_by_name_everywhere(place: Place) -> None:
    """The builder of a core takes a name; those of sessions and turns take it the same way."""
    provider = yes()
    async with a_core(place, provider) as core:
        async with core.session("s").model("small-1") as session:
            model = session.policy_snapshot().model
            assert model.limits.context_window_tokens == DEFAULT_CONTEXT_WINDOW
            await session.turn("x").run()
            await session.turn("x").model("large-1").run()
        async with core.session("s").model("small-1", context_window=9_000) as session:
            assert session.policy_snapshot().model.limits.context_window_tokens == 9_000
    assert [request.model for request in provider.requests] == ["small-1", "large-1"]


async def test_a_slot_can_be_given_by_name(place: Place) -> None:
    """An enumeration's value comes from a settings file as text."""
    said = PromptContribution(slot=PromptSlot.GUIDANCE, content="Be kind.")
    provider = yes()
    core = place.builder(provider).replace_prompt_slot("guidance", said).build()
    async with core, core.session("s") as session:
        await session.turn("x").run()
        await session.turn("x").clear_prompt_slot("guidance").run()
    assert ["Be kind." in str(request.messages[0]) for request in provider.requests] == [
        True,
        False,
    ]


def test_a_part_of_ones_own_need_not_be_of_a_class_of_ours(database: Path) -> None:
    """What a part can do is asked for, never where it comes from."""

    class Delegating:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    storage = MemoryStorage()
    core = (
        LashCore.standard_builder()
        .provider(Delegating(yes()))
        .model("m")
        .storage(Delegating(storage))
        .store_factory(Delegating(storage.session_stores))
        .clock(Delegating(RecordingClock()))
        .prompt_template(PromptTemplate(sections=()))
        .build()
    )
    assert core.session("s").max_turns(None).model("gpt") is not None
