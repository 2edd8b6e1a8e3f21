"""Expecting an error, by its type and its stable code."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

E = TypeVar("E", bound=Exception)


async def raised_by(call: Awaitable[Any], expected: type[E]) -> E:
    """The error that `call` must raise. Its type is exactly `expected`, not one above it."""
    with pytest.raises(expected) as caught:
        await call
    assert type(caught.value) is expected
    return caught.value
