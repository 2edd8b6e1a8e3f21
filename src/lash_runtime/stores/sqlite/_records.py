"""Stored JSON, back as values. What cannot be read is an error, never silently left out."""

from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from ...ports.store_errors import RecordSchemaVersionError, StoreBackendError

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


def decode_versioned(record: type[M], text: str, *, kind: str, version: int) -> M:
    """The same for a record that carries its version, which is asked before anything else.

    Raises `RecordSchemaVersionError` for another version, and for what only resembles one: `true`,
    `"1"` and `1.0` are not 1.
    """
    actual = _version_of(text)
    if type(actual) is not int or actual != version:
        raise RecordSchemaVersionError(record_kind=kind, actual=actual, expected=version)
    return decode(record, text, kind=kind)


def undecodable(kind: str, error: ValidationError) -> StoreBackendError:
    """What is wrong, and where. Raise it `from None`: the text of `error` quotes what is stored,
    which may be a secret, and a log would keep it."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "its whole"
    return StoreBackendError(f"a stored {kind} cannot be read: {place}: {first['msg']}")


def _version_of(text: str) -> Any:
    try:
        document = from_json(text)
    except ValueError:
        return None
    return document.get("schema_version") if isinstance(document, dict) else None
