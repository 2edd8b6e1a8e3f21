"""What Python knows of a callable: its name, its docstring, and what runs when it is called."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any


def called_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when `function` is called: of an object its `__call__`."""
    function = _inside_partials(function)
    if inspect.isroutine(function):
        return function
    called: Callable[..., Any] = type(function).__call__
    return called


def name_of(function: Callable[..., Any]) -> str:
    """The function's name; of an object that of its class."""
    function = _inside_partials(function)
    return str(getattr(function, "__name__", type(function).__name__))


def docstring_of(function: Callable[..., Any]) -> str | None:
    return inspect.getdoc(_inside_partials(function))


def is_unbound_method(function: Callable[..., Any]) -> bool:
    """Whether `function` was defined in a class body and still lacks its instance."""
    if not inspect.isfunction(function):
        return False
    owner = function.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), "")
    return bool(owner) and not owner.endswith("<locals>") and first == "self"


def names_around(frame: FrameType | None) -> Mapping[str, Any]:
    """The local names in `frame`, outwards through class bodies to the function.

    Annotations that are text may name classes made inside a function, which no module has.
    """
    names: dict[str, Any] = {}
    while frame is not None:
        names = {**frame.f_locals, **names}
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED or frame.f_code.co_name == "<module>":
            break
        frame = frame.f_back
    return names


def _inside_partials(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function
