"""Conformance suites: what every implementation of a port must do, one named case per rule.

Point a suite at your own backend by subclassing it in a test module:

    class TestMyStorage(StorageConformance):
        durability_tier = DurabilityTier.DURABLE

        @pytest.fixture
        def storage_factory(self, tmp_path: Path) -> Callable[[], Storage]:
            return lambda: MyStorage(tmp_path / "agents.db")

or name it on the command line, as `plugin` in this package says. A backend that does without a
part of the contract says so: `without = ("manifest",)`. It is held to everything else.

Each case gets a fresh, empty storage on a clock that stands still until the case moves it. A
backend that violates one case is wrong even if all others pass. Needs pytest and anyio's plugin.
"""

import pytest

_SUITES = (
    "acceptance",
    "attachment_references",
    "attachment_sweeps",
    "attachments",
    "await_event_ends",
    "await_event_sessions",
    "await_event_storages",
    "await_events",
    "checkpoints",
    "commits",
    "deletion",
    "durable",
    "effects",
    "graphs",
    "journal",
    "journal_adoption",
    "leases",
    "listing",
    "maintenance",
    "process_envs",
    "queue",
    "queue_claims",
    "queue_durable",
    "queue_selection",
    "recorded_effects",
    "replay",
    "replay_readers",
    "sessions",
    "settlement",
    "starting",
    "signals",
    "signals_between",
    "turn_cancels",
    "turn_input_cancels",
    "turn_input_claims",
    "turn_input_deferral",
    "turn_input_selection",
    "turn_inputs",
    "waiting_deletion",
)

# Asserts outside a test module are only explained by pytest if it is told before they are loaded.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in (*_SUITES, "_await_event_case")))

from ._case import Part  # noqa: E402
from ._effect_case import EffectRuns  # noqa: E402
from ._replay_case import ReplayStoreFactory  # noqa: E402
from .acceptance import AcceptanceConformance  # noqa: E402
from .attachment_references import AttachmentReferenceConformance  # noqa: E402
from .attachment_sweeps import AttachmentSweepConformance  # noqa: E402
from .attachments import (  # noqa: E402
    AttachmentConformance,
    DurableAttachmentConformance,
    ManifestConformance,
    NoManifestConformance,
)
from .await_event_ends import AwaitEventEndConformance  # noqa: E402
from .await_event_sessions import AwaitEventSessionConformance  # noqa: E402
from .await_event_storages import (  # noqa: E402
    AwaitEventLifetimeConformance,
    DurableAwaitEventConformance,
)
from .await_events import AwaitEventAnswerConformance  # noqa: E402
from .checkpoints import CheckpointConformance  # noqa: E402
from .commits import CommitConformance, CommitOrderConformance  # noqa: E402
from .deletion import DeletionConformance  # noqa: E402
from .durable import DurableStorageConformance  # noqa: E402
from .effects import EffectHostConformance  # noqa: E402
from .graphs import GraphConformance  # noqa: E402
from .journal import JournalConformance, NoJournalConformance  # noqa: E402
from .journal_adoption import (  # noqa: E402
    DurableJournalConformance,
    JournalAdoptionConformance,
)
from .leases import LeaseConformance, ReclaimConformance  # noqa: E402
from .listing import ListingConformance  # noqa: E402
from .maintenance import MaintenanceConformance  # noqa: E402
from .process_envs import DurableProcessEnvConformance, ProcessEnvConformance  # noqa: E402
from .queue import QueueConformance  # noqa: E402
from .queue_claims import QueueClaimConformance  # noqa: E402
from .queue_durable import DurableQueueConformance  # noqa: E402
from .queue_selection import QueueSelectionConformance  # noqa: E402
from .recorded_effects import RecordedEffectConformance  # noqa: E402
from .replay import ReplayConformance  # noqa: E402
from .replay_readers import ReplayReadersConformance  # noqa: E402
from .sessions import SessionConformance  # noqa: E402
from .settlement import SettlementConformance  # noqa: E402
from .signals import SignalConformance  # noqa: E402
from .signals_between import SignalsBetweenConformance  # noqa: E402
from .starting import TurnStartConformance  # noqa: E402
from .turn_cancels import TurnCancelConformance  # noqa: E402
from .turn_input_cancels import TurnInputCancelConformance  # noqa: E402
from .turn_input_claims import TurnInputClaimConformance  # noqa: E402
from .turn_input_deferral import TurnInputDeferralConformance  # noqa: E402
from .turn_input_selection import TurnInputSelectionConformance  # noqa: E402
from .turn_inputs import TurnInputConformance  # noqa: E402
from .waiting_deletion import WaitingDeletionConformance  # noqa: E402

__all__ = [
    "AcceptanceConformance",
    "AttachmentConformance",
    "AttachmentReferenceConformance",
    "AttachmentSweepConformance",
    "AwaitEventAnswerConformance",
    "AwaitEventConformance",
    "AwaitEventEndConformance",
    "AwaitEventLifetimeConformance",
    "AwaitEventSessionConformance",
    "CheckpointConformance",
    "CommitConformance",
    "CommitOrderConformance",
    "DeletionConformance",
    "DurableAttachmentConformance",
    "DurableAwaitEventConformance",
    "DurableJournalConformance",
    "DurableProcessEnvConformance",
    "DurableQueueConformance",
    "DurableStorageConformance",
    "EffectHostConformance",
    "EffectRuns",
    "GraphConformance",
    "JournalAdoptionConformance",
    "JournalConformance",
    "LeaseConformance",
    "ListingConformance",
    "LiveReplayConformance",
    "MaintenanceConformance",
    "ManifestConformance",
    "NoJournalConformance",
    "NoManifestConformance",
    "Part",
    "ProcessEnvConformance",
    "QueueClaimConformance",
    "QueueConformance",
    "QueueSelectionConformance",
    "ReclaimConformance",
    "RecordedEffectConformance",
    "ReplayConformance",
    "ReplayReadersConformance",
    "ReplayStoreFactory",
    "SessionConformance",
    "SettlementConformance",
    "SignalConformance",
    "SignalsBetweenConformance",
    "StorageAwaitEventConformance",
    "StorageConformance",
    "TurnCancelConformance",
    "TurnInputCancelConformance",
    "TurnInputClaimConformance",
    "TurnInputConformance",
    "TurnInputDeferralConformance",
    "TurnInputSelectionConformance",
    "TurnStartConformance",
    "WaitingDeletionConformance",
]


class StorageConformance(
    SessionConformance,
    GraphConformance,
    CheckpointConformance,
    CommitConformance,
    CommitOrderConformance,
    LeaseConformance,
    ReclaimConformance,
    AcceptanceConformance,
    TurnStartConformance,
    SettlementConformance,
    TurnCancelConformance,
    JournalConformance,
    JournalAdoptionConformance,
    NoJournalConformance,
    AttachmentConformance,
    AttachmentSweepConformance,
    AttachmentReferenceConformance,
    ManifestConformance,
    NoManifestConformance,
    DeletionConformance,
    ListingConformance,
    MaintenanceConformance,
    QueueConformance,
    QueueSelectionConformance,
    QueueClaimConformance,
    TurnInputConformance,
    TurnInputCancelConformance,
    TurnInputSelectionConformance,
    TurnInputClaimConformance,
    TurnInputDeferralConformance,
    WaitingDeletionConformance,
    ProcessEnvConformance,
    SignalConformance,
):
    """All cases that hold for any storage."""


class LiveReplayConformance(ReplayConformance, ReplayReadersConformance):
    """All cases that hold for any live replay store."""


class AwaitEventConformance(
    AwaitEventAnswerConformance, AwaitEventEndConformance, AwaitEventSessionConformance
):
    """All cases that hold for whoever keeps durable waits."""


class StorageAwaitEventConformance(AwaitEventConformance, AwaitEventLifetimeConformance):
    """All cases that hold for a storage that keeps durable waits."""
