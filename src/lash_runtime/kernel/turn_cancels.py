"""Cancelled or completed: what a request to cancel means to a turn's row.

Rule 1: a row that keeps a request is never settled as completed, so a verdict never changes.
Rule 2: the first request counts; a later one finds it there.
Rule 3: a turn that failed, or that nobody runs any more, is not held up by a request.
"""

from ..model.cancelling import CancelVerdict
from ..model.outcome import Stopped, StopReason, TurnOutcome
from .turn_states import TurnState


def ends_cancelled(state: TurnState, outcome: TurnOutcome | None) -> bool:
    """Whether a row in that state, with that outcome, is one of a cancelled turn."""
    return state is TurnState.CANCELLED or (
        state is TurnState.COMMITTED and is_cancellation(outcome)
    )


def is_cancellation(outcome: TurnOutcome | None) -> bool:
    return isinstance(outcome, Stopped) and outcome.reason is StopReason.CANCELLED


def stands_against(following: TurnState, outcome: TurnOutcome | None) -> bool:
    """Whether a request keeps a row from being settled like that."""
    return following is TurnState.COMMITTED and not is_cancellation(outcome)


def cancel_verdict(
    state: TurnState, outcome: TurnOutcome | None, *, asked_before: bool
) -> CancelVerdict:
    """The answer to a request that finds the row like that. `asked_before` says that it keeps
    an earlier one."""
    if asked_before or not state.is_settled or ends_cancelled(state, outcome):
        return CancelVerdict.ACCEPTED
    return CancelVerdict.COMPLETION_WON
