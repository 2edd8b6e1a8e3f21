"""Calls that a backend is provided with keep the rules like those that it would write itself."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from conformance.breaking import BrokenStorage, Wrapped
from lash_runtime.ports.provided import ProvidedCalls
from lash_runtime.ports.storage import Storage
from lash_runtime.testing.conformance import (
    QueueClaimConformance,
    QueueConformance,
    QueueSelectionConformance,
    TurnInputCancelConformance,
    TurnInputClaimConformance,
    TurnInputConformance,
)


class Provided(ProvidedCalls, Wrapped):
    """The memory store, whose own version of the calls is not used."""


class TestProvidedCalls(
    QueueConformance,
    QueueSelectionConformance,
    QueueClaimConformance,
    TurnInputConformance,
    TurnInputCancelConformance,
    TurnInputClaimConformance,
):
    without: ClassVar[Any] = ("collection", "journal")

    @pytest.fixture
    def storage_factory(self) -> Callable[[], Storage]:
        return lambda: BrokenStorage(Provided)  # type: ignore[arg-type,return-value]
