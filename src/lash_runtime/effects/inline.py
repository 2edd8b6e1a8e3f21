"""The effect host that simply does the work: in this process, now, without a record.

A wait is the one thing that it cannot do by a local executor: it is left to whoever keeps waits.
"""

from ..ports.await_event_stand_ins import ForwardsAwaitEvents, waits_of
from ..ports.await_events import AwaitEventResolver
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


class InlineRuntimeEffectController(ForwardsAwaitEvents):
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

    def kept_by(self) -> AwaitEventResolver:
        return self._waits_by(None)

    def _waits_by(self, clock: Clock | None) -> AwaitEventResolver:
        # Looked up for each call: after a fork, the waits of a process are others.
        return self._await_events or InlineAwaitEvents(clock=clock)


class InlineEffectHost(ForwardsAwaitEvents):
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

    def kept_by(self) -> AwaitEventResolver:
        return waits_of(self._controller)
