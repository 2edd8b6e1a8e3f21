"""What the parts of one storage share: its database while it is open, its clock and its ids."""

from ...ports.clock import Clock, SystemClock
from ...ports.durability import DurabilityTier
from ...ports.ids import IdSource, SystemIds
from ...ports.store_errors import StoreBackendError
from ...waits.signal import WaitSignal
from ._auto_gc import AutoGc, GcPolicy
from ._blobs import BuiltinBlobProfile
from ._connections import ConnectionSettings
from ._database import Database


class StorageScope:
    """Held by the storage and by every store it gave out."""

    __slots__ = (
        "_database",
        "auto_gc",
        "blob_profile",
        "clock",
        "ids",
        "settings",
        "wait_signal",
    )

    def __init__(
        self, settings: ConnectionSettings, gc_policy: GcPolicy, blob_profile: BuiltinBlobProfile
    ) -> None:
        self.settings = settings
        self.blob_profile = blob_profile
        self.auto_gc = AutoGc(gc_policy)
        self.clock: Clock = SystemClock()
        self.ids: IdSource = SystemIds()
        self.wait_signal = WaitSignal(shared_book=not settings.in_memory)
        self._database: Database | None = None

    @property
    def durability_tier(self) -> DurabilityTier:
        return DurabilityTier.INLINE if self.settings.in_memory else DurabilityTier.DURABLE

    @property
    def database(self) -> Database:
        """The open database. Raises `StoreBackendError` before `open` and after `aclose`."""
        if self._database is None:
            raise StoreBackendError(
                f"the storage of {self.settings.path} is not open: call open() first"
            )
        return self._database

    @property
    def is_open(self) -> bool:
        return self._database is not None

    def opened(self, database: Database) -> None:
        self._database = database

    def closed(self) -> Database | None:
        """Give the database up; returns it once."""
        database, self._database = self._database, None
        return database
