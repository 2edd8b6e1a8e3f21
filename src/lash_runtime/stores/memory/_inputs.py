"""The pending inputs of one session, from their submission to the turn that took them.

What may be claimed, cancelled or deferred is decided by the queue rules; this file keeps the
rows that they judge. An input that is over stays as a tombstone, so that its source key still
answers a repeated submission.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import assert_never

from ...kernel.queue_rules import (
    CANCEL,
    InputCancelVerdict,
    InputFound,
    after_abandon,
    input_claim_id,
    is_orphan,
)
from ...model.checkpoints import CheckpointKind
from ...model.records import replace
from ...ports.claims import TurnInputCompletion
from ...ports.leases import LeaseOwnerIdentity, SessionExecutionLease, SessionExecutionLeaseFence
from ...ports.store_errors import (
    PendingTurnInputSourceKeyConflict,
    StoreBackendError,
    TurnInputClaimExpired,
)
from ...ports.turn_inputs import (
    ActiveTurnClaim,
    ActiveTurnIngress,
    InputAlreadyCancelled,
    InputAlreadyClaimed,
    InputAlreadyCompleted,
    InputCancelled,
    InputIdTarget,
    InputNotFound,
    NextTurnClaim,
    NextTurnIngress,
    PendingTurnInput,
    PendingTurnInputCancelOutcome,
    PendingTurnInputCancelTarget,
    PendingTurnInputDraft,
    PendingTurnInputSuffixCancelOutcome,
    SourceKeyTarget,
    SuffixAnchorNotFound,
    SuffixCancelled,
    TurnInputClaim,
    TurnInputClaimDiagnostics,
    TurnInputClaimMode,
    TurnInputState,
)
from ..lane import Lane
from ._claims import ClaimableRow, ClaimableRows, ClaimMark

InputRow = ClaimableRow[PendingTurnInput]

_PENDING = (TurnInputState.PENDING_ACTIVE, TurnInputState.DEFERRED_NEXT_TURN)
_OVER = (TurnInputState.CANCELLED, TurnInputState.COMPLETED)


class PendingInputs:
    """The inputs of one session. `numbers` is shared by all sessions of the storage."""

    __slots__ = ("_keys", "_lane", "_numbers", "_rows", "_session_id", "_submitted", "_unfinished")

    def __init__(self, session_id: str, lane: Lane, numbers: Iterator[int]) -> None:
        self._session_id = session_id
        self._lane = lane
        self._numbers = numbers
        self._rows: ClaimableRows[PendingTurnInput] = ClaimableRows()
        self._unfinished: dict[str, InputRow] = {}
        self._keys: dict[str, InputRow] = {}
        self._submitted: dict[str, PendingTurnInputDraft] = {}

    @property
    def is_unfinished(self) -> bool:
        """Whether an input waits or is in the hands of a turn."""
        return bool(self._unfinished)

    def enqueue(
        self, draft: PendingTurnInputDraft, *, input_id: str, now_ms: int
    ) -> PendingTurnInput:
        known = None if draft.source_key is None else self._keys.get(draft.source_key)
        if known is not None and draft.source_key is not None:
            submitted = self._submitted[known.key]
            if not draft.repeats(submitted.ingress, submitted.input):
                raise PendingTurnInputSourceKeyConflict(
                    session_id=self._session_id,
                    source_key=draft.source_key,
                    existing_input_id=known.key,
                )
            return known.value
        if self._rows.get(input_id) is not None:
            raise StoreBackendError(
                f"session {self._session_id!r} already has an input {input_id!r}: use a new id, or "
                "a source key if the same input may be submitted twice"
            )
        row = self._rows.add(
            input_id,
            PendingTurnInput(
                input_id=input_id,
                session_id=draft.session_id,
                enqueue_seq=next(self._numbers),
                source_key=draft.source_key,
                ingress=draft.ingress,
                state=draft.first_state,
                enqueued_at_ms=now_ms,
                input=draft.input,
            ),
        )
        self._unfinished[input_id] = row
        self._submitted[input_id] = draft
        if draft.source_key is not None:
            self._keys[draft.source_key] = row
        return row.value

    def pending(self, now_ms: int) -> list[PendingTurnInput]:
        live = self._lane.live_generation(now_ms)
        return [
            row.value
            for row in self._unfinished.values()
            if row.value.state in _PENDING and not row.is_held(live)
        ]

    def cancel(
        self, target: PendingTurnInputCancelTarget, now_ms: int
    ) -> PendingTurnInputCancelOutcome:
        row = self._find(target)
        return InputNotFound() if row is None else self._cancel(row, now_ms)

    def cancel_suffix(
        self, anchor: PendingTurnInputCancelTarget, now_ms: int
    ) -> PendingTurnInputSuffixCancelOutcome:
        first = self._find(anchor)
        if first is None:
            return SuffixAnchorNotFound(anchor)
        suffix = [row for row in self._rows if row.value.enqueue_seq >= first.value.enqueue_seq]
        return SuffixCancelled(anchor, tuple(self._cancel(row, now_ms) for row in suffix))

    def claim_active(
        self,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        turn_id: str,
        checkpoint: CheckpointKind,
        most: int,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> TurnInputClaim | None:
        if most < 1:
            return None
        lease = self._lane.require(fence, now_ms)
        rows = [
            row
            for row in self._waiting(TurnInputState.PENDING_ACTIVE, lease.fencing_token)
            if _is_due(row.value, turn_id, checkpoint)
        ]
        for row in rows[:most]:
            row.value = replace(row.value, state=TurnInputState.ACCEPTED)
        mode = ActiveTurnClaim(turn_id=turn_id, checkpoint=checkpoint)
        return self._claim(
            rows[:most],
            lease,
            owner,
            mode,
            now_ms=now_ms,
            expires_at_ms=now_ms + ttl_ms,
            token=token,
        )

    def claim_next(
        self,
        fence: SessionExecutionLeaseFence,
        owner: LeaseOwnerIdentity,
        most: int,
        *,
        now_ms: int,
        ttl_ms: int,
        token: str,
    ) -> TurnInputClaim | None:
        if most < 1:
            return None
        lease = self._lane.require(fence, now_ms)
        waiting = self._waiting(TurnInputState.DEFERRED_NEXT_TURN, lease.fencing_token)
        return self._claim(
            list(islice(waiting, most)),
            lease,
            owner,
            NextTurnClaim(),
            now_ms=now_ms,
            expires_at_ms=now_ms + ttl_ms,
            token=token,
        )

    def claim_one(
        self, fence: SessionExecutionLeaseFence, input_id: str, *, now_ms: int, token: str
    ) -> TurnInputClaim | None:
        """The claim of whoever holds the lane, for as long as its lease."""
        lease = self._lane.require(fence, now_ms)
        waiting = self._waiting(TurnInputState.DEFERRED_NEXT_TURN, lease.fencing_token)
        return self._claim(
            [row for row in waiting if row.key == input_id],
            lease,
            lease.owner,
            NextTurnClaim(),
            now_ms=now_ms,
            expires_at_ms=lease.expires_at_epoch_ms,
            token=token,
        )

    def renew(self, claim: TurnInputClaim, *, now_ms: int, ttl_ms: int) -> TurnInputClaim:
        rows = self._rows.owned(claim.claim_id, claim.lease_token)
        live = self._lane.live_generation(now_ms)
        if len(rows) != len(claim.inputs) or not all(row.is_held(live) for row in rows):
            raise TurnInputClaimExpired(session_id=self._session_id, claim_id=claim.claim_id)
        self._rows.renew(rows, now_ms + ttl_ms)
        return replace(claim, expires_at_epoch_ms=now_ms + ttl_ms)

    def abandon(self, claim: TurnInputClaim) -> None:
        for row in self._rows.owned(claim.claim_id, claim.lease_token):
            self._move(row, state=after_abandon(row.value.state))

    def defer_orphans(
        self, fence: SessionExecutionLeaseFence, resumable_turn_id: str | None, now_ms: int
    ) -> int:
        live = self._lane.require(fence, now_ms).fencing_token
        orphans = [
            row
            for row in self._unfinished.values()
            if is_orphan(
                row.value.state,
                turn_id=_turn_of(row.value),
                is_held=row.is_held(live),
                age_ms=now_ms - row.value.enqueued_at_ms,
                resumable_turn_id=resumable_turn_id,
            )
        ]
        self._defer(orphans)
        return len(orphans)

    def check_owned(self, completion: TurnInputCompletion, generation: int) -> None:
        """Raise `TurnInputClaimExpired` unless the claim owns what it names, and no more.

        It has to be a claim of that generation of the lane, the one that commits.
        """
        rows = self._rows.owned(completion.claim_id, completion.lease_token)
        if (
            completion.session_id != self._session_id
            or not rows
            or {row.key for row in rows} != set(completion.input_ids)
            or not all(row.is_held(generation) for row in rows)
        ):
            raise TurnInputClaimExpired(session_id=self._session_id, claim_id=completion.claim_id)

    def complete(self, completion: TurnInputCompletion) -> None:
        for row in self._rows.owned(completion.claim_id, completion.lease_token):
            self._move(row, state=TurnInputState.COMPLETED)

    def defer_unaccepted(self, turn_id: str) -> None:
        """What waited for that turn and was not taken waits for the next one."""
        self._defer(
            [
                row
                for row in self._unfinished.values()
                if row.value.state is TurnInputState.PENDING_ACTIVE
                and _turn_of(row.value) == turn_id
            ]
        )

    def clear(self) -> None:
        """Cancel whatever is not over."""
        for row in tuple(self._unfinished.values()):
            self._move(row, state=TurnInputState.CANCELLED)

    def vacuum(self) -> int:
        """Take away what is over, with the source keys that it holds; returns how many."""
        over = [row for row in self._rows if row.value.state in _OVER]
        for row in over:
            self._rows.remove(row)
            draft = self._submitted.pop(row.key)
            if draft.source_key is not None:
                del self._keys[draft.source_key]
        return len(over)

    def _waiting(self, state: TurnInputState, live_generation: int) -> Iterator[InputRow]:
        for row in self._unfinished.values():
            if row.value.state is state and not row.is_held(live_generation):
                yield row

    def _claim(
        self,
        rows: Sequence[InputRow],
        lease: SessionExecutionLease,
        owner: LeaseOwnerIdentity,
        mode: TurnInputClaimMode,
        *,
        now_ms: int,
        expires_at_ms: int,
        token: str,
    ) -> TurnInputClaim | None:
        if not rows:
            return None
        fencing_token = rows[0].fencing_token + 1
        mark = ClaimMark(
            claim_id=input_claim_id(rows[0].value.enqueue_seq, fencing_token),
            token=token,
            owner=owner,
            generation=lease.fencing_token,
            expires_at_ms=expires_at_ms,
        )
        self._rows.take(rows, mark)
        return TurnInputClaim(
            session_id=self._session_id,
            claim_id=mark.claim_id,
            owner=owner,
            lease_token=token,
            fencing_token=fencing_token,
            claimed_at_epoch_ms=now_ms,
            expires_at_epoch_ms=expires_at_ms,
            mode=mode,
            inputs=tuple(row.value for row in rows),
        )

    def _cancel(self, row: InputRow, now_ms: int) -> PendingTurnInputCancelOutcome:
        found = InputFound(row.value.state, row.is_held(self._lane.live_generation(now_ms)))
        match CANCEL[found]:
            case InputCancelVerdict.CANCELS:
                self._move(row, state=TurnInputState.CANCELLED)
                return InputCancelled(row.value)
            case InputCancelVerdict.CLAIMED:
                return InputAlreadyClaimed(row.value, _diagnostics(row))
            case InputCancelVerdict.COMPLETED:
                return InputAlreadyCompleted(row.value)
            case InputCancelVerdict.CANCELLED:
                return InputAlreadyCancelled(row.value)
            case unknown:
                assert_never(unknown)

    def _find(self, target: PendingTurnInputCancelTarget) -> InputRow | None:
        match target:
            case InputIdTarget(value=input_id):
                return self._rows.get(input_id)
            case SourceKeyTarget(value=source_key):
                return self._keys.get(source_key)

    def _defer(self, rows: Iterable[InputRow]) -> None:
        for row in rows:
            row.value = replace(row.value, ingress=NextTurnIngress())
            self._move(row, state=TurnInputState.DEFERRED_NEXT_TURN)

    def _move(self, row: InputRow, *, state: TurnInputState) -> None:
        """Into a state in which no claim holds it."""
        self._rows.free(row)
        row.value = replace(row.value, state=state)
        if state in _OVER:
            self._unfinished.pop(row.key, None)


def _turn_of(value: PendingTurnInput) -> str | None:
    match value.ingress:
        case ActiveTurnIngress(turn_id=turn_id):
            return turn_id
        case NextTurnIngress():
            return None


def _is_due(value: PendingTurnInput, turn_id: str, checkpoint: CheckpointKind) -> bool:
    match value.ingress:
        case ActiveTurnIngress(turn_id=wanted, min_boundary=boundary):
            return wanted == turn_id and boundary.admits(checkpoint)
        case NextTurnIngress():
            return False


def _diagnostics(row: InputRow) -> TurnInputClaimDiagnostics:
    mark = row.mark
    return TurnInputClaimDiagnostics(
        state=row.value.state,
        claim_fencing_token=row.fencing_token,
        claim_id=None if mark is None else mark.claim_id,
        claim_owner=None if mark is None else mark.owner,
        claim_expires_at_ms=None if mark is None else mark.expires_at_ms,
    )
