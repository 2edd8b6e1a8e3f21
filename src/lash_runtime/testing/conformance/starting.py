"""Starting a turn under a lease that is held: what is left of an acceptance then."""

from dataclasses import replace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...model.turn_input import TurnInput
from ...ports.attachments import AttachmentIntent, sha256_uri
from ...ports.storage import Storage
from ...ports.store_errors import SessionExecutionLeaseExpired
from ...ports.turn_ledger import TurnStarted, TurnState
from ...ports.turn_persistence import TurnPersistence
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import (
    ALICE_AGAIN,
    BOB,
    FAR_FUTURE_MS,
    TTL_MS,
    a_commit,
    a_store,
    an_acceptance,
    as_committed,
    as_interrupted,
    everything,
    hold,
)
from ._waiting_samples import (
    all_work,
    enqueued,
    for_next_turn,
    forged,
    pending_inputs,
    some_work,
    submitted,
)
from .acceptance import a_committed_turn
from .attachments import PNG
from .leases import assert_busy


async def started(store: TurnPersistence, turn_id: str = "t1") -> TurnStarted:
    """Take the lane, which must be free, and start a turn on it."""
    start = await store.start_turn((await hold(store)).fence(), an_acceptance(turn_id))
    assert start is not None
    return start


class TurnStartConformance(StorageCase):
    """A row is written once, under the live lease, and never beside another that is started."""

    async def test_a_started_turn_is_stored_under_the_lease_that_was_held(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The row is that of an acceptance. The lease is asked for and left as it is."""
        store = await a_store(storage)
        lease = await hold(store)
        clock.advance(2)
        asked = an_acceptance(text="Pack for Oslo \U0001f9ed")
        start = await store.start_turn(lease.fence(), asked)
        assert start is not None
        row = start.row
        assert (row.session_id, row.turn_id, row.state) == ("s", "t1", TurnState.RUNNING)
        assert (row.input, row.content_hash) == (asked.input, asked.content_hash)
        assert (row.options, row.required_wiring) == (asked.options, asked.required_wiring)
        assert (row.fencing_token, row.accepted_at_ms) == (
            lease.fencing_token,
            clock.timestamp_ms(),
        )
        assert (row.turn_index, row.base_revision, start.head) == (1, None, None)
        assert await store.load_turn("s", "t1") == row
        assert list(await store.list_unfinished_turns("s")) == [row]
        await assert_busy(store, lease)

    async def test_a_start_builds_on_the_committed_head(self, storage: Storage) -> None:
        """It is numbered after the last turn that was committed, and bound to that head."""
        store = await a_store(storage)
        await a_committed_turn(store, "t1", index=4)
        start = await started(store, "t2")
        assert start.head is not None
        assert start.head == await store.load_head_stamp()
        assert (start.row.turn_index, start.row.base_revision) == (5, start.head.head_revision)
        first = await store.load_turn("s", "t1")
        assert first is not None
        assert start.row.seq > first.seq

    async def test_only_the_live_lease_starts_a_turn(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A forged fence, and the true one once it has lapsed or was taken over, start nothing."""
        store = await a_store(storage)
        lease = await hold(store)
        for fence in forged(lease):
            await raised_by(store.start_turn(fence, an_acceptance()), SessionExecutionLeaseExpired)
        clock.advance(TTL_MS / 1000)
        await raised_by(
            store.start_turn(lease.fence(), an_acceptance()), SessionExecutionLeaseExpired
        )
        taken = await hold(store, owner=BOB)
        await raised_by(
            store.start_turn(lease.fence(), an_acceptance()), SessionExecutionLeaseExpired
        )
        assert await store.load_turn("s", "t1") is None
        await assert_busy(store, taken, ALICE_AGAIN)

    async def test_a_lease_starts_no_turn_of_another_session(self, storage: Storage) -> None:
        """Each session has a lane of its own, also within one store."""
        store = await a_store(storage)
        other = await a_store(storage, "other")
        lease = await hold(store)
        await raised_by(
            store.start_turn(lease.fence(), an_acceptance(session_id="other")),
            SessionExecutionLeaseExpired,
        )
        assert await other.load_turn("other", "t1") is None

    async def test_a_known_turn_is_not_started_again(self, storage: Storage) -> None:
        """Running or settled, with its own words or others, and above all not in place of the
        session: nothing is written."""
        store = await a_store(storage)
        await a_committed_turn(store)
        running = await started(store, "t2")
        lease = await hold(store)
        assert lease.fencing_token == running.row.fencing_token
        before = await everything(store, "s", "t1", "t2")
        for turn_id in ("t1", "t2"):
            for text in ("hello", "other words"):
                asked = an_acceptance(turn_id, text)
                for each in (asked, replace(asked, replace_session=True)):
                    assert await store.start_turn(lease.fence(), each) is None
        assert await everything(store, "s", "t1", "t2") == before
        await assert_busy(store, lease)

    async def test_a_started_turn_stands_before_the_next(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """For its own holder and for a later one, until it is closed."""
        store = await a_store(storage)
        left = await started(store)
        lease = await hold(store)
        assert await store.start_turn(lease.fence(), an_acceptance("t2")) is None
        clock.advance(TTL_MS / 1000)
        later = (await hold(store, owner=BOB)).fence()
        asked = an_acceptance("t2", owner=BOB)
        assert await store.start_turn(later, asked) is None
        assert await store.load_turn("s", "t2") is None
        assert list(await store.list_unfinished_turns("s")) == [left.row]
        await store.settle_turn(later, as_interrupted(), release=False)
        start = await store.start_turn(later, asked)
        assert start is not None
        assert start.row.seq > left.row.seq

    async def test_of_starts_at_once_under_one_lease_one_is_made(self, storage: Storage) -> None:
        """However close two tasks of one owner come, a session has one turn that is started."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        starts: list[TurnStarted | None] = []

        async def start(turn_id: str) -> None:
            starts.append(await store.start_turn(fence, an_acceptance(turn_id)))

        async with anyio.create_task_group() as tasks:
            for at in range(8):
                tasks.start_soon(start, f"t{at % 4}")
        made = [each.row for each in starts if each is not None]
        assert len(made) == 1
        assert list(await store.list_unfinished_turns("s")) == made

    async def test_a_start_may_replace_the_session_in_the_same_step(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """History, what waits, and what somebody had started are gone when the row is there."""
        store = await a_store(storage)
        await a_committed_turn(store)
        await started(store, "t2")
        await enqueued(store, some_work())
        await submitted(store, for_next_turn())
        old = await store.load_head_stamp()
        assert old is not None
        clock.advance(TTL_MS / 1000)
        lease = await hold(store, owner=BOB)
        start = await store.start_turn(
            lease.fence(), an_acceptance("t3", owner=BOB, replace_session=True)
        )
        assert start is not None
        assert start.head is not None
        assert start.head == await store.load_head_stamp()
        assert (start.head.leaf_node_id, start.head.checkpoint_ref) == (None, None)
        assert start.head.head_revision > old.head_revision
        assert (start.row.turn_index, start.row.base_revision) == (1, start.head.head_revision)
        assert list(await store.list_unfinished_turns("s")) == [start.row]
        ended = await store.load_turn("s", "t2")
        assert ended is not None
        assert (ended.state, ended.input) == (TurnState.INTERRUPTED, None)
        assert await store.load_node("a") is None
        assert (await all_work(store), await pending_inputs(store)) == ([], [])

    async def test_a_start_that_is_refused_replaces_nothing(self, storage: Storage) -> None:
        """What a session has is not thrown away for a turn that its caller may not run."""
        store = await a_store(storage)
        await a_committed_turn(store)
        lease = await hold(store)
        before = await everything(store, "s", "t1", "t2")
        for fence in forged(lease):
            await raised_by(
                store.start_turn(fence, an_acceptance("t2", replace_session=True)),
                SessionExecutionLeaseExpired,
            )
        assert await everything(store, "s", "t1", "t2") == before

    @pytest.mark.usefixtures("needs_manifest")
    async def test_a_started_turn_keeps_the_images_that_it_was_asked_with(
        self, storage: Storage
    ) -> None:
        """With its row, so that no sweep comes in between."""
        store = await a_store(storage)
        image = await storage.attachments.put(b"an image", PNG)
        await store.record_intent(
            AttachmentIntent(
                attachment_id=image.id,
                session_id="s",
                canonical_uri=sha256_uri(image.id),
                intent_at_epoch_ms=100,
            )
        )
        fence = (await hold(store)).fence()
        asked = an_acceptance(input=TurnInput.of("Look", image))
        assert await store.start_turn(fence, asked) is not None
        assert list(await store.list_uncommitted(FAR_FUTURE_MS)) == []

    async def test_a_started_turn_ends_like_any_other(self, storage: Storage) -> None:
        """Its commit settles it, gives the lane back, and answers whoever submits it again."""
        store = await a_store(storage)
        start = await started(store)
        fence = (await hold(store)).fence()
        assert fence.fencing_token == start.row.fencing_token
        await store.commit_runtime_state(
            a_commit(fence, turn_settlement=as_committed(), release_session_execution_lease=fence)
        )
        row = await store.load_turn("s", "t1")
        assert row is not None
        assert (row.state, row.result) == (TurnState.COMMITTED, as_committed().result)
        await started(store, "t2")

    async def test_a_cancelled_start_happened_or_did_not(self, storage: Storage) -> None:
        """Either way the lease is what it was, and the store can be asked which of the two."""
        for steps in range(10):
            session_id = f"s{steps}"
            store = await a_store(storage, session_id)
            lease = await hold(store, session_id)
            asked = an_acceptance(session_id=session_id)
            async with anyio.create_task_group() as callers:
                callers.start_soon(store.start_turn, lease.fence(), asked)
                for _ in range(steps):
                    await checkpoint()
                callers.cancel_scope.cancel()
            row = await store.load_turn(session_id, "t1")
            again = await store.start_turn(lease.fence(), asked)
            assert (row is None) == (again is not None)
            assert len(await store.list_unfinished_turns(session_id)) == 1
