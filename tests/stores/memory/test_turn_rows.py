"""Rows that no call of a store brings about yet: turns that were accepted and have not started."""

from dataclasses import replace

from lash_runtime.model.cancelling import CancelRequest, CancelVerdict
from lash_runtime.ports.turn_ledger import (
    TurnCancelAnswer,
    TurnState,
    cancelled_before_start,
)
from lash_runtime.stores.memory._turns import TurnRows
from lash_runtime.testing.conformance._samples import an_acceptance

REQUEST = CancelRequest(requested_at_ms=5, reason="too late")


def test_a_row_that_has_not_started_is_cancelled_at_once() -> None:
    """Nobody runs it who could heed a request, so nobody is waited for."""
    rows = TurnRows("s", 1, lambda _: None)
    started = rows.start(
        an_acceptance(), turn_index=1, base_revision=None, fencing_token=1, now_ms=1
    )
    rows.put(replace(started, state=TurnState.ACCEPTED))
    accepted = TurnCancelAnswer(CancelVerdict.ACCEPTED, REQUEST)
    assert rows.request_cancel("t1", REQUEST) == accepted
    assert rows.get("t1") == replace(
        started,
        state=TurnState.CANCELLED,
        input=None,
        settled_at_ms=5,
        result=cancelled_before_start(REQUEST),
        cancel_request=REQUEST,
    )
    assert rows.unfinished() == ()
    assert rows.request_cancel("t1", CancelRequest(requested_at_ms=6)) == accepted
