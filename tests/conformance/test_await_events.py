"""Whoever keeps durable waits, held to the rules of all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lash_runtime.effects.await_events import InlineAwaitEvents, InlineWaitRegistry
from lash_runtime.effects.inline import InlineEffectHost, InlineRuntimeEffectController
from lash_runtime.ports.await_events import AwaitEventResolver
from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import ManualClock
from lash_runtime.testing.conformance import (
    AwaitEventConformance,
    DurableAwaitEventConformance,
    StorageAwaitEventConformance,
)


class TestInline(AwaitEventConformance):
    @pytest.fixture
    def await_events(self, clock: ManualClock) -> AwaitEventResolver:
        return InlineAwaitEvents(clock=clock, registry=InlineWaitRegistry())


class TestInlineEffectHost(AwaitEventConformance):
    """It leaves waits to its controller, which leaves them to whatever keeps them."""

    @pytest.fixture
    def await_events(self, clock: ManualClock) -> AwaitEventResolver:
        waits = InlineAwaitEvents(clock=clock, registry=InlineWaitRegistry())
        return InlineEffectHost(InlineRuntimeEffectController(waits))


class TestMemoryStorage(StorageAwaitEventConformance):
    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return MemoryStorage


class TestSqliteFile(StorageAwaitEventConformance, DurableAwaitEventConformance):
    @pytest.fixture
    def storage_factory(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: SqliteStorage(tmp_path / "agents.db")


class TestSqliteInMemory(StorageAwaitEventConformance):
    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return lambda: SqliteStorage(":memory:")
