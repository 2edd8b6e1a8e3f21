"""What every case of an effect host is given: the host, a way to run a scope, and a clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

import pytest

from ...ports.durability import DurabilityTier
from ...ports.effects import EffectHost, RuntimeEffectController, TurnScope
from ..clocks import ManualClock

EffectRuns = Callable[[TurnScope], AbstractAsyncContextManager[RuntimeEffectController]]
"""Opens the next run of a scope. Leaving the block ends that run as the death of its process would:
what is not on record by then is gone."""


class EffectCase:
    """Base of the suites. A subclass provides the fixture `effect_host`.

    It also provides `effect_runs` where `host.scoped(scope)` is not all that there is to a run, as
    for a host that needs a handler of its engine, or the journal of a turn.
    """

    pytestmark = pytest.mark.anyio

    durability_tier: ClassVar[DurabilityTier] = DurabilityTier.INLINE
    """What the controllers under test are expected to declare."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def effect_runs(self, effect_host: EffectHost) -> EffectRuns:
        @asynccontextmanager
        async def run(scope: TurnScope) -> AsyncIterator[RuntimeEffectController]:
            yield effect_host.scoped(scope).controller

        return run
