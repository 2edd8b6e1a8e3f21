"""Cancels a turn by its id, whoever runs it: here, in another process, or nobody yet.

Rule 1: of a turn that has a row, the row decides. The request is written before anything is
stopped, so that an answer is never taken back.
Rule 2: a turn without a row is one that is in line here, or whose session has no store. It is
decided by its token, in this process.
"""

from collections.abc import Sequence

from ..model.cancelling import CancelRequest, CancelVerdict
from ..ports.storage import SessionStoreCreateRequest
from ..ports.store_errors import StoredSessionDeleted
from ..ports.turn_ledger import TurnCancelAnswer
from ..ports.turn_persistence import TurnPersistence
from .environment import RuntimeEnvironment

ROUNDS = 2
"""A turn that has no row at first and is decided when it is looked for has one by then."""


async def cancel_turn(
    env: RuntimeEnvironment,
    opened: Sequence[TurnPersistence],
    session_id: str,
    turn_id: str,
    *,
    reason: str | None,
    origin: str | None,
) -> CancelVerdict:
    """Ask for the turn to be cancelled, and say what that comes to.

    `opened` are the stores of the session as it is open here; the factory's is asked besides.
    Raises `StoreError` when a row could not be written, and then nothing was stopped.
    """
    verdict = CancelVerdict.UNKNOWN_TURN
    for _ in range(ROUNDS):
        answer = await _written(env, opened, session_id, turn_id, reason=reason, origin=origin)
        if answer.verdict is not CancelVerdict.UNKNOWN_TURN:
            if answer.request is not None:
                env.turns.ask(session_id, turn_id, answer.request)
            return answer.verdict
        request = CancelRequest(
            requested_at_ms=env.clock.timestamp_ms(), reason=reason, origin=origin
        )
        verdict = env.turns.ask(session_id, turn_id, request)
        if verdict is not CancelVerdict.COMPLETION_WON:
            return verdict
    return verdict


async def _written(
    env: RuntimeEnvironment,
    opened: Sequence[TurnPersistence],
    session_id: str,
    turn_id: str,
    *,
    reason: str | None,
    origin: str | None,
) -> TurnCancelAnswer:
    """The answer of the first store that knows the turn."""
    for store in (*opened, await _stored(env, session_id)):
        if store is None:
            continue
        try:
            answer = await store.request_turn_cancel(
                session_id, turn_id, reason=reason, origin=origin
            )
        except StoredSessionDeleted:
            continue  # and the turn with it; the id may be that of another session by now
        if answer.verdict is not CancelVerdict.UNKNOWN_TURN:
            return answer
    return TurnCancelAnswer(CancelVerdict.UNKNOWN_TURN)


async def _stored(env: RuntimeEnvironment, session_id: str) -> TurnPersistence | None:
    if env.session_stores is None:
        return None
    request = SessionStoreCreateRequest(session_id=session_id)
    return await env.session_stores.open_existing_store(request)
