"""What all sessions of a core share, resolved once when the core is built."""

from ..model.prompt import PromptLayer
from ..model.records import dataclass
from ..ports.attachments import AttachmentStore
from ..ports.await_events import AwaitEventResolver
from ..ports.clock import Clock
from ..ports.effects import EffectHost
from ..ports.ids import IdSource
from ..ports.protocol import TurnProtocol
from ..ports.signals import StoreSignals
from ..ports.storage import SessionStoreFactory
from ..providers.shares import ProviderShares
from ..tools.catalog import ToolCatalog
from .lanes import SessionLanes
from .lease_keeper import LeaseKeeper
from .observation import ObservationCells
from .recovery_bell import RecoveryBell
from .residency import Residency
from .tasks import TaskOwner
from .turn_registry import TurnRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEnvironment:
    """The parts that a session's runtime is put together from."""

    clock: Clock
    ids: IdSource
    effect_host: EffectHost
    await_events: AwaitEventResolver
    attachments: AttachmentStore
    max_attachment_bytes: int
    session_stores: SessionStoreFactory | None
    residency: Residency
    protocol: TurnProtocol
    catalog: ToolCatalog
    core_prompt: PromptLayer
    providers: ProviderShares
    tasks: TaskOwner
    turns: TurnRegistry
    keeper: LeaseKeeper
    lanes: SessionLanes
    cells: ObservationCells
    bell: RecoveryBell
    signals: StoreSignals
