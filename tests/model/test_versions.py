"""Versions that stored values carry."""

import pytest
from pydantic import ValidationError

from lash_runtime.model.policy import ProtocolTurnOptions
from lash_runtime.model.session_meta import PersistedSessionConfig


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"payload": {"mode": "careful"}}',
        '{"schema_version": true, "payload": {}}',
        '{"schema_version": "1", "payload": {}}',
        '{"schema_version": 1.0, "payload": {}}',
        '{"schema_version": null, "payload": {}}',
        '{"schema_version": 2, "payload": {}}',
    ],
)
def test_turn_options_without_their_very_version_cannot_be_read(text: str) -> None:
    """Options that another release wrote are not guessed at."""
    with pytest.raises(ValidationError):
        ProtocolTurnOptions.model_validate_json(text)


def test_turn_options_are_read_as_they_were_written() -> None:
    """In a program nobody has to say the version; in a store it is always there."""
    options = ProtocolTurnOptions(payload={"mode": "careful"})
    assert ProtocolTurnOptions.model_validate_json(options.model_dump_json()) == options
    assert ProtocolTurnOptions() == ProtocolTurnOptions(schema_version=1, payload={})


def test_a_provider_is_stored_under_its_name_alone() -> None:
    """Blanks around it would make it another one when it is looked for."""
    assert PersistedSessionConfig(provider_id=" openai\n").provider_id == "openai"
