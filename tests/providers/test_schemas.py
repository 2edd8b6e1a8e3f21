"""JSON Schemas on their way into an endpoint's dialect."""

from typing import Any

import pytest

from lash_runtime.model.schema import (
    ProjectionMode,
    SchemaContract,
    SchemaOverride,
    SchemaProjection,
)
from lash_runtime.providers.schemas import (
    SchemaDialect,
    SchemaPurpose,
    SchemaResolutionError,
    resolve_schema,
)

LOOSE = SchemaDialect.OPENAI_TOOL_PARAMETERS
STRICT = SchemaDialect.OPENAI_STRICT_TOOL_PARAMETERS
OUTPUT = SchemaDialect.OPENAI_STRUCTURED_OUTPUT


def projected(
    schema: dict[str, Any], dialect: SchemaDialect = LOOSE, **projection: Any
) -> tuple[Any, str]:
    contract = SchemaContract(canonical=schema, projection=SchemaProjection(**projection))
    result = resolve_schema(contract, SchemaPurpose.TOOL_INPUT, (dialect,))
    return result.schema, " | ".join(result.diagnostics)


def test_a_schema_that_fits_is_sent_as_it_is() -> None:
    """And the canonical one is left alone in any case."""
    schema = {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}},
        "required": [],
    }
    assert projected(schema) == (schema, "")


def test_types_are_inferred_and_said_to_be() -> None:
    """From what is there, for one kind of scalar alone."""
    schema = {
        "properties": {
            "list": {"items": {"const": 3}},
            "flag": {"enum": [True, False]},
            "mixed": {"enum": [1, "a"]},
            "map": {"additionalProperties": True},
        }
    }
    result, notes = projected(schema)
    assert result["type"] == "object"
    assert result["properties"]["list"] == {
        "type": "array",
        "items": {"type": "integer", "enum": [3]},
    }
    assert result["properties"]["flag"]["type"] == "boolean"
    assert "type" not in result["properties"]["mixed"]
    assert result["properties"]["map"]["properties"] == {}
    assert "inferred" in notes


def test_a_lone_branch_is_flattened_into_its_parent() -> None:
    """Generators wrap a reference this way to give it a description."""
    result, notes = projected(
        {
            "type": "object",
            "properties": {"a": {"description": "d", "allOf": [{"$ref": "#/$defs/A"}]}},
            "$defs": {"A": {"const": "x"}},
        }
    )
    assert result["properties"]["a"] == {"description": "d", "$ref": "#/$defs/A"}
    assert result["$defs"]["A"] == {"type": "string", "enum": ["x"]}
    assert "flattened single-branch allOf" in notes


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string"}, "root schema must be an object"),
        ({"properties": []}, "properties must be an object"),
        ({"allOf": []}, "allOf"),
        ({"allOf": [{"type": "object"}, {"type": "object"}]}, "allOf"),
        ({"type": "object", "allOf": [{"type": "array"}]}, "disagree"),
        *(
            ({"type": "object", "properties": {"x": {keyword: {}}}}, keyword)
            for keyword in (
                "oneOf",
                "not",
                "dependentRequired",
                "dependentSchemas",
                "if",
                "then",
                "else",
                "patternProperties",
            )
        ),
    ],
)
def test_what_a_dialect_cannot_say_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    """Dropped in silence it would let through what the tool does not take."""
    with pytest.raises(SchemaResolutionError, match=named):
        projected(schema)


def test_a_choice_at_the_root_is_no_structured_output_but_one_below_is() -> None:
    """The endpoint insists on an object at the top."""
    choice = {"anyOf": [{"type": "object", "properties": {"x": {"const": 1}}}]}
    with pytest.raises(SchemaResolutionError, match="root anyOf"):
        projected(choice, OUTPUT)
    result, _ = projected(
        {"type": "object", "properties": {"a": choice}, "required": ["a"]}, OUTPUT
    )
    [branch] = result["properties"]["a"]["anyOf"]
    assert branch["additionalProperties"] is False
    assert branch["required"] == ["x"]


def test_strict_means_required_and_nullable_and_closed() -> None:
    """An optional property is one that may be null."""
    result, _ = projected(
        {
            "type": "object",
            "properties": {
                "must": {"type": "string"},
                "may": {"type": "string"},
                "null": {"type": ["string", "null"]},
                "any": {"anyOf": [{"type": "string"}]},
                "ref": {"$ref": "#/$defs/A"},
                "pick": {"enum": ["a"]},
            },
            "required": ["must"],
            "additionalProperties": True,
        },
        STRICT,
    )
    null = {"type": "null"}
    assert result["properties"] == {
        "must": {"type": "string"},
        "may": {"type": ["string", "null"]},
        "null": {"type": ["string", "null"]},
        "any": {"anyOf": [{"type": "string"}, null]},
        "ref": {"anyOf": [{"$ref": "#/$defs/A"}, null]},
        "pick": {"type": ["string", "null"], "enum": ["a", None]},
    }
    assert result["required"] == list(result["properties"])
    assert result["additionalProperties"] is False


def test_a_schema_written_for_the_dialect_wins() -> None:
    """The author knows; it is not touched."""
    by_hand = {"anything": ["goes"]}
    override = SchemaOverride.model_validate({"dialect": LOOSE.value, "schema": by_hand})
    assert projected({"not": {}}, overrides=(override,)) == (by_hand, "")


def test_a_host_may_insist_on_its_own_words() -> None:
    """`explicit_only` takes nothing derived, `exact` nothing changed."""
    with pytest.raises(SchemaResolutionError, match="no explicit projection override"):
        projected({"type": "object"}, mode=ProjectionMode.EXPLICIT_ONLY)
    with pytest.raises(SchemaResolutionError, match="inferred"):
        projected({"properties": {}}, mode=ProjectionMode.EXACT)
    exact = {"type": "object", "properties": {}}
    assert projected(exact, mode=ProjectionMode.EXACT) == (exact, "")


def test_the_first_dialect_that_takes_it_is_used() -> None:
    """And all reasons are kept when none does."""
    contract = SchemaContract(canonical={"anyOf": [{"type": "object"}]})
    found = resolve_schema(contract, SchemaPurpose.TOOL_INPUT, (OUTPUT, LOOSE))
    assert found.dialect is LOOSE
    with pytest.raises(SchemaResolutionError) as caught:
        resolve_schema(
            SchemaContract(canonical={"type": "null"}), SchemaPurpose.TOOL_INPUT, (OUTPUT, LOOSE)
        )
    assert len(caught.value.diagnostics) == 2
    with pytest.raises(SchemaResolutionError):
        resolve_schema(contract, SchemaPurpose.TOOL_INPUT, ())
