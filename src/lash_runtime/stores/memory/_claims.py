"""Rows that can be claimed: which claim each carries, and which rows each claim still owns.

A row counts how often it was claimed; the count outlives every claim. Whether a claim protects
its rows is not decided here: a mark of a dead generation stays until somebody takes the row.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from ...kernel.queue_rules import is_held
from ...model.records import dataclass, replace
from ...ports.leases import LeaseOwnerIdentity

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMark:
    """The claim that a row carries. `generation` is the counter of the lease behind it."""

    claim_id: str
    token: str
    owner: LeaseOwnerIdentity
    generation: int
    expires_at_ms: int


class ClaimableRow(Generic[T]):
    """A row and its claim. Only `ClaimableRows` changes `mark` and `fencing_token`."""

    __slots__ = ("fencing_token", "key", "mark", "value")

    def __init__(self, key: str, value: T) -> None:
        self.key: Final = key
        self.value = value
        self.mark: ClaimMark | None = None
        self.fencing_token = 0

    def is_held(self, live_generation: int | None) -> bool:
        return is_held(None if self.mark is None else self.mark.generation, live_generation)


class ClaimableRows(Generic[T]):
    """Rows by key, in the order in which they were added."""

    __slots__ = ("_claimed", "_rows")

    def __init__(self) -> None:
        self._rows: dict[str, ClaimableRow[T]] = {}
        self._claimed: dict[str, dict[str, ClaimableRow[T]]] = {}

    def __iter__(self) -> Iterator[ClaimableRow[T]]:
        return iter(self._rows.values())

    def get(self, key: str) -> ClaimableRow[T] | None:
        return self._rows.get(key)

    def add(self, key: str, value: T) -> ClaimableRow[T]:
        row = self._rows[key] = ClaimableRow(key, value)
        return row

    def remove(self, row: ClaimableRow[T]) -> None:
        self.free(row)
        del self._rows[row.key]

    def take(self, rows: Iterable[ClaimableRow[T]], mark: ClaimMark) -> None:
        """Give the rows to a claim, away from whichever had them."""
        for row in rows:
            self.free(row)
            row.mark = mark
            row.fencing_token += 1
            self._claimed.setdefault(mark.claim_id, {})[row.key] = row

    def free(self, row: ClaimableRow[T]) -> None:
        if row.mark is None:
            return
        others = self._claimed[row.mark.claim_id]
        del others[row.key]
        if not others:
            del self._claimed[row.mark.claim_id]
        row.mark = None

    def owned(self, claim_id: str, token: str) -> tuple[ClaimableRow[T], ...]:
        """The rows that this very claim still owns, overdue or not."""
        rows = self._claimed.get(claim_id, {}).values()
        return tuple(row for row in rows if row.mark is not None and row.mark.token == token)

    def renew(self, rows: Iterable[ClaimableRow[T]], expires_at_ms: int) -> None:
        for row in rows:
            if row.mark is not None:
                row.mark = replace(row.mark, expires_at_ms=expires_at_ms)
