"""Changes that are made between the turns of a session, and committed when they are made."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.graphs import stored, stored_ids, the_store
from facade.models import asked
from facade.places import Place, a_core
from lash_runtime import LashSession, SessionStillInUse
from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.llm import LlmRequest
from lash_runtime.model.messages import Message, MessageRole, Part, PartKind, text_message
from lash_runtime.model.nodes import MessageNode, PluginNode
from lash_runtime.model.policy import ModelSpec, SessionSpec
from lash_runtime.model.prompt import PromptLayer
from lash_runtime.ports.attachments import AttachmentStoreError
from lash_runtime.ports.commit import GraphUnchanged, RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.store_errors import StoreBackendError
from lash_runtime.ports.turn_ledger import TurnState
from lash_runtime.runtime.between_turns import AppendedNodes, OpenedFrame, StaleBranch
from lash_runtime.runtime.faults import RuntimeFault, SessionBusy, SessionIsClosed
from lash_runtime.runtime.open_session import OpenSession
from lash_runtime.testing import Call, GatedProvider, ScriptedProvider
from lash_runtime.testing.conformance._samples import accepted, an_acceptance

pytestmark = pytest.mark.anyio

BOB = LeaseOwnerIdentity(owner_id="bob", incarnation_id="1")


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path / "agents.db")


@pytest.fixture(params=["memory", "sqlite", "nothing"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path / "agents.db")


def noting(requests: list[list[str]]) -> ScriptedProvider:
    """Answers, and keeps what it was asked."""

    def answer(request: LlmRequest) -> Call:
        requests.append([line for line in asked(request) if not line.startswith("system")])
        return Call.text("yes")

    return ScriptedProvider(otherwise=answer)


def yes() -> ScriptedProvider:
    return noting([])


def words(message_id: str, text: str = "") -> MessageNode:
    return MessageNode(message=text_message(message_id, MessageRole.USER, text or message_id))


def opened(session: LashSession) -> OpenSession:
    return session._live()


async def test_what_is_appended_is_stored_when_the_call_returns(place: Place) -> None:
    """Another process finds it, and so does the next turn's model."""
    requests: list[list[str]] = []
    async with a_core(place, noting(requests)) as core, core.session("s") as session:
        done = await opened(session).append_nodes(
            [words("m1", "Ada likes tea."), PluginNode(plugin_type="note", body={"seen": True})]
        )
        assert isinstance(done, AppendedNodes)
        assert list(done.node_ids) == await stored_ids(place)
        assert done.leaf_node_id == done.node_ids[-1]
        assert [message.text for message in session.read_view().messages] == ["Ada likes tea."]
        await session.turn("What does she like?").run()
        assert "user: Ada likes tea." in requests[-1]
        again = await opened(session).append_nodes([words("m2")])
        assert isinstance(again, AppendedNodes)
        assert (await stored_ids(place))[-1] == "m2"


async def test_what_is_appended_lives_as_long_as_its_session(anywhere: Place) -> None:
    """Also where nothing is stored at all."""
    async with a_core(anywhere, yes()) as core, core.session("s") as session:
        await opened(session).append_nodes([words("m1")])
        await opened(session).configure(SessionSpec(max_turns=3))
        assert [message.id for message in session.read_view().messages] == ["m1"]
        assert session.read_view().policy.max_turns == 3
        await session.turn("go on").run()
        assert session.read_view().messages[0].id == "m1"


async def test_nothing_appended_is_no_commit(place: Place) -> None:
    """A revision that rises for nothing makes every other reader load the session again."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("one").run()
        before = (await stored(place)).head_revision
        assert await opened(session).append_nodes([]) == AppendedNodes(
            node_ids=(), leaf_node_id=session.read_view().graph.leaf_node_id
        )
        await opened(session).configure(SessionSpec())
        assert (await stored(place)).head_revision == before


async def test_a_branch_that_was_left_takes_nothing_more(place: Place) -> None:
    """Whoever has computed something for it is told where the session is now."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("one").turn_id("one").run()
        kept = session.read_view()
        await session.turn("two").turn_id("two").run()
        before = await stored_ids(place)
        left = before[-1]
        fits = await opened(session).append_nodes([words("m1")], requires_ancestor_node_id=left)
        assert isinstance(fits, AppendedNodes)
        await session.close()
        async with await core.session("s").open_with_state(kept) as back:
            answer = await opened(back).append_nodes([words("m2")], requires_ancestor_node_id=left)
            assert answer == StaleBranch(kept.graph.leaf_node_id)
            assert "m2" not in [message.id for message in back.read_view().messages]


async def test_an_image_that_is_not_stored_cannot_be_appended(place: Place) -> None:
    """Every later turn would fail to show it."""
    gone = AttachmentRef(id="a" * 64, media_type=MediaType(type=ImageFormat.PNG), byte_len=1)
    message = Message(
        id="m1",
        role=MessageRole.USER,
        parts=(Part(id="m1.p0", kind=PartKind.IMAGE, attachments=(gone,)),),
    )
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("one").run()
        before = await stored_ids(place)
        with pytest.raises(AttachmentStoreError) as refusal:
            await opened(session).append_nodes([MessageNode(message=message)])
        assert refusal.value.code == "not_found"
        assert await stored_ids(place) == before


async def test_a_session_is_configured_for_good(place: Place) -> None:
    """From the next turn on, for whoever opens it, until another host decides otherwise."""
    async with a_core(place, yes()) as core:
        async with core.session("s") as session:
            await session.turn("one").run()
            spec = SessionSpec(
                model=ModelSpec(id="larger"), prompt=PromptLayer(), provider_id=" scripted "
            )
            await opened(session).configure(spec)
            read = await stored(place)
            assert (read.config.model.id, read.config.provider_id) == ("larger", "scripted")
            assert read.agent_frames[-1].assignment.policy.model.id == "larger"
            # Somebody else commits, and the session is read again.
            async with the_store(place) as store:
                claimed = await store.try_claim_session_execution_lease("s", BOB, 60_000)
                assert isinstance(claimed, LeaseAcquired)
                await store.commit_runtime_state(_the_same(read, claimed.lease.fence()))
            await session.turn("two").run()
            assert session.read_view().policy.model.id == "larger"


def _the_same(read: Any, fence: Any) -> RuntimeCommit:
    return RuntimeCommit(
        session_id="s",
        expected_head_revision=None,
        session_execution_lease=fence,
        config=read.config,
        agent_frames=read.agent_frames,
        current_agent_frame_id=read.current_agent_frame_id,
        graph=GraphUnchanged(leaf_node_id=read.leaf_node_id),
        checkpoint=read.checkpoint,
        release_session_execution_lease=fence,
    )


async def test_a_new_frame_shows_what_it_begins_with(place: Place) -> None:
    """What was said before stays stored, under its frame; opening it again changes nothing."""
    requests: list[list[str]] = []
    async with a_core(place, noting(requests)) as core, core.session("s") as session:
        await session.turn("one").run()
        before = await stored(place)
        done = await opened(session).open_frame(
            "f2", reason="compaction", initial_nodes=[words("summary")]
        )
        assert done == OpenedFrame(frame_id="f2", opened=True, initial_node_ids=("summary",))
        again = await opened(session).open_frame("f2", reason="compaction")
        assert again == OpenedFrame(frame_id="f2", opened=False)
        blank = await opened(session).open_frame(" ", reason="compaction")
        assert not blank.opened
        await session.turn("two").run()
        assert requests[-1] == ["user: summary", "user: two"]
    after = await stored(place)
    assert after.nodes[: len(before.nodes)] == before.nodes
    assert [frame.status.value for frame in after.agent_frames] == ["superseded", "active"]
    assert after.agent_frames[1].previous_frame_id == after.agent_frames[0].frame_id
    assert after.head_revision == before.head_revision + 2
    async with a_core(place, noting(requests)) as core, core.session("s") as session:
        await session.turn("three").run()
        assert requests[-1][0] == "user: summary"


CHANGES: list[Callable[[OpenSession], Awaitable[object]]] = [
    lambda session: session.append_nodes([words("m1")]),
    lambda session: session.configure(SessionSpec(max_turns=3)),
    lambda session: session.open_frame("f2", reason="compaction"),
]
every_change = pytest.mark.parametrize("change", CHANGES, ids=["append", "configure", "frame"])


@every_change
async def test_a_turn_that_runs_is_alone_with_its_session(
    place: Place, change: Callable[[OpenSession], Awaitable[object]]
) -> None:
    """The caller is told which one it is, at once, and nothing has changed."""
    provider = GatedProvider()
    async with (
        a_core(place, provider) as core,
        core.session("s") as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(session.turn("slow").turn_id("the slow one").run)
        await provider.entered.wait()
        with pytest.raises(SessionBusy, match="the slow one"):
            await change(opened(session))
        provider.release.set()
    read = await stored(place)
    assert (len(read.nodes), len(read.agent_frames)) == (2, 1)


@every_change
async def test_a_session_that_another_owner_holds_is_left_alone(
    place: Place, change: Callable[[OpenSession], Awaitable[object]]
) -> None:
    """In memory as in the store; when the owner is done, the change can be made."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("one").run()
        before, view = await stored(place), session.read_view()
        async with the_store(place) as store:
            claimed = await store.try_claim_session_execution_lease("s", BOB, 60_000)
            assert isinstance(claimed, LeaseAcquired)
            with pytest.raises(SessionBusy):
                await change(opened(session))
            assert await stored(place) == before
            assert session.read_view().messages == view.messages
            assert session.read_view().policy == view.policy
            await store.release_session_execution_lease(claimed.lease.fence())
        await change(opened(session))
        assert (await stored(place)).head_revision == before.head_revision + 1


@every_change
async def test_what_a_dead_owner_left_is_closed_first(
    place: Place, change: Callable[[OpenSession], Awaitable[object]]
) -> None:
    """Its words come before what is appended now."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        await session.turn("one").run()
        async with the_store(place) as store:
            await accepted(store, an_acceptance("lost", "three", owner=BOB, lease_ttl_ms=0))
            await change(opened(session))
            row = await store.load_turn("s", "lost")
        assert row is not None
        assert row.state is TurnState.INTERRUPTED
        said = [node.conversation for node in (await stored(place)).nodes]
        assert "three" in [record.message.text for record in said if record is not None]


@every_change
async def test_a_change_that_cannot_be_stored_has_not_happened(
    place: Place, change: Callable[[OpenSession], Awaitable[object]]
) -> None:
    """The caller gets an error instead of a session that differs from what is stored."""
    async with a_core(place, yes()) as core:
        async with core.session("s") as session:
            await session.turn("one").run()
        async with the_store(place) as intact:
            store: Any = Unwilling(intact)
            async with core.session("s").store(store) as session:
                before, view = await stored(place), session.read_view()
                store.unwilling = True
                with pytest.raises(RuntimeFault) as refusal:
                    await change(opened(session))
                assert refusal.value.code == "store_commit_failed"
                assert session.read_view().messages == view.messages
                assert session.read_view().policy == view.policy
                assert await stored(place) == before
                store.unwilling = False
                await change(opened(session))
                assert (await stored(place)).head_revision == before.head_revision + 1


class Unwilling:
    """A session store that takes no commit while it is told so."""

    def __init__(self, intact: Any) -> None:
        self._intact = intact
        self.unwilling = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        if self.unwilling:
            raise StoreBackendError("the disk failed")
        result: RuntimeCommitResult = await self._intact.commit_runtime_state(commit)
        return result


@every_change
async def test_a_session_that_starts_over_begins_with_a_turn(
    place: Place, change: Callable[[OpenSession], Awaitable[object]]
) -> None:
    """Its first turn is what empties it; a change before that would be mixed with what was."""
    async with a_core(place, yes()) as core:
        async with core.session("s") as session:
            await session.turn("old").run()
        before = await stored(place)
        fresh = await core.session("s").open_fresh()
        with pytest.raises(RuntimeFault) as refusal:
            await change(opened(fresh))
        assert refusal.value.code == "session_not_begun"
        assert await stored(place) == before
        await fresh.turn("new").run()
        await change(opened(fresh))
        await fresh.close()
        assert [n for n in (await stored(place)).nodes if n in before.nodes] == []


async def test_changes_that_come_together_are_made_one_after_the_other(place: Place) -> None:
    """Through one handle and through several, each on top of the one before."""
    async with a_core(place, yes()) as core:
        sessions = [await core.session("s").open() for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(opened(sessions[number % 3]).append_nodes, [words(f"m{number}")])
        read = await stored(place)
        assert {node.node_id for node in read.nodes} == {f"m{number}" for number in range(12)}
        parents = [node.parent_node_id for node in read.nodes]
        assert parents == [None, *(node.node_id for node in read.nodes[:-1])]
        assert read.head_revision == 12
        for session in sessions:
            await session.close()


async def test_a_session_that_is_being_changed_cannot_be_closed(place: Place) -> None:
    """What the change is about to store would be stored behind the back of whoever closed it."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        change = opened(session)
        async with anyio.create_task_group() as tasks:
            async with change.runtime.lane.turn():
                tasks.start_soon(change.append_nodes, [words("m1")])
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(SessionStillInUse):
                    await session.close()
        await session.close()
        with pytest.raises(SessionIsClosed):
            await change.append_nodes([words("m2")])
        assert await stored_ids(place) == ["m1"]


@pytest.mark.filterwarnings("error")
async def test_a_closed_core_changes_nothing(place: Place) -> None:
    """Its sessions went with it."""
    async with a_core(place, yes()) as core:
        session = await core.session("s").open()
        change = opened(session)
    with pytest.raises(RuntimeFault):
        await change.append_nodes([words("m1")])


async def test_a_cancelled_change_is_made_or_not_made(place: Place) -> None:
    """And the session can be used at once, whichever it was."""
    async with a_core(place, yes()) as core, core.session("s") as session:
        for number in range(20):
            with anyio.move_on_after(0) as scope:
                for _ in range(number):
                    await anyio.lowlevel.checkpoint()
                scope.deadline = anyio.current_time()
                await opened(session).append_nodes([words(f"m{number}")])
            done = await opened(session).append_nodes([words(f"after {number}")])
            assert isinstance(done, AppendedNodes)
        read = await stored(place)
        ids = [node.node_id for node in read.nodes]
        assert len(ids) == len(set(ids)) == read.head_revision
        assert {f"after {number}" for number in range(20)} <= set(ids)
        assert [message.id for message in session.read_view().messages] == ids
