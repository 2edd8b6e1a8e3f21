"""Two storages that are asked the same: what is asked, and how their answers are compared.

What differs by nature is mapped: tokens and drawn ids are told by when they were first seen.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from hypothesis import strategies as st

from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.session_meta import SessionMeta
from lash_runtime.model.usage import TokenLedgerEntry, TokenUsage
from lash_runtime.ports.attachments import AttachmentStoreError
from lash_runtime.ports.commit import (
    GraphAppend,
    GraphCommitDelta,
    GraphReplaceFull,
    GraphUnchanged,
)
from lash_runtime.ports.leases import (
    LeaseOwnerIdentity,
    LocalProcessLiveness,
    SessionExecutionLeaseFence,
)
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.session_state import (
    PluginSessionSnapshot,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.ports.store_errors import StoreError
from lash_runtime.ports.turn_ledger import (
    TurnState,
)
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.testing import FixedIdSource, ManualClock

SESSIONS = ("one", "two")
TURN_IDS = ("t1", "t2", "t3", "t4")
NODE_IDS = ("n1", "n2", "n3", "n4", "n5")
ATTACHMENTS = ("a1", "a2")
ENDS = (TurnState.COMMITTED, TurnState.INTERRUPTED, TurnState.FAILED)
TIMESTAMP = "2025-06-15T15:06:40.000Z"
DRAWN = re.compile("(qwb|ti):[0-9a-f]{32}")


async def the_meta(store: RuntimePersistence) -> SessionMeta | None:
    """A session's metadata but for its folder, which a store in memory does not record."""
    meta = await store.load_session_meta()
    return None if meta is None else meta.model_copy(update={"cwd": None})


def owners() -> tuple[LeaseOwnerIdentity, ...]:
    """Two opaque incarnations of one owner, a living process, and one whose pid was reused."""
    living = local_process_liveness()
    dead = living
    if isinstance(living, LocalProcessLiveness):
        dead = living.model_copy(update={"process_start": "0"})
    return (
        LeaseOwnerIdentity(owner_id="alice", incarnation_id="1"),
        LeaseOwnerIdentity(owner_id="alice", incarnation_id="2"),
        LeaseOwnerIdentity(owner_id="living", incarnation_id="1", liveness=living),
        LeaseOwnerIdentity(owner_id="dead", incarnation_id="1", liveness=dead),
    )


def a_node(node_id: str, parent: str | None, text: str) -> SessionNodeRecord:
    message = text_message(f"m-{node_id}", MessageRole.USER, text)
    return SessionNodeRecord(
        node_id=node_id,
        parent_node_id=parent,
        timestamp=TIMESTAMP,
        payload=ConversationRecord.of(message),
    )


session_ids = st.sampled_from(SESSIONS)
turn_ids = st.sampled_from(TURN_IDS)
owner_numbers = st.integers(0, 3)
ttls = st.sampled_from((3_000, 1_000, 0))
rarely = st.integers(0, 99).map(lambda number: number in range(40, 50))
recent = st.integers(0, 3)
"""How many fences ago: histories are interesting near their end."""

current_or_recent = st.sampled_from((None, None, None, 0, 1, 2))
"""`None` is the fence of whoever holds the lane, or of one who takes it now."""

maybe_node_id = st.none() | st.sampled_from(NODE_IDS)
nodes = st.lists(
    st.builds(
        a_node,
        node_id=st.sampled_from(NODE_IDS),
        parent=maybe_node_id,
        text=st.sampled_from(("hello",) * 5 + ("other",)),
    ),
    max_size=3,
).map(tuple)
deltas: st.SearchStrategy[GraphCommitDelta] = st.one_of(
    st.builds(GraphAppend, nodes=nodes, leaf_node_id=maybe_node_id),
    st.builds(GraphUnchanged, leaf_node_id=maybe_node_id),
    st.builds(GraphReplaceFull, nodes=nodes, leaf_node_id=maybe_node_id),
)
usage = st.lists(
    st.builds(
        TokenLedgerEntry,
        source=st.sampled_from(("turn", "child")),
        model=st.sampled_from(("m1", "m2")),
        usage=st.builds(
            TokenUsage, input_tokens=st.integers(0, 5), reasoning_output_tokens=st.integers(0, 1)
        ),
    ),
    max_size=2,
).map(tuple)
components = st.sampled_from(
    (
        {},
        {"execution_state": b"state"},
        {"execution_state": b"", "plugin_snapshot_revision": 2},
        {"plugin_snapshot": PluginSessionSnapshot(plugins={"notes": [1, None, "\u2028"]})},
    )
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One fence as each of the two stores knows it."""

    memory: SessionExecutionLeaseFence
    sqlite: SessionExecutionLeaseFence


class Side:
    """One storage, its stores, and the lease tokens it has shown so far."""

    def __init__(self, storage: Storage, clock: ManualClock, seed: int) -> None:
        self.storage = storage
        self.clock = clock
        self.seed = seed
        self.stores: dict[str, RuntimePersistence] = {}
        self.tokens: dict[str, str] = {}

    async def open(self) -> None:
        self.storage.bind(clock=self.clock, ids=FixedIdSource(self.seed))
        await self.storage.open()
        for session_id in SESSIONS:
            self.stores[session_id] = await self.storage.session_stores.create_store(
                SessionStoreCreateRequest(session_id=session_id)
            )

    def comparable(self, value: Any) -> Any:
        """`value` with all that was drawn exchanged for the order of its first appearance."""
        if isinstance(value, str):
            return DRAWN.sub(lambda drawn: self.told(drawn[0]), value)
        if isinstance(value, list | tuple):
            return [self.comparable(item) for item in value]
        if isinstance(value, dict):
            return {name: self.comparable(item) for name, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            named = {field.name: getattr(value, field.name) for field in fields(value)}
            if "lease_token" in named:
                named["lease_token"] = self.told(named["lease_token"])
            return [type(value).__name__, self.comparable(named)]
        return value

    def told(self, token: str) -> str:
        return self.tokens.setdefault(token, f"token {len(self.tokens)}")

    async def answer(self, call: Callable[["Side"], Awaitable[Any]]) -> tuple[Any, Any]:
        """What the call answers or raises: as it is, and comparable."""
        try:
            value = await call(self)
        except (StoreError, AttachmentStoreError) as error:
            return None, (type(error).__name__, error.code, self.comparable(vars(error)))
        return value, self.comparable(value)
