"""Checkpoints: components are stored once, carried forward by ref, and never lost in silence."""

from dataclasses import replace

from ...model.frames import AgentFrameAssignment, AgentFrameRecord
from ...model.policy import ProtocolTurnOptions
from ...model.tools import ToolManifest, ToolState, ToolStateEntry
from ...model.usage import PromptUsage, TokenUsage
from ...ports.session_state import (
    ActivePath,
    FullGraph,
    HydratedSessionCheckpoint,
    PersistedTurnState,
    PluginSessionSnapshot,
)
from ...ports.storage import Storage
from ...ports.store_errors import StoreBackendError
from ._case import StorageCase
from ._raises import raised_by
from ._samples import TIMESTAMP, a_commit, a_store, hold
from .graphs import a_read

TOOLS = ToolState(
    generation=3,
    tools={"weather": ToolStateEntry(manifest=ToolManifest(id="weather", name="weather"))},
)
PLUGINS = PluginSessionSnapshot(plugins={"notes": {"seen": [1, 2]}})
EXECUTION = bytes(range(256))

FULL = HydratedSessionCheckpoint(
    turn_state=PersistedTurnState(
        turn_index=7,
        token_usage=TokenUsage(input_tokens=11, output_tokens=5, reasoning_output_tokens=2),
        last_prompt_usage=PromptUsage.from_usage(TokenUsage(input_tokens=11, output_tokens=5)),
        protocol_turn_options=ProtocolTurnOptions(payload={"mode": "careful"}),
    ),
    tool_state=TOOLS,
    plugin_snapshot=PLUGINS,
    plugin_snapshot_revision=4,
    execution_state=EXECUTION,
)


class CheckpointConformance(StorageCase):
    """A payload is stored; a ref without payload means unchanged; neither means absent."""

    async def test_a_payload_is_stored_and_its_ref_is_answered(self, storage: Storage) -> None:
        """The manifest of the answer names every component, and a load brings them back."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        result = await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        for scope in (FullGraph(), ActivePath()):
            read = await a_read(store, scope)
            assert read.checkpoint_ref == result.checkpoint_ref
            assert read.checkpoint == HydratedSessionCheckpoint(
                turn_state=FULL.turn_state,
                tool_state_ref=result.manifest.tool_state_ref,
                tool_state=TOOLS,
                plugin_snapshot_ref=result.manifest.plugin_snapshot_ref,
                plugin_snapshot=PLUGINS,
                plugin_snapshot_revision=4,
                execution_state_ref=result.manifest.execution_state_ref,
                execution_state=EXECUTION,
            )
        assert result.manifest.turn_state == FULL.turn_state
        assert None not in (
            result.manifest.tool_state_ref,
            result.manifest.plugin_snapshot_ref,
            result.manifest.execution_state_ref,
        )

    async def test_a_ref_without_a_payload_carries_the_component_forward(
        self, storage: Storage
    ) -> None:
        """A cheap turn writes counters alone, commit after commit, and loses nothing."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        manifest = (await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))).manifest
        for index in (8, 9):
            carried = HydratedSessionCheckpoint(
                turn_state=PersistedTurnState(turn_index=index),
                tool_state_ref=manifest.tool_state_ref,
                plugin_snapshot_ref=manifest.plugin_snapshot_ref,
                plugin_snapshot_revision=manifest.plugin_snapshot_revision,
                execution_state_ref=manifest.execution_state_ref,
            )
            result = await store.commit_runtime_state(a_commit(fence, checkpoint=carried))
            assert result.manifest.tool_state_ref == manifest.tool_state_ref
        checkpoint = (await a_read(store)).checkpoint
        assert checkpoint is not None
        assert checkpoint.turn_state.turn_index == 9
        assert checkpoint.tool_state == TOOLS
        assert checkpoint.plugin_snapshot == PLUGINS
        assert checkpoint.execution_state == EXECUTION

    async def test_a_component_with_neither_ref_nor_payload_is_gone(self, storage: Storage) -> None:
        """Dropping a component is said by leaving out both."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        result = await store.commit_runtime_state(
            a_commit(fence, checkpoint=HydratedSessionCheckpoint(tool_state=TOOLS))
        )
        checkpoint = (await a_read(store)).checkpoint
        assert checkpoint is not None
        assert checkpoint.tool_state == TOOLS
        assert (checkpoint.plugin_snapshot_ref, checkpoint.execution_state_ref) == (None, None)
        assert (checkpoint.plugin_snapshot, checkpoint.execution_state) == (None, None)
        assert result.manifest.plugin_snapshot_revision is None

    async def test_equal_content_has_the_equal_ref(self, storage: Storage) -> None:
        """Refs follow from content, so an unchanged component costs no second copy."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        one = await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        same = await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        other = await store.commit_runtime_state(
            a_commit(fence, checkpoint=HydratedSessionCheckpoint(execution_state=b"other"))
        )
        assert same.manifest == one.manifest
        assert same.checkpoint_ref == one.checkpoint_ref
        assert other.checkpoint_ref != one.checkpoint_ref
        assert other.manifest.execution_state_ref != one.manifest.execution_state_ref

    async def test_an_empty_payload_is_a_payload(self, storage: Storage) -> None:
        """Zero bytes of execution state are not the absence of it."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        empty = HydratedSessionCheckpoint(
            execution_state=b"", plugin_snapshot=PluginSessionSnapshot(), tool_state=ToolState()
        )
        await store.commit_runtime_state(a_commit(fence, checkpoint=empty))
        checkpoint = (await a_read(store)).checkpoint
        assert checkpoint is not None
        assert checkpoint.execution_state == b""
        assert checkpoint.plugin_snapshot == PluginSessionSnapshot()
        assert checkpoint.tool_state == ToolState()

    async def test_a_ref_to_nothing_is_an_error(self, storage: Storage) -> None:
        """A session never goes on with its state silently gone: the commit or the load fails."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        lost = HydratedSessionCheckpoint(execution_state_ref="0" * 64)

        async def commit_and_load() -> None:
            await store.commit_runtime_state(a_commit(fence, checkpoint=lost))
            await store.load_session(FullGraph())

        await raised_by(commit_and_load(), StoreBackendError)

    async def test_the_current_frame_has_the_execution_state(self, storage: Storage) -> None:
        """And no other one; what a caller hands back with a frame is not stored with it."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        frames = tuple(
            AgentFrameRecord(
                frame_id=name,
                session_id="s",
                created_at=TIMESTAMP,
                reason="of a protocol's own",
                assignment=AgentFrameAssignment(),
                execution_state_snapshot=b"handed back",
            )
            for name in ("earlier", "current")
        )
        commit = a_commit(
            fence,
            agent_frames=frames,
            current_agent_frame_id="current",
            checkpoint=HydratedSessionCheckpoint(execution_state=b"state"),
        )
        await store.commit_runtime_state(commit)
        for scope in (FullGraph(), ActivePath()):
            read = await store.load_session(scope)
            assert read is not None
            states = {f.frame_id: f.execution_state_snapshot for f in read.agent_frames}
            assert states == {"earlier": None, "current": b"state"}
            assert {frame.reason for frame in read.agent_frames} == {"of a protocol's own"}
        await store.commit_runtime_state(replace(commit, checkpoint=HydratedSessionCheckpoint()))
        read = await store.load_session(FullGraph())
        assert read is not None
        assert {frame.execution_state_snapshot for frame in read.agent_frames} == {None}

    async def test_the_execution_state_of_an_earlier_frame_can_be_taken_up_again(
        self, storage: Storage
    ) -> None:
        """What a frame of the head refers to is kept, also when the checkpoint moved on."""
        store = await a_store(storage)
        fence = (await hold(store)).fence()
        left = await store.commit_runtime_state(a_commit(fence, checkpoint=FULL))
        frame = AgentFrameRecord(
            frame_id="f1",
            session_id="s",
            created_at=TIMESTAMP,
            assignment=AgentFrameAssignment(),
            execution_state_ref=left.manifest.execution_state_ref,
        )
        for state in (b"second", b"third"):
            elsewhere = HydratedSessionCheckpoint(execution_state=state)
            await store.commit_runtime_state(
                a_commit(fence, checkpoint=elsewhere, agent_frames=(frame,))
            )
        back = HydratedSessionCheckpoint(execution_state_ref=left.manifest.execution_state_ref)
        await store.commit_runtime_state(a_commit(fence, checkpoint=back, agent_frames=(frame,)))
        checkpoint = (await a_read(store)).checkpoint
        assert checkpoint is not None
        assert checkpoint.execution_state == EXECUTION
