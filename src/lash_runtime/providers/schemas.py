"""JSON Schemas as an endpoint's dialect takes them.

Rule 1: the canonical schema is never changed; results are validated against it and not against
what was sent.
Rule 2: what a dialect cannot say is refused by name, never dropped.
Rule 3: a schema that the author wrote for a dialect is sent as it stands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ..model.schema import JsonSchema, ProjectionMode, SchemaContract


class SchemaDialect(StrEnum):
    """The dialects that the bundled adapters speak."""

    OPENAI_TOOL_PARAMETERS = "openai_tool_parameters"
    OPENAI_STRICT_TOOL_PARAMETERS = "openai_strict_tool_parameters"
    OPENAI_STRUCTURED_OUTPUT = "openai_structured_output"


class SchemaPurpose(StrEnum):
    TOOL_INPUT = "tool_input"
    STRUCTURED_OUTPUT = "structured_output"


class SchemaResolutionError(ValueError):
    """No dialect takes the schema; `diagnostics` says why, one line for each reason."""

    def __init__(
        self,
        purpose: SchemaPurpose,
        dialect: SchemaDialect | None,
        diagnostics: Sequence[str],
    ) -> None:
        self.purpose = purpose
        self.dialect = dialect
        self.diagnostics = tuple(diagnostics) or ("no dialect to project into",)
        super().__init__(self.diagnostics[0])


@dataclass(frozen=True, slots=True)
class ProjectedSchema:
    """What is sent, in which dialect, and what had to be changed for it."""

    dialect: SchemaDialect
    schema: JsonSchema
    diagnostics: tuple[str, ...] = ()


def resolve_schema(
    contract: SchemaContract, purpose: SchemaPurpose, dialects: Sequence[SchemaDialect]
) -> ProjectedSchema:
    """The schema in the first of `dialects` that takes it.

    Raises `SchemaResolutionError`.
    """
    refusals: list[str] = []
    mode = contract.projection.mode
    for dialect in dialects:
        for override in contract.projection.overrides:
            if override.dialect == dialect:
                return ProjectedSchema(dialect, override.schema_)
        if mode is ProjectionMode.EXPLICIT_ONLY:
            refusals.append(f"no explicit projection override for {dialect.value}")
            continue
        projection = _Projection(dialect)
        try:
            schema = projection.root(contract.canonical)
        except _Refused as refusal:
            refusals.append(str(refusal))
            continue
        notes = tuple(projection.notes)
        if mode is ProjectionMode.EXACT and (notes or schema != contract.canonical):
            refusals.extend(notes or ("the projection differs from the canonical schema",))
            continue
        return ProjectedSchema(dialect, schema, notes)
    raise SchemaResolutionError(purpose, dialects[-1] if dialects else None, refusals)


class _Refused(Exception):
    """The dialect cannot say this."""


_REFUSED_KEYWORDS: Final = (
    "oneOf",
    "not",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "then",
    "else",
    "patternProperties",
)
_OBJECT_KEYWORDS: Final = ("properties", "required", "additionalProperties")
_SCALARS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),  # before int: `True` is an int to Python
    (int, "integer"),
    (float, "number"),
    (str, "string"),
)


@dataclass(slots=True)
class _Projection:
    """One schema on its way into an OpenAI dialect."""

    dialect: SchemaDialect
    notes: list[str] = field(default_factory=list)

    @property
    def _strict(self) -> bool:
        return self.dialect is not SchemaDialect.OPENAI_TOOL_PARAMETERS

    def root(self, schema: JsonSchema) -> dict[str, Any]:
        node = self._flattened(schema, "root")
        if "anyOf" in node and self.dialect is SchemaDialect.OPENAI_STRUCTURED_OUTPUT:
            raise _Refused("root anyOf cannot be expressed as structured output")
        if "type" not in node:
            node["type"] = "object"
            self.notes.append("root: inferred type object")
        if node["type"] != "object":
            raise _Refused("root schema must be an object")
        return self._node(node, "root")

    def _node(self, schema: JsonSchema, path: str) -> dict[str, Any]:
        node = self._flattened(schema, path)
        for keyword in _REFUSED_KEYWORDS:
            if keyword in node:
                raise _Refused(f"{path}: {keyword} is not supported by {self.dialect.value}")
        if "const" in node:
            node["enum"] = [node.pop("const")]
        self._infer_type(node, path)
        for name, project in self._children(path).items():
            if name in node:
                node[name] = project(node[name])
        if node.get("type") == "object":
            self._object(node, path)
        return node

    def _flattened(self, schema: JsonSchema, path: str) -> dict[str, Any]:
        node = dict(schema)
        if "allOf" not in node:
            return node
        branches = node.pop("allOf")
        if (
            not isinstance(branches, Sequence)
            or len(branches) != 1
            or not isinstance(branches[0], Mapping)
        ):
            raise _Refused(f"{path}: allOf with other than one branch is not supported")
        for key, value in branches[0].items():
            if node.setdefault(key, value) != value:
                raise _Refused(f"{path}: allOf branch and its parent disagree about {key!r}")
        self.notes.append(f"{path}: flattened single-branch allOf")
        return self._flattened(node, path)

    def _infer_type(self, node: dict[str, Any], path: str) -> None:
        if "type" in node:
            return
        inferred: str | None = None
        if any(keyword in node for keyword in _OBJECT_KEYWORDS):
            inferred = "object"
        elif "items" in node:
            inferred = "array"
        elif isinstance(node.get("enum"), list) and node["enum"]:
            types = {_scalar_type(value) for value in node["enum"]}
            inferred = types.pop() if len(types) == 1 else None
        if inferred is not None:
            node["type"] = inferred
            self.notes.append(f"{path}: inferred type {inferred}")

    def _children(self, path: str) -> Mapping[str, Callable[[Any], Any]]:
        def each(name: str) -> Callable[[Any], Any]:
            def project(children: Any) -> Any:
                if not isinstance(children, Mapping):
                    if name == "properties":
                        raise _Refused(f"{path}: properties must be an object")
                    return children
                return {
                    key: self._any(child, f"{path}.{name}.{key}") for key, child in children.items()
                }

            return project

        def branches(children: Any) -> Any:
            return [self._any(child, f"{path}.anyOf[{at}]") for at, child in enumerate(children)]

        return {
            "properties": each("properties"),
            "$defs": each("$defs"),
            "definitions": each("definitions"),
            "items": lambda child: self._any(child, f"{path}.items"),
            "anyOf": branches,
        }

    def _any(self, schema: Any, path: str) -> Any:
        """A schema may also be `true` or `false`, which every dialect takes as it is."""
        return self._node(schema, path) if isinstance(schema, Mapping) else schema

    def _object(self, node: dict[str, Any], path: str) -> None:
        properties = node.setdefault("properties", {})
        if not isinstance(properties, Mapping):
            raise _Refused(f"{path}: properties must be an object")
        if not self._strict:
            return
        required = set(node.get("required", ()))
        node["properties"] = {
            name: child if name in required else _nullable(child)
            for name, child in properties.items()
        }
        node["required"] = list(properties)
        node["additionalProperties"] = False


def _nullable(schema: Any) -> Any:
    """`schema`, or null: how a strict dialect says that a property may be left out."""
    if not isinstance(schema, Mapping):
        return schema
    node = dict(schema)
    if "anyOf" in node:
        branches = list(node["anyOf"])
        if not any(isinstance(b, Mapping) and b.get("type") == "null" for b in branches):
            branches.append({"type": "null"})
        return node | {"anyOf": branches}
    if "type" not in node:
        return {"anyOf": [node, {"type": "null"}]}
    types = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if "null" not in types:
        node["type"] = [*types, "null"]
        if isinstance(node.get("enum"), list) and None not in node["enum"]:
            node["enum"] = [*node["enum"], None]
    return node


def _scalar_type(value: Any) -> str | None:
    return next((name for kind, name in _SCALARS if isinstance(value, kind)), None)
