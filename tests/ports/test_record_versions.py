"""The helpers by which a backend asks a record for its version before it reads the rest."""

import json
import traceback

import pytest

from lash_runtime.ports.record_versions import (
    decode_versioned_json_record,
    ensure_supported_record_schema_version,
    ensure_supported_schema_version,
)
from lash_runtime.ports.session_state import SessionCheckpoint, SessionHeadMeta
from lash_runtime.ports.store_errors import (
    InvalidRecordSchemaVersion,
    MissingRecordSchemaVersion,
    RecordSchemaVersionError,
    StoreBackendError,
    UnsupportedRecordSchemaVersion,
)


def test_another_version_is_refused_with_both() -> None:
    """Older or newer: neither is what this release describes."""
    ensure_supported_schema_version("Thing", 3, 3)
    for actual in (2, 4):
        with pytest.raises(UnsupportedRecordSchemaVersion) as refusal:
            ensure_supported_schema_version("Thing", actual, 3)
        error = refusal.value
        assert (error.record_kind, error.actual, error.expected) == ("Thing", actual, 3)
        assert error.code == "unsupported_record_schema_version"
        assert "Thing" in str(error)


@pytest.mark.parametrize("record", [{}, [], None, "1", 1, {"version": 1}])
def test_a_record_without_a_version_is_missing_it(record: object) -> None:
    """Whatever else it is."""
    with pytest.raises(MissingRecordSchemaVersion) as refusal:
        ensure_supported_record_schema_version("Thing", record, 1)
    assert refusal.value.code == "missing_record_schema_version"


@pytest.mark.parametrize("version", [True, "1", 1.0, None, -1, 2**32, [1], {"a": 1}])
def test_what_only_resembles_a_version_is_told_as_json(version: object) -> None:
    """`True` equals 1 in Python, and is no version."""
    with pytest.raises(InvalidRecordSchemaVersion) as refusal:
        ensure_supported_record_schema_version("Thing", {"schema_version": version}, 1)
    assert json.loads(refusal.value.actual) == version
    assert refusal.value.code == "invalid_record_schema_version"


@pytest.mark.parametrize("version", [0, 2**32 - 1])
def test_every_number_of_32_bits_is_a_version(version: int) -> None:
    """The first and the last one included."""
    ensure_supported_record_schema_version("Thing", {"schema_version": version}, version)


def test_a_record_of_its_version_is_read() -> None:
    """The common case."""
    text = SessionCheckpoint(plugin_snapshot_revision=7).model_dump_json()
    record = decode_versioned_json_record(text, "SessionCheckpoint", 1, SessionCheckpoint)
    assert record.plugin_snapshot_revision == 7


def test_the_version_is_asked_before_the_rest() -> None:
    """A record of a later release is not damaged."""
    text = '{"schema_version": 2, "session": "in another shape"}'
    with pytest.raises(UnsupportedRecordSchemaVersion):
        decode_versioned_json_record(text, "SessionHeadMeta", 1, SessionHeadMeta)


@pytest.mark.parametrize("text", ['{"schema_version": 1', '{"schema_version": 1}', b"\xff"])
def test_a_damaged_record_is_damage_and_no_question_of_versions(text: str | bytes) -> None:
    """Nobody is sent to look for another release that could read it."""
    with pytest.raises(StoreBackendError) as refusal:
        decode_versioned_json_record(text, "SessionHeadMeta", 1, SessionHeadMeta)
    assert not isinstance(refusal.value, RecordSchemaVersionError)
    assert "SessionHeadMeta" in str(refusal.value)


def test_an_error_does_not_quote_what_is_stored() -> None:
    """It may be a secret, and a log would keep it."""
    text = '{"schema_version": 1, "session_id": {"key": "sk-secret"}}'
    with pytest.raises(StoreBackendError) as refusal:
        decode_versioned_json_record(text, "SessionHeadMeta", 1, SessionHeadMeta)
    told = "".join(traceback.format_exception(refusal.value))
    assert "sk-secret" not in told
