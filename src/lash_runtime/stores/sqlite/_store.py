"""A session's store: each call is one transaction body, run on the database's own thread."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from ...model.cancelling import CancelRequest
from ...model.nodes import SessionNodeRecord
from ...model.policy import SessionPolicy
from ...model.session_meta import SessionMeta
from ...ports.attachments import AttachmentIntent, AttachmentManifestEntry
from ...ports.commit import GraphUnchanged, RuntimeCommit, RuntimeCommitResult
from ...ports.durability import DurabilityTier
from ...ports.journal import AdoptedTurn, JournalEntry, JournalWrite
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
from . import _heads, _journal, _manifest, _meta, _nodes, _session, _turns
from ._leases import StoredLane
from ._scope import StorageScope
from ._session_database import SessionDatabase
from ._store_maintenance import SqliteStoreMaintenance
from ._texts import CommitTexts
from ._waiting import SqliteQueuedWork, SqliteTurnInputs

NODE_BYTES = 1024
"""A guess at what a node takes, to keep groups of commits small. Looking would cost more."""


class SqliteSessionStore(SqliteTurnInputs, SqliteQueuedWork, SqliteStoreMaintenance):
    """The store of one session.

    Leases, turns, inputs and queued work go by the session id that they name; everything else
    by the session that the store was opened for. When that session is deleted, every call raises
    `StoredSessionDeleted`. Cancellation: a write that has not begun is dropped, one that has
    is carried through.
    """

    __slots__ = ("_policy", "_session_id", "_texts")

    def __init__(self, scope: StorageScope, session_id: str, generation: int) -> None:
        super().__init__(scope, SessionDatabase(scope, session_id, generation))
        self._session_id = session_id
        self._policy: tuple[SessionPolicy, str] | None = None
        self._texts = CommitTexts()

    @property
    def durability_tier(self) -> DurabilityTier:
        return self._scope.durability_tier

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        return await self._database.read(
            partial(_session.read, session_id=self._session_id, scope=scope)
        )

    async def load_head_stamp(self) -> HeadStamp | None:
        row = await self._database.read(partial(_heads.load_row, session_id=self._session_id))
        return None if row is None else row.stamp()

    async def load_node(self, node_id: str) -> SessionNodeRecord | None:
        return await self._database.read(
            partial(_nodes.load, session_id=self._session_id, node_id=node_id)
        )

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        def body(db: sqlite3.Connection) -> RuntimeCommitResult:
            return _session.commit(
                db,
                self._session_id,
                commit,
                self._now_ms(),
                self._scope.blob_profile,
                self._texts,
            )

        graph = commit.graph
        nodes = 1 if isinstance(graph, GraphUnchanged) else 1 + len(graph.nodes)
        result = await self._database.write(body, nodes * NODE_BYTES)
        await self._scope.auto_gc.after_commit(self._database, self._session_id, self._now_ms())
        return result

    async def save_session_meta(self, meta: SessionMeta) -> None:
        await self._database.write(partial(_meta.save, session_id=self._session_id, meta=meta))

    async def load_session_meta(self) -> SessionMeta | None:
        return await self._database.read(partial(_meta.load, session_id=self._session_id))

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        token = self._scope.ids.hex()

        def body(db: sqlite3.Connection) -> SessionExecutionLeaseClaimOutcome:
            return StoredLane(db, session_id).claim(
                owner, now_ms=self._now_ms(), ttl_ms=lease_ttl_ms, token=token
            )

        return await self._database.write(body)

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome:
        token = self._scope.ids.hex()

        def body(db: sqlite3.Connection) -> SessionExecutionLeaseClaimOutcome:
            return StoredLane(db, session_id).reclaim(
                owner, observed_holder, now_ms=self._now_ms(), ttl_ms=lease_ttl_ms, token=token
            )

        return await self._database.write(body)

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        def body(db: sqlite3.Connection) -> LeaseRenewed:
            return _session.renew(db, fence, now_ms=self._now_ms(), ttl_ms=lease_ttl_ms)

        return await self._database.write(body)

    async def release_session_execution_lease(
        self, completion: SessionExecutionLeaseCompletion
    ) -> None:
        def body(db: sqlite3.Connection) -> None:
            StoredLane(db, completion.session_id).release(completion)

        await self._database.write(body)

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        token = self._scope.ids.hex()
        policy = self._text_of(acceptance.policy)

        def body(db: sqlite3.Connection) -> TurnAcceptanceOutcome:
            return _session.accept(
                db, acceptance, policy_json=policy, now_ms=self._now_ms(), token=token
            )

        return await self._database.write(body)

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        policy = self._text_of(acceptance.policy)

        def body(db: sqlite3.Connection) -> TurnStarted | None:
            return _session.start(db, fence, acceptance, policy_json=policy, now_ms=self._now_ms())

        return await self._database.write(body)

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None:
        return await self._database.read(
            partial(_turns.load, session_id=session_id, turn_id=turn_id)
        )

    async def list_unfinished_turns(self, session_id: str) -> Sequence[TurnRow]:
        return await self._database.read(partial(_turns.unfinished, session_id=session_id))

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: TurnSettlement, *, release: bool
    ) -> None:
        def body(db: sqlite3.Connection) -> None:
            _session.settle(db, fence, settlement, now_ms=self._now_ms(), release=release)

        await self._database.write(body)

    async def write_journal(
        self, fence: SessionExecutionLeaseFence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> CancelRequest | None:
        def body(db: sqlite3.Connection) -> CancelRequest | None:
            return _session.write_journal(db, fence, turn_id, writes, self._now_ms())

        return await self._database.write(body)

    async def adopt_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> AdoptedTurn:
        def body(db: sqlite3.Connection) -> AdoptedTurn:
            return _session.adopt(db, fence, turn_id, self._now_ms())

        return await self._database.write(body)

    async def leave_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> None:
        def body(db: sqlite3.Connection) -> None:
            _session.leave(db, fence, turn_id, self._now_ms())

        await self._database.write(body)

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        return await self._database.read(
            partial(_journal.load, session_id=session_id, turn_id=turn_id)
        )

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        def body(db: sqlite3.Connection) -> TurnCancelAnswer:
            request = CancelRequest(requested_at_ms=self._now_ms(), reason=reason, origin=origin)
            return _turns.request_cancel(db, session_id, turn_id, request)

        return await self._database.write(body)

    async def record_intent(self, intent: AttachmentIntent) -> None:
        await self._database.write(partial(_manifest.intend, intent=intent))

    async def commit_refs(self, session_id: str, attachment_ids: Sequence[str]) -> None:
        def body(db: sqlite3.Connection) -> None:
            _manifest.commit(db, session_id, attachment_ids, self._now_ms())

        await self._database.write(body)

    async def list_uncommitted(self, older_than_epoch_ms: int) -> Sequence[AttachmentManifestEntry]:
        return await self._database.read(
            partial(
                _manifest.uncommitted,
                session_id=self._session_id,
                older_than_ms=older_than_epoch_ms,
            )
        )

    async def forget(self, attachment_id: str) -> None:
        await self._database.write(
            partial(_manifest.forget, session_id=self._session_id, attachment_id=attachment_id)
        )

    def _text_of(self, policy: SessionPolicy | None) -> str | None:
        """The same for turn after turn, so that it is written out once."""
        if policy is None:
            return None
        if self._policy is None or self._policy[0] is not policy:
            self._policy = (policy, policy.model_dump_json())
        return self._policy[1]
