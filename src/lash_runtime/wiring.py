"""How a core is put together: the parts that a builder collects, and the checks that make a
working whole of them.

Everything here is synchronous and opens nothing. What is wrong is said before anything runs.
"""

from .effects.await_events import InlineAwaitEvents
from .effects.inline import InlineRuntimeEffectController
from .effects.journal import JournalEffectHost
from .errors import (
    DurableStorePeerRequired,
    InvalidConfiguration,
    MissingAttachmentStore,
    MissingEffectHost,
    MissingModelSpec,
    MissingProtocolPlugin,
)
from .model.policy import SessionPolicy, SessionSpec
from .model.prompt import PromptLayer
from .model.records import dataclass
from .ports.attachments import AttachmentStore
from .ports.await_event_stand_ins import keeps_waits, waits_of
from .ports.await_events import AwaitEventResolver
from .ports.clock import Clock, SystemClock
from .ports.durability import DurabilityTier
from .ports.effects import EffectHost
from .ports.ids import IdSource, SystemIds
from .ports.journal import EmbeddedEffectHost
from .ports.leases import LeaseOwnerIdentity, LeaseTimings
from .ports.protocol import TurnProtocol
from .ports.provider import ResolvedProvider, RuntimeProviderResolver
from .ports.replay import LiveReplayStore
from .ports.signals import StoreSignals
from .ports.storage import SessionStoreFactory, Storage
from .ports.tools import ToolProvider
from .providers.resolver import EmptyProviderResolver, SingleProviderResolver
from .providers.shares import GivenProvider, ProviderShares
from .replay.memory import InMemoryLiveReplayStore
from .runtime.environment import RuntimeEnvironment
from .runtime.lanes import SessionLanes
from .runtime.lease_keeper import LeaseKeeper
from .runtime.observation import ObservationCells
from .runtime.recovery_bell import RecoveryBell
from .runtime.residency import Residency
from .runtime.session_attachments import MAX_ATTACHMENT_BYTES
from .runtime.tasks import TaskOwner
from .runtime.turn_registry import TurnRegistry
from .stores.local_process import local_process_liveness
from .stores.local_signals import LocalSignals
from .tools import ToolCatalog
from .tools.errors import ToolCatalogError


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreParts:
    """What a builder was given so far. A facet that is set wins over that of the storage."""

    protocol: TurnProtocol | None = None
    provider: GivenProvider | None = None
    spec: SessionSpec = SessionSpec()
    prompt: PromptLayer = PromptLayer.defaults()
    tools: tuple[ToolProvider, ...] = ()
    storage: Storage | None = None
    session_stores: SessionStoreFactory | None = None
    attachments: AttachmentStore | None = None
    max_attachment_bytes: int = MAX_ATTACHMENT_BYTES
    effect_host: EffectHost | None = None
    residency: Residency = Residency.KEEP_ALL
    replay: LiveReplayStore | None = None
    lease_timings: LeaseTimings = LeaseTimings()
    recover: bool = True
    clock: Clock | None = None
    ids: IdSource | None = None

    @property
    def lacks_facets(self) -> bool:
        """Nothing was said about where anything is kept."""
        return (
            self.storage is None
            and self.session_stores is None
            and self.attachments is None
            and self.effect_host is None
        )

    def wired(self) -> "CoreWiring":
        """The whole, with every default filled in. Raises a `WiringError` for what is missing,
        duplicate or at odds: the protocol first, then the model, then the facets."""
        if self.protocol is None:
            raise MissingProtocolPlugin
        if self.spec.model is None:
            raise MissingModelSpec
        stores, attachments, effect_host = self._facets()
        waits = _keeper_of_waits(self.effect_host, self.storage)
        clock, ids = self.clock or SystemClock(), self.ids or SystemIds()
        providers = ProviderShares(clock=clock, ids=ids)
        # Held for as long as the core lives, and closed with all that is held by then.
        provider = None if self.provider is None else providers.use(self.provider).provider
        provider_id = "" if self.provider is None else self.provider.kind
        replay, own_replay = self.replay, None
        if replay is None:
            replay = own_replay = InMemoryLiveReplayStore(clock=clock, ids=ids)
        return CoreWiring(
            protocol=self.protocol,
            policy=self.spec.resolve_against(SessionPolicy(provider_id=provider_id)),
            resolver=resolver_over(provider),
            providers=providers,
            core_prompt=self.prompt,
            catalog=self._catalog(),
            storage=self.storage,
            session_stores=stores,
            attachments=attachments,
            max_attachment_bytes=self.max_attachment_bytes,
            effect_host=effect_host,
            await_events=waits,
            waits_go_with_sessions=self.session_stores is None and waits is _waits_of(self.storage),
            residency=self.residency,
            replay=replay,
            own_replay=own_replay,
            signals=_signals_of(self.storage) if self.session_stores is None else None,
            lease_timings=self.lease_timings,
            recover=self.recover,
            clock=clock,
            ids=ids,
        )

    def _facets(self) -> tuple[SessionStoreFactory | None, AttachmentStore, EffectHost]:
        storage = self.storage
        stores = self.session_stores
        attachments = self.attachments
        effect_host = self.effect_host
        if storage is not None:
            stores = stores or storage.session_stores
            attachments = attachments or storage.attachments
            effect_host = effect_host or JournalEffectHost(
                InlineRuntimeEffectController(_keeper_of_waits(None, storage))
            )
        if effect_host is None:
            raise MissingEffectHost
        if attachments is None:
            raise MissingAttachmentStore
        durable_above = (
            stores is not None and stores.durability_tier is DurabilityTier.DURABLE
        ) or effect_host.durability_tier is DurabilityTier.DURABLE
        if durable_above and attachments.durability_tier is DurabilityTier.INLINE:
            raise DurableStorePeerRequired(facet="attachment store")
        return stores, attachments, effect_host

    def _catalog(self) -> ToolCatalog:
        try:
            return ToolCatalog.of(*self.tools)
        except ToolCatalogError as error:
            raise InvalidConfiguration(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreWiring:
    """The resolved parts of one core. `own_replay` is the replay store if it is the core's own,
    to be closed with it. `signals` tell what is committed to the session stores, if anybody
    does. `waits_go_with_sessions` says that deleting a session ends its waits,
    because one storage keeps both."""

    protocol: TurnProtocol
    policy: SessionPolicy
    resolver: RuntimeProviderResolver
    providers: ProviderShares
    core_prompt: PromptLayer
    catalog: ToolCatalog
    storage: Storage | None
    session_stores: SessionStoreFactory | None
    attachments: AttachmentStore
    max_attachment_bytes: int
    effect_host: EffectHost
    await_events: AwaitEventResolver
    waits_go_with_sessions: bool
    residency: Residency
    replay: LiveReplayStore
    own_replay: InMemoryLiveReplayStore | None
    signals: StoreSignals | None
    lease_timings: LeaseTimings
    recover: bool
    clock: Clock
    ids: IdSource

    def new_owner(self) -> LeaseOwnerIdentity:
        """Every open is an owner of its own, so that two of them exclude each other; all of
        them can be proven dead together with this process."""
        return LeaseOwnerIdentity(
            owner_id=self.ids.uuid(),
            incarnation_id=self.ids.uuid(),
            liveness=local_process_liveness(),
        )

    def environment(self) -> RuntimeEnvironment:
        """What the sessions of one core share, with nothing in it yet."""
        tasks = TaskOwner()
        return RuntimeEnvironment(
            clock=self.clock,
            ids=self.ids,
            effect_host=self.effect_host,
            await_events=self.await_events,
            attachments=self.attachments,
            max_attachment_bytes=self.max_attachment_bytes,
            session_stores=self.session_stores,
            residency=self.residency,
            protocol=self.protocol,
            catalog=self.catalog,
            core_prompt=self.core_prompt,
            providers=self.providers,
            tasks=tasks,
            turns=TurnRegistry(),
            keeper=LeaseKeeper(timings=self.lease_timings, clock=self.clock, tasks=tasks),
            lanes=SessionLanes(),
            cells=ObservationCells(replay=self.replay),
            bell=RecoveryBell(),
            signals=self.signals or LocalSignals(),
        )


def resolver_over(provider: ResolvedProvider | None) -> RuntimeProviderResolver:
    """A resolver that knows `provider` alone, or nothing."""
    return EmptyProviderResolver() if provider is None else SingleProviderResolver(provider)


def _keeper_of_waits(host: EffectHost | None, storage: Storage | None) -> AwaitEventResolver:
    """Who keeps the durable waits of a core: the effect host that it was given, if that keeps any
    of its own; else its storage; else this process."""
    if keeps_waits(host) and not isinstance(host, EmbeddedEffectHost):
        return waits_of(host)
    return _waits_of(storage) or InlineAwaitEvents()


def _signals_of(storage: Storage | None) -> StoreSignals | None:
    return getattr(storage, "signals", None)


def _waits_of(storage: Storage | None) -> AwaitEventResolver | None:
    return getattr(storage, "await_events", None)
