"""The version that a stored record carries, asked before anything else of the record is read.

For whoever writes a backend: a record that another release has shaped otherwise is named with
its version, instead of being taken for a damaged one of ours or read with half of it left out.

Rule: a version is a whole number from 0 to 2³²-1 and nothing that only resembles one. `true`,
`"1"` and `1.0` are not 1.
"""

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from .store_errors import (
    InvalidRecordSchemaVersion,
    MissingRecordSchemaVersion,
    StoreBackendError,
    UnsupportedRecordSchemaVersion,
)

M = TypeVar("M", bound=BaseModel)

_KEY: Final = "schema_version"
_LARGEST: Final = 2**32 - 1


def ensure_supported_schema_version(record_kind: str, actual: int, expected: int) -> None:
    """Raise `UnsupportedRecordSchemaVersion` unless the two are equal."""
    if actual != expected:
        raise UnsupportedRecordSchemaVersion(
            record_kind=record_kind, actual=actual, expected=expected
        )


def ensure_supported_record_schema_version(record_kind: str, value: object, expected: int) -> None:
    """Check the version in `value`, which is a record as its JSON was parsed.

    Raises `MissingRecordSchemaVersion` for one without a version, also for what is no object;
    `InvalidRecordSchemaVersion` for what is no version; `UnsupportedRecordSchemaVersion`.
    """
    if not isinstance(value, dict) or _KEY not in value:
        raise MissingRecordSchemaVersion(record_kind=record_kind, expected=expected)
    actual: Any = value[_KEY]
    if type(actual) is not int or not 0 <= actual <= _LARGEST:
        raise InvalidRecordSchemaVersion(
            record_kind=record_kind,
            actual=json.dumps(actual, ensure_ascii=False),
            expected=expected,
        )
    ensure_supported_schema_version(record_kind, actual, expected)


def decode_versioned_json_record(
    text: str | bytes, record_kind: str, expected: int, model: type[M]
) -> M:
    """The record in `text`, of the one version that `model` describes.

    Raises what `ensure_supported_record_schema_version` raises, and `StoreBackendError` for text
    that is no JSON or a record of that version which cannot be read.
    """
    try:
        document = from_json(text)
    except ValueError as error:
        raise StoreBackendError(f"a stored {record_kind} cannot be read: {error}") from error
    ensure_supported_record_schema_version(record_kind, document, expected)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise undecodable(record_kind, error) from None


def undecodable(record_kind: str, error: ValidationError) -> StoreBackendError:
    """What to raise for a record that `error` was found in. Raise it `from None`: the text of
    `error` quotes what is stored, which may be a secret, and a log would keep it."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "its whole"
    return StoreBackendError(f"a stored {record_kind} cannot be read: {place}: {first['msg']}")
