"""Stored JSON, back as values. What cannot be read is an error, never silently left out.

Records that carry a version are read as `ports.record_versions` says.
"""

from enum import Enum
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ...ports.record_versions import undecodable as undecodable
from ...ports.store_errors import StoreBackendError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
E = TypeVar("E", bound=Enum)


def decode(record: type[M], text: str | bytes, *, kind: str) -> M:
    """The value of a stored `kind`. Raises `StoreBackendError` when it cannot be read."""
    try:
        return record.model_validate_json(text)
    except ValidationError as error:
        raise undecodable(kind, error) from None


def decode_as(adapter: TypeAdapter[T], text: str | bytes, *, kind: str) -> T:
    """The same for what is described by a type adapter."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise undecodable(kind, error) from None


def decode_member(members: type[E], text: str, *, kind: str) -> E:
    """The same for one of a closed set of words."""
    try:
        return members(text)
    except ValueError as error:
        raise StoreBackendError(f"a stored {kind} cannot be read: {text!r} is none") from error
