"""Tools from functions: what the model is told is read from signature and docstring.

A `FunctionTool` is a tool and still the function that it was made from. Sync functions run in
worker threads with the caller's context variables; one that is cut off is left to finish there,
unheard. A method becomes a tool of its instance: put `assistant.lookup` into a catalog, not
`Assistant.lookup`.
"""

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, overload

import anyio.to_thread
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from ..model.schema import SchemaContract
from ..model.tool_results import ToolCallOutput, ToolFailure, ToolFailureClass
from ..model.tools import (
    NeverRetry,
    OnUnknown,
    ToolContract,
    ToolManifest,
    ToolRetryPolicy,
    ToolScheduling,
)
from ..model.unicode_text import storable_text
from ..ports.tools import ToolContext
from .callables import (
    called_function,
    docstring_of,
    is_unbound_method,
    name_of,
    names_around,
)
from .docstrings import read_docstring
from .errors import ToolDefinitionError
from .parameters import (
    Parameters,
    SchemaForModels,
    describe,
    read_parameters,
    resolved_annotations,
)
from .results import ToolResult, adapt_result

P = ParamSpec("P")
R = TypeVar("R")

TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The names that every provider takes."""


class FunctionTool(Generic[P, R]):
    """A function with its manifest and contract. Calling it calls the function."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        manifest: ToolManifest,
        contract: ToolContract,
        parameters: Parameters,
        unbound: bool,
    ) -> None:
        """Made by `tool`. `unbound` says that the function is a method without its instance."""
        update_wrapper(self, function)
        self._function = function
        self._is_async = inspect.iscoroutinefunction(called_function(function))
        self._parameters = parameters
        self.manifest = manifest
        self.contract = contract
        self.unbound = unbound

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def description(self) -> str:
        return self.manifest.description

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> "FunctionTool[..., R]":
        if instance is None or not self.unbound:
            return self
        return FunctionTool(
            self._function.__get__(instance, owner),
            manifest=self.manifest,
            contract=self.contract,
            parameters=self._parameters,
            unbound=False,
        )

    def __repr__(self) -> str:
        return f"<tool {self.name!r} from {getattr(self, '__qualname__', self._function)!s}>"

    def problem_with(self, args: Any) -> str | None:
        """Which argument is wrong and why; `None` when all are in order."""
        return self._parameters.problem_with(args)

    async def execute(self, args: Any, context: ToolContext) -> ToolCallOutput:
        """Run the function with `args`, a JSON object. Its exceptions leave as they are.

        Cancelling the task cancels an async function, and abandons a sync one to its thread.
        """
        try:
            bound = self._parameters.bind(args, context)
        except ValidationError as error:
            return ToolResult.failure(invalid_arguments(describe(error))).output
        function: Callable[..., Any] = self._function
        if self._is_async:
            return await adapt_result(await function(**bound), context.attachments)
        call = partial(function, **bound)
        result = await anyio.to_thread.run_sync(_in_thread, call, abandon_on_cancel=True)
        if inspect.isawaitable(result):  # a sync function in front of an async one
            result = await result
        return await adapt_result(result, context.attachments)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    id: str | None = None,
    description: str | None = None,
    scheduling: ToolScheduling | Literal["parallel", "serial"] = ToolScheduling.PARALLEL,
    retry: ToolRetryPolicy | None = None,
    timeout_ms: int | None = None,
    on_unknown: OnUnknown | Literal["report", "rerun", "ask"] = OnUnknown.REPORT,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    id: str | None = None,
    description: str | None = None,
    scheduling: ToolScheduling | str = ToolScheduling.PARALLEL,
    retry: ToolRetryPolicy | None = None,
    timeout_ms: int | None = None,
    on_unknown: OnUnknown | str = OnUnknown.REPORT,
) -> Any:
    """Make a tool from a function: `@tool`, or `@tool(name=…)` with options.

    `name` and `description` default to those of the function. `id` is the tool's identity when
    its name changes; it defaults to one made from the name. `timeout_ms` limits each attempt,
    and `retry` says how often a failure that had no effect is tried again. `on_unknown` says
    what is to be done about a call that a crash has left without a result.

    Raises `ToolDefinitionError` for a function that no model could call.
    """
    locals_ = names_around(sys._getframe(1))  # noqa: SLF001 - annotations may name locals

    def make(function: Callable[..., Any]) -> FunctionTool[..., Any]:
        if isinstance(function, staticmethod):
            function = function.__func__
        if not callable(function):
            raise ToolDefinitionError(
                f"{function!r} cannot be called; for a classmethod, decorate a function that "
                "calls it"
            )
        own_name = name or name_of(function)
        _check_name(own_name)
        _check_returns_once(function, own_name)
        documented = read_docstring(docstring_of(function))
        unbound = is_unbound_method(function)
        parameters = read_parameters(
            function,
            name=own_name,
            documented=documented.arguments,
            locals_=locals_,
            skip_first=unbound,
        )
        manifest = ToolManifest(
            id=id or f"tool:{own_name}",
            name=own_name,
            description=documented.description if description is None else description,
            scheduling=ToolScheduling(scheduling),
            retry_policy=retry or NeverRetry(),
            timeout_ms=timeout_ms,
            on_unknown=OnUnknown(on_unknown),
        )
        hints = resolved_annotations(function, name=own_name, locals_=locals_)
        contract = ToolContract(
            input_schema=SchemaContract(canonical=parameters.schema),
            output_schema=SchemaContract(canonical=_output_schema(hints.get("return", Any))),
        )
        return FunctionTool(
            function,
            manifest=manifest,
            contract=contract,
            parameters=parameters,
            unbound=unbound,
        )

    return make if function is None else make(function)


def invalid_arguments(problem: str) -> ToolFailure:
    """The failure of a call whose arguments do not fit; `problem` says which and why."""
    return ToolFailure(
        class_=ToolFailureClass.INVALID_REQUEST,
        code="invalid_tool_args",
        message=storable_text(problem),
    )


def _in_thread(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (StopIteration, SystemExit) as error:
        # No future can carry the first: its caller would wait for ever. The second comes from
        # code written for a command line, and the process is not the tool's to end.
        raise RuntimeError(f"the tool raised {type(error).__name__}") from error


def _check_name(name: str) -> None:
    if TOOL_NAME.fullmatch(name) is None:
        raise ToolDefinitionError(
            f"{name!r} cannot be a tool's name: use 1 to 64 letters, digits, '_' or '-'; "
            "pass one as tool(name=...)"
        )


def _check_returns_once(function: Callable[..., Any], name: str) -> None:
    called = called_function(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ToolDefinitionError(f"tool {name!r} yields; a tool returns one value")


def _output_schema(annotation: Any) -> dict[str, Any]:
    if annotation is None or annotation is type(None):
        return {"type": "null"}
    try:
        schema = TypeAdapter(annotation).json_schema(
            mode="serialization", schema_generator=SchemaForModels
        )
    except PydanticUserError:
        return {}  # a type that only the tool's author knows: any JSON may come of it
    return schema
