"""The effect hosts that ship, held to the rules of every one."""

from pathlib import Path

import pytest

from conformance.journaled_runs import MemoryRuns, StoredRuns
from lash_runtime.effects.inline import InlineEffectHost
from lash_runtime.effects.journal import JournalEffectHost
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.effects import EffectHost
from lash_runtime.testing import ManualClock, RecordingEffectHost
from lash_runtime.testing.conformance import (
    EffectHostConformance,
    EffectRuns,
    RecordedEffectConformance,
)


class TestInline(EffectHostConformance):
    @pytest.fixture
    def effect_host(self) -> EffectHost:
        return InlineEffectHost()


class TestRecording(EffectHostConformance):
    """The test kit's double is none where it matters."""

    @pytest.fixture
    def effect_host(self) -> EffectHost:
        return RecordingEffectHost()


class TestJournalWithoutAJournal(EffectHostConformance):
    """A session whose store keeps none is served as by the inline host."""

    @pytest.fixture
    def effect_host(self) -> EffectHost:
        return JournalEffectHost()


class TestJournal(EffectHostConformance, RecordedEffectConformance):
    durability_tier = DurabilityTier.DURABLE

    @pytest.fixture
    def effect_host(self) -> EffectHost:
        return JournalEffectHost()

    @pytest.fixture
    def effect_runs(self, tmp_path: Path, clock: ManualClock) -> EffectRuns:
        return StoredRuns(tmp_path / "agents.db", clock)


class TestJournalOfTheTestKit(EffectHostConformance, RecordedEffectConformance):
    """What is shown with the double in memory holds for a store."""

    durability_tier = DurabilityTier.DURABLE

    @pytest.fixture
    def effect_host(self) -> EffectHost:
        return JournalEffectHost()

    @pytest.fixture
    def effect_runs(self, clock: ManualClock) -> EffectRuns:
        return MemoryRuns(clock)
