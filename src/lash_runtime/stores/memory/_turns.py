"""The rows of one session's turns. A row that is settled has lost its input and never moves."""

from collections.abc import Callable

from ...kernel.turn_cancels import cancel_verdict, stands_against
from ...kernel.turn_states import IllegalTurnMove, check_settlement, discarded
from ...model.cancelling import CancelRequest, CancelVerdict
from ...model.records import replace
from ...ports.signals import SignalKind, StoreSignal
from ...ports.store_errors import StoreBackendError, TurnCancelRequested
from ...ports.turn_ledger import (
    TurnAcceptance,
    TurnCancelAnswer,
    TurnRow,
    TurnSettlement,
    TurnState,
    cancelled_before_start,
)


class TurnRows:
    """All turns of one session, and which of them are unfinished."""

    __slots__ = ("_announce", "_generation", "_rows", "_session_id", "_unfinished")

    def __init__(
        self, session_id: str, generation: int, announce: Callable[[StoreSignal], None]
    ) -> None:
        self._session_id = session_id
        self._generation = generation
        self._announce = announce
        self._rows: dict[str, TurnRow] = {}
        self._unfinished: dict[str, TurnRow] = {}

    def get(self, turn_id: str) -> TurnRow | None:
        return self._rows.get(turn_id)

    def __len__(self) -> int:
        return len(self._rows)

    def unfinished(self) -> tuple[TurnRow, ...]:
        """In the order in which they were accepted."""
        return tuple(self._unfinished.values())

    def started(self) -> tuple[TurnRow, ...]:
        return tuple(row for row in self._unfinished.values() if row.state.is_started)

    def start(
        self,
        acceptance: TurnAcceptance,
        *,
        turn_index: int,
        base_revision: int | None,
        fencing_token: int,
        now_ms: int,
    ) -> TurnRow:
        row = TurnRow(
            session_id=self._session_id,
            generation=self._generation,
            turn_id=acceptance.turn_id,
            seq=len(self._rows) + 1,
            state=TurnState.RUNNING,
            content_hash=acceptance.content_hash,
            turn_index=turn_index,
            base_revision=base_revision,
            options=acceptance.options,
            required_wiring=acceptance.required_wiring,
            members=(acceptance.turn_id,),
            input=acceptance.input,
            fencing_token=fencing_token,
            accepted_at_ms=now_ms,
            policy=acceptance.policy,
            journaled=acceptance.journaled,
        )
        self.put(row)
        self._tell(SignalKind.TURN_ACCEPTED, row)
        return row

    def settled(self, settlement: TurnSettlement, fencing_token: int, now_ms: int) -> TurnRow:
        """The row as `settlement` leaves it; changes nothing.

        Raises `StoreBackendError` where the row does not exist or may not move so, and
        `TurnCancelRequested` where it is to be cancelled.
        """
        row = self._rows.get(settlement.turn_id)
        if row is None:
            raise StoreBackendError(
                f"session {self._session_id!r} has no turn {settlement.turn_id!r} to settle"
            )
        try:
            check_settlement(
                row.state,
                settlement.state,
                started_under=row.fencing_token,
                fencing_token=fencing_token,
            )
        except IllegalTurnMove as error:
            raise StoreBackendError(f"turn {settlement.turn_id!r}: {error}") from error
        asked = row.cancel_request
        if asked is not None and stands_against(settlement.state, settlement.outcome):
            raise TurnCancelRequested(
                session_id=self._session_id, turn_id=settlement.turn_id, request=asked
            )
        return replace(
            row,
            state=settlement.state,
            input=None,
            policy=None,
            settled_at_ms=now_ms,
            result=settlement.result,
            failure=settlement.failure,
            effects=settlement.effects,
        )

    def request_cancel(self, turn_id: str, request: CancelRequest) -> TurnCancelAnswer:
        row = self._rows.get(turn_id)
        if row is None:
            return TurnCancelAnswer(CancelVerdict.UNKNOWN_TURN)
        first = row.cancel_request
        verdict = cancel_verdict(row.state, row.outcome, asked_before=first is not None)
        if row.state.is_settled or first is not None:
            return TurnCancelAnswer(verdict, first)
        asked = replace(row, cancel_request=request)
        if row.state is TurnState.ACCEPTED:
            asked = replace(
                asked,
                state=TurnState.CANCELLED,
                input=None,
                settled_at_ms=request.requested_at_ms,
                result=cancelled_before_start(request),
            )
            self._tell(SignalKind.TURN_SETTLED, asked)
        else:
            self._tell(SignalKind.TURN_CANCEL_REQUESTED, asked)
        self.put(asked)
        return TurnCancelAnswer(verdict, request)

    def cancel_request_under(self, fencing_token: int) -> CancelRequest | None:
        """What was asked of the turn that runs under that lease."""
        for row in self._unfinished.values():
            if row.fencing_token == fencing_token and row.cancel_request is not None:
                return row.cancel_request
        return None

    def discard_unfinished(self, now_ms: int) -> None:
        for row in self.unfinished():
            state = discarded(row.state)
            self.put(replace(row, state=state, input=None, policy=None, settled_at_ms=now_ms))

    def put(self, row: TurnRow) -> None:
        self._rows[row.turn_id] = row
        if row.state.is_settled:
            self._unfinished.pop(row.turn_id, None)
            self._tell(SignalKind.TURN_SETTLED, row)
        else:
            self._unfinished[row.turn_id] = row

    def _tell(self, kind: SignalKind, row: TurnRow) -> None:
        self._announce(StoreSignal(kind, self._session_id, row.turn_id))
