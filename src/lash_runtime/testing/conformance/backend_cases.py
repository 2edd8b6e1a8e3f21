"""The cases for the backend that the plugin was given. Collected through the plugin alone."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from ...ports.attachments import AttachmentStore
from ...ports.durability import DurabilityTier
from ...ports.storage import Storage
from ..clocks import ManualClock
from . import (
    AttachmentConformance,
    AttachmentSweepConformance,
    DurableAttachmentConformance,
    DurableAwaitEventConformance,
    DurableJournalConformance,
    DurableProcessEnvConformance,
    DurableQueueConformance,
    DurableStorageConformance,
    LiveReplayConformance,
    Part,
    ReplayStoreFactory,
    SignalsBetweenConformance,
    StorageAwaitEventConformance,
    StorageConformance,
)
from .plugin import factory_of

Port = Literal["storage", "attachments", "replay"]


class Disclaiming:
    @pytest.fixture
    def disclaimed(self, pytestconfig: pytest.Config) -> Collection[Part]:
        parts: list[Part] = pytestconfig.getoption("lash_without")
        return parts


class GivenStorage(Disclaiming):
    of_port: ClassVar[Port] = "storage"

    @pytest.fixture
    def storage_factory(self, pytestconfig: pytest.Config, tmp_path: Path) -> Callable[[], Storage]:
        make = factory_of(pytestconfig, self.of_port)
        return lambda: make(tmp_path)


class TestStorage(GivenStorage, StorageConformance):
    for_durable = False


class TestDurableStorage(
    GivenStorage,
    StorageConformance,
    DurableStorageConformance,
    DurableQueueConformance,
    DurableProcessEnvConformance,
    SignalsBetweenConformance,
    DurableJournalConformance,
):
    for_durable = True
    durability_tier = DurabilityTier.DURABLE


class TestAwaitEvents(GivenStorage, StorageAwaitEventConformance):
    pass


class TestDurableAwaitEvents(GivenStorage, DurableAwaitEventConformance):
    for_durable = True


class GivenAttachments(Disclaiming):
    of_port: ClassVar[Port] = "attachments"

    @pytest.fixture
    def attachment_store_factory(
        self, pytestconfig: pytest.Config, tmp_path: Path, clock: ManualClock
    ) -> Callable[[], AttachmentStore]:
        make = factory_of(pytestconfig, self.of_port)
        return lambda: make(tmp_path, clock)

    @pytest.fixture
    def attachments(
        self, attachment_store_factory: Callable[[], AttachmentStore]
    ) -> AttachmentStore:
        return attachment_store_factory()


class TestAttachmentStore(GivenAttachments, AttachmentConformance):
    pass


class TestAttachmentSweep(GivenAttachments, AttachmentSweepConformance):
    pass


class TestDurableAttachmentStore(GivenAttachments, DurableAttachmentConformance):
    for_durable = True


class TestReplayStore(LiveReplayConformance):
    of_port: ClassVar[Port] = "replay"

    @pytest.fixture
    def replay_store_factory(self, pytestconfig: pytest.Config) -> ReplayStoreFactory:
        return factory_of(pytestconfig, self.of_port)
