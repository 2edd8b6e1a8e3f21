"""What changes a session between its turns, and is committed when it is made.

Each change takes the session's lease for the one commit that carries it and gives it back in the
same transaction. First it closes turns that a dead owner has left, for nothing is built on history
that is open, and reads the session again if somebody else has committed. A session without a store
changes in memory alone.

Rule: none of these waits for a turn. Whoever calls them holds the session's lane in this core.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..kernel.agent_frames import frame_to_open, with_frame
from ..kernel.appending import appended_nodes, is_on_path
from ..model.causes import CausalRef
from ..model.nodes import MessageNode, SessionAppendNode, SessionNodeRecord
from ..model.policy import SessionSpec
from ..model.records import dataclass, replace
from ..ports.leases import SessionExecutionLeaseFence
from ..ports.store_errors import StoreError
from .faults import RuntimeFault, SessionBusy, fault_of_commit
from .lash_runtime import LashRuntime
from .state import RuntimeSessionState
from .turn.commit import commit_of_state


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendedNodes:
    """The nodes are stored; `leaf_node_id` is where the session goes on from."""

    node_ids: tuple[str, ...]
    leaf_node_id: str | None


@dataclass(frozen=True, slots=True)
class StaleBranch:
    """The session goes on from elsewhere than the caller believed; nothing was written."""

    current_leaf_node_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFrame:
    """`opened` is false for a frame that is current already, and then nothing was written."""

    frame_id: str
    opened: bool
    initial_node_ids: tuple[str, ...] = ()


async def append_session_nodes(
    runtime: LashRuntime,
    drafts: Sequence[SessionAppendNode],
    *,
    requires_ancestor_node_id: str | None = None,
) -> AppendedNodes | StaleBranch:
    """Append to the session's active path, in its current frame, in one commit.

    With `requires_ancestor_node_id` only if the path goes through that node. Raises
    `AttachmentStoreError("not_found")` for a message that shows what is not stored,
    `SessionBusy` while another owner holds the session, and `RuntimeFault`; nothing was written
    then.
    """
    await _adopt(runtime, drafts)
    async with _as_stored(runtime) as fence:
        state = runtime.state
        graph = state.graph
        if requires_ancestor_node_id is not None and not is_on_path(
            graph, requires_ancestor_node_id
        ):
            return StaleBranch(graph.leaf_node_id)
        nodes = _nodes(runtime, state, drafts)
        if nodes:
            await _commit(runtime, replace(state, graph=graph.extend_active_path(nodes)), fence)
        return AppendedNodes(
            node_ids=tuple(node.node_id for node in nodes),
            leaf_node_id=runtime.state.graph.leaf_node_id,
        )


async def configure_session(runtime: LashRuntime, spec: SessionSpec) -> None:
    """Change what the session runs with from now on; the current frame's policy with it.

    Raises `SessionBusy` while another owner holds the session, and `RuntimeFault`; nothing has
    changed then.
    """
    async with _as_stored(runtime) as fence:
        state = runtime.state
        policy = spec.resolve_against(state.effective_policy)
        if policy != state.effective_policy:
            await _commit(runtime, state.with_policy(policy), fence)
    # What the host has decided counts over what is stored, whenever the session is read again.
    runtime.binding = replace(runtime.binding, policy=spec.resolve_against(runtime.binding.policy))


async def open_agent_frame(
    runtime: LashRuntime,
    frame_id: str,
    *,
    reason: str,
    initial_nodes: Sequence[SessionAppendNode] = (),
    caused_by: CausalRef | None = None,
) -> OpenedFrame:
    """Go on in a new frame, which shows `initial_nodes` alone; one commit.

    Repeating it, or a blank `frame_id`, changes nothing. Raises as `append_session_nodes`.
    """
    await _adopt(runtime, initial_nodes)
    async with _as_stored(runtime) as fence:
        state = runtime.state.with_initial_frame(runtime.env.clock.timestamp_rfc3339())
        current = state.current_frame
        frame = None
        if current is not None:
            frame = frame_to_open(
                current,
                frame_id,
                reason=reason,
                created_at=runtime.env.clock.timestamp_rfc3339(),
                caused_by=caused_by,
            )
        if frame is None:
            return OpenedFrame(frame_id=state.current_agent_frame_id, opened=False)
        state = replace(
            state,
            agent_frames=with_frame(state.agent_frames, state.current_agent_frame_id, frame),
            current_agent_frame_id=frame.frame_id,
        )
        nodes = _nodes(runtime, state, initial_nodes)
        await _commit(runtime, replace(state, graph=state.graph.extend_active_path(nodes)), fence)
        return OpenedFrame(
            frame_id=frame.frame_id,
            opened=True,
            initial_node_ids=tuple(node.node_id for node in nodes),
        )


async def flush(runtime: LashRuntime) -> None:
    """Store what no turn has committed yet: explicit state, or a healed leaf. Otherwise nothing
    happens.

    Raises `SessionBusy` when another owner holds the session and there is explicit state. A
    healed leaf is left then: everybody who reads the session heals it alike, and that owner's
    commit moves it.
    """
    if runtime.store is None or not runtime.state.is_unstored:
        return
    try:
        async with _as_stored(runtime) as fence:
            if runtime.state.is_unstored:
                await _commit(runtime, runtime.state, fence)
    except SessionBusy:
        if not runtime.state.leaf_moved:
            raise


@asynccontextmanager
async def _as_stored(runtime: LashRuntime) -> AsyncIterator[SessionExecutionLeaseFence | None]:
    """The session's lease, with `runtime.state` as the store has it; no lease without a store."""
    if runtime.store is None:
        yield None
        return
    if runtime.starts_over:
        raise RuntimeFault(
            "session_not_begun",
            f"session {runtime.session_id!r} was opened to start over, and its first turn is what "
            "empties it: run a turn before anything else is changed",
        )
    try:
        lease = await runtime.closer.take_lane()
    except StoreError as error:
        raise fault_of_commit(error, runtime.session_id) from error
    try:
        await runtime.closer.close_started(lease)
        await runtime.refresh(await runtime.head())
        yield lease.fence()
    finally:
        # A commit has freed the lane already; then this changes nothing.
        await runtime.give_back(lease.fence())


async def _commit(
    runtime: LashRuntime, state: RuntimeSessionState, fence: SessionExecutionLeaseFence | None
) -> None:
    """Store `state`, which has grown from the runtime's own, and make it current."""
    if fence is not None:
        store = runtime.require_store("be changed")
        commit = commit_of_state(state, runtime.state, fence)
        try:
            state = state.after_commit(await store.commit_runtime_state(commit), state.graph)
        except StoreError as error:
            raise fault_of_commit(error, runtime.session_id) from error
    runtime.install(state)


def _nodes(
    runtime: LashRuntime, state: RuntimeSessionState, drafts: Sequence[SessionAppendNode]
) -> tuple[SessionNodeRecord, ...]:
    return appended_nodes(
        state.graph,
        drafts,
        frame_id=state.current_agent_frame_id,
        timestamp=runtime.env.clock.timestamp_rfc3339(),
        new_hex=runtime.env.ids.hex,
    )


async def _adopt(runtime: LashRuntime, drafts: Sequence[SessionAppendNode]) -> None:
    """Make the images that the messages show the session's own."""
    refs = [
        ref
        for draft in drafts
        if isinstance(draft, MessageNode)
        for part in draft.message.parts
        for ref in part.attachments
    ]
    if refs:
        await runtime.attachments().adopt(refs)
