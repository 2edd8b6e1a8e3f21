"""Work that waits for each session, in batches. What a claim takes is decided by the queue rules.

A claim reads only as far as its answer needs. Completed and cancelled batches are gone, and so
are their source keys; the sequence goes on.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

from pydantic import TypeAdapter

from ...kernel.queue_rules import (
    is_held,
    leads_with_a_command,
    queue_claim_id,
    turn_work_prefix,
)
from ...ports.claims import QueuedWorkCompletion
from ...ports.queued_work import (
    DeliveryPolicy,
    MergeKey,
    QueuedWorkBatch,
    QueuedWorkBatchDraft,
    QueuedWorkClaim,
    QueuedWorkClaimBoundary,
    QueuedWorkPayload,
    SlotPolicy,
    items_of,
)
from ...ports.store_errors import QueuedWorkClaimExpired, StoreBackendError
from ._claims import FREE, HOLD, UNHELD, Claimant
from ._records import decode_as, decode_member

_COLUMNS: Final = """
           batch_id, enqueue_seq, source_key, delivery_policy, slot_policy, merge_key_json,
           available_at_ms, enqueued_at_ms, payloads_json
"""
INSERT: Final = """
    INSERT INTO queued_work_batches
           (session_id, batch_id, source_key, delivery_policy, slot_policy, merge_key_json,
            available_at_ms, enqueued_at_ms, payloads_json)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
LOAD_BY_KEY: Final = f"""
    SELECT {_COLUMNS}
      FROM queued_work_batches
     WHERE session_id = ? AND source_key = ?
"""  # noqa: S608 - made of constants
LOAD_TO_CANCEL: Final = f"""
    SELECT claim_generation, {_COLUMNS}
      FROM queued_work_batches
     WHERE session_id = ? AND batch_id = ?
"""  # noqa: S608 - made of constants
LOAD_ALL: Final = f"""
    SELECT {_COLUMNS}
      FROM queued_work_batches
     WHERE session_id = ?
     ORDER BY enqueue_seq
"""  # noqa: S608 - made of constants
LOAD_UNHELD: Final = f"""
    SELECT {_COLUMNS}
      FROM queued_work_batches
     WHERE session_id = ? AND {UNHELD}
     ORDER BY enqueue_seq
"""  # noqa: S608 - made of constants
LOAD_READY: Final = f"""
    SELECT claim_fencing_token, {_COLUMNS}
      FROM queued_work_batches
     WHERE session_id = ? AND {UNHELD} AND available_at_ms <= ?
     ORDER BY enqueue_seq
"""  # noqa: S608 - made of constants
TAKE: Final = f"UPDATE queued_work_batches SET {HOLD} WHERE enqueue_seq = ?"  # noqa: S608
RENEW: Final = """
    UPDATE queued_work_batches SET claim_expires_at_ms = ?
     WHERE session_id = ? AND claim_id = ? AND claim_token = ? AND claim_generation = ?
"""
LET_GO: Final = f"""
    UPDATE queued_work_batches SET {FREE}
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""  # noqa: S608 - made of constants
OWNED: Final = """
    SELECT batch_id
      FROM queued_work_batches
     WHERE session_id = ? AND claim_id = ? AND claim_token = ? AND claim_generation = ?
"""
COMPLETE: Final = """
    DELETE FROM queued_work_batches
     WHERE session_id = ? AND claim_id = ? AND claim_token = ?
"""
DELETE: Final = "DELETE FROM queued_work_batches WHERE session_id = ? AND batch_id = ?"
DELETE_ALL: Final = "DELETE FROM queued_work_batches WHERE session_id = ?"

_PAYLOADS: Final[TypeAdapter[tuple[QueuedWorkPayload, ...]]] = TypeAdapter(
    tuple[QueuedWorkPayload, ...]
)
_MERGE_KEY: Final[TypeAdapter[MergeKey]] = TypeAdapter(MergeKey)


def enqueue(
    db: sqlite3.Connection, draft: QueuedWorkBatchDraft, *, batch_id: str, now_ms: int
) -> QueuedWorkBatch:
    if draft.work_class is None:
        raise StoreBackendError(
            f"a batch for session {draft.session_id!r} must hold commands alone or turn work "
            "alone, and at least one of them"
        )
    if draft.source_key is not None:
        known = db.execute(LOAD_BY_KEY, (draft.session_id, draft.source_key)).fetchone()
        if known is not None:
            return _batch(draft.session_id, known)
    values = (
        draft.session_id,
        batch_id,
        draft.source_key,
        draft.delivery_policy.value,
        draft.slot_policy.value,
        _MERGE_KEY.dump_json(draft.merge_key).decode(),
        draft.available_at_ms,
        now_ms,
        _PAYLOADS.dump_json(draft.payloads).decode(),
    )
    seq = db.execute(INSERT, values).lastrowid
    assert seq is not None  # an INSERT that did not raise has given the row its number
    return QueuedWorkBatch.of(draft, batch_id=batch_id, enqueue_seq=seq, enqueued_at_ms=now_ms)


def all_of(db: sqlite3.Connection, session_id: str) -> tuple[QueuedWorkBatch, ...]:
    rows = db.execute(LOAD_ALL, (session_id,)).fetchall()
    return tuple(_batch(session_id, row) for row in rows)


def unheld(
    db: sqlite3.Connection, session_id: str, live_generation: int
) -> tuple[QueuedWorkBatch, ...]:
    rows = db.execute(LOAD_UNHELD, (session_id, live_generation)).fetchall()
    return tuple(_batch(session_id, row) for row in rows)


def command_leads(
    db: sqlite3.Connection, session_id: str, live_generation: int, now_ms: int
) -> bool:
    with _Ready(db, session_id, live_generation, now_ms) as ready:
        return leads_with_a_command(ready)


def claim_command(
    db: sqlite3.Connection, session_id: str, claimant: Claimant
) -> QueuedWorkClaim | None:
    with _Ready(db, session_id, claimant.generation, claimant.now_ms) as ready:
        taken = 1 if leads_with_a_command(ready) else 0
    return _claim(db, session_id, ready.seen[:taken], claimant)


def claim_turn_work(
    db: sqlite3.Connection,
    session_id: str,
    boundary: QueuedWorkClaimBoundary,
    most: int,
    claimant: Claimant,
    exactly: Sequence[str] | None = None,
) -> QueuedWorkClaim | None:
    """With `exactly`, nothing is taken unless it is these batches in this order."""
    with _Ready(db, session_id, claimant.generation, claimant.now_ms) as ready:
        taken = turn_work_prefix(ready, boundary, most)
    chosen = ready.seen[:taken]
    if exactly is not None and [batch.batch_id for _, batch in chosen] != list(exactly):
        return None
    return _claim(db, session_id, chosen, claimant)


def renew(
    db: sqlite3.Connection, claim: QueuedWorkClaim, *, live_generation: int, expires_at_ms: int
) -> None:
    """Raises `QueuedWorkClaimExpired` unless all its batches are still the claim's."""
    owned = db.execute(
        RENEW,
        (expires_at_ms, claim.session_id, claim.claim_id, claim.lease_token, live_generation),
    ).rowcount
    if owned != len(claim.batches):
        raise QueuedWorkClaimExpired(session_id=claim.session_id, claim_id=claim.claim_id)


def abandon(db: sqlite3.Connection, claim: QueuedWorkClaim) -> None:
    db.execute(LET_GO, (claim.session_id, claim.claim_id, claim.lease_token))


def check_owned(
    db: sqlite3.Connection, session_id: str, completion: QueuedWorkCompletion, generation: int
) -> None:
    """Raise `QueuedWorkClaimExpired` unless the claim owns what it names, and nothing more."""
    claim = (session_id, completion.claim_id, completion.lease_token, generation)
    owned = {row[0] for row in db.execute(OWNED, claim)}
    if completion.session_id != session_id or not owned or owned != set(completion.batch_ids):
        raise QueuedWorkClaimExpired(session_id=session_id, claim_id=completion.claim_id)


def complete(db: sqlite3.Connection, session_id: str, completion: QueuedWorkCompletion) -> None:
    db.execute(COMPLETE, (session_id, completion.claim_id, completion.lease_token))


def cancel(
    db: sqlite3.Connection, session_id: str, batch_id: str, live_generation: int
) -> QueuedWorkBatch | None:
    row = db.execute(LOAD_TO_CANCEL, (session_id, batch_id)).fetchone()
    if row is None or is_held(row[0], live_generation):
        return None
    batch = _batch(session_id, row[1:])
    db.execute(DELETE, (session_id, batch_id))
    return batch


def delete_all(db: sqlite3.Connection, session_id: str) -> None:
    db.execute(DELETE_ALL, (session_id,))


class _Ready:
    """The ready batches from the front, read one by one; `seen` are those that were looked at.

    Each comes with the number of claims that it has seen before.
    """

    def __init__(
        self, db: sqlite3.Connection, session_id: str, live_generation: int, now_ms: int
    ) -> None:
        self._session_id = session_id
        self._rows = db.execute(LOAD_READY, (session_id, live_generation, now_ms))
        self.seen: list[tuple[int, QueuedWorkBatch]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def __iter__(self) -> Iterator[QueuedWorkBatch]:
        for claims, *row in self._rows:
            batch = _batch(self._session_id, tuple(row))
            self.seen.append((claims, batch))
            yield batch


def _claim(
    db: sqlite3.Connection,
    session_id: str,
    chosen: Sequence[tuple[int, QueuedWorkBatch]],
    claimant: Claimant,
) -> QueuedWorkClaim | None:
    if not chosen:
        return None
    claims, head = chosen[0]
    claim_id = queue_claim_id(head.enqueue_seq, claims + 1)
    hold = claimant.columns(claim_id)
    db.executemany(TAKE, [(*hold, batch.enqueue_seq) for _, batch in chosen])
    return QueuedWorkClaim(
        session_id=session_id,
        claim_id=claim_id,
        owner=claimant.owner,
        lease_token=claimant.token,
        fencing_token=claims + 1,
        claimed_at_epoch_ms=claimant.now_ms,
        expires_at_epoch_ms=claimant.expires_at_ms,
        batches=tuple(batch for _, batch in chosen),
    )


def _batch(session_id: str, row: tuple[Any, ...]) -> QueuedWorkBatch:
    (
        batch_id,
        enqueue_seq,
        source_key,
        delivery_policy,
        slot_policy,
        merge_key,
        available_at_ms,
        enqueued_at_ms,
        payloads,
    ) = row
    decoded = decode_as(_PAYLOADS, payloads, kind="batch of queued work")
    return QueuedWorkBatch(
        batch_id=batch_id,
        session_id=session_id,
        enqueue_seq=enqueue_seq,
        source_key=source_key,
        delivery_policy=decode_member(DeliveryPolicy, delivery_policy, kind="delivery policy"),
        slot_policy=decode_member(SlotPolicy, slot_policy, kind="slot policy"),
        merge_key=decode_as(_MERGE_KEY, merge_key, kind="merge key"),
        available_at_ms=available_at_ms,
        enqueued_at_ms=enqueued_at_ms,
        items=items_of(batch_id, decoded),
    )
