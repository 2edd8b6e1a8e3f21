"""Cancelling inputs: one, many, or all from one on. Each row is judged by the queue rules."""

import sqlite3
from collections.abc import Sequence
from typing import assert_never

from ...kernel.queue_rules import CANCEL, InputCancelVerdict, InputFound, is_held
from ...model.records import replace
from ...ports.leases import LeaseOwnerIdentity
from ...ports.turn_inputs import (
    InputAlreadyCancelled,
    InputAlreadyClaimed,
    InputAlreadyCompleted,
    InputCancelled,
    InputIdTarget,
    InputNotFound,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelResult,
    PendingTurnInputCancelTarget,
    PendingTurnInputSuffixCancelOutcome,
    SourceKeyTarget,
    SuffixAnchorNotFound,
    SuffixCancelled,
    TurnInputClaimDiagnostics,
    TurnInputState,
)
from . import _turn_inputs
from ._records import decode
from ._turn_inputs import InputRow


def cancel_one(
    db: sqlite3.Connection,
    session_id: str,
    target: PendingTurnInputCancelTarget,
    live_generation: int,
) -> PendingTurnInputCancelOutcome:
    row = _find(db, session_id, target)
    return InputNotFound() if row is None else _cancel(db, row, live_generation)


def cancel_many(
    db: sqlite3.Connection,
    session_id: str,
    targets: Sequence[PendingTurnInputCancelTarget],
    live_generation: int,
) -> list[PendingTurnInputCancelResult]:
    return [
        PendingTurnInputCancelResult(target, cancel_one(db, session_id, target, live_generation))
        for target in targets
    ]


def cancel_suffix(
    db: sqlite3.Connection,
    session_id: str,
    anchor: PendingTurnInputCancelTarget,
    live_generation: int,
) -> PendingTurnInputSuffixCancelOutcome:
    first = _find(db, session_id, anchor)
    if first is None:
        return SuffixAnchorNotFound(anchor)
    suffix = _turn_inputs.rows(db, session_id, _turn_inputs.LOAD_SUFFIX, first.value.enqueue_seq)
    return SuffixCancelled(anchor, tuple(_cancel(db, row, live_generation) for row in suffix))


def _find(
    db: sqlite3.Connection, session_id: str, target: PendingTurnInputCancelTarget
) -> InputRow | None:
    match target:
        case InputIdTarget():
            statement = _turn_inputs.LOAD_BY_ID
        case SourceKeyTarget():
            statement = _turn_inputs.LOAD_BY_KEY
        case _:
            assert_never(target)
    return next(iter(_turn_inputs.rows(db, session_id, statement, target.value)), None)


def _cancel(
    db: sqlite3.Connection, row: InputRow, live_generation: int
) -> PendingTurnInputCancelOutcome:
    found = InputFound(row.value.state, is_held(row.claim_generation, live_generation))
    match CANCEL[found]:
        case InputCancelVerdict.CANCELS:
            db.execute(_turn_inputs.CANCEL, (TurnInputState.CANCELLED.value, row.value.enqueue_seq))
            return InputCancelled(replace(row.value, state=TurnInputState.CANCELLED))
        case InputCancelVerdict.CLAIMED:
            return InputAlreadyClaimed(row.value, _diagnostics(row))
        case InputCancelVerdict.COMPLETED:
            return InputAlreadyCompleted(row.value)
        case InputCancelVerdict.CANCELLED:
            return InputAlreadyCancelled(row.value)
        case unknown:
            assert_never(unknown)


def _diagnostics(row: InputRow) -> TurnInputClaimDiagnostics:
    owner = row.claim_owner_json
    return TurnInputClaimDiagnostics(
        state=row.value.state,
        claim_id=row.claim_id,
        claim_owner=(
            None if owner is None else decode(LeaseOwnerIdentity, owner, kind="claim's owner")
        ),
        claim_expires_at_ms=row.claim_expires_at_ms,
        claim_fencing_token=row.claim_fencing_token,
    )
