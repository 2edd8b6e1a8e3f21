"""Closes turns that were started by an owner who is gone.

Such a turn is never run again behind the caller's back. It is settled as interrupted in one
transaction: the user's words and every round of work that was stored stay, and attaching to it
says what happened.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from ...kernel.draft import TurnDraft
from ...kernel.resume_safety import close_open_calls
from ...kernel.shared_sequence import SharedSequence
from ...kernel.turn_messages import (
    message_scope,
    opening_messages,
    scope_of_begun,
    user_message_id,
)
from ...model.messages import Message
from ...model.outcome import StopReason, stopped
from ...model.records import replace
from ...ports.clock import Clock
from ...ports.journal import JournalStore
from ...ports.leases import (
    LeaseAcquired,
    LeaseBusy,
    LeaseOwnerIdentity,
    SessionExecutionLease,
    SessionExecutionLeaseFence,
)
from ...ports.store_errors import StoreError
from ...ports.turn_ledger import (
    EffectSummary,
    TurnResultRecord,
    TurnRow,
    TurnSettlement,
    TurnState,
)
from ...ports.turn_persistence import TurnPersistence
from ..faults import SessionBusy, fault_of_commit
from ..lease_events import LeaseEvent, tell
from ..state import RuntimeSessionState
from .commit import settling_commit
from .journal import summary_of


class TurnCloser:
    """Settles the unfinished turns of one session as interrupted."""

    def __init__(
        self,
        *,
        session_id: str,
        store: TurnPersistence,
        owner: LeaseOwnerIdentity,
        lease_ttl_ms: int,
        clock: Clock,
        load: Callable[[], Awaitable[RuntimeSessionState]],
        installed: Callable[[RuntimeSessionState, str], None],
        give_back: Callable[[SessionExecutionLeaseFence], Awaitable[None]],
        finishes: Callable[[TurnRow], bool],
    ) -> None:
        """`load` reads the session as it is stored; `installed` is told of each state that a
        closing commit has made current, with the id of the turn that was closed; `give_back`
        frees the lane, whatever happens meanwhile. A turn that `finishes` approves of is nothing
        to close."""
        self._session_id = session_id
        self._store = store
        self._owner = owner
        self._ttl_ms = lease_ttl_ms
        self._clock = clock
        self._load = load
        self._installed = installed
        self._give_back = give_back
        self.finishes = finishes
        self.left: Sequence[TurnRow] = ()
        """What the last look has found to finish instead of to close."""

    async def close_unfinished(self) -> bool:
        """Take the lane if it is free or its holder is provably dead, close what is unfinished
        and give the lane back. `False` when there was nothing to close.

        Raises `SessionBusy` when a live owner holds the lane.
        """
        try:
            rows = await self._to_close()
            if not rows:
                return False
            lease = await self.take_lane(rows[0].turn_id)
        except StoreError as error:
            raise fault_of_commit(error, self._session_id) from error
        try:
            await self.close_started(lease)
        finally:
            await self._give_back(lease.fence())
        return True

    async def close_started(self, lease: SessionExecutionLease) -> None:
        """Close what is unfinished now that `lease` is held. It stays held, unless closing
        fails."""
        try:
            rows = await self._to_close()
        except StoreError as error:
            raise fault_of_commit(error, self._session_id) from error
        await self.close_rows(lease, rows)

    async def close_rows(self, lease: SessionExecutionLease, rows: Sequence[TurnRow]) -> None:
        """Close `rows` under `lease`. It stays held, unless closing fails."""
        closed = False
        try:
            for row in rows:
                await self._close(lease, row, await self._load())
            closed = True
        except StoreError as error:
            raise fault_of_commit(error, self._session_id) from error
        finally:
            if not closed:
                await self._give_back(lease.fence())

    async def take_lane(self, turn_id: str | None = None) -> SessionExecutionLease:
        """The lane, if it is free or its holder is provably dead.

        Raises `SessionBusy`, naming `turn_id` as what keeps it busy, otherwise.
        """
        # Shielded for the same reason as an acceptance: nobody would give this lease back.
        with anyio.CancelScope(shield=True):
            claimed = await self._store.try_claim_session_execution_lease(
                self._session_id, self._owner, self._ttl_ms
            )
            if isinstance(claimed, LeaseBusy):
                claimed = await self._store.reclaim_session_execution_lease(
                    self._session_id, self._owner, claimed.holder.fence(), self._ttl_ms
                )
        match claimed:
            case LeaseAcquired(lease=lease):
                tell(LeaseEvent.ACQUIRED, lease.fence())
                return lease
            case LeaseBusy(holder=holder):
                tell(LeaseEvent.BUSY, holder.fence())
                raise SessionBusy(
                    session_id=self._session_id, holder=holder.owner.owner_id, turn_id=turn_id
                )

    async def give_back(self, lease: SessionExecutionLease) -> None:
        """Free the lane; see `LashRuntime.give_back`."""
        await self._give_back(lease.fence())

    async def _to_close(self) -> Sequence[TurnRow]:
        rows = await self._store.list_unfinished_turns(self._session_id)
        started = [row for row in rows if row.state.is_started]
        self.left = [row for row in started if self.finishes(row)]
        return [row for row in started if not self.finishes(row)]

    async def _close(
        self, lease: SessionExecutionLease, row: TurnRow, state: RuntimeSessionState
    ) -> None:
        now = self._clock.timestamp_rfc3339()
        scope = _scope_of(row, state)
        state = replace(
            state.with_initial_frame(now), turn_index=max(state.turn_index, row.turn_index)
        )
        draft = TurnDraft(
            state.graph,
            frame_id=state.current_agent_frame_id,
            visible=state.visible,
            scope=scope,
        )
        messages = _with_words(draft, row, scope)
        own = _from(messages, user_message_id(scope))
        closing = close_open_calls(own, "The process that ran this turn ended.")
        draft.reconcile(messages.extend(closing), now)
        settlement = TurnSettlement(
            turn_id=row.turn_id,
            state=TurnState.INTERRUPTED,
            result=TurnResultRecord(
                outcome=stopped(StopReason.INTERRUPTED),
                message_ids=tuple(message.id for message in (*own, *closing)),
            ),
            effects=await self._effects(row),
        )
        commit = settling_commit(
            state, draft, lease.fence(), settlement, messages=(*own, *closing), release=False
        )
        result = await self._store.commit_runtime_state(commit)
        self._installed(state.after_commit(result, draft.graph), row.turn_id)

    async def _effects(self, row: TurnRow) -> tuple[EffectSummary, ...]:
        """What the turn had done, for the row to keep: its journal goes with it."""
        if not row.journaled or not isinstance(self._store, JournalStore):
            return ()
        return summary_of(row, await self._store.load_journal(self._session_id, row.turn_id))


def _scope_of(row: TurnRow, state: RuntimeSessionState) -> str:
    """What the message ids of an unfinished turn derive from.

    The stored state has the turn's own index only once a progress commit has stored messages.
    """
    known = state.graph.read_model(state.visible)
    find = scope_of_begun if state.turn_index >= row.turn_index else message_scope
    return find(row.turn_id, row.turn_index, known.has_message)


def _with_words(draft: TurnDraft, row: TurnRow, scope: str) -> SharedSequence[Message]:
    """The transcript with what the user said, unless a progress commit has it already."""
    messages = draft.messages
    if row.input is None:
        return messages
    known = {message.id for message in messages}
    return messages.extend([m for m in opening_messages(scope, row.input) if m.id not in known])


def _from(messages: Sequence[Message], first_id: str) -> Sequence[Message]:
    """The end of the transcript that begins with the message `first_id`."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].id == first_id:
            return messages[index:]
    return ()
