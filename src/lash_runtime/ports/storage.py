"""A storage: the bundle of ports that one place provides, and the factory of session stores."""

from dataclasses import dataclass
from typing import Protocol

from ..model.policy import SessionPolicy
from ..model.session_meta import RootRelation, SessionRelation
from .attachments import AttachmentStore
from .clock import Clock
from .durability import DurabilityTier
from .ids import IdSource
from .turn_persistence import TurnPersistence


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStoreCreateRequest:
    session_id: str
    policy: SessionPolicy = SessionPolicy()
    relation: SessionRelation = RootRelation()


class SessionStoreFactory(Protocol):
    """Opens the store of a session. Failures raise `StoreError`."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def create_store(self, request: SessionStoreCreateRequest) -> TurnPersistence:
        """Open or create; seeds the session's metadata only if it has none. Idempotent."""
        ...

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> TurnPersistence | None:
        """The session's store, or `None` if the session does not exist."""
        ...


class Storage(Protocol):
    """One place that holds everything a core stores.

    `open` and `aclose` are idempotent. Closing waits for what was submitted.
    """

    @property
    def session_stores(self) -> SessionStoreFactory: ...

    @property
    def attachments(self) -> AttachmentStore: ...

    def bind(self, *, clock: Clock, ids: IdSource) -> None:
        """Use the core's clock and ids. Called once, before `open`."""
        ...

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...
