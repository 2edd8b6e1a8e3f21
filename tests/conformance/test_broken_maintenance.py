"""The suite of maintenance, held to its own purpose: a store that breaks a rule is caught.

Each broken store wraps the memory store and gets one thing wrong. The case that is named beside
it must pass on the intact store and fail on the broken one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from conformance.breaking import BrokenStorage, Wrapped, passes
from lash_runtime.model.nodes import SessionNodeRecord
from lash_runtime.ports.commit import GraphAppend, RuntimeCommit, RuntimeCommitResult
from lash_runtime.ports.persistence import GcReport, VacuumReport
from lash_runtime.ports.session_state import (
    ActivePath,
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedSessionRead,
    SessionReadScope,
)
from lash_runtime.ports.turn_ledger import TurnAcceptance, TurnAcceptanceOutcome
from lash_runtime.ports.turn_persistence import TurnPersistence
from lash_runtime.stores.memory import MemoryStorage

pytestmark = pytest.mark.anyio


class OverlooksTombstones(Wrapped):
    """Nothing is ever hidden."""

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        pass


class RemembersNodes(Wrapped):
    """A node is found by its id even when the graph no longer shows it."""

    def __init__(self, intact: TurnPersistence) -> None:
        super().__init__(intact)
        self.seen: dict[str, SessionNodeRecord] = {}

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        self.seen |= {node.node_id: node for node in getattr(commit.graph, "nodes", ())}
        return await self.intact.commit_runtime_state(commit)

    async def load_node(self, node_id: str) -> SessionNodeRecord | None:
        return self.seen.get(node_id)


class HealsByItself(Wrapped):
    """A leaf that is gone is quietly exchanged for the last node there is."""

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        read = await self.intact.load_session(scope)
        full = await self.intact.load_session(FullGraph())
        if read is None or full is None or read.nodes or not full.nodes:
            return read
        healed = await self.intact.load_session(ActivePath(full.nodes[-1].node_id))
        return read if healed is None else healed


class CutsBranchesOff(Wrapped):
    """What hangs under a tombstoned node is tombstoned with it."""

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        read = await self.intact.load_session(FullGraph())
        gone = set(node_ids)
        for node in () if read is None else read.nodes:
            if node.parent_node_id in gone:
                gone.add(node.node_id)
        await self.intact.tombstone_nodes(sorted(gone))  # type: ignore[attr-defined]


class TakesThePathForTheSession(Wrapped):
    """A node that is off the active path counts as marked."""

    async def vacuum(self) -> VacuumReport:
        full = await self.intact.load_session(FullGraph())
        path = await self.intact.load_session(ActivePath())
        if full is not None and path is not None:
            on_it = {node.node_id for node in path.nodes}
            off = [node.node_id for node in full.nodes if node.node_id not in on_it]
            await self.intact.tombstone_nodes(off)  # type: ignore[attr-defined]
        report: VacuumReport = await self.intact.vacuum()  # type: ignore[attr-defined]
        return report


class NeverBringsBack(Wrapped):
    """A node that was tombstoned once is passed over when it is appended again."""

    def __init__(self, intact: TurnPersistence) -> None:
        super().__init__(intact)
        self.gone: set[str] = set()

    async def tombstone_nodes(self, node_ids: Sequence[str]) -> None:
        self.gone |= set(node_ids)
        await self.intact.tombstone_nodes(node_ids)  # type: ignore[attr-defined]

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        graph = commit.graph
        if isinstance(graph, GraphAppend):
            kept = tuple(node for node in graph.nodes if node.node_id not in self.gone)
            commit = replace(commit, graph=replace(graph, nodes=kept))
        return await self.intact.commit_runtime_state(commit)


class CountsAgain(Wrapped):
    """It reports what it has removed since it was opened."""

    def __init__(self, intact: TurnPersistence) -> None:
        super().__init__(intact)
        self.nodes = 0
        self.inputs = 0

    async def vacuum(self) -> VacuumReport:
        report: VacuumReport = await self.intact.vacuum()  # type: ignore[attr-defined]
        self.nodes += report.removed_node_count
        self.inputs += report.removed_pending_turn_input_tombstone_count
        return VacuumReport(
            removed_node_count=self.nodes, removed_pending_turn_input_tombstone_count=self.inputs
        )


class KeepsEverything(Wrapped):
    """Vacuum counts and removes nothing."""

    async def vacuum(self) -> VacuumReport:
        return VacuumReport(removed_node_count=2, removed_pending_turn_input_tombstone_count=2)


class VacuumsWhatWaits(Wrapped):
    """Whatever nobody has claimed yet is taken for over."""

    async def vacuum(self) -> VacuumReport:
        for pending in await self.intact.list_pending_turn_inputs("s"):  # type: ignore[attr-defined]
            await self.intact.cancel_pending_turn_input("s", pending.input_id)  # type: ignore[attr-defined]
        report: VacuumReport = await self.intact.vacuum()  # type: ignore[attr-defined]
        return report


class ForgetsTurns(Wrapped):
    """After vacuum, a turn that was settled is taken for a new one."""

    vacuumed = False

    async def vacuum(self) -> VacuumReport:
        self.vacuumed = True
        report: VacuumReport = await self.intact.vacuum()  # type: ignore[attr-defined]
        return report

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        if self.vacuumed:
            acceptance = replace(acceptance, turn_id=f"{acceptance.turn_id}-again")
        return await self.intact.accept_turn(acceptance)


class CollectsTheState(Wrapped):
    """Collection takes the execution state, which the next read no longer has."""

    collected = False

    async def gc_unreachable(self) -> GcReport:
        self.collected = True
        report: GcReport = await self.intact.gc_unreachable()  # type: ignore[attr-defined]
        return report

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        read = await self.intact.load_session(scope)
        if read is None or read.checkpoint is None or not self.collected:
            return read
        bare = HydratedSessionCheckpoint(turn_state=read.checkpoint.turn_state)
        return replace(read, checkpoint=bare)


class CollectsForEver(Wrapped):
    """Each collection claims to have found something."""

    async def gc_unreachable(self) -> GcReport:
        return GcReport(root_count=1, retained_blob_count=1, deleted_blob_count=1)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (OverlooksTombstones, "test_a_tombstoned_node_is_read_nowhere"),
        (OverlooksTombstones, "test_vacuum_removes_tombstoned_nodes_once"),
        (OverlooksTombstones, "test_an_id_that_vacuum_removed_is_free"),
        (RemembersNodes, "test_a_tombstoned_node_is_read_nowhere"),
        (HealsByItself, "test_a_tombstoned_leaf_dangles"),
        (CutsBranchesOff, "test_a_tombstone_in_the_middle_cuts_the_path"),
        (TakesThePathForTheSession, "test_vacuum_removes_tombstoned_nodes_once"),
        (NeverBringsBack, "test_a_tombstoned_node_that_is_appended_again_is_back"),
        (NeverBringsBack, "test_an_id_that_vacuum_removed_is_free"),
        (CountsAgain, "test_vacuum_removes_tombstoned_nodes_once"),
        (CountsAgain, "test_vacuum_removes_inputs_that_are_over_and_no_others"),
        (KeepsEverything, "test_upkeep_of_an_empty_session_finds_nothing"),
        (KeepsEverything, "test_tombstoning_what_is_not_there_changes_nothing"),
        (KeepsEverything, "test_replacing_the_graph_leaves_no_tombstone"),
        (KeepsEverything, "test_a_source_key_is_free_once_its_input_is_vacuumed"),
        (VacuumsWhatWaits, "test_vacuum_removes_inputs_that_are_over_and_no_others"),
        (ForgetsTurns, "test_vacuum_forgets_no_turn"),
        (CollectsTheState, "test_collection_leaves_the_state_of_the_head"),
        (CollectsTheState, "test_collection_leaves_the_state_of_a_frame"),
        (CollectsForEver, "test_a_second_collection_finds_nothing"),
    ],
)
async def test_a_store_that_is_badly_kept_is_caught(broken: type[Any], case: str) -> None:
    """A suite that nothing can fail would prove nothing about what passes it."""
    assert await passes(case, MemoryStorage)
    assert not await passes(case, lambda: BrokenStorage(broken))
