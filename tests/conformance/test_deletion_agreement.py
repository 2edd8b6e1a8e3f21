"""The two storages play the same histories of deleting and listing, and answer the same.

What one keeps in rows the other keeps in objects, so a rule that either has forgotten shows.
"""

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.side_by_side import the_meta
from lash_runtime.model.messages import MessageRole
from lash_runtime.ports.attachments import AttachmentIntent, AttachmentStoreError
from lash_runtime.ports.leases import LeaseAcquired
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.session_catalogue import SessionOrder, SessionQuery
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.storage import SessionStoreCreateRequest, Storage
from lash_runtime.ports.store_errors import StoreError
from lash_runtime.ports.turn_ledger import TurnAccepted
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import FixedIdSource, ManualClock
from lash_runtime.testing.conformance._samples import (
    BOB,
    TTL_MS,
    a_commit,
    a_node,
    an_acceptance,
    append,
    first,
)
from lash_runtime.testing.conformance.attachments import PNG

sessions = st.sampled_from(["one", "two"])
node_ids = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
roles = st.sampled_from([MessageRole.USER, MessageRole.ASSISTANT])
stores = st.integers(0, 5)
"""Which of the stores that were opened, newest first: old ones outlive their sessions."""

steps = st.one_of(
    st.tuples(st.just("open"), sessions),
    st.tuples(st.just("open existing"), sessions),
    st.tuples(st.just("delete"), sessions),
    st.tuples(st.just("commit"), stores, node_ids, roles),
    st.tuples(st.just("replace"), stores, node_ids, roles),
    st.tuples(st.just("tombstone"), stores, node_ids),
    st.tuples(st.just("accept"), stores, st.sampled_from(["t1", "t2"])),
    st.tuples(st.just("keep"), stores, st.sampled_from([b"cat", b"dog"])),
    st.tuples(st.just("read"), stores),
    st.tuples(st.just("list"), st.sampled_from(SessionOrder), st.integers(1, 2)),
    st.tuples(st.just("look"), st.sampled_from([b"cat", b"dog"])),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 60.0])),
)


class Player:
    """Plays steps to one storage and writes down what it shows."""

    def __init__(self, storage: Storage) -> None:
        self.clock = ManualClock()
        self.storage = storage
        self.opened: list[tuple[str, RuntimePersistence]] = []
        self.attachments: dict[bytes, str] = {}
        storage.bind(clock=self.clock, ids=FixedIdSource())

    async def play(self, history: list[tuple[Any, ...]]) -> list[Any]:
        await self.storage.open()
        try:
            return [await self.answer(step) for step in history]
        finally:
            await self.storage.aclose()

    async def answer(self, step: tuple[Any, ...]) -> Any:
        try:
            return await self.do(*step)
        except (StoreError, AttachmentStoreError) as error:
            return type(error).__name__, error.code

    async def do(self, kind: str, *asked: Any) -> Any:
        stores = self.storage.session_stores
        match kind, asked:
            case "open", (session_id,):
                store = await stores.create_store(SessionStoreCreateRequest(session_id=session_id))
                self.opened.insert(0, (session_id, store))
            case "open existing", (session_id,):
                request = SessionStoreCreateRequest(session_id=session_id)
                return await stores.open_existing_store(request) is not None
            case "delete", (session_id,):
                return await stores.delete_session(session_id)
            case "list", (order, limit):
                return await self.listed(order, limit)
            case "wait", (seconds,):
                self.clock.advance(seconds)
            case "look", (data,):
                return (await self.storage.attachments.get(self.attachments.get(data, ""))).data
            case _, (number, *rest) if number < len(self.opened):
                return await self.use(kind, *self.opened[number], *rest)
        return None

    async def use(self, kind: str, session_id: str, store: RuntimePersistence, *asked: Any) -> Any:
        match kind, asked:
            case "tombstone", (ids,):
                return await store.tombstone_nodes(ids)
            case "read", ():
                return await store.load_session(FullGraph()), await the_meta(store)
            case "accept", (turn_id,):
                outcome = await store.accept_turn(
                    an_acceptance(turn_id, session_id=session_id, owner=BOB)
                )
                if not isinstance(outcome, TurnAccepted):
                    return type(outcome).__name__
                return outcome.lease.fencing_token, outcome.row.generation, outcome.row.seq
            case "keep", (data,):
                ref = await self.storage.attachments.put(data, PNG)
                self.attachments[data] = ref.id
                return await store.record_intent(
                    AttachmentIntent(
                        attachment_id=ref.id,
                        session_id=session_id,
                        canonical_uri=f"sha256:{ref.id}",
                        intent_at_epoch_ms=self.clock.timestamp_ms(),
                    )
                )
            case (("commit" | "replace"), (ids, role)):
                claimed = await store.try_claim_session_execution_lease(session_id, BOB, TTL_MS)
                assert isinstance(claimed, LeaseAcquired)
                nodes = [a_node(node_id, text=f"{node_id} says", role=role) for node_id in ids]
                graph = append(*nodes) if kind == "commit" else first(*nodes)
                commit = a_commit(claimed.lease.fence(), session_id=session_id, graph=graph)
                result = await store.commit_runtime_state(commit)
                return claimed.lease.fencing_token, result.head_revision
        raise AssertionError(kind)

    async def listed(self, order: SessionOrder, limit: int) -> list[Any]:
        entries: list[Any] = []
        after = None
        while True:
            page = await self.storage.session_stores.list_sessions(
                SessionQuery(order=order, limit=limit, after=after)
            )
            entries += [replace(entry, cwd=None) for entry in page.sessions]
            after = page.next_cursor
            if after is None:
                return entries


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(st.lists(steps, min_size=10, max_size=40))
def test_both_storages_delete_and_list_alike(history: list[tuple[Any, ...]]) -> None:
    """Every answer, every error, every page, and whoever still holds an old store."""
    history = [("open", "one"), ("open", "two"), *history, ("list", SessionOrder.LAST_USED, 1)]
    memory = asyncio.run(Player(MemoryStorage()).play(history))
    sqlite = asyncio.run(Player(SqliteStorage(":memory:")).play(history))
    for step, left, right in zip(history, memory, sqlite, strict=True):
        assert left == right, step
