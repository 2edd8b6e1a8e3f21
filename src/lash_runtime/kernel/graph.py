"""The session graph: an immutable tree of nodes with a leaf, sharing structure between versions.

Rule 1: history is append-only. Nothing removes or edits a node; replacing what is visible moves
the leaf and leaves the old nodes as a branch.
Rule 2: extending the active path costs O(1) for each node; everything else may cost O(n).
Rule 3: a parent chain is walked with a guard, because a damaged store may hold a cycle.
"""

from collections.abc import Iterable, Sequence
from typing import Self

from ..model.messages import Message
from ..model.nodes import SessionNodeRecord
from .read_model import EVERYTHING, FrameFilter, ReadModel
from .shared_sequence import SharedSequence


class SessionGraph:
    """All nodes that are loaded, in storage order, and the leaf of the active path."""

    __slots__ = ("_index", "_models", "_path", "leaf_node_id", "nodes")

    def __init__(
        self, nodes: Iterable[SessionNodeRecord] = (), leaf_node_id: str | None = None
    ) -> None:
        self.nodes: SharedSequence[SessionNodeRecord] = SharedSequence(nodes)
        self.leaf_node_id = leaf_node_id
        self._index = {node.node_id: at for at, node in enumerate(self.nodes)}
        self._path: SharedSequence[SessionNodeRecord] | None = None
        self._models: dict[FrameFilter, ReadModel] = {}

    def __len__(self) -> int:
        return len(self.nodes)

    def find(self, node_id: str) -> SessionNodeRecord | None:
        """The node of that id, on the active path or off it."""
        position = self._index.get(node_id)
        if position is None or position >= len(self.nodes):
            return None
        node = self.nodes[position]
        return node if node.node_id == node_id else None

    def __contains__(self, node_id: object) -> bool:
        return isinstance(node_id, str) and self.find(node_id) is not None

    @property
    def active_path(self) -> SharedSequence[SessionNodeRecord]:
        """The nodes from the root to the leaf; a missing parent ends the walk."""
        if self._path is None:
            # A history without branches is its own path, and shares its list.
            self._path = self.nodes if self._is_one_path() else SharedSequence(self._walk())
        return self._path

    def read_model(self, visible: FrameFilter = EVERYTHING) -> ReadModel:
        """What a reader with that filter sees. Computed once, then grown with the path."""
        model = self._models.get(visible)
        if model is None:
            model = ReadModel.of(self.active_path, visible)
            self._models[visible] = model
        return model

    def extend_active_path(
        self, nodes: Sequence[SessionNodeRecord], adopt: SharedSequence[Message] | None = None
    ) -> Self:
        """The graph with `nodes`, which must chain from the leaf, as the new end of the path.

        `adopt` is handed to the read models; see `ReadModel.extended`.
        """
        if not nodes:
            return self
        expected = self.leaf_node_id
        for node in nodes:
            if node.parent_node_id != expected:
                raise ValueError(
                    f"node {node.node_id!r} hangs under {node.parent_node_id!r}, "
                    f"but the path ends in {expected!r}"
                )
            expected = node.node_id
        graph = self._with_nodes(nodes, leaf_node_id=nodes[-1].node_id)
        if self._path is self.nodes:
            graph._path = graph.nodes
        elif self._path is not None:
            graph._path = self._path.extend(nodes)
        graph._models = {
            visible: model.extended(nodes, visible, adopt)
            for visible, model in self._models.items()
        }
        return graph

    def with_leaf(self, leaf_node_id: str | None) -> Self:
        """The same nodes with another leaf: a branch, or the way back from one."""
        if leaf_node_id == self.leaf_node_id:
            return self
        return self._with_nodes((), leaf_node_id=leaf_node_id)

    def fork_current_path(self) -> Self:
        """A graph of the active path alone, with the same leaf. O(n), unless there is nothing
        else: then it is this very graph."""
        path = self.active_path
        if len(path) == len(self.nodes):
            return self
        graph = type(self)(path, self.leaf_node_id)
        graph._path = graph.nodes
        graph._models = dict(self._models)
        return graph

    def healed(self) -> Self:
        """With a leaf that exists: the last message node in storage order, or none.

        A graph whose leaf is present or `None` is returned as it is.
        """
        if self.leaf_node_id is None or self.leaf_node_id in self:
            return self
        for node in reversed(self.nodes[:]):
            if node.conversation is not None:
                return self.with_leaf(node.node_id)
        return self.with_leaf(None)

    def kept_prefix(
        self, wanted: Sequence[Message], visible: FrameFilter = EVERYTHING
    ) -> tuple[str | None, int]:
        """How much of the path survives when the transcript that `visible` shows becomes
        `wanted`.

        Returns the last node kept and how many of `wanted` are already there. Nodes that are
        not messages, or not shown, are kept; the first message that differs ends the walk.
        """
        last_kept: str | None = None
        matched = 0
        seen: set[str] = set()
        for node in self.active_path:
            record = node.conversation
            if record is not None and visible.admits(node):
                transient = record.message.transient
                if not transient and record.id not in seen:
                    if matched >= len(wanted) or wanted[matched].id != record.id:
                        break
                    matched += 1
                    seen.add(record.id)
            last_kept = node.node_id
        return last_kept, matched

    def _with_nodes(self, nodes: Sequence[SessionNodeRecord], leaf_node_id: str | None) -> Self:
        graph = type(self).__new__(type(self))
        first_new = len(self.nodes)
        graph.nodes = self.nodes.extend(nodes)
        graph.leaf_node_id = leaf_node_id
        shares_list = graph.nodes.grew_from(self.nodes)
        index = self._index if shares_list else {n.node_id: i for i, n in enumerate(self.nodes)}
        for offset, node in enumerate(nodes):
            index[node.node_id] = first_new + offset
        graph._index = index
        graph._path = None
        graph._models = {}
        return graph

    def _is_one_path(self) -> bool:
        parent = None
        for node in self.nodes:
            if node.parent_node_id != parent:
                return False
            parent = node.node_id
        return parent == self.leaf_node_id and len(self._index) >= len(self.nodes)

    def _walk(self) -> list[SessionNodeRecord]:
        path: list[SessionNodeRecord] = []
        visited: set[str] = set()
        node_id = self.leaf_node_id
        while node_id is not None and node_id not in visited:
            visited.add(node_id)
            node = self.find(node_id)
            if node is None:
                break
            path.append(node)
            node_id = node.parent_node_id
        path.reverse()
        return path
