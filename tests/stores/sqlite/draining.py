"""Programs of their own that work on the queue of the session `s`."""

import asyncio
import sys

import anyio

from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.queued_work import QueuedWorkClaimBoundary
from lash_runtime.stores.local_process import local_process_liveness
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance._samples import TTL_MS, a_commit, a_node, append

from .queues import SESSION, a_sqlite_store

IDLE = QueuedWorkClaimBoundary.IDLE


async def hold_everything(path: str) -> None:
    """Claim the whole queue, say who has it, and wait to be killed."""
    owner = LeaseOwnerIdentity(
        owner_id="victim", incarnation_id="1", liveness=local_process_liveness()
    )
    async with SqliteStorage(path) as storage:
        store = await a_sqlite_store(storage)
        held = await store.try_claim_session_execution_lease(SESSION, owner, TTL_MS)
        assert isinstance(held, LeaseAcquired)
        claim = await store.claim_ready_queued_work(
            SESSION, held.lease.fence(), owner, IDLE, TTL_MS, 64
        )
        assert claim is not None
        print(claim.claim_id, claim.lease_token, len(claim.batches), flush=True)
        await anyio.sleep_forever()


async def drain(path: str, name: str) -> None:
    """Work until the queue is empty: a lease, one claim and one commit for each group."""
    owner = LeaseOwnerIdentity(owner_id=name, incarnation_id="1")
    async with SqliteStorage(path) as storage:
        store = await a_sqlite_store(storage)
        while await store.list_queued_work(SESSION):
            held = await store.try_claim_session_execution_lease(SESSION, owner, TTL_MS)
            if not isinstance(held, LeaseAcquired):
                await anyio.sleep(0)
                continue
            fence = held.lease.fence()
            claim = await store.claim_ready_queued_work(SESSION, fence, owner, IDLE, TTL_MS, 3)
            if claim is None:
                await store.release_session_execution_lease(fence)
                continue
            head = await store.load_head_stamp()
            under = None if head is None else head.leaf_node_id
            done = " ".join(batch.source_key or "" for batch in claim.batches)
            await store.commit_runtime_state(
                a_commit(
                    fence,
                    expected_head_revision=0 if head is None else head.head_revision,
                    graph=append(a_node(claim.claim_id, under, done)),
                    completed_queue_claims=(claim.completion(),),
                    release_session_execution_lease=fence,
                )
            )


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    asyncio.run({"hold": hold_everything, "drain": drain}[what](*arguments))
