"""Cursors: opaque to a host, unmistakable to the library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_runtime.observe import (
    LiveReplayGap,
    LiveReplayGapReason,
    MalformedSessionCursor,
    SessionCursor,
    SessionRevision,
    WrongSessionCursor,
)

U64 = st.integers(min_value=0, max_value=2**64 - 1)


@given(
    session_id=st.text(min_size=1),
    revision=U64,
    position=U64,
    incarnation=st.text(alphabet=st.characters(exclude_characters=":"), min_size=1),
)
def test_a_cursor_says_again_what_it_was_made_of(
    session_id: str, revision: int, position: int, incarnation: str
) -> None:
    """Session ids are any text, colons included; the rest must not bleed into them."""
    cursor = SessionCursor.for_position(session_id, revision, position, incarnation)
    place = SessionCursor(str(cursor)).parse_for_session(session_id)
    assert (place.session_id, place.revision, place.position, place.incarnation) == (
        session_id,
        revision,
        position,
        incarnation,
    )


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "missing cursor prefix"),
        ("lashsc3:x:0:0:s", "missing cursor prefix"),
        (" lashsc2:x:0:0:s", "missing cursor prefix"),
        ("lashsc2:", "missing replay incarnation id"),
        ("lashsc2::0:0:s", "missing replay incarnation id"),
        ("lashsc2:x", "invalid session revision: not a decimal number"),
        ("lashsc2:x:-1:0:s", "invalid session revision: not a decimal number"),
        ("lashsc2:x:1_0:0:s", "invalid session revision: not a decimal number"),
        ("lashsc2:x: 1:0:s", "invalid session revision: not a decimal number"),
        ("lashsc2:x:\u0661:0:s", "invalid session revision: not a decimal number"),
        (
            "lashsc2:x:18446744073709551616:0:s",
            "invalid session revision: larger than 64 bits hold",
        ),
        (
            "lashsc2:x:" + "9" * 10_000 + ":0:s",
            "invalid session revision: larger than 64 bits hold",
        ),
        ("lashsc2:x:0", "missing live replay position"),
        ("lashsc2:x:0::s", "invalid live replay position: not a decimal number"),
        ("lashsc2:x:0:p:s", "invalid live replay position: not a decimal number"),
        ("lashsc2:x:0:0", "missing session id"),
        ("lashsc2:x:0:0:", "missing session id"),
        ("lashsc1:0:0:", "missing session id"),
        ("lashsc1:x:0:s", "invalid session revision: not a decimal number"),
    ],
)
def test_a_malformed_token_is_explained(token: str, reason: str) -> None:
    """Digits are ASCII and nothing else: what `int()` would take besides is no number here."""
    with pytest.raises(MalformedSessionCursor) as caught:
        SessionCursor(token).parse()
    assert caught.value.reason == reason
    assert str(caught.value) == f"malformed session cursor: {reason}"


def test_a_token_without_an_incarnation_can_still_be_read() -> None:
    """So that one of another session is refused rather than answered with a gap."""
    place = SessionCursor("lashsc1:3:4:a:b").parse_for_session("a:b")
    assert (place.incarnation, place.revision, place.position) == (None, 3, 4)


def test_a_cursor_of_another_session_names_both() -> None:
    """The message is what a host sees in its log."""
    cursor = SessionCursor.for_position("mine", 0, 0, "x")
    with pytest.raises(WrongSessionCursor, match="belongs to `mine`, not `yours`") as caught:
        cursor.parse_for_session("yours")
    assert (caught.value.expected_session_id, caught.value.actual_session_id) == ("yours", "mine")


def test_a_cursor_hides_its_token_and_is_equal_by_it() -> None:
    """A log line must not invite anyone to take a token apart."""
    cursor = SessionCursor("anything at all")
    assert repr(cursor) == "SessionCursor(<opaque>)"
    assert str(cursor) == "anything at all"
    assert cursor == SessionCursor("anything at all")
    assert len({cursor, SessionCursor("anything at all"), SessionCursor("else")}) == 2
    assert cursor != "anything at all"


def test_a_store_token_is_checked_when_it_is_made() -> None:
    """A store's author hears of a bad token at once."""
    token = "lashsc2:x:0:0:s"
    assert str(SessionCursor.from_store_token(token)) == token
    with pytest.raises(MalformedSessionCursor):
        SessionCursor.from_store_token("lashsc2:x")
    with pytest.raises(MalformedSessionCursor):
        SessionCursor.for_position("s", 0, 0, "with:colon")


def test_a_revision_is_a_number_that_is_never_negative() -> None:
    """Revisions are compared, hashed, and sent as bare integers."""
    assert SessionRevision(3) > SessionRevision(2)
    assert SessionRevision(3).as_int() == 3
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="between 0 and"):
            SessionRevision(wrong)


def test_a_gap_goes_through_json_and_back() -> None:
    """Cursors are bare strings there, and revisions bare integers."""
    gap = LiveReplayGap(
        session_id="s",
        requested_cursor=SessionCursor("one"),
        latest_cursor=SessionCursor("two"),
        latest_revision=SessionRevision(5),
        reason=LiveReplayGapReason.TRIMMED,
    )
    assert gap.model_dump(mode="json") == {
        "session_id": "s",
        "requested_cursor": "one",
        "latest_cursor": "two",
        "latest_revision": 5,
        "reason": "trimmed",
    }
    back = LiveReplayGap.model_validate_json(gap.model_dump_json())
    assert back == gap
    assert isinstance(back.latest_revision, SessionRevision)
