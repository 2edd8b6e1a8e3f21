"""Claims under concurrency: several handles, cancelled callers, killed processes."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from lash_runtime.ports.claims import QueuedWorkCompletion
from lash_runtime.ports.leases import LeaseAcquired, LeaseBusy, LeaseOwnerIdentity
from lash_runtime.ports.queued_work import QueuedWorkClaim, QueuedWorkClaimBoundary
from lash_runtime.ports.session_state import FullGraph
from lash_runtime.ports.store_errors import QueuedWorkClaimExpired
from lash_runtime.ports.turn_inputs import TurnInputClaim
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import ALICE, TTL_MS, a_commit, hold

from .queues import SESSION, a_sqlite_store, a_wake, said, work

pytestmark = pytest.mark.anyio

IDLE = QueuedWorkClaimBoundary.IDLE


def a_program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stores.sqlite.draining", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


async def test_two_handles_never_claim_the_same(tmp_path: Path) -> None:
    """Work that two runners have is work that is done twice."""
    batches: list[QueuedWorkClaim] = []
    inputs: list[TurnInputClaim] = []
    async with SqliteStorage(tmp_path / "a.db") as one, SqliteStorage(tmp_path / "a.db") as two:
        stores = [await a_sqlite_store(one), await a_sqlite_store(two)]
        fence = (await hold(stores[0])).fence()
        for number in range(60):
            await stores[number % 2].enqueue_queued_work(work(a_wake(f"{number}")))
            await stores[number % 2].enqueue_pending_turn_input(said(f"{number}"))

        async def take(number: int) -> None:
            store = stores[number % 2]
            while claim := await store.claim_ready_queued_work(
                SESSION, fence, ALICE, IDLE, TTL_MS, 1 + number % 4
            ):
                batches.append(await store.renew_queued_work_claim(claim, TTL_MS))
            while taken := await store.claim_next_turn_inputs(
                SESSION, fence, ALICE, TTL_MS, 1 + number % 4
            ):
                inputs.append(await store.renew_turn_input_claim(taken, TTL_MS))

        async with anyio.create_task_group() as takers:
            for number in range(12):
                takers.start_soon(take, number)
    seqs = [batch.enqueue_seq for claim in batches for batch in claim.batches]
    assert sorted(seqs) == list(range(1, 61))
    assert sorted(item.enqueue_seq for claim in inputs for item in claim.inputs) == sorted(seqs)
    assert len({claim.claim_id for claim in batches}) == len(batches)


@pytest.mark.parametrize("seed", range(5))
async def test_a_cancelled_claim_is_made_whole_or_not_at_all(tmp_path: Path, seed: int) -> None:
    """Nobody knows what it took; the next lease finds everything again, in order."""
    chance = random.Random(seed)
    async with SqliteStorage(tmp_path / "a.db") as storage:
        store = await a_sqlite_store(storage)
        for number in range(40):
            await store.enqueue_queued_work(work(a_wake(f"{number}")))
        fence = (await hold(store)).fence()

        async def take() -> None:
            await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 3)

        for _ in range(30):
            async with anyio.create_task_group() as takers:
                for _ in range(3):
                    takers.start_soon(take)
                for _ in range(chance.randrange(6)):
                    await anyio.lowlevel.checkpoint()
                takers.cancel_scope.cancel()
        free = await store.list_pending_queued_work(SESSION)
        assert (40 - len(free)) % 3 in (0, 1)  # groups of three, and the last one of what is left
        await store.release_session_execution_lease(fence)
        fence = (await hold(store)).fence()
        claim = await store.claim_ready_queued_work(SESSION, fence, ALICE, IDLE, TTL_MS, 64)
        assert claim is not None
        assert [batch.enqueue_seq for batch in claim.batches] == list(range(1, 41))


@pytest.mark.skipif(sys.platform != "linux", reason="death is proven from /proc")
async def test_what_a_killed_process_held_is_free_with_its_lane(tmp_path: Path) -> None:
    """No timer has to run out, and the dead one's completion is worth nothing."""
    path = tmp_path / "a.db"
    async with SqliteStorage(path) as storage:
        store = await a_sqlite_store(storage)
        for number in range(3):
            await store.enqueue_queued_work(work(a_wake(f"{number}")))
        victim = a_program("hold", str(path))
        assert victim.stdout is not None
        claim_id, token, count = (await anyio.to_thread.run_sync(victim.stdout.readline)).split()
        assert int(count) == 3
        assert await store.list_pending_queued_work(SESSION) == ()
        victim.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(victim.communicate)

        heir = LeaseOwnerIdentity(
            owner_id="heir", incarnation_id="1", liveness=local_process_liveness()
        )
        found = await store.try_claim_session_execution_lease(SESSION, heir, TTL_MS)
        assert isinstance(found, LeaseBusy)
        taken = await store.reclaim_session_execution_lease(
            SESSION, heir, found.holder.fence(), TTL_MS
        )
        assert isinstance(taken, LeaseAcquired)
        assert len(await store.list_pending_queued_work(SESSION)) == 3
        fence = taken.lease.fence()
        claim = await store.claim_ready_queued_work(SESSION, fence, heir, IDLE, TTL_MS, 64)
        assert claim is not None
        assert len(claim.batches) == 3
        assert claim.fencing_token == 2
        late = QueuedWorkCompletion(
            session_id=SESSION,
            claim_id=claim_id,
            lease_token=token,
            batch_ids=claim.completion().batch_ids,
        )
        with pytest.raises(QueuedWorkClaimExpired):
            await store.commit_runtime_state(a_commit(fence, completed_queue_claims=(late,)))
        await store.commit_runtime_state(
            a_commit(fence, completed_queue_claims=(claim.completion(),))
        )
        assert await store.list_queued_work(SESSION) == ()


async def test_processes_that_drain_one_queue_do_each_batch_once(tmp_path: Path) -> None:
    """A completion and what it did are one transaction, whoever wins the lane in between."""
    path = tmp_path / "a.db"
    names = [f"b{number}" for number in range(40)]
    async with SqliteStorage(path) as storage:
        store = await a_sqlite_store(storage)
        for name in names:
            await store.enqueue_queued_work(work(a_wake(name), source_key=name))
        workers = [a_program("drain", str(path), name) for name in ("one", "two")]
        for worker in workers:
            await anyio.to_thread.run_sync(worker.communicate)
            assert worker.returncode == 0
        read = await store.load_session(FullGraph())
    assert read is not None
    done = Counter(
        name
        for node in read.nodes
        if node.conversation is not None
        for name in node.conversation.message.text.split()
    )
    assert done == Counter(names)
