"""The life of a turn's row, as a table.

    accepted → running → committed | failed
               running ⇄ waiting
               running → interrupted
    accepted → cancelled

Rule 1: a settled row never moves again.
Rule 2: whoever settles a started row holds the lane. Finishing it takes the very lease it was
started under; closing one that an earlier holder left behind takes a later one.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class TurnState(StrEnum):
    """Where a turn is in its life."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    WAITING = "waiting"
    COMMITTED = "committed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def is_settled(self) -> bool:
        return self in SETTLED

    @property
    def is_started(self) -> bool:
        """Started and not over: the row that keeps its session's lane busy."""
        return self in STARTED


SETTLED: Final = frozenset(
    {TurnState.COMMITTED, TurnState.FAILED, TurnState.INTERRUPTED, TurnState.CANCELLED}
)
STARTED: Final = frozenset({TurnState.RUNNING, TurnState.WAITING})

MOVES: Final[Mapping[TurnState, frozenset[TurnState]]] = {
    TurnState.ACCEPTED: frozenset({TurnState.RUNNING, TurnState.CANCELLED}),
    TurnState.RUNNING: frozenset(
        {TurnState.WAITING, TurnState.COMMITTED, TurnState.FAILED, TurnState.INTERRUPTED}
    ),
    TurnState.WAITING: frozenset({TurnState.RUNNING}),
    TurnState.COMMITTED: frozenset(),
    TurnState.FAILED: frozenset(),
    TurnState.INTERRUPTED: frozenset(),
    TurnState.CANCELLED: frozenset(),
}
"""From each state, the states that may follow it."""


class IllegalTurnMove(ValueError):
    """A row was asked to move where the table does not lead."""


def check_move(current: TurnState, following: TurnState) -> None:
    """Raise `IllegalTurnMove` unless `following` may come right after `current`."""
    if following not in MOVES[current]:
        raise IllegalTurnMove(f"a turn that is {current.value} cannot become {following.value}")


def check_settlement(
    current: TurnState, following: TurnState, *, started_under: int, fencing_token: int
) -> None:
    """Raise `IllegalTurnMove` unless the holder of `fencing_token` may settle the row so.

    A waiting row is woken first, hence it is judged as a running one.
    """
    if following not in SETTLED:
        raise IllegalTurnMove(f"{following.value} does not settle a turn")
    check_move(TurnState.RUNNING if current is TurnState.WAITING else current, following)
    if following is not TurnState.INTERRUPTED and started_under != fencing_token:
        raise IllegalTurnMove(
            f"the turn was started under lease {started_under}, "
            f"so lease {fencing_token} can only close it as interrupted"
        )


def discarded(current: TurnState) -> TurnState:
    """How an unfinished row ends when its session is emptied around it."""
    return TurnState.CANCELLED if current is TurnState.ACCEPTED else TurnState.INTERRUPTED
