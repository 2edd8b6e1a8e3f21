"""The effect host that simply does the work: in this process, now, without a record.

A wait is the one thing that it cannot do by a local executor: it is left to whoever keeps waits.
"""

from abc import ABC, abstractmethod

from ..ports.await_events import (
    AwaitEventKey,
    AwaitEventResolver,
    AwaitEventWaitIdentity,
    NoAwaitEvents,
    Resolution,
    ResolveOutcome,
)
from ..ports.cancel import CancelToken
from ..ports.clock import Clock
from ..ports.durability import DurabilityTier
from ..ports.effects import (
    AwaitEventCommand,
    AwaitEventExecutor,
    AwaitEventOutcome,
    EffectControllerError,
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ScopedEffectController,
)
from ..ports.store_errors import StoreError
from .await_events import InlineAwaitEvents


class _ForwardsWaits(ABC):
    """An `AwaitEventResolver` that leaves everything to another one."""

    @abstractmethod
    def _waits(self) -> AwaitEventResolver: ...

    async def await_event_key(
        self, scope: ExecutionScope, wait: AwaitEventWaitIdentity, generation: int | None = None
    ) -> AwaitEventKey:
        return await self._waits().await_event_key(scope, wait, generation)

    async def resolve_await_event(
        self, key: AwaitEventKey, resolution: Resolution
    ) -> ResolveOutcome:
        return await self._waits().resolve_await_event(key, resolution)

    async def await_await_event(
        self, key: AwaitEventKey, cancel: CancelToken, deadline_ms: int | None
    ) -> Resolution:
        return await self._waits().await_await_event(key, cancel, deadline_ms)

    async def revoke_await_events_for_session(
        self, session_id: str, generation: int | None = None
    ) -> None:
        await self._waits().revoke_await_events_for_session(session_id, generation)

    async def cancel_await_events_for_session(self, session_id: str) -> None:
        await self._waits().cancel_await_events_for_session(session_id)


class InlineRuntimeEffectController(_ForwardsWaits):
    """Runs every effect with its local executor, and waits where `await_events` keeps waits: in
    this process, unless it is given."""

    durability_tier = DurabilityTier.INLINE
    supports_concurrent_effects = True

    _await_events: AwaitEventResolver | None = None

    def __init__(self, await_events: AwaitEventResolver | None = None) -> None:
        self._await_events = await_events

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, AwaitEventCommand) and isinstance(
            executor, AwaitEventExecutor
        ):
            return await self._wait(envelope.command, executor)
        return await executor.execute(envelope)

    async def _wait(
        self, command: AwaitEventCommand, executor: AwaitEventExecutor
    ) -> AwaitEventOutcome:
        """Raises `runtime_store` where the wait is kept in a store that fails."""
        waits = self._waits_by(executor.clock)
        try:
            resolution = await waits.await_await_event(
                command.key, executor.cancel, executor.deadline_ms
            )
        except StoreError as error:
            raise EffectControllerError("runtime_store", str(error)) from error
        return AwaitEventOutcome(resolution)

    def _waits(self) -> AwaitEventResolver:
        return self._waits_by(None)

    def _waits_by(self, clock: Clock | None) -> AwaitEventResolver:
        # Looked up for each call: after a fork, the waits of a process are others.
        return self._await_events or InlineAwaitEvents(clock=clock)


class InlineEffectHost(_ForwardsWaits):
    """Hands out one controller for all scopes; wraps a custom one if given. Waits are kept by
    whatever keeps its controller's, and by nobody if the controller is no resolver."""

    def __init__(self, controller: RuntimeEffectController | None = None) -> None:
        self._controller = controller or InlineRuntimeEffectController()

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._controller.durability_tier

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(self._controller, scope)

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(self._controller, scope)

    def _waits(self) -> AwaitEventResolver:
        if isinstance(self._controller, AwaitEventResolver):
            return self._controller
        return NoAwaitEvents(of=self._controller)
