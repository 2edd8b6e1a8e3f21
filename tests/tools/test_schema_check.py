"""Arguments against the schemas of tools that bring nothing else."""

from typing import Any

import pytest

from lash_runtime.tools.schema_check import problem_with

NESTED = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "minItems": 1},
        "place": {
            "type": "object",
            "properties": {"lat": {"type": "number"}, "zone": {"type": ["string", "null"]}},
            "required": ["lat"],
        },
    },
}


def of(schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"] if required else [],
    }


@pytest.mark.parametrize(
    ("schema", "args", "problem"),
    [
        (of({}, required=True), {}, "x: required property missing"),
        (of({}), {"y": 1}, "y: unexpected property"),
        (of({"type": "string"}), {"x": 1}, "x: expected string, got integer"),
        (of({"type": "integer"}), {"x": 1.0}, "x: expected integer, got number"),
        (of({"type": "integer"}), {"x": True}, "x: expected integer, got boolean"),
        (of({"type": "number"}), {"x": False}, "x: expected number, got boolean"),
        (of({"type": "object"}), {"x": []}, "x: expected object, got array"),
        (of({"type": ["string", "null"]}), {"x": 2}, "x: expected string or null, got integer"),
        (of({"type": "integer", "maximum": 20}), {"x": 100}, "x: expected integer <= 20, got 100"),
        (of({"type": "integer", "minimum": 1}), {"x": 0}, "x: expected integer >= 1, got 0"),
        (of({"exclusiveMinimum": 0}), {"x": 0}, "x: expected number > 0, got 0"),
        (of({"exclusiveMaximum": 1}), {"x": 1}, "x: expected number < 1, got 1"),
        (of({"maxLength": 2}), {"x": "abc"}, "x: expected string characters <= 2, got 3"),
        (of({"minLength": 1}), {"x": ""}, "x: expected string characters >= 1, got 0"),
        (of({"enum": ["a", 1]}), {"x": "b"}, 'x: expected one of "a", 1'),
        (of({"enum": [1]}), {"x": True}, "x: expected one of 1"),
        (of({"const": "a"}), {"x": "b"}, 'x: expected "a"'),
        (of({"allOf": [{"type": "string"}, {"maxLength": 1}]}), {"x": "ab"}, "x: expected string"),
        (NESTED, {"tags": ["a", 2]}, "tags[1]: expected string, got integer"),
        (NESTED, {"tags": ["a"] * 3}, "tags: expected array items <= 2, got 3 items"),
        (NESTED, {"tags": []}, "tags: expected array items >= 1, got 0 items"),
        (NESTED, {"place": {}}, "place.lat: required property missing"),
        (NESTED, {"place": {"lat": 1, "lon": 2}}, "place.lon: unexpected property"),
        (NESTED, [], "arguments: expected object, got array"),
        (NESTED, None, "arguments: expected object, got null"),
        ({"type": "object", "properties": {"x": False}}, {"x": 1}, "x: nothing is allowed here"),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            {"y": 1},
            "y: expected string, got integer",
        ),
        (
            of({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            {"x": 1},
            "x: fits none of the allowed shapes (x: expected string, got integer; x: expected null",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(
    schema: dict[str, Any], args: Any, problem: str
) -> None:
    """The model mends its call when it is told what to mend."""
    assert (problem_with(schema, args) or "").startswith(problem)


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        ({}, {"anything": [1, None]}),
        ({"type": "object"}, {"anything": 1}),
        (of({"type": "number"}), {"x": 3}),
        (of({"type": "integer", "maximum": 3}), {"x": 3}),
        (of({"enum": [1.0]}), {"x": 1}),
        (of({"maxLength": 2}), {"x": "ab"}),
        (of({"oneOf": [{"type": "string"}, {"minLength": 1}]}), {"x": "a"}),
        (of({"pattern": "^a$", "format": "date", "someday": True}), {"x": "b"}),
        (of({"type": "unheard of"}), {"x": 1}),
        (NESTED, {"place": {"lat": 1, "zone": None}}),
        (
            {"type": "object", "properties": {}, "additionalProperties": True},
            {"y": 1},
        ),
    ],
)
def test_what_fits_or_is_not_checked_passes(schema: dict[str, Any], args: Any) -> None:
    """A keyword that is not known must not keep a tool from being used."""
    assert problem_with(schema, args) is None


TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/no~1de"}},
    "$defs": {
        "no/de": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/no~1de"}},
            },
        },
        "loop": {"$ref": "#/$defs/loop"},
    },
}


def test_references_are_followed_as_deep_as_the_value_goes() -> None:
    """Schemas that describe trees refer to themselves."""
    good = {"root": {"name": "a", "children": [{"name": "b", "children": []}]}}
    bad = {"root": {"name": "a", "children": [{"name": 1}]}}

    assert problem_with(TREE, good) is None
    assert problem_with(TREE, bad) == "root.children[0].name: expected string, got integer"


@pytest.mark.parametrize(
    "ref", ["#/$defs/loop", "#/$defs/missing", "https://example.com/schema.json"]
)
def test_a_reference_that_leads_nowhere_allows_anything(ref: str) -> None:
    """A broken schema is its author's concern; the check has to end."""
    assert problem_with({**TREE, "properties": {"x": {"$ref": ref}}}, {"x": 1}) is None


def test_keywords_beside_a_reference_count() -> None:
    """Newer dialects allow them there."""
    schema = {
        **TREE,
        "properties": {"x": {"$ref": "#/$defs/no~1de", "maxLength": 1, "type": "string"}},
    }

    assert (
        problem_with(schema, {"x": "ab"}) == "x: expected string characters <= 1, got 2 characters"
    )
