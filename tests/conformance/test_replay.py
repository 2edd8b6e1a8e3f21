"""The live log in memory, against the rules for all such logs."""

import pytest

from lash_runtime.ports.clock import Clock
from lash_runtime.replay import InMemoryLiveReplayStore
from lash_runtime.testing.conformance import LiveReplayConformance, ReplayStoreFactory


class TestInMemoryLiveReplayStore(LiveReplayConformance):
    @pytest.fixture
    def replay_store_factory(self) -> ReplayStoreFactory:
        def build(max_events: int, max_age_s: float, clock: Clock) -> InMemoryLiveReplayStore:
            return InMemoryLiveReplayStore.with_bounds(max_events, max_age_s, clock=clock)

        return build
