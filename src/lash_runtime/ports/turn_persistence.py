"""What a turn needs of a session store: the head, the lease, and the rows of turns.

Cancellation, for every method: the call happened or it did not, and the store stays usable.
Concurrency, for every method: safe to call from several tasks of the loop that opened it.
"""

from collections.abc import Sequence
from typing import Protocol

from ..model.nodes import SessionNodeRecord
from ..model.session_meta import SessionMeta
from .attachments import AttachmentManifest
from .commit import RuntimeCommit, RuntimeCommitResult
from .durability import DurabilityTier
from .leases import (
    LeaseOwnerIdentity,
    LeaseRenewed,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseCompletion,
    SessionExecutionLeaseFence,
)
from .session_state import HeadStamp, PersistedSessionRead, SessionReadScope
from .turn_ledger import (
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnCancelAnswer,
    TurnRow,
    TurnSettlement,
    TurnStarted,
)


class SessionCommitStore(Protocol):
    """Reading a session and committing its head."""

    @property
    def durability_tier(self) -> DurabilityTier: ...

    async def load_session(self, scope: SessionReadScope) -> PersistedSessionRead | None:
        """The session as of one instant; `None` until its first commit.

        Raises `StoreBackendError` when a row cannot be decoded or a referenced blob is missing.
        """
        ...

    async def load_head_stamp(self) -> HeadStamp | None:
        """The head's revision, leaf and checkpoint ref, without any node."""
        ...

    async def load_node(self, node_id: str) -> SessionNodeRecord | None:
        """One node, also off the active path; `None` if absent or tombstoned."""
        ...

    async def commit_runtime_state(self, commit: RuntimeCommit) -> RuntimeCommitResult:
        """Write everything in `commit`, or nothing.

        Checks, in the order that decides which error wins: binding
        (`SessionBindingMismatch`), stamp (a repeated stamp with the same hash answers the
        stored result and writes nothing but the lease release; another hash is
        `RuntimeTurnCommitConflict`), lease (`SessionExecutionLeaseExpired`), head revision
        (`HeadRevisionConflict`), queue claims (`QueuedWorkClaimExpired`), input claims
        (`TurnInputClaimExpired`), a cancel request in the row of the turn that is settled as
        committed, unless it is as cancelled (`TurnCancelRequested`). A completion names exactly
        what its claim still owns, and the claim was made under the lease of this very commit; its
        expiry does not matter.
        Completed batches are removed; completed inputs stay as tombstones until vacuum. Then
        the pending inputs of `interrupted_turn_input_turn_id` are deferred to the next turn.
        A commit that settles no turn answers what was asked of the one that runs under its lease.
        """
        ...

    async def save_session_meta(self, meta: SessionMeta) -> None:
        """Overwrite the whole record."""
        ...

    async def load_session_meta(self) -> SessionMeta | None: ...


class SessionExecutionLeaseStore(Protocol):
    """One writer per session, kept by a lease whose fencing token only ever rises."""

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome:
        """Take a free or lapsed lane, or extend one's own; never probes a busy holder.

        Re-entry keeps both tokens and the claim time, and never shortens the lease.
        """
        ...

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome:
        """Take the lane from `observed_holder` if it still holds it and is provably dead."""
        ...

    async def renew_session_execution_lease(
        self, fence: SessionExecutionLeaseFence, lease_ttl_ms: int
    ) -> LeaseRenewed:
        """Extend to `lease_ttl_ms` from now; the claim time and both tokens stay.

        Answers the cancel request, if there is one, of the turn that runs under the lease.

        Raises `SessionExecutionLeaseExpired` unless owner, token and counter match a live row.
        """
        ...

    async def release_session_execution_lease(
        self, completion: SessionExecutionLeaseCompletion
    ) -> None:
        """Free the lane if it is still this one's; otherwise nothing."""
        ...


class TurnLedgerStore(Protocol):
    """The rows of accepted turns. Of one session at most one is started and not over."""

    async def accept_turn(self, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
        """Write the turn's row and take the lane: both in one transaction, or one after the other
        as `ProvidedCalls` does it.

        Raises `TurnContentConflict` when the turn id is known with other content. A lane held
        by another live owner, also by another incarnation of the same owner, is refused and
        leaves no row. Whoever gets an error cannot count on the lane, also if it held it before.
        """
        ...

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None:
        """Write the turn's row as started under `fence`, in one transaction.

        The part of an acceptance that is left when the lane is held; the acceptance's owner, ttl
        and observed holder are not asked for. `None`, and nothing is written, when the session
        has a turn of that id, whatever its content, or another one that is started and not over.
        `replace_session` ends what is started, in the same transaction, and so never meets the
        latter. Raises `SessionExecutionLeaseExpired` unless `fence` is the live one of the
        acceptance's session.
        """
        ...

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None: ...

    async def list_unfinished_turns(self, session_id: str) -> Sequence[TurnRow]:
        """Rows that are not settled, in the order in which they were accepted."""
        ...

    async def settle_turn(
        self, fence: SessionExecutionLeaseFence, settlement: TurnSettlement, *, release: bool
    ) -> None:
        """Settle a row without a commit, and release the lane in the same transaction if asked.

        Raises `SessionExecutionLeaseExpired` when `fence` is not the live one, and
        `TurnCancelRequested` as a commit does. Settling a row that is already settled changes
        nothing.
        """
        ...

    async def request_turn_cancel(
        self, session_id: str, turn_id: str, *, reason: str | None, origin: str | None
    ) -> TurnCancelAnswer:
        """Ask for the turn to be cancelled, whoever runs it; needs no lease. One transaction.

        An unfinished row keeps the first request that it is given, with the store's time, and
        answers it; one that has not started is settled as cancelled at once, with
        `cancelled_before_start` for its result. A settled row never changes. The verdict is that
        of `cancel_verdict` of `kernel/turn_cancels.py`, or `unknown_turn` without a row.
        """
        ...


class TurnPersistence(
    SessionCommitStore, SessionExecutionLeaseStore, TurnLedgerStore, AttachmentManifest, Protocol
):
    """What a turn needs of a store."""
