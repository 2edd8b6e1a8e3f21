"""A result or an error as a value, for work whose exceptions must not form a group."""

from collections.abc import Awaitable
from typing import Generic, TypeVar

from ..model.records import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    value: T

    def unwrap(self) -> T:
        return self.value


@dataclass(frozen=True, slots=True)
class Err:
    error: Exception

    def unwrap(self) -> object:
        raise self.error


async def capture(work: Awaitable[T]) -> Ok[T] | Err:
    """Run `work`. Cancellation is not a verdict and passes through."""
    try:
        return Ok(await work)
    except Exception as error:
        return Err(error)
