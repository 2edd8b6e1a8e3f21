"""The memory store, held to the contract of every store."""

from collections.abc import Callable

import pytest

from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance import StorageConformance


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return MemoryStorage
