"""What of a session is in memory, and that what is not there is never lost from the store."""

import gc
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.graphs import change, move_leaf, stored, stored_ids, the_store
from facade.models import StallingProvider, asked
from facade.places import Place, running
from facade.transcripts import lines
from facade.watched import Calls, Gate, WatchedStores
from lash_runtime import (
    InvalidConfiguration,
    LashCore,
    LashSession,
    Residency,
    RuntimeFailure,
    SessionClosed,
    SessionNodeRecord,
    SessionNotDurable,
    StopReason,
    TurnInput,
    tool,
)
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.model.llm import LlmRequest
from lash_runtime.model.nodes import PluginPayload
from lash_runtime.ports.commit import GraphAppend
from lash_runtime.ports.provider_failure import ProviderFailure
from lash_runtime.ports.session_state import FullGraph, PersistedSessionRead
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.replay.memory import InMemoryLiveReplayStore
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ManualClock, ScriptedProvider

pytestmark = pytest.mark.anyio

ALL, PATH = Residency.KEEP_ALL, Residency.ACTIVE_PATH_ONLY


@pytest.fixture(params=[ALL, PATH], ids=str)
def residency(request: pytest.FixtureRequest) -> Residency:
    """For what has to hold however much is in memory."""
    return Residency(request.param)


@tool
async def look() -> str:
    """Look."""
    return "nothing"


def an_echo() -> ScriptedProvider:
    def repeat(request: LlmRequest) -> Call:
        return Call.text("re: " + asked(request)[-1].split(": ", 1)[1])

    return ScriptedProvider(otherwise=repeat)


def a_core(place: Place, residency: Residency = PATH, provider: Any = None) -> Any:
    core = place.builder(provider or an_echo(), look).residency(residency).build()
    return running(core)


async def say(place: Place, *words: str, residency: Residency = ALL) -> None:
    async with a_core(place, residency) as core, core.session("s") as session:
        for said in words:
            await session.turn(said).turn_id(said).run()


async def a_branched_session(place: Place) -> PersistedSessionRead:
    """Three branches that part after "one"; the path is that of "one", "three"."""
    await say(place, "one", "two")
    await move_leaf(place, "m:one:0:assistant")
    await say(place, "left")
    await move_leaf(place, "m:one:0:assistant")
    await say(place, "three")
    read = await stored(place)
    assert len(read.nodes) == 8
    return read


def in_memory(session: LashSession) -> list[str]:
    return [node.node_id for node in session.read_view().graph.nodes]


def path_of(read: PersistedSessionRead) -> list[str]:
    parents = {node.node_id: node.parent_node_id for node in read.nodes}
    path: list[str] = []
    node_id = read.leaf_node_id
    while node_id in parents:
        path.append(node_id)
        node_id = parents[node_id]
    return path[::-1]


# --- what is in memory --------------------------------------------------------------------------


async def test_the_active_path_alone_is_in_memory(place: Place) -> None:
    """A session with many branches costs what its transcript costs."""
    read = await a_branched_session(place)
    async with a_core(place) as core, core.session("s") as session:
        assert in_memory(session) == path_of(read)
        assert lines(session) == [
            "user: one",
            "assistant: re: one",
            "user: three",
            "assistant: re: three",
        ]


async def test_everything_is_in_memory_unless_a_host_says_otherwise(place: Place) -> None:
    """A host that shows its user the branches finds them in the view."""
    read = await a_branched_session(place)
    core = place.builder(an_echo()).build()
    async with running(core), core.session("s") as session:
        assert in_memory(session) == [node.node_id for node in read.nodes]
        (root,) = session.read_view().message_tree()
        assert len(root.children[0].children) == 3


async def test_a_branch_that_is_left_leaves_the_memory_too(place: Place) -> None:
    """A session that is open for a year does not grow with what it has left behind."""
    await say(place, "one", "two", "three")
    async with a_core(place) as core, core.session("s") as session:
        assert len(in_memory(session)) == 6
        await move_leaf(place, "m:one:0:assistant")
        await session.turn("other").turn_id("other").run()
        assert in_memory(session) == path_of(await stored(place))
        assert len(in_memory(session)) == 4
    assert len(await stored_ids(place)) == 8


async def test_nodes_off_the_path_are_not_held_by_anything(on_disk: Place) -> None:
    """No cache and no task keeps what was dropped; an observer's window does for a while, so
    here it is one event wide."""
    await say(on_disk, *(f"turn {number}" for number in range(20)))
    for number in range(20):
        await move_leaf(on_disk, "m:turn 0:0:assistant")
        await say(on_disk, f"branch {number}")
    replay = InMemoryLiveReplayStore.with_bounds(1, 60.0)
    core = on_disk.builder(an_echo()).residency(PATH).live_replay_store(replay).build()
    async with running(core), core.session("s") as session:
        await session.turn("more").run()
        await move_leaf(on_disk, "m:turn 0:0:assistant")
        await session.turn("other").turn_id("other").run()
        on_path = set(in_memory(session))
        assert on_path == {
            "m:turn 0:user",
            "m:turn 0:0:assistant",
            "m:other:user",
            "m:other:0:assistant",
        }
        ours = set(await stored_ids(on_disk))
        gc.collect()
        alive = [each for each in gc.get_objects() if isinstance(each, SessionNodeRecord)]
        assert {node.node_id for node in alive} & ours == on_path


async def test_what_others_have_said_is_seen_at_the_next_turn(
    on_disk: Place, residency: Residency
) -> None:
    """The path is the stored one, not the one that this handle remembers."""
    await say(on_disk, "one")
    async with a_core(on_disk, residency) as core, core.session("s") as session:
        await say(on_disk, "two", residency=residency)
        await session.turn("three").run()
        assert [line for line in lines(session) if line.startswith("user")] == [
            "user: one",
            "user: two",
            "user: three",
        ]


async def test_a_view_that_was_taken_keeps_what_it_shows(place: Place) -> None:
    """Dropping nodes from the session takes nothing from a reader."""
    await say(place, "one", "two")
    async with a_core(place) as core, core.session("s") as session:
        view = session.read_view()
        await move_leaf(place, "m:one:0:assistant")
        await session.turn("other").run()
        assert len(view.graph) == 4
        assert len(view.messages) == 4


# --- what is stored -----------------------------------------------------------------------------


async def a_turn(place: Place, residency: Residency) -> None:
    await say(place, "four", residency=residency)


async def a_turn_with_tools(place: Place, residency: Residency) -> None:
    """Stores its progress before it ends."""
    provider = ScriptedProvider([Call.tool("c1", "look", {}), Call.text("done")])
    async with a_core(place, residency, provider) as core, core.session("s") as session:
        assert (await session.turn("four").run()).is_success


async def a_cancelled_turn(place: Place, residency: Residency) -> None:
    stalled = StallingProvider()
    async with a_core(place, residency, stalled) as core, core.session("s") as session:
        stream = session.turn("four").stream()
        await stalled.entered.wait()
        session.cancel_running_turns()
        assert (await stream.finish()).stop_reason is StopReason.CANCELLED


async def a_failed_turn(place: Place, residency: Residency) -> None:
    provider = ScriptedProvider([ProviderFailure("no such model", retryable=False)])
    async with a_core(place, residency, provider) as core, core.session("s") as session:
        assert not (await session.turn("four").run()).is_success


async def parking_and_resuming(place: Place, residency: Residency) -> None:
    async with a_core(place, residency) as core:
        session = await core.session("s").open()
        await session.turn("four").run()
        session = await core.resume(await session.park())
        await session.turn("five").run()
        await session.close()


async def a_turn_that_its_core_left_unfinished(place: Place, residency: Residency) -> None:
    stalled = StallingProvider()
    core = place.builder(stalled).residency(residency).build()
    session = await core.session("s").open()
    stream = session.turn("four").turn_id("four").stream()
    await stalled.entered.wait()
    await core.aclose()
    with pytest.raises(RuntimeFailure):
        await stream.finish()
    async with a_core(place, residency) as later, later.session("s") as session:
        await session.turn("five").run()
        assert "user: four" in lines(session)


async def two_handles_in_turn(place: Place, residency: Residency) -> None:
    async with (
        a_core(place, residency) as core,
        core.session("s") as one,
        core.session("s") as other,
    ):
        await one.turn("four").run()
        await other.turn("five").run()
        await one.turn("six").run()
        assert lines(one)[-6::2] == ["user: four", "user: five", "user: six"]


async def reading_alone(place: Place, residency: Residency) -> None:
    async with a_core(place, residency) as core, core.session("s") as session:
        for node_id in await session.orphaned_node_ids():
            assert await session.historic_node(node_id) is not None


WAYS_TO_USE_A_SESSION = [
    a_turn,
    a_turn_with_tools,
    a_cancelled_turn,
    a_failed_turn,
    parking_and_resuming,
    a_turn_that_its_core_left_unfinished,
    two_handles_in_turn,
    reading_alone,
]


@pytest.mark.parametrize("use", WAYS_TO_USE_A_SESSION, ids=lambda use: use.__name__)
async def test_no_use_of_a_session_takes_a_branch_from_the_store(
    place: Place, residency: Residency, use: Callable[[Place, Residency], Awaitable[None]]
) -> None:
    """What was not loaded is not the session's to drop: every stored node stays, unchanged and
    in its place, and what is new stands behind them on the path."""
    before = await a_branched_session(place)
    await use(place, residency)
    after = await stored(place)
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert path_of(after)[:4] == path_of(before)
    assert len(after.nodes) - len(before.nodes) == len(path_of(after)) - len(path_of(before))


@pytest.mark.parametrize("use", WAYS_TO_USE_A_SESSION, ids=lambda use: use.__name__)
async def test_no_use_of_a_session_without_its_leaf_takes_a_node_from_the_store(
    place: Place, residency: Residency, use: Callable[[Place, Residency], Awaitable[None]]
) -> None:
    """Healing is where a graph was loaded whole and dropped again; it must not replace one."""
    before = await a_branched_session(place)
    await move_leaf(place, "gone")
    await use(place, residency)
    after = await stored(place)
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert path_of(after)[:4] == path_of(before)


async def test_a_conversation_goes_the_same_way_however_much_is_in_memory(database: Path) -> None:
    """Residency is about memory: the stored sessions and all that is shown are equal."""
    for seed in range(6):
        ends = []
        for residency in (ALL, PATH):
            for kind in ("memory", "sqlite"):
                place = Place(kind, database.with_name(f"{seed}-{residency}.db"))
                ends.append(await _a_long_story(place, residency, seed))
        assert all(end == ends[0] for end in ends)


async def _a_long_story(place: Place, residency: Residency, seed: int) -> object:
    """Turns, branches, lost leaves, parking and reopening, drawn from a seed."""
    chance = random.Random(seed)
    shown: list[list[str]] = []

    def a_fresh_core() -> LashCore:
        builder = place.builder(an_echo()).residency(residency).clock(ManualClock())
        return builder.build()

    core = a_fresh_core()
    session = await core.session("s").open()
    for number in range(25):
        match chance.choice(["turn", "turn", "turn", "branch", "lose", "park", "reopen"]):
            case "turn":
                await session.turn(f"{number}").turn_id(f"{number}").run()
            case "branch" | "lose" as what if number:
                ids = [*(await stored_ids(place)), "none at all"] if shown else []
                if ids:
                    leaf = chance.choice(ids[:-1]) if what == "branch" else "gone"
                    await move_leaf(place, leaf)
            case "park" if shown:
                session = await core.resume(await session.park())
            case "reopen":
                await session.close()
                await core.aclose()
                core = a_fresh_core()
                session = await core.session("s").open()
            case _:
                await session.turn(f"{number}").turn_id(f"{number}").run()
        if len(session.read_view().messages):
            shown.append(lines(session))
    await session.turn("the end").turn_id("the end").run()
    shown.append(lines(session))
    await session.close()
    await core.aclose()
    end = await stored(place)
    return shown, end.nodes, end.leaf_node_id, end.head_revision


# --- a leaf that is gone ------------------------------------------------------------------------


async def test_a_lost_leaf_is_healed_to_the_last_message(
    place: Place, residency: Residency
) -> None:
    """A damaged head hides no conversation, and costs none of its nodes."""
    read = await a_branched_session(place)
    await move_leaf(place, "gone")
    async with a_core(place, residency) as core, core.session("s") as session:
        assert lines(session)[-1] == "assistant: re: three"
        expected = path_of(read) if residency is PATH else [node.node_id for node in read.nodes]
        assert in_memory(session) == expected


@pytest.mark.parametrize("leave", ["close", "park"])
async def test_a_healed_leaf_is_stored_at_the_end(
    place: Place, residency: Residency, leave: str
) -> None:
    """By moving the leaf, once: the next one to open the session has nothing to heal."""
    before = await a_branched_session(place)
    await move_leaf(place, "gone")
    for _ in range(2):
        async with a_core(place, residency) as core:
            session = await core.session("s").open()
            await getattr(session, leave)()
        after = await stored(place)
        assert after.leaf_node_id == "m:three:0:assistant"
        assert after.nodes == before.nodes
        # One for the loss, one for the healing; the second round stores nothing.
        assert after.head_revision == before.head_revision + 2


async def test_a_healed_leaf_is_stored_by_the_next_turn(place: Place, residency: Residency) -> None:
    """The turn's own commit moves it, and closing finds nothing left to store."""
    before = await a_branched_session(place)
    await move_leaf(place, "gone")
    async with a_core(place, residency) as core, core.session("s") as session:
        await session.turn("four").turn_id("four").run()
    after = await stored(place)
    assert after.leaf_node_id == "m:four:0:assistant"
    assert path_of(after) == [*path_of(before), "m:four:user", "m:four:0:assistant"]
    assert after.head_revision == before.head_revision + 2


async def test_a_parked_session_heals_when_it_is_resumed(
    place: Place, residency: Residency
) -> None:
    """Resuming reads a session as opening does."""
    async with a_core(place, residency) as core:
        session = await core.session("s").open()
        await session.turn("one").run()
        parked = await session.park()
        await move_leaf(place, "gone")
        session = await core.resume(parked)
        assert lines(session) == ["user: one", "assistant: re: one"]
        await session.close()


async def test_an_open_session_heals_at_its_next_turn(place: Place, residency: Residency) -> None:
    """Catching up with the store reads a session as opening does."""
    await say(place, "one")
    async with a_core(place, residency) as core, core.session("s") as session:
        await move_leaf(place, "gone")
        await session.turn("two").run()
        assert lines(session) == [
            "user: one",
            "assistant: re: one",
            "user: two",
            "assistant: re: two",
        ]


async def test_without_any_message_a_lost_leaf_becomes_none(
    place: Place, residency: Residency
) -> None:
    """A graph of facts alone shows nothing, keeps them, and can be gone on from."""
    fact = SessionNodeRecord(
        node_id="fact",
        timestamp="2026-01-01T00:00:00Z",
        payload=PluginPayload(plugin_type="notes", body={}),
    )
    await change(place, GraphAppend(nodes=(fact,), leaf_node_id="gone"))
    async with a_core(place, residency) as core, core.session("s") as session:
        assert lines(session) == []
    assert (await stored(place)).leaf_node_id is None
    await say(place, "one", residency=residency)
    assert (await stored(place)).nodes[0] == fact
    assert len(path_of(await stored(place))) == 2


async def test_healing_is_no_reason_to_read_the_session_again(
    on_disk: Place, residency: Residency
) -> None:
    """A healed session is as current as any: the next turn finds the head that it knows."""
    await say(on_disk, "one")
    await move_leaf(on_disk, "gone")
    calls = Calls()
    storage = on_disk.storage()
    core = (
        on_disk.builder(an_echo())
        .storage(storage)
        .store_factory(WatchedStores(storage, calls))
        .residency(residency)
        .build()
    )
    async with running(core), core.session("s") as session:
        assert calls.count("load_session") == (2 if residency is PATH else 1)
        calls.clear()
        await session.turn("two").run()
        assert "load_session" not in calls


async def test_a_reader_leaves_a_healed_session_to_the_owner_who_holds_it(
    on_disk: Place, residency: Residency
) -> None:
    """Looking at a session must not fail because somebody else is at work in it; whoever is has
    healed the leaf alike, and stores it with the turn."""
    await say(on_disk, "one")
    await move_leaf(on_disk, "gone")
    stalled = StallingProvider("Coat.")
    async with a_core(on_disk, residency, stalled) as core, core.session("s") as session:
        stream = session.turn("two").turn_id("two").stream()
        await stalled.entered.wait()
        async with a_core(on_disk, residency) as other, other.session("s") as reader:
            assert lines(reader) == ["user: one", "assistant: re: one"]
        assert (await stored(on_disk)).leaf_node_id == "gone"
        stalled.release.set()
        await stream.finish()
    assert (await stored(on_disk)).leaf_node_id == "m:two:0:assistant"


async def test_one_of_many_handles_stores_the_healed_leaf(
    place: Place, residency: Residency
) -> None:
    """Each of them has healed; the first to close stores it, the others see that it is done."""
    before = await a_branched_session(place)
    await move_leaf(place, "gone")
    async with a_core(place, residency) as core:
        handles = [await core.session("s").open() for _ in range(8)]
        async with anyio.create_task_group() as closers:
            for handle in handles:
                closers.start_soon(handle.close)
    after = await stored(place)
    assert after.head_revision == before.head_revision + 2
    assert after.nodes == before.nodes
    await say(place, "and on", residency=residency)


async def test_a_close_that_is_cancelled_leaves_the_lane_free(on_disk: Place) -> None:
    """Whether the leaf was stored or not: the session is usable at once, by anybody."""
    await say(on_disk, "one")
    await move_leaf(on_disk, "gone")
    gate = Gate("commit_runtime_state")
    storage = on_disk.storage()
    core = (
        on_disk.builder(an_echo())
        .storage(storage)
        .store_factory(WatchedStores(storage, gate))
        .residency(PATH)
        .build()
    )
    async with running(core):
        session = await core.session("s").open()
        async with anyio.create_task_group() as closers:
            closers.start_soon(session.close)
            await gate.entered.wait()
            closers.cancel_scope.cancel()
            gate.release.set()
        await say(on_disk, "two")
        await session.close()
    assert path_of(await stored(on_disk))[-1] == "m:two:0:assistant"


async def test_a_leaf_that_cannot_be_stored_keeps_the_session_open(on_disk: Place) -> None:
    """The host hears of it and may try again; nothing was changed."""
    await say(on_disk, "one")
    await move_leaf(on_disk, "gone")
    broken = [True]

    async def refuse(name: str) -> None:
        if name == "commit_runtime_state" and broken[0]:
            raise StoreBackendError("the disk is full")

    storage = on_disk.storage()
    core = (
        on_disk.builder(an_echo())
        .storage(storage)
        .store_factory(WatchedStores(storage, refuse))
        .residency(PATH)
        .build()
    )
    async with running(core):
        session = await core.session("s").open()
        with pytest.raises(RuntimeFailure) as raised:
            await session.close()
        assert raised.value.code == "store_commit_failed"
        assert not session.closed
        assert (await stored(on_disk)).leaf_node_id == "gone"
        broken[0] = False
        await session.close()
    assert (await stored(on_disk)).leaf_node_id == "m:one:0:assistant"


# --- explicit state -----------------------------------------------------------------------------


async def test_the_state_that_a_host_gives_is_stored_whole(tmp_path: Path) -> None:
    """Nothing but the given state has its branches, so they stay until they are stored."""
    here, there = Place("sqlite", tmp_path / "here.db"), Place("sqlite", tmp_path / "there.db")
    before = await a_branched_session(here)
    async with a_core(here, ALL) as core, core.session("s") as session:
        view = session.read_view()
    async with a_core(there) as core:
        session = await core.session("s").open_with_state(view)
        await session.turn("four").run()
        assert in_memory(session) == path_of(await stored(there))
        await session.close()
    after = await stored(there)
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert len(after.nodes) == len(before.nodes) + 2


async def test_a_fresh_session_drops_the_branches_as_was_asked(place: Place) -> None:
    """Starting over is the one way in which a session gives its history up."""
    await a_branched_session(place)
    async with a_core(place) as core:
        session = await core.session("s").open_fresh()
        await session.turn("anew").turn_id("anew").run()
        assert await session.orphaned_node_ids() == ()
        await session.close()
    assert await stored_ids(place) == ["m:anew:user", "m:anew:0:assistant"]


# --- without a store ----------------------------------------------------------------------------


def a_core_without_stores(residency: Residency) -> LashCore:
    return (
        LashCore.standard_builder()
        .provider(an_echo())
        .model("scripted-1")
        .effect_host(InlineEffectHost())
        .attachment_store(MemoryStorage().attachments)
        .residency(residency)
        .build()
    )


async def test_a_session_without_a_store_keeps_everything_in_memory() -> None:
    """What is dropped from memory has to be somewhere; it is refused before anything runs."""
    async with running(a_core_without_stores(PATH)) as core:
        builder = core.session("s")
        async with running(a_core_without_stores(ALL)) as other, other.session("s") as session:
            view = session.read_view()
        for opening in (builder.open(), builder.open_fresh(), builder.open_with_state(view)):
            with pytest.raises(SessionNotDurable) as raised:
                await opening
            assert raised.value.code == "session_not_durable"
            assert raised.value.is_terminal
            assert "active path" in str(raised.value)


async def test_a_store_that_is_given_with_the_session_will_do(place: Place) -> None:
    """The core has none, this session has."""
    await a_branched_session(place)
    async with the_store(place) as store, running(a_core_without_stores(PATH)) as core:
        async with core.session("s").store(store) as session:
            await session.turn("four").run()
            assert len(in_memory(session)) == 6
    assert len(await stored_ids(place)) == 10


@pytest.mark.parametrize("value", ["keep_all", "active_path_only", ALL, PATH])
async def test_a_residency_is_a_member_or_its_name(place: Place, value: Any) -> None:
    """Settings files hold text."""
    core = place.builder(an_echo()).residency(value).build()
    async with running(core), core.session("s") as session:
        assert (await session.turn("one").run()).is_success


def test_an_unknown_residency_is_refused_by_name(place: Place) -> None:
    """A slip of the pen must not silently mean the default."""
    with pytest.raises(InvalidConfiguration, match="keep_some"):
        place.builder(an_echo()).residency("keep_some")  # type: ignore[arg-type]


# --- reading what is not in memory --------------------------------------------------------------


async def test_a_historic_node_is_found_on_the_path_and_off_it(
    place: Place, residency: Residency
) -> None:
    """A host that shows its user an earlier branch need not keep it in memory."""
    read = await a_branched_session(place)
    async with a_core(place, residency) as core, core.session("s") as session:
        for node in read.nodes:
            assert await session.historic_node(node.node_id) == node
        assert await session.historic_node("never") is None
        assert await session.historic_node("") is None


async def test_the_nodes_off_the_path_are_told_in_the_order_they_were_stored(
    place: Place, residency: Residency
) -> None:
    """What a host may give up, if it wants to; nothing is changed by asking."""
    read = await a_branched_session(place)
    async with a_core(place, residency) as core, core.session("s") as session:
        expected = ("m:two:user", "m:two:0:assistant", "m:left:user", "m:left:0:assistant")
        assert await session.orphaned_node_ids() == expected
        assert await session.orphaned_node_ids() == expected
    assert (await stored(place)).nodes == read.nodes


async def test_a_session_that_was_never_stored_has_no_nodes(
    place: Place, residency: Residency
) -> None:
    """Before the first commit there is nothing to tell."""
    async with a_core(place, residency) as core, core.session("s") as session:
        assert await session.orphaned_node_ids() == ()
        assert await session.historic_node("m:one:user") is None


async def test_a_lost_leaf_makes_no_orphan_of_what_it_heals_to(
    place: Place, residency: Residency
) -> None:
    """A host that gives up every orphan must not give up the conversation."""
    await a_branched_session(place)
    async with a_core(place, residency) as core, core.session("s") as session:
        expected = await session.orphaned_node_ids()
        await move_leaf(place, "gone")
        assert await session.orphaned_node_ids() == expected


async def test_a_host_can_give_up_what_is_off_the_path(place: Place, residency: Residency) -> None:
    """Asked for by the host and by nobody else; the conversation is as it was."""
    read = await a_branched_session(place)
    async with a_core(place, residency) as core:
        session = await core.session("s").open()
        orphans = await session.orphaned_node_ids()
        parked = await session.park()
        async with the_store(place) as store:
            await store.tombstone_nodes(orphans)
        session = await core.resume(parked)
        assert await session.orphaned_node_ids() == ()
        assert [await session.historic_node(node_id) for node_id in orphans] == [None] * 4
        assert in_memory(session) == path_of(read)
        async with the_store(place) as store:
            assert (await store.vacuum()).removed_node_count == 4
        await session.turn("four").run()
        await session.close()
    assert path_of(await stored(place))[:4] == path_of(read)


async def test_a_path_whose_end_was_given_up_goes_on_from_the_last_message(
    place: Place, residency: Residency
) -> None:
    """A host that gave up too much has lost that, and nothing else."""
    read = await a_branched_session(place)
    async with the_store(place) as store:
        await store.tombstone_nodes(["m:three:0:assistant"])
    async with a_core(place, residency) as core, core.session("s") as session:
        assert lines(session)[-1] == "user: three"
        await session.turn("four").turn_id("four").run()
        assert lines(session)[-2:] == ["user: four", "assistant: re: four"]
    after = await stored(place)
    assert after.nodes[:7] == read.nodes[:7]
    assert after.leaf_node_id == "m:four:0:assistant"


async def test_nodes_are_read_while_a_turn_runs(on_disk: Place) -> None:
    """Reads never wait for a turn."""
    await a_branched_session(on_disk)
    stalled = StallingProvider()
    async with a_core(on_disk, PATH, stalled) as core, core.session("s") as session:
        stream = session.turn(TurnInput.text("four")).stream()
        await stalled.entered.wait()
        assert await session.historic_node("m:left:user") is not None
        assert len(await session.orphaned_node_ids()) == 4
        stalled.release.set()
        await stream.finish()


async def test_without_a_store_there_is_only_memory() -> None:
    """A node that is there is given; asking further is an error, not an empty answer."""
    async with running(a_core_without_stores(ALL)) as core, core.session("s") as session:
        await session.turn("one").turn_id("one").run()
        assert await session.historic_node("m:one:user") is not None
        with pytest.raises(SessionNotDurable):
            await session.historic_node("never")
        with pytest.raises(SessionNotDurable):
            await session.orphaned_node_ids()


async def test_a_closed_session_is_not_read(place: Place) -> None:
    """A handle that was given up says so."""
    async with a_core(place) as core:
        session = await core.session("s").open()
        await session.close()
        with pytest.raises(SessionClosed):
            await session.historic_node("m:one:user")
        with pytest.raises(SessionClosed):
            await session.orphaned_node_ids()


async def test_a_store_that_cannot_be_read_says_so(on_disk: Place) -> None:
    """The error is the library's own, whatever failed below."""
    await a_branched_session(on_disk)
    failing = [False]

    async def fail(name: str) -> None:
        if failing[0]:
            raise StoreBackendError("the disk is gone")

    storage = SqliteStorage(on_disk.database)
    core = (
        on_disk.builder(an_echo())
        .storage(storage)
        .store_factory(WatchedStores(storage, fail))
        .residency(PATH)
        .build()
    )
    async with running(core), core.session("s") as session:
        failing[0] = True
        for reading in (session.historic_node("m:left:user"), session.orphaned_node_ids()):
            with pytest.raises(RuntimeFailure) as raised:
                await reading
            assert raised.value.code == "session_head_refresh"
        assert await session.historic_node("m:one:user") is not None
        failing[0] = False


async def test_the_store_is_asked_for_the_path_alone(on_disk: Place) -> None:
    """Memory is saved only if the nodes are not read in the first place."""
    await a_branched_session(on_disk)
    scopes: list[object] = []

    class Noting:
        def __init__(self, stores: Any) -> None:
            self._stores = stores
            self.durability_tier = stores.durability_tier

        async def create_store(self, request: Any) -> Any:
            store = await self._stores.create_store(request)
            return NotingStore(store)

    class NotingStore:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def load_session(self, scope: Any) -> Any:
            scopes.append(scope)
            return await self._store.load_session(scope)

    storage = on_disk.storage()
    core = (
        on_disk.builder(an_echo())
        .storage(storage)
        .store_factory(Noting(storage.session_stores))
        .residency(PATH)
        .build()
    )
    async with running(core):
        session = await core.session("s").open()
        await say(on_disk, "four")
        await session.turn("five").run()
        await (await core.resume(await session.park())).close()
    assert len(scopes) == 3
    assert FullGraph() not in scopes
