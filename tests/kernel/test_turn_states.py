"""The life of a turn's row: the whole table, and who may settle what."""

from itertools import product

import pytest

from lash_runtime.kernel.turn_states import (
    MOVES,
    SETTLED,
    STARTED,
    IllegalTurnMove,
    TurnState,
    check_move,
    check_settlement,
    discarded,
)

LEGAL = {
    (TurnState.ACCEPTED, TurnState.RUNNING),
    (TurnState.ACCEPTED, TurnState.CANCELLED),
    (TurnState.RUNNING, TurnState.WAITING),
    (TurnState.RUNNING, TurnState.COMMITTED),
    (TurnState.RUNNING, TurnState.FAILED),
    (TurnState.RUNNING, TurnState.INTERRUPTED),
    (TurnState.WAITING, TurnState.RUNNING),
}


@pytest.mark.parametrize(("current", "following"), [*product(TurnState, TurnState)])
def test_a_row_moves_where_the_diagram_leads_and_nowhere_else(
    current: TurnState, following: TurnState
) -> None:
    """Every pair of states, the missing ones included."""
    if (current, following) in LEGAL:
        check_move(current, following)
    else:
        with pytest.raises(IllegalTurnMove, match=f"{current.value} cannot become"):
            check_move(current, following)


def test_every_state_has_its_row_in_the_table() -> None:
    """A new state cannot be forgotten there."""
    assert set(MOVES) == set(TurnState)


@pytest.mark.parametrize("state", [*TurnState])
def test_a_settled_state_is_one_that_nothing_follows(state: TurnState) -> None:
    """Settled, started and not yet started are told apart without overlap."""
    assert state.is_settled == (not MOVES[state])
    assert state.is_settled == (state in SETTLED)
    assert state.is_started == (state in STARTED)
    assert [state.is_settled, state.is_started, state is TurnState.ACCEPTED].count(True) == 1


@pytest.mark.parametrize("following", [*TurnState])
def test_the_lease_a_turn_was_started_under_ends_it_as_it_ended(following: TurnState) -> None:
    """The runner knows how its turn went. A turn that never started has nothing to say."""
    started = {TurnState.COMMITTED, TurnState.FAILED, TurnState.INTERRUPTED}
    for current in TurnState:
        legal = (current.is_started and following in started) or (
            current is TurnState.ACCEPTED and following is TurnState.CANCELLED
        )
        if legal:
            check_settlement(current, following, started_under=3, fencing_token=3)
        else:
            with pytest.raises(IllegalTurnMove):
                check_settlement(current, following, started_under=3, fencing_token=3)


@pytest.mark.parametrize("current", [TurnState.RUNNING, TurnState.WAITING])
def test_another_lease_only_interrupts(current: TurnState) -> None:
    """Who did not run the turn cannot say that it was finished, or how it failed."""
    check_settlement(current, TurnState.INTERRUPTED, started_under=3, fencing_token=4)
    for following in (TurnState.COMMITTED, TurnState.FAILED):
        with pytest.raises(IllegalTurnMove, match="only close it as interrupted"):
            check_settlement(current, following, started_under=3, fencing_token=4)


def test_a_session_that_is_emptied_settles_what_was_unfinished() -> None:
    """Both ends are settled ones that lead back to no work."""
    assert discarded(TurnState.ACCEPTED) is TurnState.CANCELLED
    assert discarded(TurnState.RUNNING) is TurnState.INTERRUPTED
    assert discarded(TurnState.WAITING) is TurnState.INTERRUPTED
