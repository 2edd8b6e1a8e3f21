"""Accepting a turn by smaller calls, for a store that cannot do it in one transaction.

Look whether the turn is known, take the lane, see what waits for it, start the turn. Each call is
a transaction, and a process may die between two of them:

After it took the lane, the lane is held and nothing else has happened. The lease runs out, or is
taken over as soon as the death is proven; nobody was promised anything.
After the start, there is a started row with its lease, as if only the answer had been lost. Whoever
has the lane next is handed the row and closes it; whoever submits the turn again finds it known.
Nothing else can be left: where a session is replaced, the start empties it, in the transaction that
writes the row.

Rule 1: the start is the last call, so that nothing can fail once the row is there.
Rule 2: a lane that was taken is given back however the rest ends, unless a turn runs on it. The
rows are asked for that: a start that was cut off may have happened, and another task of the same
owner, which enters the same lease again, may have come first.

One thing is not covered: a task that starts a turn between that question and the release, on a
lease of its own owner, loses the lease, and its turn is closed as interrupted. The turns that a
core has of one session wait in line, so a core never asks for it.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from anyio import CancelScope, move_on_after

from ..kernel.queue_rules import leads_with_a_command
from .leases import (
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseClaimOutcome,
    SessionExecutionLeaseCompletion,
    SessionExecutionLeaseFence,
)
from .queued_work import QueuedWorkBatch
from .session_state import HeadStamp
from .store_errors import SessionExecutionLeaseExpired, StoreContended, StoreError
from .turn_ledger import (
    LaneUnfinished,
    TurnAcceptance,
    TurnAcceptanceOutcome,
    TurnAccepted,
    TurnKnown,
    TurnRefused,
    TurnRow,
    TurnStarted,
)

GIVE_BACK_DEADLINE_S: Final = 5
"""How long a failed acceptance waits to be rid of the lane before it leaves it to run out."""


class SmallCalls(Protocol):
    """What an acceptance is made of, as the port says."""

    async def load_turn(self, session_id: str, turn_id: str) -> TurnRow | None: ...

    async def list_unfinished_turns(self, session_id: str) -> Sequence[TurnRow]: ...

    async def load_head_stamp(self) -> HeadStamp | None: ...

    async def list_pending_queued_work(self, session_id: str) -> Sequence[QueuedWorkBatch]: ...

    async def try_claim_session_execution_lease(
        self, session_id: str, owner: LeaseOwnerIdentity, lease_ttl_ms: int
    ) -> SessionExecutionLeaseClaimOutcome: ...

    async def reclaim_session_execution_lease(
        self,
        session_id: str,
        owner: LeaseOwnerIdentity,
        observed_holder: SessionExecutionLeaseFence,
        lease_ttl_ms: int,
    ) -> SessionExecutionLeaseClaimOutcome: ...

    async def start_turn(
        self, fence: SessionExecutionLeaseFence, acceptance: TurnAcceptance
    ) -> TurnStarted | None: ...

    async def release_session_execution_lease(
        self, completion: SessionExecutionLeaseCompletion
    ) -> None: ...


async def accept_turn(store: SmallCalls, acceptance: TurnAcceptance) -> TurnAcceptanceOutcome:
    """`accept_turn` of the port.

    Raises `StoreContended` where the lane changed hands meanwhile; then nothing was written.
    Cancellation: it happened, and the lane is held with the row, or it did not, and the lane is
    free. A native cancellation while the lane is being taken may leave it held without a row, and
    so may a claim that raises although it was made.
    """
    row = await store.load_turn(acceptance.session_id, acceptance.turn_id)
    if row is not None:
        return acceptance.known_as(row)
    # Shielded, and bounded by the store's own limits: a lease that was taken and that nobody
    # heard of could not be given back.
    with CancelScope(shield=True):
        claimed = await _claim(store, acceptance)
    if isinstance(claimed, LeaseBusy):
        return TurnRefused(claimed.holder)
    answer: TurnAcceptanceOutcome | None = None
    try:
        answer = await _accept_on(store, claimed.lease, acceptance)
    finally:
        if not isinstance(answer, TurnAccepted | LaneUnfinished):
            await _give_back(store, claimed.lease)
    return answer


async def _claim(
    store: SmallCalls, acceptance: TurnAcceptance
) -> SessionExecutionLeaseClaimOutcome:
    session_id, owner, ttl_ms = acceptance.session_id, acceptance.owner, acceptance.lease_ttl_ms
    claimed = await store.try_claim_session_execution_lease(session_id, owner, ttl_ms)
    observed = acceptance.observed_holder
    if isinstance(claimed, LeaseBusy) and observed is not None:
        return await store.reclaim_session_execution_lease(session_id, owner, observed, ttl_ms)
    return claimed


async def _accept_on(
    store: SmallCalls, lease: SessionExecutionLease, acceptance: TurnAcceptance
) -> TurnAccepted | TurnKnown | LaneUnfinished:
    waiting: Sequence[QueuedWorkBatch] = ()
    if not acceptance.replace_session:  # otherwise the start removes what waits
        waiting = await store.list_pending_queued_work(acceptance.session_id)
    try:
        start = await store.start_turn(lease.fence(), acceptance)
    except SessionExecutionLeaseExpired as error:
        raise _changed_hands(acceptance.session_id) from error
    if start is None:
        return await _what_stands_before(store, lease, acceptance)
    now_ms = start.row.accepted_at_ms
    ready = (batch for batch in waiting if batch.available_at_ms <= now_ms)
    return TurnAccepted(
        lease=lease,
        row=start.row,
        head=start.head,
        command_leads=leads_with_a_command(ready),
    )


async def _what_stands_before(
    store: SmallCalls, lease: SessionExecutionLease, acceptance: TurnAcceptance
) -> TurnKnown | LaneUnfinished:
    row = await store.load_turn(acceptance.session_id, acceptance.turn_id)
    if row is not None:
        return acceptance.known_as(row)
    unfinished = await store.list_unfinished_turns(acceptance.session_id)
    started = tuple(row for row in unfinished if row.state.is_started)
    if not started:
        raise _changed_hands(acceptance.session_id)
    return LaneUnfinished(lease=lease, rows=started, head=await store.load_head_stamp())


async def _give_back(store: SmallCalls, lease: SessionExecutionLease) -> None:
    with move_on_after(GIVE_BACK_DEADLINE_S, shield=True), suppress(StoreError):
        for row in await store.list_unfinished_turns(lease.session_id):
            if row.state.is_started and row.fencing_token == lease.fencing_token:
                return
        await store.release_session_execution_lease(lease.fence())


def _changed_hands(session_id: str) -> StoreContended:
    return StoreContended(f"the lane of session {session_id!r} changed hands during an acceptance")
