"""What every case is given: a fresh storage, and a clock under its control."""

from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from ...ports.durability import DurabilityTier
from ...ports.storage import Storage
from ..clocks import ManualClock
from ..ids import FixedIdSource


class StorageCase:
    """Base of the suites. A subclass provides the fixture `storage_factory`."""

    pytestmark = pytest.mark.anyio

    durability_tier: ClassVar[DurabilityTier] = DurabilityTier.INLINE
    """What the storage under test is expected to declare."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def storage(
        self, storage_factory: Callable[[], Storage], clock: ManualClock
    ) -> AsyncIterator[Storage]:
        """A new, empty storage, open for the length of the case."""
        storage = storage_factory()
        storage.bind(clock=clock, ids=FixedIdSource())
        await storage.open()
        yield storage
        await storage.aclose()
