"""However often a turn is cut off, and wherever: it ends as if it had not been."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from facade.finishing import Agent, is_retired, round_of, row_of
from facade.places import Place, running
from lash_runtime import EmbedError, LashCore, LeaseOwnerIdentity, Message, tool
from lash_runtime.model.llm import LlmRequest, LlmResponse
from lash_runtime.model.tools import IdempotentRetry
from lash_runtime.ports.invocations import RuntimeEffectKind
from lash_runtime.ports.journal import EffectRecorded, JournalWrite
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.ports.tools import ToolContext
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import text_response, tool_calls_response
from lash_runtime.tools import ToolError, batch_tool

ME = LeaseOwnerIdentity(owner_id="worker", incarnation_id="1")
"""Every process takes this name, so that it enters the lease of the one that died."""

MESSAGES = TypeAdapter(Message)
TIME = re.compile(r'\\"duration_ms\\": ?\d+')
"""How long the calls of a batch took is in its result, and differs in every run."""

Wanted = tuple[str, Any]


@dataclass(frozen=True)
class Cut:
    """A process that is stopped when it has passed `after` boundaries: of a store's call, a model's
    and a tool's beginning, and a tool's end. It is closed, or cut from its storage for good."""

    after: int
    closed: bool


class Life:
    """One process: counts its boundaries, and knows whether it is over."""

    def __init__(self, cut: Cut | None) -> None:
        self._cut = cut
        self._passed = 0
        self.over = asyncio.Event()

    @property
    def is_cut_off(self) -> bool:
        return self.over.is_set() and self._cut is not None and not self._cut.closed

    async def boundary(self, *, holds: bool) -> None:
        """Pass one. The last one is never left by what can be held up, if the core is closed."""
        self._passed += 1
        if self._cut is not None and self._passed > self._cut.after:
            self.over.set()
            if self._cut.closed and holds:
                await anyio.sleep_forever()
        await checkpoint()


class Ledger:
    """What was put on record, over all lives, and what was done although it was."""

    def __init__(self) -> None:
        self.recorded: set[str] = set()
        self.done_again: list[str] = []

    def keep(self, writes: Sequence[JournalWrite]) -> None:
        for write in writes:
            if isinstance(write, EffectRecorded):
                if write.effect.kind is RuntimeEffectKind.LLM_CALL:
                    self.recorded.add(f"round {write.effect.replay_key.split(':')[3]}")
                self.recorded.add(write.effect.replay_key)

    def does(self, what: str) -> None:
        if any(key == what or key.endswith(f":{what}") for key in self.recorded):
            self.done_again.append(what)


class Store:
    """A session's store that a process may be cut from."""

    def __init__(self, store: Any, life: Life, ledger: Ledger) -> None:
        self._store = store
        self._life = life
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **named: Any) -> Any:
            await self._life.boundary(holds=False)
            if self._life.is_cut_off:
                raise StoreBackendError("the storage cannot be reached")
            answer = await attribute(*args, **named)
            if name == "write_journal":
                self._ledger.keep(args[2])
            return answer

        return call


class Stores:
    def __init__(self, storage: SqliteStorage, life: Life, ledger: Ledger) -> None:
        self._stores = storage.session_stores
        self._life = life
        self._ledger = ledger
        self.durability_tier = self._stores.durability_tier

    async def create_store(self, request: SessionStoreCreateRequest) -> Any:
        return Store(await self._stores.create_store(request), self._life, self._ledger)

    async def open_existing_store(self, request: SessionStoreCreateRequest) -> Any:
        store = await self._stores.open_existing_store(request)
        return None if store is None else Store(store, self._life, self._ledger)

    async def delete_session(self, session_id: str) -> Any:
        return await self._stores.delete_session(session_id)

    async def list_sessions(self, query: Any) -> Any:
        return await self._stores.list_sessions(query)


class Model(Agent):
    def __init__(self, script: Sequence[LlmResponse], life: Life, ledger: Ledger) -> None:
        super().__init__(script)
        self._life = life
        self._ledger = ledger

    async def complete(self, request: LlmRequest) -> LlmResponse:
        self._ledger.does(f"round {round_of(request)}")
        await self._life.boundary(holds=True)
        return await super().complete(request)


class Tools:
    """One of each kind; all of them may be run again when nobody knows what became of them."""

    def __init__(self, life: Life, ledger: Ledger) -> None:
        self._life = life
        self._ledger = ledger

    async def _do(self, what: str, context: ToolContext) -> str:
        self._ledger.does(f"{context.tool_call_id}:attempt:{context.attempt_number}")
        await self._life.boundary(holds=True)
        await self._life.boundary(holds=True)
        return f"{what} done"

    @tool(on_unknown="rerun")
    async def parallel(self, what: str, context: ToolContext) -> str:
        """Do it beside others."""
        return await self._do(what, context)

    @tool(on_unknown="rerun", scheduling="serial")
    async def serial(self, what: str, context: ToolContext) -> str:
        """Do it alone."""
        return await self._do(what, context)

    @tool(on_unknown="rerun", retry=IdempotentRetry(max_attempts=3, base_delay_ms=1))
    async def flaky(self, what: str, context: ToolContext) -> str:
        """Do it, at the second attempt."""
        done = await self._do(what, context)
        if context.attempt_number == 1:
            raise ToolError("not yet", retryable=True)
        return done

    @tool(on_unknown="rerun")
    async def failing(self, what: str, context: ToolContext) -> None:
        """Do it in vain."""
        await self._do(what, context)
        raise ToolError(f"{what} failed")

    def all(self) -> tuple[Any, ...]:
        return (self.parallel, self.serial, self.flaky, self.failing, batch_tool())


simple = st.tuples(
    st.sampled_from(("parallel", "serial", "flaky", "failing")), st.sampled_from("xyz")
)
batches = st.tuples(st.just("batch"), st.lists(simple, min_size=1, max_size=3))
rounds = st.lists(st.lists(simple | batches, min_size=1, max_size=3), max_size=3)
cuts = st.lists(st.builds(Cut, after=st.integers(0, 25), closed=st.booleans()), max_size=4)


def script_of(wanted: Sequence[Sequence[Wanted]]) -> list[LlmResponse]:
    """What the model says: a round of calls each time, and then that it is done."""
    script = []
    for number, calls in enumerate(wanted):
        made = []
        for at, (name, what) in enumerate(calls):
            args: dict[str, Any] = {"what": what}
            if name == "batch":
                entries = [{"tool": each, "parameters": {"what": of}} for each, of in what]
                args = {"tool_calls": entries}
            made.append((f"r{number}c{at}", name, args))
        script.append(tool_calls_response(*made, text=f"Round {number}."))
    return [*script, text_response("Done.")]


async def live(place: Place, script: Sequence[LlmResponse], cut: Cut | None, ledger: Ledger) -> Any:
    """One process that is asked for the turn; what it found, if it got so far."""
    life = Life(cut)
    storage = SqliteStorage(place.database, synchronous="normal")
    core = (
        LashCore.standard_builder()
        .recover(False)
        .provider(Model(script, life, ledger))
        .model("m")
        .storage(storage)
        .store_factory(Stores(storage, life, ledger))
        .tools(*Tools(life, ledger).all())
        .build()
    )
    found: list[Any] = []

    async def ask() -> None:
        try:
            async with core.session("s").session_execution_owner(ME) as session:
                output = await session.turn("Go").turn_id("t").run()
                messages = [
                    TIME.sub("no time", MESSAGES.dump_json(message).decode())
                    for message in session.read_view().messages
                ]
                result = (output.outcome, output.usage, output.assistant_message)
                found.append((messages, session.usage_report(), result))
        except EmbedError:
            pass
        finally:
            life.over.set()

    async with running(core):
        asking = asyncio.get_running_loop().create_task(ask())
        await life.over.wait()
        if life.is_cut_off:
            await asyncio.wait([asking])
    await asyncio.wait([asking])
    return found[0] if found and not asking.cancelled() else None


async def lives(folder: Path, wanted: Sequence[Sequence[Wanted]], cuts: Sequence[Cut]) -> None:
    script = script_of(wanted)
    whole = Place("sqlite", folder / "whole.db")
    expected = await live(whole, script, None, Ledger())
    assert expected is not None
    place, ledger = Place("sqlite", folder / "cut.db"), Ledger()
    for cut in cuts:
        found = await live(place, script, cut, ledger)
        assert found is None or found == expected
    assert await live(place, script, None, ledger) == expected
    assert ledger.done_again == []
    row = await row_of(place)
    assert row.state is TurnState.COMMITTED
    assert all(effect.recorded for effect in row.effects)
    assert await is_retired(place)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(rounds, cuts)
def test_a_turn_ends_as_if_it_had_not_been_cut_off(
    wanted: list[list[Wanted]], cuts: list[Cut]
) -> None:
    """Answer, transcript with its ids, and spending are those of an undisturbed run, and nothing
    that was on record was done again."""
    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(lives(folder, wanted, cuts))
    finally:
        shutil.rmtree(folder)
