"""How much of a session's graph is in memory, and how it gets there.

Rule 1: whoever needs a session as it is stored (an open, a resume, a turn that finds the head
moved, the closing of an unfinished turn) reads it here, and by the head's own leaf: what others
have committed since is always on it.
Rule 2: what is not in memory is still stored. Nothing that was read here is ever a reason to
replace a stored graph: its turns append, and healing moves the leaf.
Rule 3: heal first, then drop. What a leaf that is gone falls back to is seen only in the whole.
"""

from enum import StrEnum
from typing import assert_never

from ..model.records import replace
from ..ports.session_state import ActivePath, FullGraph, PersistedSessionRead
from ..ports.turn_persistence import SessionCommitStore
from .state import RuntimeSessionState, state_of_read


class Residency(StrEnum):
    """Which nodes of a session are in memory while it is open."""

    KEEP_ALL = "keep_all"
    """Every node, branches that were left included."""

    ACTIVE_PATH_ONLY = "active_path_only"
    """Those from the root to the leaf. Needs a store, where the others stay."""


async def read_session(
    store: SessionCommitStore, residency: Residency
) -> PersistedSessionRead | None:
    """The session as of one instant, with the nodes that `residency` keeps; with all of them
    when its leaf is gone. `None` before the first commit."""
    match residency:
        case Residency.KEEP_ALL:
            return await store.load_session(FullGraph())
        case Residency.ACTIVE_PATH_ONLY:
            read = await store.load_session(ActivePath())
            if read is None or read.nodes or read.leaf_node_id is None:
                return read
            return await store.load_session(FullGraph())
        case _:
            assert_never(residency)


def kept(state: RuntimeSessionState, residency: Residency) -> RuntimeSessionState:
    """`state` without what `residency` does not keep.

    A state that is yet to replace the stored one is kept whole: nothing else has its branches.
    """
    if residency is Residency.KEEP_ALL or state.graph_replace_required:
        return state
    graph = state.graph.fork_current_path()
    return state if graph is state.graph else replace(state, graph=graph)


def orphans_of(read: PersistedSessionRead) -> tuple[str, ...]:
    """The nodes off the active path, in storage order. O(n).

    With a leaf that is gone, the path is the one that the session would be opened with.
    """
    graph = state_of_read(read).graph
    active = {node.node_id for node in graph.active_path}
    return tuple(node.node_id for node in graph.nodes if node.node_id not in active)
