"""Gets a turn its row and its lane, together, before any model is called.

A lane that is held by a process which is provably dead is taken over at once. Turns that an
earlier holder started and never finished come first: those with a journal are finished, the others
closed, so that nothing is ever built on history that was left open.
"""

from collections.abc import Awaitable, Callable

import anyio

from ...model.records import dataclass, replace
from ...ports.leases import SessionExecutionLease
from ...ports.session_state import HeadStamp
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import (
    LaneUnfinished,
    TurnAcceptance,
    TurnAccepted,
    TurnKnown,
    TurnRefused,
    TurnRow,
)
from ...ports.turn_persistence import TurnPersistence
from ..faults import RuntimeFault, SessionBusy, TurnRunsElsewhere, fault_of_commit
from ..lease_events import LeaseEvent, tell
from .unfinished import TurnCloser

ROUNDS = 8
"""How often a lane may change under an acceptance before it counts as busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTurn:
    """The row is written and the lane is ours. `head` is the store's, as of that instant."""

    lease: SessionExecutionLease
    row: TurnRow
    head: HeadStamp | None


@dataclass(frozen=True, slots=True)
class SettledTurn:
    """The same turn was accepted before and is over; nothing runs."""

    row: TurnRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnToFinish:
    """The same turn was accepted before and its process is gone: it is to be finished from its
    journal, under `lease`."""

    lease: SessionExecutionLease
    row: TurnRow


async def accept(
    store: TurnPersistence,
    acceptance: TurnAcceptance,
    closer: TurnCloser,
    finish: Callable[[TurnToFinish], Awaitable[None]],
) -> AcceptedTurn | SettledTurn | TurnToFinish:
    """Accept the turn, or find out what became of it. `finish` finishes another turn that has
    to come first, whatever that one's end is, and gives its lease back.

    Raises `SessionBusy` when another live owner holds the lane, and `TurnRunsElsewhere` when the
    turn itself is known and not settled; then nothing was written.
    """
    asked = acceptance
    for _ in range(ROUNDS):
        try:
            # Shielded, and bounded by the store's own limits: an acceptance that happened and
            # that nobody heard of would hold the lane until its lease lapses.
            with anyio.CancelScope(shield=True):
                answer = await store.accept_turn(asked)
        except StoreError as error:
            raise fault_of_commit(error, acceptance.session_id) from error
        match answer:
            case TurnAccepted(lease=lease, row=row, head=head):
                tell(LeaseEvent.ACQUIRED, lease.fence())
                return AcceptedTurn(lease=lease, row=row, head=head)
            case TurnKnown(row=row) if row.state.is_settled:
                return SettledTurn(row)
            case TurnKnown(row=row) if closer.finishes(row):
                lease = await _lane(closer, row)
                if await _is_unfinished(store, closer, lease, row):
                    return TurnToFinish(lease=lease, row=row)
            case TurnKnown(row=row):
                # It was started by an owner who runs it right now, or who is gone. Whoever waits
                # for its end finds out which.
                raise TurnRunsElsewhere(session_id=row.session_id, turn_id=row.turn_id)
            case LaneUnfinished(lease=lease, rows=rows):
                tell(LeaseEvent.ACQUIRED, lease.fence())
                journaled = [row for row in rows if closer.finishes(row)]
                if journaled:
                    await finish(TurnToFinish(lease=lease, row=journaled[0]))
                else:
                    await closer.close_rows(lease, rows)
            case TurnRefused(holder=holder):
                if asked.observed_holder == holder.fence():
                    tell(LeaseEvent.BUSY, holder.fence())
                    raise SessionBusy(
                        session_id=acceptance.session_id, holder=holder.owner.owner_id
                    )
                asked = replace(acceptance, observed_holder=holder.fence())
    raise RuntimeFault(
        "session_execution_busy",
        f"session {acceptance.session_id!r} keeps changing hands: try again",
    )


async def _lane(closer: TurnCloser, row: TurnRow) -> SessionExecutionLease:
    try:
        return await closer.take_lane(row.turn_id)
    except SessionBusy:
        raise TurnRunsElsewhere(session_id=row.session_id, turn_id=row.turn_id) from None
    except StoreError as error:
        raise fault_of_commit(error, row.session_id) from error


async def _is_unfinished(
    store: TurnPersistence, closer: TurnCloser, lease: SessionExecutionLease, row: TurnRow
) -> bool:
    """Whether `row` still waits to be finished now that `lease` is held; else it is given back."""
    waits = False
    try:
        known = await store.load_turn(row.session_id, row.turn_id)
        waits = known is not None and not known.state.is_settled
    except StoreError as error:
        raise fault_of_commit(error, row.session_id) from error
    finally:
        if not waits:
            await closer.give_back(lease)
    return waits
