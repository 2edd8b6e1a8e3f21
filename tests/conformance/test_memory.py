"""The memory store, held to the contract of every store."""

from collections.abc import Callable, Collection
from typing import ClassVar

import pytest

from lash_runtime.ports.storage import Storage
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance import Part, StorageConformance


class TestMemoryStorage(StorageConformance):
    without: ClassVar[Collection[Part]] = ("collection", "journal")

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return MemoryStorage
