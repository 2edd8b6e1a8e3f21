"""One open session: where its state lives, who may write to it and how it is read again."""

from dataclasses import replace

from ..model.policy import SessionPolicy
from ..ports.leases import LeaseOwnerIdentity
from ..ports.persistence import TurnPersistence
from ..ports.provider import ProviderResolutionError, ResolvedProvider, RuntimeProviderResolver
from ..ports.session_state import FullGraph, HeadStamp
from ..ports.store_errors import StoreError
from .environment import RuntimeEnvironment
from .faults import RuntimeFault, fault_of_refresh
from .lanes import SessionLane
from .observation import ObservationCell, ObservationUpdate
from .state import RuntimeSessionState, state_of_read
from .turn.unfinished import TurnCloser


class SessionContext:
    """What the turns of one open session share.

    `state` is swapped whole, and only by whoever holds the session's lane.
    """

    def __init__(
        self,
        *,
        env: RuntimeEnvironment,
        session_id: str,
        store: TurnPersistence | None,
        owner: LeaseOwnerIdentity,
        resolver: RuntimeProviderResolver,
        policy: SessionPolicy,
        host_prompt: bool,
        state: RuntimeSessionState | None = None,
        replace_session: bool = False,
    ) -> None:
        """`policy` is what the host asked for; `host_prompt` says that its prompt counts.
        `replace_session` makes the first turn start over from an empty session."""
        self.env = env
        self.session_id = session_id
        self.store = store
        self.owner = owner
        self.lane: SessionLane = env.lanes.lane(session_id)
        self.cell: ObservationCell = env.cells.cell(session_id)
        self.replace_session = replace_session
        self._resolver = resolver
        self._policy = policy
        self._host_prompt = host_prompt
        self.state = self._reconciled(state or RuntimeSessionState(session_id=session_id))

    @property
    def closer(self) -> TurnCloser:
        """Closes what an earlier owner left; only for a session with a store."""
        if self.store is None:
            raise RuntimeFault("session_not_durable", "a session without a store has no rows")
        return TurnCloser(
            session_id=self.session_id,
            store=self.store,
            owner=self.owner,
            lease_ttl_ms=self.env.keeper.timings.ttl_ms,
            clock=self.env.clock,
            load=self.load,
            installed=self.install,
        )

    async def load(self) -> RuntimeSessionState:
        """The session as it is stored now, under the host's policy."""
        if self.store is None:
            return self.state
        try:
            read = await self.store.load_session(FullGraph())
        except StoreError as error:
            raise fault_of_refresh(error, self.session_id) from error
        if read is None:
            return self._reconciled(RuntimeSessionState(session_id=self.session_id))
        if read.session_id != self.session_id:
            raise RuntimeFault(
                "store_session_mismatch",
                f"the store holds session {read.session_id!r}, "
                f"but session {self.session_id!r} was asked for",
            )
        return self._reconciled(state_of_read(read))

    async def refresh(self, head: HeadStamp | None) -> None:
        """Read the session again unless `head` is the one that `state` was built on."""
        if self.store is None or self.state.matches(head):
            return
        if self.state.graph_replace_required:
            # Explicit state that was never committed: it replaces whatever the store holds.
            if head is not None:
                self.state = replace(self.state, head_revision=head.head_revision)
            return
        self.state = await self.load()

    def install(self, state: RuntimeSessionState, turn_id: str | None = None) -> None:
        """Make `state` current and show it. Synchronous: no reader can come between the two."""
        self.state = state
        self.publish(turn_id)

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

    def _reconciled(self, state: RuntimeSessionState) -> RuntimeSessionState:
        """The host's policy over the stored one. The recorded provider id stays: another
        provider has to be chosen explicitly, never by opening a session with another core."""
        recorded = state.effective_policy
        policy = self._policy
        changes: dict[str, object] = {"session_id": self.session_id}
        if recorded.provider_id:
            changes["provider_id"] = recorded.provider_id
        if not self._host_prompt:
            changes["prompt"] = recorded.prompt
        state = state.with_initial_frame(self.env.clock.timestamp_rfc3339())
        return state.with_policy(policy.model_copy(update=changes))
