"""Deleting a session: what is gone, what goes on, and who can no longer write."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

import pytest

from ...ports.attachments import AttachmentIntent, AttachmentStoreError
from ...ports.leases import LeaseAcquired, SessionExecutionLease
from ...ports.persistence import RuntimePersistence
from ...ports.session_catalogue import SessionDeleteReport, SessionQuery
from ...ports.session_state import FullGraph
from ...ports.storage import SessionStoreCreateRequest, Storage
from ...ports.store_errors import SessionExecutionLeaseExpired, StoredSessionDeleted
from ..clocks import ManualClock
from ._case import Part, StorageCase
from ._raises import raised_by
from ._samples import (
    ALICE,
    BOB,
    FAR_FUTURE_MS,
    ODD_IDS,
    TTL_MS,
    a_chain,
    a_commit,
    a_node,
    a_stamp,
    a_store,
    accepted,
    an_acceptance,
    as_committed,
    as_failed,
    everything,
    first,
    hold,
    spent,
)
from .attachments import PNG
from .checkpoints import FULL

REQUEST = SessionStoreCreateRequest(session_id="s")


async def a_full_session(storage: Storage, session_id: str = "s") -> SessionExecutionLease:
    """A session with a committed turn, an unfinished one that holds the lane, and an image."""
    store = await a_store(storage, session_id)
    done = await accepted(store, an_acceptance(session_id=session_id))
    await store.commit_runtime_state(
        a_commit(
            done.lease.fence(),
            session_id=session_id,
            graph=first(*a_chain("a", "b", "c")),
            checkpoint=FULL,
            usage_deltas=(spent("turn", "m", 3),),
            turn_settlement=as_committed(),
            turn_commit=a_stamp(session_id=session_id),
            release_session_execution_lease=done.lease.fence(),
        )
    )
    await names(storage, session_id, b"an image of " + session_id.encode())
    running = await accepted(store, an_acceptance("t2", "go on", session_id=session_id))
    return running.lease


async def names(storage: Storage, session_id: str, data: bytes) -> str:
    """Store `data` on behalf of a session, which means to keep it."""
    store = await a_store(storage, session_id)
    ref = await storage.attachments.put(data, PNG)
    await store.record_intent(
        AttachmentIntent(
            attachment_id=ref.id,
            session_id=session_id,
            canonical_uri=f"sha256:{ref.id}",
            intent_at_epoch_ms=1,
        )
    )
    return ref.id


async def is_stored(storage: Storage, attachment_id: str) -> bool:
    try:
        await storage.attachments.get(attachment_id)
    except AttachmentStoreError as error:
        if error.code != "not_found":
            raise
        return False
    return True


def every_call(
    store: RuntimePersistence, lease: SessionExecutionLease, disclaimed: Collection[Part]
) -> Mapping[str, Callable[[], Awaitable[object]]]:
    """Each method of a store, asked by somebody who still believes in `lease`."""
    fence = lease.fence()
    intent = AttachmentIntent(
        attachment_id="0" * 64, session_id="s", canonical_uri="sha256:0", intent_at_epoch_ms=1
    )
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "load_session": lambda: store.load_session(FullGraph()),
        "load_head_stamp": store.load_head_stamp,
        "load_node": lambda: store.load_node("a"),
        "load_session_meta": store.load_session_meta,
        "load_turn": lambda: store.load_turn("s", "t1"),
        "list_unfinished_turns": lambda: store.list_unfinished_turns("s"),
        "commit_runtime_state": lambda: store.commit_runtime_state(
            a_commit(fence, turn_settlement=as_committed("t2"), turn_commit=a_stamp("t2"))
        ),
        "repeat a commit": lambda: store.commit_runtime_state(
            a_commit(fence, turn_commit=a_stamp())
        ),
        "accept_turn": lambda: store.accept_turn(an_acceptance("t3")),
        "start_turn": lambda: store.start_turn(fence, an_acceptance("t3")),
        "settle_turn": lambda: store.settle_turn(fence, as_failed("t2"), release=True),
        "request_turn_cancel": lambda: store.request_turn_cancel(
            "s", "t2", reason=None, origin=None
        ),
        "try_claim": lambda: store.try_claim_session_execution_lease("s", BOB, TTL_MS),
        "reclaim": lambda: store.reclaim_session_execution_lease("s", BOB, fence, TTL_MS),
        "renew": lambda: store.renew_session_execution_lease(fence, TTL_MS),
        "release": lambda: store.release_session_execution_lease(fence),
        "tombstone_nodes": lambda: store.tombstone_nodes(["a"]),
        "vacuum": store.vacuum,
        "gc_unreachable": store.gc_unreachable,
    }
    if "manifest" not in disclaimed:
        calls |= {
            "list_uncommitted": lambda: store.list_uncommitted(FAR_FUTURE_MS),
            "record_intent": lambda: store.record_intent(intent),
            "commit_refs": lambda: store.commit_refs("s", [intent.attachment_id]),
            "forget": lambda: store.forget(intent.attachment_id),
        }
    return calls


class DeletionConformance(StorageCase):
    """A deleted session is gone at once and for everybody; its id starts from nothing."""

    async def test_deleting_removes_everything_of_the_session(self, storage: Storage) -> None:
        """Nothing of the old one shows in the next: no history, turn, stamp, intent or name."""
        lease = await a_full_session(storage)
        store = await a_store(storage)
        meta = await store.load_session_meta()
        assert meta is not None
        await store.save_session_meta(meta.model_copy(update={"session_name": "Trip to Oslo"}))
        report = await storage.session_stores.delete_session("s")
        assert replace(report, removed_attachment_count=0) == SessionDeleteReport(
            session_id="s", existed=True, removed_node_count=3, removed_turn_count=2
        )
        assert await storage.session_stores.open_existing_store(REQUEST) is None
        again = await a_store(storage)
        read, head, new_meta, unfinished, turns, intents = await everything(again, "s", "t1", "t2")
        assert (read, head, unfinished, turns, intents) == (None, None, (), (None, None), ())
        assert new_meta.session_name == "s"
        assert await again.load_node("a") is None
        # The same turn, content and stamp are new here.
        turn = await accepted(again, an_acceptance())
        assert (turn.row.turn_index, turn.row.base_revision, turn.row.seq) == (1, None, 1)
        assert turn.lease.fencing_token > lease.fencing_token
        result = await again.commit_runtime_state(
            a_commit(turn.lease.fence(), turn_commit=a_stamp(), turn_settlement=as_committed())
        )
        assert (result.head_revision, result.replayed) == (1, False)
        read = await again.load_session(FullGraph())
        assert read is not None
        assert (read.nodes, read.token_ledger) == ((a_node("n1"),), ())

    async def test_a_store_of_a_deleted_session_answers_nothing(
        self, storage: Storage, disclaimed: Collection[Part]
    ) -> None:
        """Whoever still holds one learns it from every call, and changes nothing by trying."""
        lease = await a_full_session(storage)
        stale = await a_store(storage)
        await storage.session_stores.delete_session("s")
        for call in every_call(stale, lease, disclaimed).values():
            error = await raised_by(call(), StoredSessionDeleted)
            assert error.session_id == "s"
        assert await storage.session_stores.open_existing_store(REQUEST) is None

    async def test_a_store_of_a_deleted_session_never_reaches_the_next_one(
        self, storage: Storage, disclaimed: Collection[Part]
    ) -> None:
        """The id is in use again, under the same names; the late writer is refused all the same."""
        lease = await a_full_session(storage)
        stale = await a_store(storage)
        await storage.session_stores.delete_session("s")
        await a_full_session(storage)
        fresh = await a_store(storage)
        before = await everything(fresh, "s", "t1", "t2", "t3")
        for call in every_call(stale, lease, disclaimed).values():
            await raised_by(call(), StoredSessionDeleted)
        assert await everything(fresh, "s", "t1", "t2", "t3") == before

    async def test_fencing_tokens_and_generations_only_rise(self, storage: Storage) -> None:
        """An old fence is worth nothing, also in the hands of a store of the new session."""
        old = await a_full_session(storage)
        generation = 0
        for _ in range(3):
            store = await a_store(storage)
            row = await store.load_turn("s", "t2")
            assert row is not None
            assert row.generation > generation
            generation = row.generation
            await storage.session_stores.delete_session("s")
            new = await a_full_session(storage)
            store = await a_store(storage)
            assert new.fencing_token > old.fencing_token
            await raised_by(
                store.commit_runtime_state(a_commit(old.fence())), SessionExecutionLeaseExpired
            )
            await raised_by(
                store.settle_turn(old.fence(), as_failed("t2"), release=True),
                SessionExecutionLeaseExpired,
            )
            await store.release_session_execution_lease(old.fence())
            renewed = await store.renew_session_execution_lease(new.fence(), TTL_MS)
            assert renewed.lease.fencing_token == new.fencing_token
            old = new

    async def test_a_session_is_deleted_under_a_live_lease(self, storage: Storage) -> None:
        """Nobody has to be waited for, and the next owner does not wait for the lease either."""
        store = await a_store(storage)
        held = await hold(store)
        assert (await storage.session_stores.delete_session("s")).existed
        outcome = await (await a_store(storage)).try_claim_session_execution_lease("s", BOB, TTL_MS)
        assert isinstance(outcome, LeaseAcquired)
        assert outcome.lease.fencing_token > held.fencing_token

    async def test_other_sessions_stay_as_they_are(self, storage: Storage) -> None:
        """Also those with the same turn ids and node ids, and children of what was deleted."""
        lease = await a_full_session(storage, "other")
        await a_full_session(storage)
        other = await a_store(storage, "other")
        before = await everything(other, "other", "t1", "t2")
        await storage.session_stores.delete_session("s")
        assert await everything(other, "other", "t1", "t2") == before
        await other.renew_session_execution_lease(lease.fence(), TTL_MS)

    async def test_deleting_what_does_not_exist_is_no_error(self, storage: Storage) -> None:
        """So that a deletion can be repeated, by whoever does not know how the first one ended."""
        stores = storage.session_stores
        assert await stores.delete_session("s") == SessionDeleteReport(
            session_id="s", existed=False
        )
        assert await stores.open_existing_store(REQUEST) is None
        await a_full_session(storage)
        assert (await stores.delete_session("s")).existed
        assert await stores.delete_session("s") == SessionDeleteReport(
            session_id="s", existed=False
        )

    async def test_any_id_can_be_deleted_and_only_that_one(self, storage: Storage) -> None:
        """Ids are compared as they are, never as patterns."""
        for session_id in ODD_IDS:
            await a_store(storage, session_id)
        for gone, session_id in enumerate(ODD_IDS, start=1):
            report = await storage.session_stores.delete_session(session_id)
            assert (report.session_id, report.existed) == (session_id, True)
            page = await storage.session_stores.list_sessions(SessionQuery())
            assert {entry.session_id for entry in page.sessions} == set(ODD_IDS[gone:])

    @pytest.mark.usefixtures("needs_manifest")
    async def test_bytes_go_only_when_nobody_else_names_them(self, storage: Storage) -> None:
        """Equal bytes are shared by sessions that know nothing of each other."""
        mine = await names(storage, "s", b"mine")
        shared = await names(storage, "s", b"shared")
        assert await names(storage, "other", b"shared") == shared
        unnamed = await storage.attachments.put(b"nobody's", PNG)
        report = await storage.session_stores.delete_session("s")
        assert report.removed_attachment_count == 1
        assert not await is_stored(storage, mine)
        assert await is_stored(storage, shared)
        assert await is_stored(storage, unnamed.id)
        report = await storage.session_stores.delete_session("other")
        assert report.removed_attachment_count == 1
        assert not await is_stored(storage, shared)

    async def test_the_next_session_is_as_new_as_any(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """It is created by the clock, and shows in the list as what it is."""
        await a_full_session(storage)
        await storage.session_stores.delete_session("s")
        clock.advance(60)
        await a_store(storage)
        page = await storage.session_stores.list_sessions(SessionQuery())
        (entry,) = page.sessions
        assert entry.created_at_epoch_ms == entry.updated_at_epoch_ms == clock.timestamp_ms()
        assert (entry.message_count, entry.first_user_message, entry.last_message) == (0, "", "")

    async def test_the_owner_that_was_deleted_under_can_own_the_next(
        self, storage: Storage
    ) -> None:
        """An owner is not banned: opened anew, it takes the lane like anybody else."""
        await hold(await a_store(storage), owner=ALICE)
        await storage.session_stores.delete_session("s")
        store = await a_store(storage)
        lease = await hold(store, owner=ALICE)
        result = await store.commit_runtime_state(a_commit(lease.fence()))
        assert result.head_revision == 1
