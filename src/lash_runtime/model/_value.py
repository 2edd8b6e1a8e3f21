"""What every stored or sent value has in common.

Rule 1: a value never changes after construction; collections inside it are tuples.
Rule 2: an optional field at its default is left out of the JSON, so adding one later
changes neither what is on disk nor any hash of it.
Rule 3: an unknown key is an error, never silently dropped.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

STRICT_RECORD: Final = ConfigDict(extra="forbid")
"""Rule 3 for a record that is no pydantic model, as its `__pydantic_config__`."""


# Asked for every optional field of everything that is stored, hence without a frame of Python.
_is_absent: Final[Callable[[object], bool]] = partial(operator.is_, None)
_is_empty: Final[Callable[[object], bool]] = operator.not_


class Value(BaseModel):
    """Base of the frozen values that are stored, hashed or sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def defaults(cls) -> Self:
        """What `cls()` gives, for a class whose fields all have defaults.

        For values made while modules load: defaults are not validated, so nothing has to build
        the validator of a class that this program may never use.
        """
        return super().model_construct()


def omitted_when_none() -> Any:
    """An optional field: `None` by default, absent from the JSON while it is `None`."""
    return Field(default=None, exclude_if=_is_absent)


def absent_when_none() -> Any:
    """The same for the field of a record that is no pydantic model, inside `Annotated`."""
    return Field(exclude_if=_is_absent)


def absent_when_empty() -> Any:
    """The same for a field whose falsy default is absent from the JSON."""
    return Field(exclude_if=_is_empty)


def omitted_when_empty(default: Any) -> Any:
    """A field whose falsy `default` is absent from the JSON."""
    if isinstance(default, dict):
        # As a default, a dict would be copied deeply for each value.
        return Field(default_factory=dict, exclude_if=_is_empty)
    return Field(default=default, exclude_if=_is_empty)


class _Missing:
    """The type of `UNSET`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = _Missing()
"""Says "not given" where `None` is itself a meaningful value."""

Unset = _Missing
