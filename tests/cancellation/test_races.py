"""A turn that is cancelled by its id while it comes to its end: one verdict, and one history."""

from pathlib import Path

import pytest

from cancellation.racing import Round, a_race, race
from lash_runtime import CancelVerdict

pytestmark = pytest.mark.anyio

ROUNDS = 300
MOST_STEPS = 2_000
"""More than any turn of this file takes; reaching it means that a turn never ended."""


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "sqlite" else None


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_cancel_and_a_completion_have_one_winner(place: Path | None, seed: int) -> None:
    """`python -m cancellation.racing` plays as many rounds as one has time for."""
    finishes = await race(place, ROUNDS, seed)
    assert finishes.total() == ROUNDS
    assert finishes["accepted"] > ROUNDS // 20
    assert finishes["completion_won"] > ROUNDS // 20
    # Between a turn's end and its commit there is time only where a commit takes any.
    assert place is None or finishes["accepted with its answer"] > 0


@pytest.mark.parametrize("from_elsewhere", [False, True])
async def test_a_cancel_at_any_step_has_one_verdict(
    place: Path | None, from_elsewhere: bool
) -> None:
    """No step of a turn is one at which caller, row and transcript would be told differently."""
    verdicts = set()
    async with a_race(place) as racing:
        for step in range(MOST_STEPS):
            played = Round(
                rounds_of_tools=1,
                steps_of_model=2,
                pause_steps=step,
                pause_s=0,
                too_late=False,
                from_elsewhere=from_elsewhere,
            )
            finish = await racing.run(f"step {step}", played)
            verdicts.add(finish.verdict)
            if finish.was_over:
                assert finish.verdict is CancelVerdict.COMPLETION_WON
                assert CancelVerdict.ACCEPTED in verdicts
                return
    pytest.fail("the turn never ended by itself")
