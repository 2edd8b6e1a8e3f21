"""Cancelling a turn by its id: what is asked, and what is answered."""

from enum import StrEnum

from ._value import Value, omitted_when_none


class CancelVerdict(StrEnum):
    """What a request to cancel a turn has come to. The first two are final."""

    ACCEPTED = "accepted"
    """The turn does not complete: it ends as cancelled, or has. The exception is a turn that its
    process dies under or that fails, which ends as interrupted or failed."""

    COMPLETION_WON = "completion_won"
    """The turn had ended before, in another way."""

    UNKNOWN_TURN = "unknown_turn"
    """Nothing is known of such a turn."""


class CancelRequest(Value):
    """The first request to cancel a turn, in milliseconds of the epoch.

    `reason` and `origin` are the caller's own words: why, and who or what it was that asked.
    """

    requested_at_ms: int
    reason: str | None = omitted_when_none()
    origin: str | None = omitted_when_none()
