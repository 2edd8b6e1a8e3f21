"""A backend that announces nothing: it may say so, and whoever waits for it looks by themselves."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lash_runtime.ports.storage import Storage
from lash_runtime.stores.local_signals import LocalSignals
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.testing.conformance import SignalConformance


class QuietStorage:
    """The memory storage, of which nobody hears anything."""

    def __init__(self) -> None:
        self._intact = MemoryStorage()
        self.signals = LocalSignals(check=self._intact._library.check_open)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)

    async def aclose(self) -> None:
        await self._intact.aclose()
        self.signals.end()


class TestWithoutSignals(SignalConformance):
    without: ClassVar[Any] = ("signals",)

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return QuietStorage
