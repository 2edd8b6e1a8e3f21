"""The effect host that simply does the work: in this process, now, without a record."""

from ..ports.durability import DurabilityTier
from ..ports.effects import (
    ExecutionScope,
    LocalEffectExecutor,
    RuntimeEffectController,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ScopedEffectController,
)


class InlineRuntimeEffectController:
    """Runs every effect with its local executor."""

    durability_tier = DurabilityTier.INLINE
    supports_concurrent_effects = True

    async def execute_effect(
        self, envelope: RuntimeEffectEnvelope, executor: LocalEffectExecutor
    ) -> RuntimeEffectOutcome:
        return await executor.execute(envelope)


class InlineEffectHost:
    """Hands out one controller for all scopes; wraps a custom one if given."""

    def __init__(self, controller: RuntimeEffectController | None = None) -> None:
        self._controller = controller or InlineRuntimeEffectController()

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._controller.durability_tier

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(self._controller, scope)

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(self._controller, scope)
