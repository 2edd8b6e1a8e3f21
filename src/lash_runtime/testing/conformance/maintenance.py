"""Maintenance: what tombstones hide, what vacuum takes away, and what collection must leave."""

from dataclasses import replace

import pytest

from ...model.frames import AgentFrameAssignment, AgentFrameRecord
from ...ports.commit import GraphReplaceFull, GraphUnchanged
from ...ports.persistence import GcReport, RuntimePersistence
from ...ports.session_state import ActivePath, FullGraph, HydratedSessionCheckpoint
from ...ports.storage import Storage
from ...ports.store_errors import StoreBackendError
from ...ports.turn_ledger import TurnKnown
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    TIMESTAMP,
    a_chain,
    a_commit,
    a_node,
    a_store,
    accepted,
    an_acceptance,
    append,
    as_failed,
    everything,
    first,
    hold,
)
from ._waiting_samples import claimed_inputs, for_next_turn, submitted

STATE = HydratedSessionCheckpoint(execution_state=b"state")


async def live(store: RuntimePersistence) -> list[str]:
    read = await store.load_session(FullGraph())
    assert read is not None
    return [node.node_id for node in read.nodes]


async def path(store: RuntimePersistence, leaf: str | None = None) -> list[str]:
    read = await store.load_session(ActivePath(leaf))
    assert read is not None
    return [node.node_id for node in read.nodes]


class MaintenanceConformance(StorageCase):
    """Nodes are hidden by name and removed later; state that is referred to always stays."""

    async def test_a_tombstoned_node_is_read_nowhere(self, storage: Storage) -> None:
        """Neither by its id, nor in the graph, nor on a path; the others are where they were."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        nodes = (*a_chain("a", "b"), a_node("b2", "a"))
        await store.commit_runtime_state(a_commit(fence, graph=first(*nodes)))
        await store.tombstone_nodes(["b"])
        assert await store.load_node("b") is None
        assert await store.load_node("a") == nodes[0]
        assert await live(store) == ["a", "b2"]
        assert await path(store) == ["a", "b2"]
        assert await path(store, "b") == []

    async def test_a_tombstoned_leaf_dangles(self, storage: Storage) -> None:
        """The head still names it, so that the reader sees what it has to heal."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await store.tombstone_nodes(["b"])
        read = await store.load_session(ActivePath())
        assert read is not None
        assert (read.nodes, read.leaf_node_id) == ((), "b")
        assert await live(store) == ["a"]

    async def test_a_tombstone_in_the_middle_cuts_the_path(self, storage: Storage) -> None:
        """What is above the gap stays stored and is reached by its own leaf alone."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b", "c"))))
        await store.tombstone_nodes(["b"])
        assert await path(store) == ["c"]
        assert await path(store, "a") == ["a"]
        assert await live(store) == ["a", "c"]

    async def test_tombstoning_what_is_not_there_changes_nothing(self, storage: Storage) -> None:
        """No ids, unknown ids, ids of another session: a host may work from an old list."""
        store = await a_store(storage)
        other = await a_store(storage, "other")
        for session_id, kept in (("s", store), ("other", other)):
            fence = (await hold(kept, session_id)).fence()
            node = a_node(f"n-{session_id}")
            await kept.commit_runtime_state(
                a_commit(fence, session_id=session_id, graph=first(node))
            )
        before = await everything(store)
        await store.tombstone_nodes([])
        await store.tombstone_nodes(["never", "n-other"])
        assert await everything(store) == before
        assert await live(other) == ["n-other"]
        assert (await store.vacuum()).removed_node_count == 0

    async def test_a_tombstoned_node_that_is_appended_again_is_back(self, storage: Storage) -> None:
        """With its own content; another under its id is still a conflict."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await store.tombstone_nodes(["b"])
        changed = append(a_node("b", "a", text="something else"))
        await raised_by(
            store.commit_runtime_state(a_commit(fence, graph=changed)), StoreBackendError
        )
        assert await live(store) == ["a"]
        await store.commit_runtime_state(a_commit(fence, graph=append(a_node("b", "a"))))
        assert await live(store) == ["a", "b"]
        assert (await store.vacuum()).removed_node_count == 0

    async def test_replacing_the_graph_leaves_no_tombstone(self, storage: Storage) -> None:
        """A new graph may use the ids of the old one, whatever became of those."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await store.tombstone_nodes(["a", "b"])
        renewed = GraphReplaceFull(nodes=(a_node("a", text="new"),), leaf_node_id="a")
        await store.commit_runtime_state(a_commit(fence, graph=renewed))
        assert await live(store) == ["a"]
        assert (await store.vacuum()).removed_node_count == 0

    async def test_vacuum_removes_tombstoned_nodes_once(self, storage: Storage) -> None:
        """It counts what this call removed, of this session, and leaves what is live.

        A branch that was left is live: nobody has marked it.
        """
        store = await a_store(storage)
        other = await a_store(storage, "other")
        for session_id, kept in (("s", store), ("other", other)):
            fence = (await hold(kept, session_id)).fence()
            nodes = (*a_chain("a", "b", "c"), a_node("left", "a"))
            await kept.commit_runtime_state(
                a_commit(fence, session_id=session_id, graph=first(*nodes, leaf="c"))
            )
            await kept.tombstone_nodes(["b", "c"])
        assert (await store.vacuum()).removed_node_count == 2
        assert (await store.vacuum()).removed_node_count == 0
        assert await live(store) == ["a", "left"]
        assert (await other.vacuum()).removed_node_count == 2

    async def test_an_id_that_vacuum_removed_is_free(self, storage: Storage) -> None:
        """What is gone conflicts with nothing."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, graph=first(*a_chain("a", "b"))))
        await store.tombstone_nodes(["b"])
        await store.vacuum()
        again = a_node("b", "a", text="something else")
        await store.commit_runtime_state(a_commit(fence, graph=append(again)))
        assert await store.load_node("b") == again

    async def test_vacuum_removes_inputs_that_are_over_and_no_others(
        self, storage: Storage
    ) -> None:
        """Cancelled and completed ones go; one that waits and one in somebody's hands stay."""
        store = await a_store(storage)
        lease = await hold(store)
        (done,) = await submitted(store, for_next_turn("done"))
        finished = await claimed_inputs(store, lease)
        await store.commit_runtime_state(
            a_commit(lease.fence(), completed_turn_input_claims=(finished.completion(),))
        )
        gone, taken, waits = await submitted(
            store, for_next_turn("gone"), for_next_turn("taken"), for_next_turn("waits")
        )
        await store.cancel_pending_turn_input("s", gone)
        claim = await claimed_inputs(store, lease, 1)
        assert [pending.input_id for pending in claim.inputs] == [taken]
        report = await store.vacuum()
        assert report.removed_pending_turn_input_tombstone_count == 2
        again = await store.vacuum()
        assert again.removed_pending_turn_input_tombstone_count == 0
        pending = await store.list_pending_turn_inputs("s")
        assert [row.input_id for row in pending] == [waits]
        completion = a_commit(
            lease.fence(),
            graph=GraphUnchanged(leaf_node_id="n1"),
            completed_turn_input_claims=(claim.completion(),),
        )
        await store.commit_runtime_state(completion)
        assert done not in (waits, taken)

    async def test_a_source_key_is_free_once_its_input_is_vacuumed(self, storage: Storage) -> None:
        """Until then it answers with what became of the input."""
        store = await a_store(storage)
        (input_id,) = await submitted(store, for_next_turn("hello", key="k"))
        await store.cancel_pending_turn_input("s", input_id)
        assert await submitted(store, for_next_turn("hello", key="k")) == [input_id]
        await store.vacuum()
        (renewed,) = await submitted(store, for_next_turn("hello", key="k"))
        assert renewed != input_id
        pending = await store.list_pending_turn_inputs("s")
        assert [row.input_id for row in pending] == [renewed]

    async def test_vacuum_forgets_no_turn(self, storage: Storage) -> None:
        """A turn that is submitted again after vacuum still finds that it was settled."""
        store = await a_store(storage)
        turn = await accepted(store, an_acceptance())
        await store.settle_turn(turn.lease.fence(), as_failed(), release=True)
        await store.vacuum()
        await store.gc_unreachable()
        assert isinstance(await store.accept_turn(an_acceptance()), TurnKnown)

    async def test_collection_leaves_the_state_of_the_head(self, storage: Storage) -> None:
        """Also what a commit carried forward without its payload."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        result = await store.commit_runtime_state(a_commit(fence, checkpoint=STATE))
        carried = HydratedSessionCheckpoint(execution_state_ref=result.manifest.execution_state_ref)
        await store.commit_runtime_state(
            a_commit(fence, graph=GraphUnchanged(leaf_node_id="n1"), checkpoint=carried)
        )
        before = await everything(store)
        await store.gc_unreachable()
        assert await everything(store) == before
        read = await store.load_session(FullGraph())
        assert read is not None
        assert read.checkpoint is not None
        assert read.checkpoint.execution_state == b"state"

    async def test_collection_leaves_the_state_of_a_frame(self, storage: Storage) -> None:
        """An earlier frame keeps what it was left with, though the head has gone on."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        result = await store.commit_runtime_state(a_commit(fence, checkpoint=STATE))
        ref = result.manifest.execution_state_ref
        frame = AgentFrameRecord(
            frame_id="f1",
            session_id="s",
            created_at=TIMESTAMP,
            assignment=AgentFrameAssignment(),
            execution_state_ref=ref,
        )
        onward = a_commit(
            fence,
            graph=GraphUnchanged(leaf_node_id="n1"),
            agent_frames=(frame,),
            checkpoint=HydratedSessionCheckpoint(execution_state=b"another"),
        )
        await store.commit_runtime_state(onward)
        await store.gc_unreachable()
        back = replace(onward, checkpoint=HydratedSessionCheckpoint(execution_state_ref=ref))
        await store.commit_runtime_state(back)
        read = await store.load_session(FullGraph())
        assert read is not None
        assert read.checkpoint is not None
        assert read.checkpoint.execution_state == b"state"

    async def test_a_second_collection_finds_nothing(self, storage: Storage) -> None:
        """Whatever the first one counted."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        for state in (b"one", b"two", b"three"):
            commit = a_commit(fence, checkpoint=HydratedSessionCheckpoint(execution_state=state))
            await store.commit_runtime_state(commit)
        found = await store.gc_unreachable()
        again = await store.gc_unreachable()
        assert again.deleted_blob_count == 0
        assert (again.root_count, again.retained_blob_count) == (
            found.root_count,
            found.retained_blob_count,
        )

    @pytest.mark.usefixtures("needs_collection")
    async def test_collection_counts_what_it_follows_and_keeps(self, storage: Storage) -> None:
        """What the head refers to is a root, and what that leads to is retained."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, checkpoint=STATE))
        report = await store.gc_unreachable()
        assert report.root_count > 0
        assert report.retained_blob_count > 0
        assert report.deleted_blob_count == 0

    @pytest.mark.usefixtures("needs_collection")
    async def test_collection_removes_what_was_superseded(self, storage: Storage) -> None:
        """Unless the commits that superseded it have done so: nothing has it afterwards."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        results = [
            await store.commit_runtime_state(
                a_commit(fence, checkpoint=HydratedSessionCheckpoint(execution_state=state))
            )
            for state in (b"one", b"two")
        ]
        await store.gc_unreachable()
        old, new = (result.manifest.execution_state_ref for result in results)
        assert old != new
        again = HydratedSessionCheckpoint(execution_state_ref=old)
        await raised_by(
            store.commit_runtime_state(a_commit(fence, checkpoint=again)), StoreBackendError
        )
        kept = HydratedSessionCheckpoint(execution_state_ref=new)
        await store.commit_runtime_state(a_commit(fence, checkpoint=kept))

    @pytest.mark.usefixtures("needs_no_collection")
    async def test_a_store_that_collects_nothing_says_so(self, storage: Storage) -> None:
        """A report of something would be taken for the truth about the room that it takes."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, checkpoint=STATE))
        assert await store.gc_unreachable() == GcReport(
            root_count=0, retained_blob_count=0, deleted_blob_count=0
        )

    async def test_upkeep_of_an_empty_session_finds_nothing(self, storage: Storage) -> None:
        """Before the first commit there is no head to begin from."""
        store = await a_store(storage)
        await store.tombstone_nodes(["n1"])
        report = await store.vacuum()
        assert report.removed_node_count == 0
        assert report.removed_pending_turn_input_tombstone_count == 0
        assert (await store.gc_unreachable()).deleted_blob_count == 0
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence))
        assert await live(store) == ["n1"]
