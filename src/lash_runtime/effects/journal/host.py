"""Hands out the controllers of journaled turns, and inline ones where there is no journal."""

from ...ports.await_event_stand_ins import ForwardsAwaitEvents, waits_of
from ...ports.await_events import AwaitEventResolver
from ...ports.durability import DurabilityTier
from ...ports.effects import (
    ExecutionScope,
    RuntimeEffectController,
    ScopedEffectController,
    TurnScope,
)
from ...ports.journal import EffectJournal
from ..inline import InlineRuntimeEffectController
from .controller import JournalEffectController


class JournalEffectHost(ForwardsAwaitEvents):
    """Puts a turn's effects on record in the transactions of its session.

    A turn whose process dies is run again from its record: by whoever uses the session next, or
    by the recovery of any core over the same storage. A session whose store keeps no journal, as
    one in memory, is served as `InlineEffectHost` serves it; the host therefore promises no more
    than that by itself.
    """

    durability_tier = DurabilityTier.INLINE

    def __init__(self, inline: RuntimeEffectController | None = None) -> None:
        """`inline` serves the sessions without a journal."""
        self._inline = inline or InlineRuntimeEffectController()

    def kept_by(self) -> AwaitEventResolver:
        return waits_of(self._inline)

    def scoped(self, scope: ExecutionScope) -> ScopedEffectController:
        return ScopedEffectController(self._inline, scope)

    def scoped_static(self, scope: ExecutionScope) -> ScopedEffectController:
        return self.scoped(scope)

    def journaled(
        self, scope: TurnScope, journal: EffectJournal, *, replay_only: bool = False
    ) -> ScopedEffectController:
        controller = JournalEffectController(journal, replay_only=replay_only)
        return ScopedEffectController(controller, scope)
