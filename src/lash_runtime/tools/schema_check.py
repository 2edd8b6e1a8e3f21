"""Checks arguments against a JSON Schema, as far as schemas of tools go.

Checked: `$ref` into the same schema, `const`, `enum`, `type`, `anyOf`, `oneOf`, `allOf`,
bounds of numbers, lengths of strings and arrays, `items`, `required`, `properties` and
`additionalProperties`. Every other keyword (`pattern`, `format`, `if`, `uniqueItems`, …) is a
hint to the model and passes unchecked; the tool itself has to be strict about those.

Stricter than JSON Schema in one place: an object that lists its `properties` takes no others
unless `additionalProperties` allows them. Looser in one: `oneOf` is content with any match.
The first problem is reported, as `path: problem`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..model.schema import JsonSchema


def problem_with(schema: JsonSchema, value: Any) -> str | None:
    """Say what in `value` does not fit `schema`; `None` when it fits."""
    return next(_Checker(schema).problems(schema, value, ""), None)


class _Checker:
    """Walks a value along one schema document."""

    def __init__(self, root: JsonSchema) -> None:
        self._root = root

    def problems(self, schema: Any, value: Any, path: str) -> Iterator[str]:
        schema = self._resolved(schema)
        if schema is False:
            yield f"{path or 'arguments'}: nothing is allowed here"
        if not isinstance(schema, Mapping):
            return
        where = path or "arguments"
        if "const" in schema and not _same(schema["const"], value):
            yield f"{where}: expected {_json(schema['const'])}"
        if "enum" in schema and not any(_same(choice, value) for choice in schema["enum"]):
            choices = ", ".join(_json(choice) for choice in schema["enum"])
            yield f"{where}: expected one of {choices}"
        if not _is_of_type(schema.get("type"), value):
            yield f"{where}: expected {_named(schema['type'])}, got {_type_name(value)}"
            return
        for part in schema.get("allOf", ()):
            yield from self.problems(part, value, path)
        for keyword in ("anyOf", "oneOf"):
            yield from self._of_choices(schema.get(keyword), value, path)
        match value:
            case bool() | None:
                return
            case int() | float():
                yield from _of_bounds(schema, value, where)
            case str():
                yield from _of_size(schema, value, where, "Length", "characters")
            case list():
                yield from _of_size(schema, value, where, "Items", "items")
                if "items" in schema:
                    for index, item in enumerate(value):
                        yield from self.problems(schema["items"], item, f"{path}[{index}]")
            case dict():
                yield from self._of_object(schema, value, path)

    def _of_choices(self, choices: Any, value: Any, path: str) -> Iterator[str]:
        if not choices:
            return
        reasons: list[str] = []
        for choice in choices:
            reason = next(self.problems(choice, value, path), None)
            if reason is None:
                return
            reasons.append(reason)
        yield (
            reasons[0]
            if len(reasons) == 1
            else (f"{path or 'arguments'}: fits none of the allowed shapes ({'; '.join(reasons)})")
        )

    def _of_object(self, schema: JsonSchema, value: Mapping[str, Any], path: str) -> Iterator[str]:
        prefix = f"{path}." if path else ""
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{prefix}{name}: required property missing"
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", "properties" not in schema)
        for name, item in value.items():
            if name in properties:
                yield from self.problems(properties[name], item, f"{prefix}{name}")
            elif others is False:
                yield f"{prefix}{name}: unexpected property"
            else:
                yield from self.problems(others, item, f"{prefix}{name}")

    def _resolved(self, schema: Any) -> Any:
        """`schema` with its `$ref` followed; keywords beside the reference win."""
        seen: set[str] = set()
        while isinstance(schema, Mapping) and isinstance(ref := schema.get("$ref"), str):
            if ref in seen:
                return {}  # a reference to itself says nothing
            seen.add(ref)
            target = self._at(ref)
            if not isinstance(target, Mapping):
                return target
            beside = {key: item for key, item in schema.items() if key != "$ref"}
            schema = {**target, **beside}
        return schema

    def _at(self, ref: str) -> Any:
        """What a local reference points to; a reference to elsewhere allows anything."""
        if not ref.startswith("#"):
            return {}
        found: Any = self._root
        for step in ref[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or step not in found:
                return {}
            found = found[step]
        return found


def _is_of_type(types: Any, value: Any) -> bool:
    if types is None:
        return True
    names: Sequence[str] = (types,) if isinstance(types, str) else types
    return any(_TYPES.get(name, _anything)(value) for name in names)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _anything(value: Any) -> bool:
    return True


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _of_bounds(schema: JsonSchema, value: float, where: str) -> Iterator[str]:
    kind = _named(schema.get("type", "number"))
    checks: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("maximum", "<=", lambda bound: value <= bound),
        ("minimum", ">=", lambda bound: value >= bound),
        ("exclusiveMaximum", "<", lambda bound: value < bound),
        ("exclusiveMinimum", ">", lambda bound: value > bound),
    )
    for keyword, sign, holds in checks:
        bound = schema.get(keyword)
        if _is_number(bound) and not holds(bound):
            yield f"{where}: expected {kind} {sign} {bound}, got {value}"


def _of_size(
    schema: JsonSchema, value: str | list[Any], where: str, suffix: str, unit: str
) -> Iterator[str]:
    kind = "array items" if unit == "items" else "string characters"
    largest, smallest = schema.get(f"max{suffix}"), schema.get(f"min{suffix}")
    if largest is not None and len(value) > largest:
        yield f"{where}: expected {kind} <= {largest}, got {len(value)} {unit}"
    if smallest is not None and len(value) < smallest:
        yield f"{where}: expected {kind} >= {smallest}, got {len(value)} {unit}"


def _same(expected: Any, value: Any) -> bool:
    """Equality of JSON: `true` is not 1."""
    return _json(expected) == _json(value) or (
        _is_number(expected) and _is_number(value) and bool(expected == value)
    )


def _named(types: Any) -> str:
    return types if isinstance(types, str) else " or ".join(types)


def _type_name(value: Any) -> str:
    return next((name for name, holds in _TYPES.items() if holds(value)), type(value).__name__)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
