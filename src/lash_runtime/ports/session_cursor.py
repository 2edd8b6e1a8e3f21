"""Where a reader stands in a session: the revision it has seen, and the token to go on from.

Rule 1: to a host a cursor is an opaque string. It is read only here, and only when it is used.
Rule 2: a cursor names the session and the incarnation of the log that it counts in, so that a
position of another log is never taken for one of this.
"""

from typing import Any, Final, Self

from pydantic_core import CoreSchema, core_schema

from ..model.records import dataclass

CURSOR_PREFIX: Final = "lashsc2:"
LEGACY_CURSOR_PREFIX: Final = "lashsc1:"
"""Tokens without an incarnation. They can be read, but no log can answer for them."""

_MAX_U64: Final = 2**64 - 1


class SessionCursorError(ValueError):
    """A cursor that cannot be used for what was asked."""


class MalformedSessionCursor(SessionCursorError):
    """The token is not one of ours; `reason` says which part of it is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"malformed session cursor: {reason}")
        self.reason = reason


class WrongSessionCursor(SessionCursorError):
    """The cursor is of another session."""

    def __init__(self, *, expected_session_id: str, actual_session_id: str) -> None:
        super().__init__(
            f"session cursor belongs to `{actual_session_id}`, not `{expected_session_id}`"
        )
        self.expected_session_id = expected_session_id
        self.actual_session_id = actual_session_id


class SessionRevision(int):
    """The last committed point that a runtime knows of: the store's head revision, or the turn
    index of a session that is not stored. An integer that is never negative."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        if not 0 <= value <= _MAX_U64:
            raise ValueError(f"a revision lies between 0 and 2**64 - 1, got {value}")
        return super().__new__(cls, value)

    def as_int(self) -> int:
        return int(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls, core_schema.int_schema(strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorPlace:
    """What a cursor says, once read. `incarnation` is `None` for a token without one."""

    session_id: str
    revision: SessionRevision
    position: int
    incarnation: str | None


class SessionCursor:
    """An opaque place to read on from, equal to another one with the same token.

    `str()` gives the token to keep; `repr()` hides it. Any string makes a cursor: whether it
    means anything is found out when it is used.
    """

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        self._token = token

    @classmethod
    def from_store_token(cls, token: str) -> Self:
        """A cursor whose form is checked now. Raises `MalformedSessionCursor`."""
        cursor = cls(token)
        cursor.parse()
        return cursor

    @classmethod
    def for_position(cls, session_id: str, revision: int, position: int, incarnation: str) -> Self:
        """The cursor just after `position`, which is 0 before the first event.

        Raises `MalformedSessionCursor` where the parts cannot be told apart again.
        """
        if ":" in incarnation:
            raise MalformedSessionCursor("a replay incarnation id must not contain a colon")
        return cls.from_store_token(cursor_token(session_id, revision, position, incarnation))

    def parse(self) -> CursorPlace:
        """What the token says. Raises `MalformedSessionCursor`."""
        incarnation: str | None = None
        if self._token.startswith(CURSOR_PREFIX):
            incarnation, _, rest = self._token[len(CURSOR_PREFIX) :].partition(":")
            if not incarnation:
                raise MalformedSessionCursor("missing replay incarnation id")
        elif self._token.startswith(LEGACY_CURSOR_PREFIX):
            rest = self._token[len(LEGACY_CURSOR_PREFIX) :]
        else:
            raise MalformedSessionCursor("missing cursor prefix")
        revision_text, _, rest = rest.partition(":")
        revision = _unsigned(revision_text, "session revision")
        position_text, colon, session_id = rest.partition(":")
        if not position_text and not colon:
            raise MalformedSessionCursor("missing live replay position")
        position = _unsigned(position_text, "live replay position")
        if not session_id:
            raise MalformedSessionCursor("missing session id")
        return CursorPlace(
            session_id=session_id,
            revision=SessionRevision(revision),
            position=position,
            incarnation=incarnation,
        )

    def parse_for_session(self, session_id: str) -> CursorPlace:
        """What the token says, if it is of that session. Raises `SessionCursorError`."""
        place = self.parse()
        if place.session_id != session_id:
            raise WrongSessionCursor(
                expected_session_id=session_id, actual_session_id=place.session_id
            )
        return place

    def __str__(self) -> str:
        return self._token

    def __repr__(self) -> str:
        return "SessionCursor(<opaque>)"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SessionCursor):
            return self._token == other._token
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._token)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._of_json, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _of_json(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError("a session cursor is a string")


def cursor_token(session_id: str, revision: int, position: int, incarnation: str) -> str:
    """The text of a cursor, unchecked: for logs that stamp what they themselves have counted."""
    return f"{CURSOR_PREFIX}{incarnation}:{revision}:{position}:{session_id}"


def _unsigned(text: str, what: str) -> int:
    # Not `int()` alone: it also takes blanks, signs, underscores and digits of other scripts.
    if not (text.isascii() and text.isdigit()):
        raise MalformedSessionCursor(f"invalid {what}: not a decimal number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 20 or (value := int(digits)) > _MAX_U64:
        raise MalformedSessionCursor(f"invalid {what}: larger than 64 bits hold")
    return value
