"""Doubles that keep what was asked and leave the work to the real thing behind them."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from ..effects.inline import InlineEffectHost
from ..model.records import dataclass
from ..ports.await_event_stand_ins import ForwardsAwaitEvents, waits_of
from ..ports.await_events import AwaitEventResolver
from ..ports.durability import DurabilityTier
from ..ports.effects import (
    EffectHost,
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    ScopedEffectController,
)
from ..ports.persistence import RuntimePersistence
from ..ports.session_catalogue import SessionDeleteReport, SessionPage, SessionQuery
from ..ports.storage import SessionStoreCreateRequest, SessionStoreFactory


class RecordingEffectHost(ForwardsAwaitEvents):
    """Keeps the envelope of every effect, in the order in which they were asked for.

    What is asked for is executed by `host`, in line unless one is given, and what that host says
    of itself is passed on. Waits are kept by it, if it keeps any. An effect that fails is on
    record, too.
    """

    def __init__(self, host: EffectHost | None = None) -> None:
        self._host: EffectHost = host or InlineEffectHost()
        self.scopes: list[ExecutionScope] = []
        self.envelopes: list[RuntimeEffectEnvelope] = []

    @property
    def kinds(self) -> list[RuntimeEffectKind]:
        return [envelope.command.type for envelope in self.envelopes]

    @property
    def turn_ids(self) -> list[str | None]:
        return [envelope.invocation.scope.turn_id for envelope in self.envelopes]

    @property
    def replay_keys(self) -> list[str]:
        return [envelope.replay_key for envelope in self.envelopes]

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._host.durability_tier

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return self._recorded(self._host.scoped(scope))

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController | None:
        scoped = self._host.scoped_static(scope)
        return None if scoped is None else self._recorded(scoped)

    def kept_by(self) -> AwaitEventResolver:
        return waits_of(self._host)

    def _recorded(self, scoped: ScopedEffectController) -> ScopedEffectController:
        self.scopes.append(scoped.execution_scope)
        controller = _RecordingController(scoped.controller, self.envelopes)
        return ScopedEffectController(controller, scoped.execution_scope)


class _RecordingController(ForwardsAwaitEvents):
    def __init__(
        self, controller: RuntimeEffectController, envelopes: list[RuntimeEffectEnvelope]
    ) -> None:
        self._controller = controller
        self._envelopes = envelopes

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._controller.durability_tier

    @property
    def supports_concurrent_effects(self) -> bool:
        return self._controller.supports_concurrent_effects

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        self._envelopes.append(envelope)
        return await self._controller.execute_effect(envelope, executor)

    def kept_by(self) -> AwaitEventResolver:
        return waits_of(self._controller)


@dataclass(frozen=True, slots=True)
class StoreCall:
    """One call of a store's or its factory's method; listing sessions belongs to no session."""

    session_id: str | None
    method: str


class RecordingStores:
    """Keeps the name of every call of a factory and of the stores that it opens.

    For `.store_factory(...)` of a builder that also has the storage: the factory is neither
    opened nor closed here.
    """

    def __init__(self, factory: SessionStoreFactory) -> None:
        self._factory = factory
        self.calls: list[StoreCall] = []

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._factory.durability_tier

    async def create_store(self, request: SessionStoreCreateRequest) -> RuntimePersistence:
        self._note(request.session_id, "create_store")
        return self._recorded(request.session_id, await self._factory.create_store(request))

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> RuntimePersistence | None:
        self._note(request.session_id, "open_existing_store")
        store = await self._factory.open_existing_store(request)
        return None if store is None else self._recorded(request.session_id, store)

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        self._note(session_id, "delete_session")
        return await self._factory.delete_session(session_id)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        self._note(None, "list_sessions")
        return await self._factory.list_sessions(query)

    def _note(self, session_id: str | None, method: str) -> None:
        self.calls.append(StoreCall(session_id, method))

    def _recorded(self, session_id: str, store: RuntimePersistence) -> RuntimePersistence:
        # Its methods are those of the store behind it, which only the reader can see.
        return cast(
            "RuntimePersistence",
            _RecordingStore(store, lambda method: self._note(session_id, method)),
        )


class _RecordingStore:
    def __init__(self, store: RuntimePersistence, note: Callable[[str], None]) -> None:
        self._store = store
        self._note = note

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not iscoroutinefunction(attribute):
            return attribute
        method: Callable[..., Awaitable[Any]] = attribute

        async def noted(*args: Any, **named: Any) -> Any:
            self._note(name)
            return await method(*args, **named)

        return noted
