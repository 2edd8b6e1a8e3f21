"""Turns by their ids: who is asked, and what a turn answers before and after its end is decided."""

import pytest

from lash_runtime.model.cancelling import CancelRequest, CancelVerdict
from lash_runtime.model.turn_input import TurnInput
from lash_runtime.runtime.turn.cancelling import TurnCancelToken
from lash_runtime.runtime.turn.request import TurnRequest
from lash_runtime.runtime.turn_registry import TurnRegistry

FIRST = CancelRequest(requested_at_ms=1, reason="too slow")
SECOND = CancelRequest(requested_at_ms=2)


class Asked:
    """Somebody who has asked for the turn `t`."""

    turn_id = "t"
    is_over = False

    def __init__(self, token: TurnCancelToken) -> None:
        self.request = TurnRequest(turn_id="t", input=TurnInput.text("Pack"), cancel=token)


def test_a_request_fires_the_token_with_its_reason() -> None:
    """Tools that ask their token are told why."""
    token = TurnCancelToken()
    assert token.ask(FIRST) is CancelVerdict.ACCEPTED
    assert (token.is_cancelled, token.reason, token.request) == (True, "too slow", FIRST)


def test_a_request_counts_also_when_the_token_had_fired() -> None:
    """A token that fires too late cancels nothing; a request that comes after it still does."""
    token = TurnCancelToken()
    token.cancel("by its host")
    assert token.ask(FIRST) is CancelVerdict.ACCEPTED
    assert token.ask(SECOND) is CancelVerdict.ACCEPTED
    assert (token.reason, token.request) == ("by its host", FIRST)


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_turn_whose_end_is_decided_says_how_it_ends(cancelled: bool) -> None:
    """And takes no request any more: nobody would heed it."""
    token = TurnCancelToken()
    token.decide(cancelled=cancelled)
    verdict = CancelVerdict.ACCEPTED if cancelled else CancelVerdict.COMPLETION_WON
    assert token.ask(FIRST) is verdict
    assert (token.is_cancelled, token.request) == (False, None)


def test_a_turn_is_known_until_it_is_over() -> None:
    """By its session and its id together."""
    turns, token = TurnRegistry(), TurnCancelToken()
    turn = Asked(token)
    turns.register("s", turn)
    assert turns.ask("s", "other", FIRST) is CancelVerdict.UNKNOWN_TURN
    assert turns.ask("other", "t", FIRST) is CancelVerdict.UNKNOWN_TURN
    assert not token.is_cancelled
    assert turns.ask("s", "t", FIRST) is CancelVerdict.ACCEPTED
    assert token.is_cancelled
    turns.forget("s", turn)
    assert turns.ask("s", "t", FIRST) is CancelVerdict.UNKNOWN_TURN


def test_a_turn_that_is_finished_for_nobody_is_reached() -> None:
    """Its caller was in another process."""
    turns, token = TurnRegistry(), TurnCancelToken()
    turns.recovering("s", "t", token)
    assert turns.ids() == (("s", "t"),)
    assert turns.ask("s", "t", FIRST) is CancelVerdict.ACCEPTED
    assert token.is_cancelled
    turns.recovered("s", "t")
    assert turns.ask("s", "t", FIRST) is CancelVerdict.UNKNOWN_TURN
    assert turns.ids() == ()


def test_everybody_who_asked_for_the_turn_is_reached() -> None:
    """The first of them runs it; the others are in line behind."""
    turns, tokens = TurnRegistry(), [TurnCancelToken(), TurnCancelToken()]
    asked = [Asked(token) for token in tokens]
    for turn in asked:
        turns.register("s", turn)
    assert turns.ask("s", "t", FIRST) is CancelVerdict.ACCEPTED
    assert [token.request for token in tokens] == [FIRST, FIRST]
    turns.forget("s", asked[0])
    assert turns.ask("s", "t", SECOND) is CancelVerdict.ACCEPTED
    assert tokens[1].request == FIRST


def test_who_waits_for_a_turn_that_has_won_gets_its_result() -> None:
    """Cancelling them would not take the answer back."""
    turns, won, waiting = TurnRegistry(), TurnCancelToken(), TurnCancelToken()
    turns.register("s", Asked(won))
    turns.register("s", Asked(waiting))
    won.decide(cancelled=False)
    assert turns.ask("s", "t", FIRST) is CancelVerdict.COMPLETION_WON
    assert not waiting.is_cancelled
