"""One open session: where its state lives, who may write to it and how it is read again.

Rule 1: `state` is swapped whole, and only by whoever holds the session's lane.
Rule 2: whatever becomes current is published in the same step, so that no reader can find the
one without the other.
"""

import logging
from typing import Final

import anyio
from anyio import to_thread

from ..kernel.draft import TurnDraft
from ..kernel.projection import ChatProjection
from ..kernel.prompt_composition import PromptComposer
from ..model.nodes import SessionNodeRecord
from ..model.policy import SessionPolicy
from ..model.records import dataclass, replace
from ..ports.durability import DurabilityTier
from ..ports.journal import EmbeddedEffectHost, JournalStore
from ..ports.leases import LeaseOwnerIdentity, SessionExecutionLeaseFence
from ..ports.provider import ProviderResolutionError, ResolvedProvider, RuntimeProviderResolver
from ..ports.session_state import FullGraph, HeadStamp, PersistedSessionRead
from ..ports.store_errors import StoredSessionDeleted, StoreError
from ..ports.turn_ledger import TurnRow
from ..ports.turn_persistence import TurnPersistence
from ..providers.shares import GivenProvider
from .environment import RuntimeEnvironment
from .faults import (
    RuntimeFault,
    SessionHasNoStore,
    StoreOfAnotherSession,
    fault_of_refresh,
)
from .lanes import SessionLane
from .lease_events import LeaseEvent, tell
from .observation import ObservationCell, ObservationUpdate
from .residency import Residency, kept, orphans_of, read_session
from .session_attachments import SessionAttachments
from .state import RuntimeSessionState, state_of_read
from .turn.unfinished import TurnCloser

log = logging.getLogger(__name__)

FEW_NODES: Final = 100
"""A history that is longer is put together in a thread, so that nobody on the loop waits."""

RELEASE_DEADLINE_S: Final = 5.0
"""How long leaving a turn may take to give its lease back."""


def _journal_of(store: TurnPersistence | None) -> JournalStore | None:
    """Where turns are journaled: in a durable store that can."""
    if store is None or store.durability_tier is DurabilityTier.INLINE:
        return None
    return store if isinstance(store, JournalStore) else None


def knows_provider(resolver: RuntimeProviderResolver, provider_id: str) -> bool:
    """Whether `resolver` has the provider that was recorded under that id."""
    try:
        resolver.resolve_provider_binding(provider_id)
    except ProviderResolutionError:
        return False
    return True


class StartOver:
    """The wish to begin with an empty history, until a turn has fulfilled it.

    Shared by everything that was opened or resumed by it: it is fulfilled once.
    """

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBinding:
    """What a host has decided about a session, apart from what the session holds.

    `policy` is what the host asked for; `host_prompt` says that its prompt counts over the one
    that is stored. `provider` is used instead of the core's, and `owner` is who takes the leases,
    if the host has said so.
    """

    session_id: str
    store: TurnPersistence | None
    policy: SessionPolicy
    host_prompt: bool
    provider: GivenProvider | None = None
    parent_session_id: str | None = None
    owner: LeaseOwnerIdentity | None = None
    start_over: StartOver | None = None


class LashRuntime:
    """What the turns of one open session share."""

    def __init__(
        self,
        *,
        env: RuntimeEnvironment,
        binding: SessionBinding,
        resolver: RuntimeProviderResolver,
        owner: LeaseOwnerIdentity,
        state: RuntimeSessionState | None = None,
    ) -> None:
        """Raises `SessionHasNoStore` where nodes that are not kept in memory would be lost."""
        self.env = env
        self.binding = binding
        self._resolver = resolver
        self.session_id = binding.session_id
        self.store = binding.store
        self.embedded = env.effect_host if isinstance(env.effect_host, EmbeddedEffectHost) else None
        self.journal = None if self.embedded is None else _journal_of(binding.store)
        if env.residency is Residency.ACTIVE_PATH_ONLY:
            self.require_store("keep its active path alone in memory")
        self.owner = owner
        self.lane: SessionLane = env.lanes.lane(self.session_id)
        self.cell: ObservationCell = env.cells.cell(self.session_id)
        self.projection = ChatProjection()
        self.prompts = PromptComposer()
        self.state = self.reconciled(state or RuntimeSessionState(session_id=self.session_id))

    @property
    def starts_over(self) -> bool:
        """Whether the next turn begins with an empty history, in place of what is stored."""
        wish = self.binding.start_over
        return wish is not None and wish.pending

    @property
    def replaces_history(self) -> bool:
        """Whether the next commit puts something else in place of what is stored."""
        return self.starts_over or self.state.graph_replace_required

    def finishes(self, row: TurnRow) -> bool:
        """Whether a turn that its process has left is to be finished here, and not closed: one
        with a journal, of a history that this session goes on with."""
        if self.journal is None or not row.journaled:
            return False
        return not self.replaces_history or (self.starts_over and row.options.starts_over)

    @property
    def closer(self) -> TurnCloser:
        """Closes what an earlier owner left; only for a session with a store."""
        return TurnCloser(
            session_id=self.session_id,
            store=self.require_store("be read or written"),
            owner=self.owner,
            lease_ttl_ms=self.env.keeper.timings.ttl_ms,
            clock=self.env.clock,
            load=self.load,
            installed=self._install_closed,
            give_back=self.give_back,
            finishes=self.finishes,
        )

    def attachments(self) -> SessionAttachments:
        """A view of the session's attachments that has put nothing yet."""
        return SessionAttachments(
            session_id=self.session_id,
            store=self.env.attachments,
            manifest=self.store,
            clock=self.env.clock,
            max_bytes=self.env.max_attachment_bytes,
        )

    async def load(self) -> RuntimeSessionState:
        """The session as it is stored now, under the host's policy."""
        store = self.require_store("be read or written")
        try:
            read = await read_session(store, self.env.residency)
        except StoreError as error:
            raise fault_of_refresh(error, self.session_id) from error
        if read is None:
            return self.reconciled(RuntimeSessionState(session_id=self.session_id))
        if read.session_id != self.session_id:
            raise StoreOfAnotherSession(loaded=read.session_id, requested=self.session_id)
        if len(read.nodes) < FEW_NODES:
            return self._state_of(read)
        return await to_thread.run_sync(self._state_of, read)

    async def head(self) -> HeadStamp | None:
        """The stored head, as of now."""
        try:
            return await self.require_store("be read or written").load_head_stamp()
        except StoreError as error:
            raise fault_of_refresh(error, self.session_id) from error

    async def refresh(self, head: HeadStamp | None) -> None:
        """Read the session again unless `head` is the one that `state` was built on, or the
        history is about to be replaced."""
        if self.store is None or self.starts_over or self.state.matches(head):
            return
        if self.state.graph_replace_required:
            # Explicit state that was never committed: it replaces whatever the store holds.
            if head is not None:
                self.state = replace(self.state, head_revision=head.head_revision)
            return
        self.install(await self.load())

    async def historic_node(self, node_id: str) -> SessionNodeRecord | None:
        """One node, on the active path or off it: from memory, or else from the store."""
        node = self.state.graph.find(node_id)
        if node is not None:
            return node
        try:
            return await self.require_store("look for a node outside memory").load_node(node_id)
        except StoreError as error:
            raise fault_of_refresh(error, self.session_id) from error

    async def orphaned_node_ids(self) -> tuple[str, ...]:
        """What is stored off the active path, in storage order."""
        store = self.require_store("have nodes outside memory")
        try:
            read = await store.load_session(FullGraph())
        except StoreError as error:
            raise fault_of_refresh(error, self.session_id) from error
        return () if read is None else await to_thread.run_sync(orphans_of, read)

    def start_over(self, state: RuntimeSessionState | None = None) -> None:
        """The store has emptied the session: for the turn that was just accepted, or for one
        that has left `state` since."""
        if self.binding.start_over is not None:
            self.binding.start_over.pending = False
        if state is None:
            self.state = self.reconciled(RuntimeSessionState(session_id=self.session_id))
        else:
            self.install(state)

    async def give_back(self, fence: SessionExecutionLeaseFence) -> None:
        """Free the lane if it is still held under `fence`. Failing to is logged: the lease then
        ends by itself. Bounded, and safe to call while being cancelled."""
        with anyio.move_on_after(RELEASE_DEADLINE_S, shield=True):
            try:
                await self.require_store("be read or written").release_session_execution_lease(
                    fence
                )
                tell(LeaseEvent.RELEASED, fence)
            except StoredSessionDeleted:
                pass  # and the lane with it
            except StoreError as error:
                log.warning("lease of session %r was not released: %s", self.session_id, error)

    def install(self, state: RuntimeSessionState, turn_id: str | None = None) -> None:
        """Make `state` current and show it. Synchronous: no reader can come between the two."""
        self.state = kept(state, self.env.residency)
        self.publish(turn_id)

    def _install_closed(self, state: RuntimeSessionState, turn_id: str) -> None:
        # A history that is about to be replaced must not show through, however it has ended.
        if not self.replaces_history:
            self.install(state, turn_id)

    def publish(self, turn_id: str | None = None) -> None:
        state = self.state
        revision = state.turn_index if state.head_revision is None else state.head_revision
        self.cell.publish(
            ObservationUpdate(
                session_id=self.session_id,
                revision=revision,
                read_view=state.read_view(),
                policy=state.effective_policy,
                usage_report=state.usage_report,
                frame_id=state.current_agent_frame_id,
            ),
            turn_id=turn_id,
        )

    def open_draft(self, state: RuntimeSessionState, scope: str) -> TurnDraft:
        """A draft on top of `state`, seen as its current frame sees it."""
        return TurnDraft(
            state.graph, frame_id=state.current_agent_frame_id, visible=state.visible, scope=scope
        )

    def provider_for(self, provider_id: str) -> ResolvedProvider:
        """The provider recorded under that id, or the fault `llm_provider`."""
        try:
            return self._resolver.resolve_provider_binding(provider_id).provider
        except ProviderResolutionError as error:
            raise RuntimeFault(
                "llm_provider",
                f"session {self.session_id!r} is recorded with provider {provider_id!r}, "
                f"which cannot be used: {error}",
            ) from error

    def has_provider(self, provider_id: str) -> bool:
        """Whether the provider recorded under that id can be had."""
        return knows_provider(self._resolver, provider_id)

    def reconciled(self, state: RuntimeSessionState) -> RuntimeSessionState:
        """The host's policy over the stored one. The recorded provider id stays: another
        provider has to be chosen explicitly, never by opening a session with another core."""
        recorded = state.effective_policy
        policy = self.binding.policy
        changes: dict[str, object] = {"session_id": self.session_id}
        if recorded.provider_id:
            changes["provider_id"] = recorded.provider_id
        if not self.binding.host_prompt:
            changes["prompt"] = recorded.prompt
        state = state.with_initial_frame(self.env.clock.timestamp_rfc3339())
        return state.with_policy(policy.model_copy(update=changes))

    def require_journal(self) -> JournalStore:
        """The store's journal, or the fault `turn_not_available`."""
        if self.journal is None:
            raise RuntimeFault(
                "turn_not_available",
                f"session {self.session_id!r} keeps no journal to finish a turn from",
            )
        return self.journal

    def _state_of(self, read: PersistedSessionRead) -> RuntimeSessionState:
        """The state with all that its first turn asks for ready: views and rendered prompt."""
        state = self.reconciled(kept(state_of_read(read), self.env.residency))
        self.projection.render(state.read_view().messages)
        return state

    def require_store(self, operation: str) -> TurnPersistence:
        """The store, or the fault `session_not_durable` saying what cannot be done."""
        if self.store is None:
            raise SessionHasNoStore(self.session_id, operation=operation)
        return self.store
