"""A session's store in memory: each call is one synchronous step on its session's book."""

from collections.abc import Sequence

from ...model.cancelling import CancelRequest
from ...model.nodes import SessionNodeRecord
from ...model.session_meta import SessionMeta
from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry
from ...ports.commit import RuntimeCommit, RuntimeCommitResult
from ...ports.durability import DurabilityTier
from ...ports.leases import (
    LeaseOwnerIdentity,
    LeaseRenewed,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseCompletion,
    SessionExecutionLeaseFence,
)
from ...ports.session_state import HeadStamp, PersistedSessionRead, SessionReadScope
from ...ports.turn_ledger import (
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnCancelAnswer,
    TurnRow,
    TurnSettlement,
    TurnStarted,
)
from ._library import Library, SessionLibrary
from ._maintenance import MemoryMaintenance
from ._waiting import MemoryQueuedWork, MemoryTurnInputs


class MemorySessionStore(MemoryTurnInputs, MemoryQueuedWork, MemoryMaintenance):
    """The store of one session.

    Leases, turns, inputs and queued work go by the session id that they name; everything else
    by the session that the store was opened for. When that session is deleted, every call raises
    `StoredSessionDeleted`.
    """

    durability_tier = DurabilityTier.INLINE

    def __init__(self, library: Library, session_id: str) -> None:
        self._library = SessionLibrary(library, session_id)
        self._session_id = session_id

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        return self._library.book(self._session_id).read(scope)

    async def load_head_stamp(self) -> HeadStamp | None:
        return self._library.book(self._session_id).head_stamp()

    async def load_node(self, node_id: str) -> SessionNodeRecord | None:
        return self._library.book(self._session_id).nodes.get(node_id)

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        return self._library.book(self._session_id).commit(commit, self._library.now_ms())

    async def save_session_meta(self, meta: SessionMeta) -> None:
        self._library.book(self._session_id).meta = meta

    async def load_session_meta(self) -> SessionMeta | None:
        return self._library.book(self._session_id).meta

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        return self._library.book(session_id).lane.claim(
            owner, now_ms=self._library.now_ms(), ttl_ms=lease_ttl_ms, token=self._library.token()
        )

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome:
        return self._library.book(session_id).lane.reclaim(
            owner,
            observed_holder,
            now_ms=self._library.now_ms(),
            ttl_ms=lease_ttl_ms,
            token=self._library.token(),
        )

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        return self._library.book(fence.session_id).renew(
            fence, now_ms=self._library.now_ms(), ttl_ms=lease_ttl_ms
        )

    async def release_session_execution_lease(
        self, completion: SessionExecutionLeaseCompletion
    ) -> None:
        self._library.book(completion.session_id).lane.release(completion)

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        return self._library.book(acceptance.session_id).accept(
            acceptance, now_ms=self._library.now_ms(), token=self._library.token()
        )

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        return self._library.book(acceptance.session_id).start(
            fence, acceptance, self._library.now_ms()
        )

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None:
        return self._library.book(session_id).turns.get(turn_id)

    async def list_unfinished_turns(self, session_id: str) -> Sequence[TurnRow]:
        return self._library.book(session_id).turns.unfinished()

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: TurnSettlement, *, release: bool
    ) -> None:
        self._library.book(fence.session_id).settle(
            fence, settlement, now_ms=self._library.now_ms(), release=release
        )

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        request = CancelRequest(
            requested_at_ms=self._library.now_ms(), reason=reason, origin=origin
        )
        return self._library.book(session_id).turns.request_cancel(turn_id, request)

    async def record_intent(self, intent: AttachmentIntent) -> None:
        self._library.book(intent.session_id).attachments.intend(intent)

    async def commit_refs(self, session_id: str, attachment_ids: Sequence[str]) -> None:
        self._library.book(session_id).attachments.commit(attachment_ids, self._library.now_ms())

    async def list_uncommitted(self, older_than_epoch_ms: int) -> Sequence[AttachmentManifestEntry]:
        return self._library.book(self._session_id).attachments.uncommitted(older_than_epoch_ms)

    async def forget(self, attachment_id: str) -> None:
        self._library.book(self._session_id).attachments.forget(attachment_id)
