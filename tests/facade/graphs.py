"""Session graphs as a store holds them: read whole, branched and damaged behind a host's back."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from facade.places import Place
from lash_runtime.model.session_meta import PersistedSessionConfig
from lash_runtime.ports.commit import GraphCommitDelta, GraphUnchanged, RuntimeCommit
from lash_runtime.ports.leases import LeaseAcquired, LeaseOwnerIdentity
from lash_runtime.ports.persistence import RuntimePersistence
from lash_runtime.ports.session_state import (
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedSessionRead,
)
from lash_runtime.ports.storage import SessionStoreCreateRequest
from lash_runtime.ports.store_errors import StoreBackendError

OPERATOR = LeaseOwnerIdentity(owner_id="operator", incarnation_id="1")


@asynccontextmanager
async def the_store(place: Place, session_id: str = "s") -> AsyncIterator[RuntimePersistence]:
    """The session's store, opened beside whatever else has it open."""
    storage = place.storage()
    request = SessionStoreCreateRequest(session_id=session_id)
    async with AsyncExitStack() as opened:
        try:
            store = await storage.session_stores.create_store(request)
        except StoreBackendError:  # not open: in memory, a core may have opened this very object
            opened.push_async_callback(storage.aclose)
            await storage.open()
            store = await storage.session_stores.create_store(request)
        yield store


async def stored(place: Place) -> PersistedSessionRead:
    """The whole session as it is stored."""
    async with the_store(place) as store:
        read = await store.load_session(FullGraph())
    assert read is not None
    return read


async def stored_ids(place: Place) -> list[str]:
    return [node.node_id for node in (await stored(place)).nodes]


async def change(place: Place, graph: GraphCommitDelta) -> None:
    """Commit `graph` as another owner would, and nothing else about the session."""
    async with the_store(place) as store:
        read = await store.load_session(FullGraph())
        claimed = await store.try_claim_session_execution_lease("s", OPERATOR, 60_000)
        assert isinstance(claimed, LeaseAcquired)
        fence = claimed.lease.fence()
        await store.commit_runtime_state(
            RuntimeCommit(
                session_id="s",
                expected_head_revision=None,
                session_execution_lease=fence,
                config=PersistedSessionConfig() if read is None else read.config,
                agent_frames=() if read is None else read.agent_frames,
                current_agent_frame_id="" if read is None else read.current_agent_frame_id,
                graph=graph,
                checkpoint=HydratedSessionCheckpoint()
                if read is None or read.checkpoint is None
                else read.checkpoint,
                release_session_execution_lease=fence,
            )
        )


async def move_leaf(place: Place, leaf_node_id: str | None) -> None:
    """End the active path elsewhere; an id that no node has leaves the leaf dangling."""
    await change(place, GraphUnchanged(leaf_node_id=leaf_node_id))
