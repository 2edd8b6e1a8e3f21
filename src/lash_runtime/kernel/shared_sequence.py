"""An immutable sequence that grows in O(1) and whose snapshots cost nothing.

All versions of one sequence share a single list; a version is that list and a length. Growing
the longest version appends to the shared list, which no shorter version can see. Growing a
version that has been outgrown copies, so two branches never mix.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, get_args, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class SharedSequence(Sequence[T]):
    """A frozen view of the first `len(self)` items of a shared, append-only list."""

    __slots__ = ("_items", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items: list[T] = list(items)
        self._length = len(self._items)

    def append(self, item: T) -> Self:
        """The sequence with `item` at its end; this one is unchanged."""
        return self.extend((item,))

    def extend(self, items: Sequence[T]) -> Self:
        """The sequence with `items` at its end; O(len(items)) on the longest version."""
        if not items:
            return self
        shared = self._items
        if len(shared) != self._length:
            shared = shared[: self._length]
        shared.extend(items)
        return self._view(shared, len(shared))

    def prefix(self, length: int) -> Self:
        """The first `length` items, sharing this sequence's list."""
        return self._view(self._items, min(length, self._length))

    def grew_from(self, other: "SharedSequence[T]") -> bool:
        """Whether `other` is an earlier version of this very sequence. O(1), by identity."""
        return self._items is other._items and other._length <= self._length

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As JSON, a sequence is the flat list of its items; what it shares is not kept."""
        (item,) = get_args(source) or (Any,)
        items = core_schema.tuple_schema([handler.generate_schema(item)], variadic_item_index=0)
        return core_schema.no_info_after_validator_function(
            cls,
            items,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda sequence: sequence[:], return_schema=items
            ),
        )

    @classmethod
    def _view(cls, items: list[T], length: int) -> Self:
        view = cls.__new__(cls)
        view._items = items
        view._length = length
        return view

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            return tuple(self._items[start:stop:step])
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is outside a sequence of {self._length}")
        return self._items[index]

    def __iter__(self) -> Iterator[T]:
        items = self._items
        for index in range(self._length):
            yield items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SharedSequence):
            if self._items is other._items and self._length == other._length:
                return True
            return self[:] == other[:]
        if isinstance(other, Sequence) and not isinstance(other, str | bytes):
            return self[:] == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SharedSequence({list(self)!r})"
