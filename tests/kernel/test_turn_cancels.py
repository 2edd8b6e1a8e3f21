"""Cancelled or completed, over every state and outcome that a row can be in."""

from itertools import product

import pytest

from lash_runtime.kernel.turn_cancels import cancel_verdict, ends_cancelled, stands_against
from lash_runtime.kernel.turn_states import SETTLED, TurnState
from lash_runtime.model.cancelling import CancelVerdict
from lash_runtime.model.outcome import StopReason, TurnOutcome, answered, stopped

CANCELLED = stopped(StopReason.CANCELLED)
OUTCOMES: list[TurnOutcome | None] = [
    None,
    answered("Coat."),
    *(stopped(reason) for reason in StopReason),
]


@pytest.mark.parametrize(("state", "outcome"), [*product(TurnState, OUTCOMES)])
def test_only_a_completion_is_stood_against(state: TurnState, outcome: TurnOutcome | None) -> None:
    """A request keeps a turn from completing; it never keeps a session from going on."""
    completes = state is TurnState.COMMITTED and outcome != CANCELLED
    assert stands_against(state, outcome) == completes


@pytest.mark.parametrize(("state", "outcome"), [*product(TurnState, OUTCOMES)])
def test_a_verdict_is_what_the_row_says(state: TurnState, outcome: TurnOutcome | None) -> None:
    """Over and not cancelled is the one way to win."""
    won = state in SETTLED and not ends_cancelled(state, outcome)
    verdict = CancelVerdict.COMPLETION_WON if won else CancelVerdict.ACCEPTED
    assert cancel_verdict(state, outcome, asked_before=False) is verdict
    assert ends_cancelled(state, outcome) == (
        state is TurnState.CANCELLED or (state is TurnState.COMMITTED and outcome == CANCELLED)
    )


@pytest.mark.parametrize(("state", "outcome"), [*product(TurnState, OUTCOMES)])
def test_a_verdict_never_changes(state: TurnState, outcome: TurnOutcome | None) -> None:
    """Accepted once, it is accepted for ever, wherever the row has come to since."""
    assert cancel_verdict(state, outcome, asked_before=True) is CancelVerdict.ACCEPTED
