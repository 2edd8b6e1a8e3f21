"""The SQLite store, on a file and in memory, held to the contract of every store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.storage import Storage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing.conformance import (
    DurableJournalConformance,
    DurableProcessEnvConformance,
    DurableQueueConformance,
    DurableStorageConformance,
    SignalsBetweenConformance,
    StorageConformance,
)


class TestSqliteFile(
    StorageConformance,
    DurableStorageConformance,
    DurableQueueConformance,
    DurableProcessEnvConformance,
    SignalsBetweenConformance,
    DurableJournalConformance,
):
    durability_tier = DurabilityTier.DURABLE

    @pytest.fixture
    def storage_factory(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: SqliteStorage(tmp_path / "agents.db")


class TestSqliteInMemory(StorageConformance):
    """It dies with the process, and says so."""

    durability_tier = DurabilityTier.INLINE

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return lambda: SqliteStorage(":memory:")
