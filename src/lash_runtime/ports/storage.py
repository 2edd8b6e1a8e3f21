"""A storage: the bundle of ports that one place provides, and the factory of session stores."""

from collections.abc import Sequence
from typing import Protocol

from ..model.policy import SessionPolicy
from ..model.records import dataclass
from ..model.session_meta import RootRelation, SessionRelation
from .attachments import AttachmentStore
from .await_events import AwaitEventResolver
from .clock import Clock
from .durability import DurabilityTier
from .ids import IdSource
from .persistence import RuntimePersistence
from .process_env import ProcessExecutionEnvStore
from .session_catalogue import SessionDeleteReport, SessionPage, SessionQuery
from .signals import StoreSignals
from .turn_ledger import StoredUnfinishedTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStoreCreateRequest:
    session_id: str
    policy: SessionPolicy = SessionPolicy.defaults()
    relation: SessionRelation = RootRelation.defaults()


class SessionStoreFactory(Protocol):
    """Opens the store of a session. Failures raise `StoreError`."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def create_store(self, request: SessionStoreCreateRequest) -> RuntimePersistence:
        """Open or create; seeds the session's metadata only if it has none. Idempotent.

        The store is that of the session as it is now: when it is deleted, the store is done.
        """
        ...

    async def open_existing_store(
        self, request: SessionStoreCreateRequest
    ) -> RuntimePersistence | None:
        """The session's store, or `None` if the session does not exist."""
        ...

    async def delete_session(self, session_id: str) -> SessionDeleteReport:
        """Delete the session with everything that is its own, whoever is using it.

        From the first instant nothing of it can be read or written: every call of a store that
        was opened for it raises `StoredSessionDeleted`, also in other processes, also after the
        id is in use again. What is left is then removed in steps between which others write.
        Attachment bytes go only when no other session names them. Creating the session again
        gives an empty one of a higher generation; its fencing tokens go on rising from where
        they were. Deleting what does not exist is no error.

        Cancellation: the session is deleted or it is not; what a deletion that was cut off has
        left is removed by the next one, or before the id is used again.
        """
        ...

    async def list_unfinished_turns(
        self, *, after: StoredUnfinishedTurn | None = None, limit: int = 1_000
    ) -> Sequence[StoredUnfinishedTurn]:
        """The turns of all sessions that are not settled, by session, oldest first.

        `after` is the last one of the page before. Costs what it returns.
        """
        ...

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """One page of the sessions that exist. Costs what the page holds, however long the
        sessions are. Raises `InvalidPageCursor`."""
        ...


class Storage(Protocol):
    """One place that holds everything a core stores.

    `open` and `aclose` are idempotent. Closing waits for what was submitted.
    """

    @property
    def session_stores(self) -> SessionStoreFactory: ...

    @property
    def attachments(self) -> AttachmentStore: ...

    @property
    def process_env_store(self) -> ProcessExecutionEnvStore: ...

    @property
    def signals(self) -> StoreSignals:
        """Word of what is committed. A place that gives none has the `LocalSignals` of
        `stores/local_signals.py`."""
        ...

    def bind(self, *, clock: Clock, ids: IdSource) -> None:
        """Use the core's clock and ids. Called once, before `open`."""
        ...

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...


class AwaitEventStorage(Storage, Protocol):
    """A storage that also keeps durable waits. A core uses them unless its effect host has its
    own; one over a storage without them keeps waits in its process."""

    @property
    def await_events(self) -> AwaitEventResolver:
        """The waits of all sessions, and of what belongs to none.

        Deleting a session ends its waits in the same step, as revoking its generation would. What
        uses the id afterwards has waits of its own.
        """
        ...
