"""The state of a session in memory: what the last commit left, and nothing provisional.

A state is a value. A turn works on a draft and swaps in a new state when its commit has
succeeded; a turn that fails leaves the old one in place.
"""

from dataclasses import field
from typing import Self

from ..kernel.graph import SessionGraph
from ..kernel.read_model import FrameFilter, frame_filter
from ..kernel.read_view import SessionReadView
from ..model.frames import (
    AgentFrameAssignment,
    AgentFrameRecord,
    FrameStatus,
    initial_frame_id,
)
from ..model.policy import ProtocolTurnOptions, SessionPolicy
from ..model.records import dataclass, replace
from ..model.session_meta import PersistedSessionConfig
from ..model.usage import (
    PromptUsage,
    SessionUsageReport,
    TokenLedgerEntry,
    TokenUsage,
    merge_ledger,
)
from ..ports.commit import RuntimeCommitResult
from ..ports.session_state import (
    HeadStamp,
    HydratedSessionCheckpoint,
    PersistedSessionRead,
    PersistedTurnState,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuntimeSessionState:
    """Everything the runtime knows of one session.

    `head_revision` is `None` until a stored head was seen, and `head_leaf_node_id` is the leaf
    of that head; `graph_replace_required` makes the next commit replace what the store holds.
    None of them is ever stored.
    """

    session_id: str
    policy: SessionPolicy = SessionPolicy.defaults()
    agent_frames: tuple[AgentFrameRecord, ...] = ()
    current_agent_frame_id: str = ""
    graph: SessionGraph = field(default_factory=SessionGraph)
    turn_index: int = 0
    token_usage: TokenUsage = TokenUsage.defaults()
    last_prompt_usage: PromptUsage | None = None
    protocol_turn_options: ProtocolTurnOptions = ProtocolTurnOptions.defaults()
    token_ledger: tuple[TokenLedgerEntry, ...] = ()
    components: HydratedSessionCheckpoint = HydratedSessionCheckpoint()
    checkpoint_ref: str | None = None
    head_revision: int | None = None
    head_leaf_node_id: str | None = None
    graph_replace_required: bool = False

    @property
    def current_frame(self) -> AgentFrameRecord | None:
        for frame in reversed(self.agent_frames):
            if frame.frame_id == self.current_agent_frame_id:
                return frame
        return None

    @property
    def effective_policy(self) -> SessionPolicy:
        """The current frame's policy, or the session's own without a frame."""
        frame = self.current_frame
        return self.policy if frame is None else frame.assignment.policy

    @property
    def effective_options(self) -> ProtocolTurnOptions:
        frame = self.current_frame
        return self.protocol_turn_options if frame is None else frame.protocol_turn_options

    @property
    def visible(self) -> FrameFilter:
        """What the current frame shows. The first frame also owns nodes without a frame."""
        frame = self.current_frame
        unscoped = frame is None or frame.previous_frame_id is None
        return frame_filter(self.current_agent_frame_id, unscoped)

    @property
    def is_unstored(self) -> bool:
        """Whether there is explicit state, or a healed leaf, that no commit has stored yet."""
        return self.leaf_moved or self.graph_replace_required

    @property
    def leaf_moved(self) -> bool:
        """Whether the path ends elsewhere than the stored one: that one's leaf is gone."""
        return (
            self.head_revision is not None
            and not self.graph_replace_required
            and self.graph.leaf_node_id != self.head_leaf_node_id
        )

    def with_initial_frame(self, created_at: str) -> Self:
        """With a current frame; a state that has one is returned as it is."""
        if self.current_frame is not None:
            return self
        frame_id = self.current_agent_frame_id or initial_frame_id(self.session_id)
        frame = AgentFrameRecord(
            frame_id=frame_id,
            session_id=self.session_id,
            status=FrameStatus.ACTIVE,
            created_at=created_at,
            assignment=AgentFrameAssignment(policy=self.policy, plugin_source="current_host_fresh"),
            protocol_turn_options=self.protocol_turn_options,
        )
        return replace(
            self, agent_frames=(*self.agent_frames, frame), current_agent_frame_id=frame_id
        )

    def with_policy(self, policy: SessionPolicy) -> Self:
        """The policy in force from now on; frames that are over keep what they ran with."""
        frames = tuple(
            frame.model_copy(
                update={"assignment": frame.assignment.model_copy(update={"policy": policy})}
            )
            if frame.frame_id == self.current_agent_frame_id
            else frame
            for frame in self.agent_frames
        )
        return replace(self, policy=policy, agent_frames=frames)

    def after_commit(self, result: RuntimeCommitResult, graph: SessionGraph) -> Self:
        """This state once the store has answered a commit of `graph`."""
        manifest = result.manifest
        return replace(
            self,
            graph=graph,
            head_revision=result.head_revision,
            head_leaf_node_id=graph.leaf_node_id,
            checkpoint_ref=result.checkpoint_ref,
            graph_replace_required=False,
            components=HydratedSessionCheckpoint(
                tool_state_ref=manifest.tool_state_ref,
                plugin_snapshot_ref=manifest.plugin_snapshot_ref,
                plugin_snapshot_revision=manifest.plugin_snapshot_revision,
                execution_state_ref=manifest.execution_state_ref,
            ),
        )

    def with_usage(self, entries: tuple[TokenLedgerEntry, ...]) -> Self:
        if not entries:
            return self
        return replace(self, token_ledger=merge_ledger((*self.token_ledger, *entries)))

    def matches(self, head: HeadStamp | None) -> bool:
        """Whether the store's head is the one this state was built on."""
        if head is None:
            return self.head_revision is None
        return (
            self.head_revision == head.head_revision
            and self.head_leaf_node_id == head.leaf_node_id
            and self.checkpoint_ref == head.checkpoint_ref
        )

    def config(self) -> PersistedSessionConfig:
        return PersistedSessionConfig(provider_id=self.policy.provider_id, model=self.policy.model)

    def checkpoint(self) -> HydratedSessionCheckpoint:
        """The checkpoint of this state: counters anew, components carried forward by ref."""
        return replace(
            self.components,
            turn_state=PersistedTurnState(
                turn_index=self.turn_index,
                token_usage=self.token_usage,
                last_prompt_usage=self.last_prompt_usage,
                protocol_turn_options=self.protocol_turn_options,
            ),
        )

    def read_view(self) -> SessionReadView:
        return SessionReadView(
            session_id=self.session_id,
            policy=self.effective_policy,
            turn_index=self.turn_index,
            token_usage=self.token_usage,
            last_prompt_usage=self.last_prompt_usage,
            protocol_turn_options=self.effective_options,
            graph=self.graph,
            visible=self.visible,
        )

    def usage_report(self) -> SessionUsageReport:
        return SessionUsageReport.from_entries(self.token_ledger)


def state_of_view(view: SessionReadView) -> RuntimeSessionState:
    """The state that a read view shows, as explicit state that replaces what is stored."""
    return RuntimeSessionState(
        session_id=view.session_id,
        policy=view.policy,
        current_agent_frame_id=view.visible.frame_id,
        graph=view.graph.healed(),
        turn_index=view.turn_index,
        token_usage=view.token_usage,
        last_prompt_usage=view.last_prompt_usage,
        protocol_turn_options=view.protocol_turn_options,
        graph_replace_required=True,
    )


def state_of_read(read: PersistedSessionRead) -> RuntimeSessionState:
    """The state that a stored session describes, healed if its leaf is gone."""
    checkpoint = read.checkpoint or HydratedSessionCheckpoint()
    turn_state = checkpoint.turn_state
    policy = SessionPolicy(
        model=read.config.model, provider_id=read.config.provider_id, session_id=read.session_id
    )
    return RuntimeSessionState(
        session_id=read.session_id,
        policy=policy,
        agent_frames=read.agent_frames,
        current_agent_frame_id=read.current_agent_frame_id,
        graph=SessionGraph(read.nodes, read.leaf_node_id).healed(),
        turn_index=turn_state.turn_index,
        token_usage=turn_state.token_usage,
        last_prompt_usage=turn_state.last_prompt_usage,
        protocol_turn_options=turn_state.protocol_turn_options,
        token_ledger=read.token_ledger,
        components=HydratedSessionCheckpoint(
            tool_state_ref=checkpoint.tool_state_ref,
            plugin_snapshot_ref=checkpoint.plugin_snapshot_ref,
            plugin_snapshot_revision=checkpoint.plugin_snapshot_revision,
            execution_state_ref=checkpoint.execution_state_ref,
        ),
        checkpoint_ref=read.checkpoint_ref,
        head_revision=read.head_revision,
        head_leaf_node_id=read.leaf_node_id,
    )
