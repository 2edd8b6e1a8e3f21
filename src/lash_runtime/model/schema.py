"""JSON Schemas with the projections that a provider's dialect may need."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from ._value import Value, omitted_when_empty

JsonSchema = Mapping[str, Any]


class ProjectionMode(StrEnum):
    AUTO = "auto"
    EXPLICIT_ONLY = "explicit_only"
    EXACT = "exact"


class SchemaOverride(Value):
    """A schema written by hand for one dialect."""

    dialect: str
    schema_: JsonSchema = Field(alias="schema", serialization_alias="schema")


class SchemaProjection(Value):
    mode: ProjectionMode = ProjectionMode.AUTO
    overrides: tuple[SchemaOverride, ...] = omitted_when_empty(())

    def is_default(self) -> bool:
        return self.mode is ProjectionMode.AUTO and not self.overrides


class SchemaContract(Value):
    """A canonical schema, kept verbatim, and how providers may see it."""

    canonical: JsonSchema
    projection: SchemaProjection = Field(
        default=SchemaProjection.defaults(), exclude_if=SchemaProjection.is_default
    )


# Constructed without validation, as all that loading a module makes: see `Value.defaults`.
OPEN_OBJECT_SCHEMA: Final = SchemaContract.model_construct(
    canonical={"type": "object", "properties": {}, "additionalProperties": True}
)
NULL_SCHEMA: Final = SchemaContract.model_construct(canonical={"type": "null"})
