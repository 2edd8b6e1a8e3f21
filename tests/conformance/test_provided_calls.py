"""Calls that a backend is provided with keep the rules like those that it would write itself."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar

import pytest

from conformance.small_calls import SmallCallStorage
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance import (
    DurableQueueConformance,
    DurableStorageConformance,
    Part,
    StorageConformance,
)


class TestSmallCallsOverMemory(StorageConformance):
    without: ClassVar[Collection[Part]] = ("collection", "journal")

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return lambda: SmallCallStorage(MemoryStorage())  # type: ignore[return-value]


class TestSmallCallsOverSqlite(
    StorageConformance, DurableStorageConformance, DurableQueueConformance
):
    """Several handles on one file, so that others come in between from elsewhere too."""

    durability_tier = DurabilityTier.DURABLE

    @pytest.fixture
    def storage_factory(self, tmp_path: Path) -> Callable[[], Storage]:
        place = tmp_path / "agents.db"
        return lambda: SmallCallStorage(  # type: ignore[return-value]
            SqliteStorage(place, synchronous="normal")
        )
