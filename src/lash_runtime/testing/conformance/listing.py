"""Listing sessions: what a picker is told of each, in which order, page after page."""

import base64
import os

from ...model.messages import Message, MessageRole, Part, PartKind
from ...model.nodes import ConversationRecord, ProtocolEvent, SessionNodeRecord
from ...model.policy import ModelSpec, SessionPolicy
from ...model.session_meta import ChildRelation
from ...ports.commit import GraphCommitDelta, GraphUnchanged
from ...ports.session_catalogue import SessionOrder, SessionPickerInfo, SessionQuery
from ...ports.storage import SessionStoreCreateRequest, Storage
from ...ports.store_errors import HeadRevisionConflict, InvalidPageCursor, StoreBackendError
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    TIMESTAMP,
    a_commit,
    a_node,
    a_store,
    accepted,
    an_acceptance,
    append,
    first,
    hold,
)


async def listed(storage: Storage, order: SessionOrder = SessionOrder.LAST_USED) -> list[str]:
    """The ids of all sessions, read in pages of two."""
    ids: list[str] = []
    after: str | None = None
    while True:
        page = await storage.session_stores.list_sessions(
            SessionQuery(order=order, limit=2, after=after)
        )
        assert len(page.sessions) <= 2
        ids += [entry.session_id for entry in page.sessions]
        after = page.next_cursor
        if after is None:
            return ids


async def the_entry(storage: Storage, session_id: str = "s") -> SessionPickerInfo:
    page = await storage.session_stores.list_sessions(SessionQuery(limit=1_000))
    (entry,) = (entry for entry in page.sessions if entry.session_id == session_id)
    return entry


async def use(storage: Storage, session_id: str) -> None:
    """Commit something to a session, and nothing to its transcript."""
    store = await a_store(storage, session_id)
    fence = (await hold(store, session_id)).fence()
    await store.commit_runtime_state(
        a_commit(
            fence,
            session_id=session_id,
            graph=GraphUnchanged(leaf_node_id=None),
            release_session_execution_lease=fence,
        )
    )


def said(
    node_id: str, parent: str | None, role: MessageRole, *parts: tuple[PartKind, str]
) -> SessionNodeRecord:
    """A node of one message with those parts."""
    message = Message(
        id=f"m-{node_id}",
        role=role,
        parts=tuple(
            Part(id=f"m-{node_id}.p{number}", kind=kind, content=content)
            for number, (kind, content) in enumerate(parts)
        ),
    )
    return SessionNodeRecord(
        node_id=node_id,
        parent_node_id=parent,
        timestamp=TIMESTAMP,
        payload=ConversationRecord.of(message),
    )


class ListingConformance(StorageCase):
    """The list says of each session what a person needs to find it again."""

    async def test_a_session_is_listed_from_its_creation(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Before anything was said; a lease or a question about it lists nothing."""
        assert await listed(storage) == []
        assert await storage.session_stores.open_existing_store(_request("s")) is None
        relation = ChildRelation(parent_session_id="parent")
        await storage.session_stores.create_store(
            SessionStoreCreateRequest(
                session_id="s",
                policy=SessionPolicy(model=ModelSpec(id="gpt-5.4")),
                relation=relation,
            )
        )
        created = clock.timestamp_ms()
        clock.advance(5)
        entry = await the_entry(storage)
        assert entry == SessionPickerInfo(
            session_id="s",
            session_name="s",
            created_at_epoch_ms=created,
            updated_at_epoch_ms=created,
            model="gpt-5.4",
            cwd=entry.cwd,
            relation=relation,
            message_count=0,
            user_message_count=0,
            first_user_message="",
            last_message="",
        )
        assert entry.parent_session_id == "parent"
        assert entry.cwd in (None, os.getcwd())

    async def test_a_changed_name_is_listed(self, storage: Storage) -> None:
        """The list shows the metadata as it is, not as it was at creation."""
        store = await a_store(storage)
        meta = await store.load_session_meta()
        assert meta is not None
        changes = {"session_name": "Trip to Oslo", "cwd": "/home/ada", "model": "another"}
        await store.save_session_meta(meta.model_copy(update=changes))
        entry = await the_entry(storage)
        assert (entry.session_name, entry.cwd, entry.model) == (
            "Trip to Oslo",
            "/home/ada",
            "another",
        )

    async def test_what_was_said_is_told_by_counts_and_beginnings(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Answers of tools stand in the transcript as the user's; nobody said them."""
        store = await a_store(storage)
        user, assistant = MessageRole.USER, MessageRole.ASSISTANT
        await _commit(
            store,
            first(
                said("a", None, MessageRole.SYSTEM, (PartKind.TEXT, "be brief")),
                said("b", "a", user, (PartKind.TEXT, " What is this? "), (PartKind.IMAGE, "x")),
                said("c", "b", assistant, (PartKind.TOOL_CALL, "{}")),
                said("d", "c", user, (PartKind.TOOL_RESULT, "a cat")),
            ),
        )
        clock.advance(1)
        entry = await the_entry(storage)
        assert (entry.message_count, entry.user_message_count) == (4, 1)
        assert entry.first_user_message == "What is this? \n\n[Image attached]"
        assert entry.last_message == entry.first_user_message
        event = ProtocolEvent(plugin_id="p", payload={})
        await _commit(
            store,
            append(
                said("e", "d", assistant, (PartKind.REASONING, "hm"), (PartKind.PROSE, "A cat.")),
                a_node("f", "e", text="Whose?"),
                said("g", "f", assistant, (PartKind.PROSE, "  ")),
                SessionNodeRecord(
                    node_id="h",
                    parent_node_id="g",
                    timestamp=TIMESTAMP,
                    payload=event,
                ),
            ),
        )
        entry = await the_entry(storage)
        assert (entry.message_count, entry.user_message_count) == (7, 2)
        assert entry.first_user_message == "What is this? \n\n[Image attached]"
        assert entry.last_message == "Whose?"
        await _commit(store, append(said("i", "g", assistant, (PartKind.TOOL_CALL, "{}"))))
        entry = await the_entry(storage)
        assert (entry.message_count, entry.last_message) == (8, "Whose?")
        assert entry.updated_at_epoch_ms == clock.timestamp_ms()

    async def test_long_messages_are_listed_by_their_beginning(self, storage: Storage) -> None:
        """A page of the list stays small, whatever was pasted into a session."""
        store = await a_store(storage)
        text = "word " * 100_000
        await _commit(store, first(a_node("a", text=text)))
        entry = await the_entry(storage)
        assert len(entry.first_user_message) <= 200
        assert entry.first_user_message.endswith("…")
        assert text.startswith(entry.first_user_message[:-1])

    async def test_a_repeated_node_counts_once(self, storage: Storage) -> None:
        """A commit that brings a node which is there already has added nothing."""
        store = await a_store(storage)
        await _commit(store, first(a_node("a", text="one")))
        await _commit(store, append(a_node("a", text="one"), a_node("b", "a", text="two")))
        entry = await the_entry(storage)
        assert (entry.message_count, entry.user_message_count) == (2, 2)
        assert (entry.first_user_message, entry.last_message) == ("one", "two")

    async def test_a_refused_commit_is_not_listed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The list and the session are written together or not at all."""
        store = await a_store(storage)
        await _commit(store, first(a_node("a", text="one")))
        before = await the_entry(storage)
        clock.advance(1)
        fence = (await hold(store)).fence()
        stale = a_commit(fence, expected_head_revision=7, graph=append(a_node("b", "a")))
        await raised_by(store.commit_runtime_state(stale), HeadRevisionConflict)
        other = a_commit(fence, graph=append(a_node("b", "a"), a_node("a", text="other")))
        await raised_by(store.commit_runtime_state(other), StoreBackendError)
        assert await the_entry(storage) == before

    async def test_a_replaced_transcript_is_listed_anew(self, storage: Storage) -> None:
        """Nothing of what was replaced shows, whether all of it was or a turn started over."""
        store = await a_store(storage)
        await _commit(store, first(a_node("a", text="old"), a_node("b", "a", text="older")))
        await _commit(store, first(a_node("c", text="new")))
        entry = await the_entry(storage)
        assert (entry.message_count, entry.first_user_message, entry.last_message) == (
            1,
            "new",
            "new",
        )
        await accepted(store, an_acceptance(replace_session=True))
        entry = await the_entry(storage)
        assert (entry.message_count, entry.first_user_message, entry.last_message) == (0, "", "")

    async def test_a_tombstoned_message_is_not_listed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """What was taken out of a transcript is not quoted elsewhere, and taking it out is no use
        of the session; a message that comes back counts again."""
        store = await a_store(storage)
        nodes = [
            a_node("a", text="one"),
            a_node("b", "a", text="two"),
            a_node("c", "b", text="three", role=MessageRole.ASSISTANT),
        ]
        await _commit(store, first(*nodes))
        used = clock.timestamp_ms()
        clock.advance(1)
        await store.tombstone_nodes(["a", "c", "never"])
        await store.tombstone_nodes(["a"])
        entry = await the_entry(storage)
        assert (entry.message_count, entry.user_message_count) == (1, 1)
        assert (entry.first_user_message, entry.last_message) == ("two", "two")
        assert entry.updated_at_epoch_ms == used
        await _commit(store, append(nodes[2]))
        entry = await the_entry(storage)
        assert (entry.message_count, entry.user_message_count) == (2, 1)
        assert (entry.first_user_message, entry.last_message) == ("two", "three")
        await store.vacuum()
        assert await the_entry(storage) == entry
        await store.tombstone_nodes(["b", "c"])
        entry = await the_entry(storage)
        assert (entry.message_count, entry.first_user_message, entry.last_message) == (0, "", "")

    async def test_the_last_used_is_first(self, storage: Storage, clock: ManualClock) -> None:
        """Every commit is use, also one that says nothing; reading is not."""
        for name in ("one", "two", "three"):
            await a_store(storage, name)
            clock.advance(1)
        assert await listed(storage) == ["three", "two", "one"]
        await use(storage, "one")
        await (await a_store(storage, "two")).load_session_meta()
        assert await listed(storage) == ["one", "three", "two"]

    async def test_the_order_of_creation_stays(self, storage: Storage, clock: ManualClock) -> None:
        """Use does not move a session in it."""
        for name in ("one", "two", "three"):
            await a_store(storage, name)
            clock.advance(1)
        await use(storage, "one")
        await a_store(storage, "two")
        assert await listed(storage, SessionOrder.CREATED) == ["three", "two", "one"]

    async def test_sessions_of_one_instant_are_each_listed_once(self, storage: Storage) -> None:
        """A page may end among them; their ids keep them apart."""
        names = {f"s{number}" for number in range(7)}
        for name in names:
            await a_store(storage, name)
        for order in SessionOrder:
            ids = await listed(storage, order)
            assert len(ids) == 7
            assert set(ids) == names

    async def test_a_listing_goes_on_while_sessions_change(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """What was used or deleted meanwhile is not shown twice, and nothing else is missed."""
        stores = storage.session_stores
        for number in range(6):
            await a_store(storage, f"s{number}")
            clock.advance(1)
        page = await stores.list_sessions(SessionQuery(limit=2))
        assert [entry.session_id for entry in page.sessions] == ["s5", "s4"]
        await stores.delete_session("s4")
        await stores.delete_session("s3")
        await use(storage, "s2")
        await a_store(storage, "s6")
        page = await stores.list_sessions(SessionQuery(limit=2, after=page.next_cursor))
        assert [entry.session_id for entry in page.sessions] == ["s1", "s0"]
        assert page.next_cursor is None

    async def test_only_a_cursor_of_the_same_listing_leads_on(self, storage: Storage) -> None:
        """Anything else is refused, and never taken for the beginning."""
        for number in range(3):
            await a_store(storage, f"s{number}")
        page = await storage.session_stores.list_sessions(SessionQuery(limit=1))
        assert page.next_cursor is not None
        forged = [
            base64.urlsafe_b64encode(text.encode()).decode()
            for text in (
                "null",
                '["last_used", 1]',
                '["last_used", "1", "s"]',
                '["last_used", 1.5, "s"]',
                '["last_used", true, "s"]',
                '["last_used", 1, null]',
                f'["last_used", {10**30}, "s"]',
                '["last_used", 1, "\\ud800"]',
                '["by name", 1, "s"]',
                "[" * 10_000,
            )
        ]
        for cursor in ("", "nonsense", page.next_cursor[:-8], "ünï", *forged):
            query = SessionQuery(after=cursor)
            await raised_by(storage.session_stores.list_sessions(query), InvalidPageCursor)
        query = SessionQuery(order=SessionOrder.CREATED, after=page.next_cursor)
        await raised_by(storage.session_stores.list_sessions(query), InvalidPageCursor)

    async def test_a_full_last_page_has_no_next(self, storage: Storage) -> None:
        """A reader is not sent for a page that is empty."""
        for number in range(2):
            await a_store(storage, f"s{number}")
        page = await storage.session_stores.list_sessions(SessionQuery(limit=2))
        assert (len(page.sessions), page.next_cursor) == (2, None)


def _request(session_id: str) -> SessionStoreCreateRequest:
    return SessionStoreCreateRequest(session_id=session_id)


async def _commit(store: TurnPersistence, graph: GraphCommitDelta) -> None:
    fence = (await hold(store)).fence()
    await store.commit_runtime_state(
        a_commit(fence, graph=graph, release_session_execution_lease=fence)
    )
