"""What the frozen values have in common."""

import pytest

import lash_runtime.providers.openai  # noqa: F401 - defines every value there is
from lash_runtime.model._value import Value
from lash_runtime.model.schema import NULL_SCHEMA, OPEN_OBJECT_SCHEMA


def kinds_of(base: type[Value]) -> list[type[Value]]:
    return [kind for child in base.__subclasses__() for kind in (child, *kinds_of(child))]


WITH_DEFAULTS = [
    kind
    for kind in kinds_of(Value)
    if not any(field.is_required() for field in kind.model_fields.values())
]


@pytest.mark.parametrize("kind", WITH_DEFAULTS, ids=lambda kind: kind.__qualname__)
def test_defaults_are_what_an_empty_call_gives(kind: type[Value]) -> None:
    """Loading a module makes values without their validators: nobody may see a difference."""
    unvalidated, validated = kind.defaults(), kind()

    assert unvalidated == validated
    assert unvalidated.model_fields_set == validated.model_fields_set
    assert unvalidated.model_dump_json() == validated.model_dump_json()
    assert kind.model_validate(unvalidated.model_dump(mode="json")) == validated


@pytest.mark.parametrize("schema", [OPEN_OBJECT_SCHEMA, NULL_SCHEMA])
def test_a_constant_passes_the_validation_it_was_made_without(schema: Value) -> None:
    """A constant that its own class would refuse could be stored and never read back."""
    assert type(schema).model_validate_json(schema.model_dump_json()) == schema
