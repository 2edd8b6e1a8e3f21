"""What a function can be called with, as a model that pydantic checks.

The model's fields are numbered and carry the parameters' names as aliases, so a parameter may
be called `schema`, `json` or `_id` without meeting an attribute of `BaseModel`. Arguments are
read the lenient way (`"5"` for an `int`), because models send such things; unknown ones are
refused. Built once, where the function is decorated.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from ..model.records import dataclass
from ..model.schema import JsonSchema
from ..ports.tools import ToolContext
from .callables import called_function
from .errors import ToolDefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The arguments that a model gives, and where the context goes.

    `model` checks the arguments; `names` maps its fields to the function's parameters.
    """

    model: type[BaseModel]
    names: Mapping[str, str]
    context_name: str | None
    schema: JsonSchema

    def bind(self, args: Any, context: ToolContext) -> dict[str, Any]:
        """The keyword arguments of one call; raises pydantic's `ValidationError`."""
        checked = self.model.model_validate(args)
        bound = {name: getattr(checked, field) for field, name in self.names.items()}
        if self.context_name is not None:
            bound[self.context_name] = context
        return bound

    def problem_with(self, args: Any) -> str | None:
        """Which argument is wrong and why; `None` when all are in order."""
        try:
            self.model.model_validate(args)
        except ValidationError as error:
            return describe(error)
        return None


def read_parameters(
    function: Callable[..., Any],
    *,
    name: str,
    documented: Mapping[str, str],
    locals_: Mapping[str, Any],
    skip_first: bool,
) -> Parameters:
    """Read the signature of `function`; `locals_` holds names that its annotations may use, and
    `skip_first` leaves out the instance of a method.

    Raises `ToolDefinitionError` for what no model could fill in.
    """
    hints = resolved_annotations(function, name=name, locals_=locals_)
    parameters = list(inspect.signature(function).parameters.values())
    if skip_first:
        del parameters[0]
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    context_name: str | None = None
    for parameter in parameters:
        _check_kind(parameter, name)
        if parameter.name not in hints:
            raise ToolDefinitionError(
                f"tool {name!r}: argument {parameter.name!r} has no annotation; "
                "the model is told its type, so give it one"
            )
        annotation = hints[parameter.name]
        if _is_context(annotation):
            if context_name is not None:
                raise ToolDefinitionError(f"tool {name!r} asks for its ToolContext twice")
            context_name = parameter.name
            continue
        field = f"argument_{len(fields)}"
        names[field] = parameter.name
        fields[field] = _field(parameter, annotation, documented.get(parameter.name))
    model = _model(name, fields)
    return Parameters(
        model=model, names=names, context_name=context_name, schema=_input_schema(model, name)
    )


def resolved_annotations(
    function: Callable[..., Any], *, name: str, locals_: Mapping[str, Any]
) -> dict[str, Any]:
    """The annotations of `function` as types. Raises `ToolDefinitionError`."""
    try:
        return typing.get_type_hints(
            called_function(function), localns=dict(locals_), include_extras=True
        )
    except NameError as error:
        raise ToolDefinitionError(
            f"tool {name!r}: annotation names {error.name!r}, which is not defined here; "
            "define it before the tool"
        ) from error
    except TypeError as error:
        raise ToolDefinitionError(f"tool {name!r}: {error}") from error


def describe(error: ValidationError) -> str:
    """Every problem as `path: reason`, in the order of the arguments."""
    return "; ".join(
        f"{_path(detail['loc'])}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    )


class SchemaForModels(GenerateJsonSchema):
    """JSON Schema without the titles that only repeat names, and quiet about defaults that have
    no JSON form: such a default is left out."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - as the base has it
        "skipped-choice",
        "non-serializable-default",
    }

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _check_kind(parameter: inspect.Parameter, tool: str) -> None:
    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL | inspect.Parameter.VAR_KEYWORD:
            star = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            raise ToolDefinitionError(
                f"tool {tool!r}: {star}{parameter.name} has no fixed names to tell the model; "
                "list the arguments, or take one of type list or dict"
            )
        case inspect.Parameter.POSITIONAL_ONLY:
            raise ToolDefinitionError(
                f"tool {tool!r}: argument {parameter.name!r} is positional-only, and a model "
                "gives arguments by name"
            )


def _is_context(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_context(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_context(choice) for choice in get_args(annotation))
    return annotation is ToolContext


def _field(parameter: inspect.Parameter, annotation: Any, documented: str | None) -> Any:
    given = parameter.default
    if isinstance(given, FieldInfo):
        # The pydantic way to write a default: `limit: int = Field(10, ge=1)`.
        annotation = Annotated[annotation, given]
    declared = tuple(_declared(annotation))
    alias = next((info.alias for info in reversed(declared) if info.alias), parameter.name)
    described = any(info.description for info in declared)
    settings: dict[str, Any] = {"alias": alias}
    if documented and not described:
        settings["description"] = documented
    if given is inspect.Parameter.empty or isinstance(given, FieldInfo):
        return Annotated[annotation, Field(**settings)]
    return (annotation, Field(default=given, **settings))


def _declared(annotation: Any) -> Iterable[FieldInfo]:
    if get_origin(annotation) is Annotated:
        return (meta for meta in get_args(annotation)[1:] if isinstance(meta, FieldInfo))
    return ()


def _model(name: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    try:
        model: type[BaseModel] = create_model(
            f"{name}_arguments",
            __config__=ConfigDict(extra="forbid", protected_namespaces=()),
            **fields,
        )
        model.model_rebuild()
    except (PydanticUserError, TypeError) as error:
        raise ToolDefinitionError(
            f"tool {name!r}: an argument's type cannot be read from JSON: {error}"
        ) from error
    return model


def _input_schema(model: type[BaseModel], name: str) -> JsonSchema:
    try:
        schema = model.model_json_schema(schema_generator=SchemaForModels)
    except PydanticUserError as error:
        raise ToolDefinitionError(
            f"tool {name!r}: an argument's type has no JSON Schema: {error}"
        ) from error
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return schema


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path or "arguments"
