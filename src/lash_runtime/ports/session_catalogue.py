"""The sessions of a storage as a picker shows them: one entry each, in pages, never a transcript.

A page goes on from a cursor, which is the place of the last entry that was seen. A session that
is created or used while somebody reads page after page moves to the front, where they have been;
nothing is shown twice, and what nobody touches is shown once.
"""

import base64
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..model.session_meta import ChildRelation, SessionRelation
from .store_errors import InvalidPageCursor

MAX_PAGE: Final = 1_000
"""The most entries of one page."""

_LARGEST: Final = 2**63 - 1
_NO_CURSOR: Final = "it is not one that a page has given"


class SessionOrder(StrEnum):
    """Newest first, by either of the two times that a session has."""

    LAST_USED = "last_used"
    CREATED = "created"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPickerInfo:
    """One session, as a person would pick it from a list.

    `updated_at_epoch_ms` is the time of its last commit, of its creation before the first.
    `first_user_message` and `last_message` are the beginnings of what was said first by the user
    and last by either side, empty when nothing was. Messages count on all branches.
    """

    session_id: str
    session_name: str
    created_at_epoch_ms: int
    updated_at_epoch_ms: int
    model: str
    cwd: str | None
    relation: SessionRelation
    message_count: int
    user_message_count: int
    first_user_message: str
    last_message: str

    @property
    def parent_session_id(self) -> str | None:
        relation = self.relation
        return relation.parent_session_id if isinstance(relation, ChildRelation) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """`next_cursor` asks for what follows; `None` when there was nothing more."""

    sessions: tuple[SessionPickerInfo, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, order=True)
class CatalogueKey:
    """Where an entry stands in its order. The id tells entries of the same millisecond apart."""

    at_epoch_ms: int
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which page. `limit` is from 1 to `MAX_PAGE`; `after` is the cursor of the page before."""

    order: SessionOrder = SessionOrder.LAST_USED
    limit: int = 50
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} sessions, not {self.limit}")

    def start(self) -> CatalogueKey | None:
        """The entry before the page; `None` for the first one.

        Raises `InvalidPageCursor` for one that no page of this order can have given: it may come
        from anywhere.
        """
        if self.after is None:
            return None
        try:
            order, at_ms, session_id = json.loads(
                base64.urlsafe_b64decode(self.after.encode("ascii"))
            )
            str.encode(session_id)  # text, and of characters that a store can have been given
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidPageCursor(reason=_NO_CURSOR) from error
        if type(at_ms) is not int or abs(at_ms) > _LARGEST:
            raise InvalidPageCursor(reason=_NO_CURSOR)
        if order != self.order.value:
            raise InvalidPageCursor(
                reason=f"it goes on in the order {order!r}, not {self.order.value!r}"
            )
        return CatalogueKey(at_ms, session_id)

    def key_of(self, entry: SessionPickerInfo) -> CatalogueKey:
        """Where `entry` stands in the order that is asked for."""
        if self.order is SessionOrder.CREATED:
            return CatalogueKey(entry.created_at_epoch_ms, entry.session_id)
        return CatalogueKey(entry.updated_at_epoch_ms, entry.session_id)

    def page(self, entries: list[SessionPickerInfo]) -> SessionPage:
        """The page of `entries`, which are in order and one more than `limit` if there is more."""
        shown = tuple(entries[: self.limit])
        if len(entries) <= self.limit:
            return SessionPage(sessions=shown, next_cursor=None)
        last = self.key_of(shown[-1])
        text = json.dumps([self.order.value, last.at_epoch_ms, last.session_id])
        return SessionPage(
            sessions=shown, next_cursor=base64.urlsafe_b64encode(text.encode()).decode("ascii")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeleteReport:
    """What deleting a session has removed. `existed` is false when there was none to delete;
    whatever an earlier deletion had left is counted all the same."""

    session_id: str
    existed: bool
    removed_node_count: int = 0
    removed_turn_count: int = 0
    removed_attachment_count: int = 0
