"""Taking waiting inputs for a turn, and giving them back. What does not match is passed over."""

import sqlite3

from ...kernel.queue_rules import after_abandon, input_claim_id, is_held
from ...model.checkpoints import CheckpointKind
from ...model.records import replace
from ...ports.store_errors import TurnInputClaimExpired
from ...ports.turn_inputs import (
    ActiveTurnClaim,
    NextTurnClaim,
    TurnInputCheckpointBoundary,
    TurnInputClaim,
    TurnInputClaimMode,
    TurnInputState,
)
from . import _turn_inputs
from ._claims import Claimant
from ._turn_inputs import InputRow


def claim_for_turn(
    db: sqlite3.Connection,
    session_id: str,
    turn_id: str,
    checkpoint: CheckpointKind,
    most: int,
    claimant: Claimant,
) -> TurnInputClaim | None:
    admitted = [each.value for each in TurnInputCheckpointBoundary if each.admits(checkpoint)]
    found = _turn_inputs.rows(
        db,
        session_id,
        _turn_inputs.LOAD_FOR_A_TURN,
        TurnInputState.PENDING_ACTIVE.value,
        claimant.generation,
        turn_id,
        admitted[0],
        admitted[-1],
        most,
    )
    mode = ActiveTurnClaim(turn_id=turn_id, checkpoint=checkpoint)
    return _claim(db, session_id, found, mode, TurnInputState.ACCEPTED, claimant)


def claim_for_next_turn(
    db: sqlite3.Connection, session_id: str, most: int, claimant: Claimant
) -> TurnInputClaim | None:
    found = _turn_inputs.rows(
        db,
        session_id,
        _turn_inputs.LOAD_FOR_THE_NEXT_TURN,
        TurnInputState.DEFERRED_NEXT_TURN.value,
        claimant.generation,
        most,
    )
    return _claim(
        db, session_id, found, NextTurnClaim(), TurnInputState.DEFERRED_NEXT_TURN, claimant
    )


def claim_one(
    db: sqlite3.Connection, session_id: str, input_id: str, claimant: Claimant
) -> TurnInputClaim | None:
    found = [
        row
        for row in _turn_inputs.rows(db, session_id, _turn_inputs.LOAD_BY_ID, input_id)
        if row.value.state is TurnInputState.DEFERRED_NEXT_TURN
        and not is_held(row.claim_generation, claimant.generation)
    ]
    return _claim(
        db, session_id, found, NextTurnClaim(), TurnInputState.DEFERRED_NEXT_TURN, claimant
    )


def renew(
    db: sqlite3.Connection, claim: TurnInputClaim, *, live_generation: int, expires_at_ms: int
) -> None:
    """Raises `TurnInputClaimExpired` unless all its inputs are still the claim's."""
    owned = db.execute(
        _turn_inputs.RENEW,
        (expires_at_ms, claim.session_id, claim.claim_id, claim.lease_token, live_generation),
    ).rowcount
    if owned != len(claim.inputs):
        raise TurnInputClaimExpired(session_id=claim.session_id, claim_id=claim.claim_id)


def abandon(db: sqlite3.Connection, claim: TurnInputClaim) -> None:
    accepted = TurnInputState.ACCEPTED
    db.execute(
        _turn_inputs.LET_GO,
        (
            accepted.value,
            after_abandon(accepted).value,
            claim.session_id,
            claim.claim_id,
            claim.lease_token,
        ),
    )


def _claim(
    db: sqlite3.Connection,
    session_id: str,
    found: list[InputRow],
    mode: TurnInputClaimMode,
    state: TurnInputState,
    claimant: Claimant,
) -> TurnInputClaim | None:
    if not found:
        return None
    fencing_token = found[0].claim_fencing_token + 1
    claim_id = input_claim_id(found[0].value.enqueue_seq, fencing_token)
    hold = (*claimant.columns(claim_id), state.value)
    db.executemany(_turn_inputs.TAKE, [(*hold, row.value.enqueue_seq) for row in found])
    return TurnInputClaim(
        session_id=session_id,
        claim_id=claim_id,
        owner=claimant.owner,
        lease_token=claimant.token,
        fencing_token=fencing_token,
        claimed_at_epoch_ms=claimant.now_ms,
        expires_at_epoch_ms=claimant.expires_at_ms,
        mode=mode,
        inputs=tuple(replace(row.value, state=state) for row in found),
    )
