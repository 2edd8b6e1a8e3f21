"""What every case is given: a fresh storage, and a clock under its control.

A backend is held to every case. What it was never meant to do, it has to say: a case that asks
for it by `usefixtures` is skipped then, and the reason names it.
"""

from collections.abc import AsyncIterator, Callable, Collection
from typing import ClassVar, Literal

import pytest

from ...ports.durability import DurabilityTier
from ...ports.storage import Storage
from ..clocks import ManualClock
from ..ids import FixedIdSource

Part = Literal["manifest", "sweep", "collection", "signals", "await_events", "journal"]
"""What a backend may do without: noting which session refers to which attachment; attachments
that can be swept; counting and removing the blobs that nothing refers to any more; announcing what
it commits; keeping durable waits; journals, from which another process can finish a turn."""


class StorageCase:
    """Base of the suites. A subclass provides the fixture `storage_factory`."""

    pytestmark = pytest.mark.anyio

    durability_tier: ClassVar[DurabilityTier] = DurabilityTier.INLINE
    """What the storage under test is expected to declare."""

    without: ClassVar[Collection[Part]] = ()
    """What the backend under test does not do, and is not held to."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def disclaimed(self) -> Collection[Part]:
        """`without`, or what a command line says in its place."""
        return self.without

    @pytest.fixture
    def needs_manifest(self, disclaimed: Collection[Part]) -> None:
        _skip_if("manifest" in disclaimed, "this backend keeps no manifest")

    @pytest.fixture
    def needs_no_manifest(self, disclaimed: Collection[Part]) -> None:
        _skip_if("manifest" not in disclaimed, "this backend keeps a manifest")

    @pytest.fixture
    def needs_sweep(self, disclaimed: Collection[Part]) -> None:
        _skip_if("sweep" in disclaimed, "attachments of this backend cannot be swept")

    @pytest.fixture
    def needs_collection(self, disclaimed: Collection[Part]) -> None:
        _skip_if("collection" in disclaimed, "this backend collects no blobs")

    @pytest.fixture
    def needs_no_collection(self, disclaimed: Collection[Part]) -> None:
        _skip_if("collection" not in disclaimed, "this backend collects blobs")

    @pytest.fixture
    def needs_signals(self, disclaimed: Collection[Part]) -> None:
        _skip_if("signals" in disclaimed, "this backend announces nothing")

    @pytest.fixture
    def needs_await_events(self, disclaimed: Collection[Part]) -> None:
        _skip_if("await_events" in disclaimed, "this backend keeps no durable waits")

    @pytest.fixture
    def needs_journal(self, disclaimed: Collection[Part]) -> None:
        _skip_if("journal" in disclaimed, "this backend keeps no journals")

    @pytest.fixture
    def needs_no_journal(self, disclaimed: Collection[Part]) -> None:
        _skip_if("journal" not in disclaimed, "this backend keeps journals")

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


def _skip_if(disclaimed: bool, reason: str) -> None:
    if disclaimed:
        pytest.skip(reason)
