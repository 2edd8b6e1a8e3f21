"""Sessions of one storage: how they come to be, what names them, and that they stay apart."""

from datetime import datetime

from ...model.policy import ModelSpec, SessionPolicy
from ...model.session_meta import ChildRelation, SessionMeta
from ...ports.attachments import AttachmentStoreError
from ...ports.session_state import FullGraph
from ...ports.storage import SessionStoreCreateRequest, Storage
from ...ports.store_errors import StoreBackendError
from ...ports.turn_ledger import TurnState
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    BOB,
    ODD_IDS,
    TIMESTAMP,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    first,
    spent,
)
from .graphs import a_read


class SessionConformance(StorageCase):
    """A storage holds any number of sessions, each as if it were alone."""

    async def test_every_facet_declares_the_tier(self, storage: Storage) -> None:
        """A host decides by it what it may rely on."""
        store = await a_store(storage)
        assert storage.session_stores.durability_tier is self.durability_tier
        assert storage.attachments.durability_tier is self.durability_tier
        assert storage.process_env_store.durability_tier is self.durability_tier
        assert store.durability_tier is self.durability_tier

    async def test_creating_a_session_seeds_its_metadata(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """Known before the first commit: name, model, parent, and the time by the given clock."""
        relation = ChildRelation(parent_session_id="parent")
        store = await storage.session_stores.create_store(
            SessionStoreCreateRequest(
                session_id="s",
                policy=SessionPolicy(model=ModelSpec(id="gpt-5.4")),
                relation=relation,
            )
        )
        meta = await store.load_session_meta()
        assert meta is not None
        assert (meta.session_id, meta.session_name) == ("s", "s")
        assert (meta.model, meta.relation) == ("gpt-5.4", relation)
        assert datetime.fromisoformat(meta.created_at) == clock.timestamp_datetime()

    async def test_creating_a_session_again_changes_nothing(self, storage: Storage) -> None:
        """The first metadata stays, and so does everything that was stored since."""
        store = await a_store(storage)
        before = await store.load_session_meta()
        again = await storage.session_stores.create_store(
            SessionStoreCreateRequest(
                session_id="s",
                policy=SessionPolicy(model=ModelSpec(id="another")),
                relation=ChildRelation(parent_session_id="parent"),
            )
        )
        assert await again.load_session_meta() == before

    async def test_metadata_is_overwritten_whole(self, storage: Storage) -> None:
        """What the new record leaves out is gone."""
        store = await a_store(storage)
        for meta in (
            SessionMeta(
                session_id="s",
                session_name="Oslo \U0001f9ed",
                created_at=TIMESTAMP,
                cwd="/tmp/x",  # noqa: S108
            ),
            SessionMeta(session_id="s", session_name="plain", created_at=TIMESTAMP),
        ):
            await store.save_session_meta(meta)
            assert await store.load_session_meta() == meta

    async def test_only_a_session_that_exists_is_opened_as_existing(self, storage: Storage) -> None:
        """Asking does not create."""
        stores = storage.session_stores
        request = SessionStoreCreateRequest(session_id="s")
        assert await stores.open_existing_store(request) is None
        assert await stores.open_existing_store(request) is None
        await stores.create_store(request)
        assert await stores.open_existing_store(request) is not None

    async def test_two_opens_of_one_session_see_one_session(self, storage: Storage) -> None:
        """A commit through the one is there for the other at once."""
        store, again = await a_store(storage), await a_store(storage)
        turn = await accepted(store, an_acceptance())
        await again.commit_runtime_state(a_commit(turn.lease.fence()))
        assert await store.load_head_stamp() == await again.load_head_stamp() is not None

    async def test_sessions_do_not_see_each_other(self, storage: Storage) -> None:
        """Equal node ids, turn ids and stamps in two sessions are different things."""
        names = ("one", "two")
        stores = {name: await a_store(storage, name) for name in names}
        for name, store in stores.items():
            acceptance = an_acceptance("t1", name, session_id=name, owner=BOB)
            turn = await accepted(store, acceptance)
            assert (turn.row.seq, turn.lease.fencing_token, turn.head) == (1, 1, None)
            result = await store.commit_runtime_state(
                a_commit(
                    turn.lease.fence(),
                    session_id=name,
                    graph=first(a_node("n1", text=name)),
                    usage_deltas=(spent("turn", name, 1),),
                    turn_commit=a_stamp("t1", name, session_id=name),
                    turn_settlement=as_committed(text=name),
                )
            )
            assert (result.head_revision, result.replayed) == (1, False)
        for name, store in stores.items():
            read = await a_read(store)
            assert read.nodes == (a_node("n1", text=name),)
            assert read.token_ledger == (spent("turn", name, 1),)
            assert await store.load_node("n1") == a_node("n1", text=name)
            row = await store.load_turn(name, "t1")
            assert row is not None
            assert row.result == as_committed(text=name).result

    async def test_any_text_can_be_a_session_id(self, storage: Storage) -> None:
        """Ids that look like paths, SQL or each other are only names, however long."""
        for session_id in ODD_IDS:
            store = await a_store(storage, session_id)
            turn = await accepted(store, an_acceptance(session_id=session_id))
            await store.commit_runtime_state(
                a_commit(
                    turn.lease.fence(),
                    session_id=session_id,
                    graph=first(a_node("n1", text=session_id)),
                    turn_settlement=as_committed(),
                    turn_commit=a_stamp(session_id=session_id),
                )
            )
        for session_id in ODD_IDS:
            store = await a_store(storage, session_id)
            read = await a_read(store)
            assert (read.session_id, read.nodes) == (session_id, (a_node("n1", text=session_id),))
            row = await store.load_turn(session_id, "t1")
            assert row is not None
            assert (row.session_id, row.state) == (session_id, TurnState.COMMITTED)
            meta = await store.load_session_meta()
            assert meta is not None
            assert meta.session_id == session_id

    async def test_opening_and_closing_are_repeatable(self, storage: Storage) -> None:
        """A second open or close is no error; what is closed says so in the words of its port."""
        store = await a_store(storage)
        await storage.open()
        assert await store.load_session(FullGraph()) is None
        await storage.aclose()
        await storage.aclose()
        await raised_by(store.load_session(FullGraph()), StoreBackendError)
        error = await raised_by(storage.attachments.get("0" * 64), AttachmentStoreError)
        assert error.code == "backend"
