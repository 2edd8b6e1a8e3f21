"""The nodes of one session's graph. A node never changes once it is stored.

One that is tombstoned is still there and shown to nobody. Appending it again brings it back, and
vacuum takes it away.
"""

from collections.abc import Iterable, Mapping

from ...model.nodes import SessionNodeRecord
from ...ports.store_errors import StoreBackendError

NewNodes = dict[str, SessionNodeRecord]


class Nodes:
    """Live nodes by id, in storage order, and what was tombstoned among them."""

    __slots__ = ("_session_id", "_stored", "_tombstoned")

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._stored: NewNodes = {}
        self._tombstoned: set[str] = set()

    def __len__(self) -> int:
        """How many are stored, tombstoned or not."""
        return len(self._stored)

    def get(self, node_id: str) -> SessionNodeRecord | None:
        return None if node_id in self._tombstoned else self._stored.get(node_id)

    def live(self) -> tuple[SessionNodeRecord, ...]:
        if not self._tombstoned:
            return tuple(self._stored.values())
        return tuple(node for node in self._stored.values() if node.node_id not in self._tombstoned)

    def path_to(self, leaf_node_id: str | None) -> tuple[SessionNodeRecord, ...]:
        """The leaf and its ancestors, root first. Raises `StoreBackendError` in a cycle."""
        path: list[SessionNodeRecord] = []
        node_id = leaf_node_id
        while node_id is not None and (node := self.get(node_id)) is not None:
            if len(path) == len(self._stored):
                raise StoreBackendError(
                    f"the nodes of session {self._session_id!r} above {leaf_node_id!r} form a cycle"
                )
            path.append(node)
            node_id = node.parent_node_id
        path.reverse()
        return tuple(path)

    def new_among(self, nodes: Iterable[SessionNodeRecord]) -> NewNodes:
        """Those of `nodes` that `add` would bring in or bring back; changes nothing.

        Raises `StoreBackendError` where one is there with other content.
        """
        return self._checked(nodes, self._stored)

    def new_without_others(self, nodes: Iterable[SessionNodeRecord]) -> NewNodes:
        """The same for a graph that is emptied first."""
        return self._checked(nodes, {})

    def add(self, new: NewNodes) -> None:
        self._stored.update(new)
        self._tombstoned -= new.keys()

    def clear(self) -> None:
        self._stored = {}
        self._tombstoned = set()

    def tombstone(self, node_ids: Iterable[str]) -> None:
        """Ids that no node has are passed over."""
        self._tombstoned |= self._stored.keys() & set(node_ids)

    def vacuum(self) -> int:
        """How many were taken away."""
        for node_id in self._tombstoned:
            del self._stored[node_id]
        removed = len(self._tombstoned)
        self._tombstoned = set()
        return removed

    def _checked(
        self, nodes: Iterable[SessionNodeRecord], present: Mapping[str, SessionNodeRecord]
    ) -> NewNodes:
        new: NewNodes = {}
        for node in nodes:
            known = present.get(node.node_id)
            if known is None or (known == node and node.node_id in self._tombstoned):
                known = new.setdefault(node.node_id, node)
            if known != node:
                raise StoreBackendError(
                    f"node {node.node_id!r} of session {self._session_id!r} exists with other "
                    "content: a node never changes once it is stored"
                )
        return new
