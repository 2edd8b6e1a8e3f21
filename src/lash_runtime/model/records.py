"""`dataclass` for frozen classes with slots, at a fifth of what making one usually costs, and
`replace` for their instances at half of it.

The standard decorator compiles six methods for each class. Over more than two hundred of them
that is the largest part of importing this library. Here `__init__` alone is compiled; the other
methods are closures over the names of the fields. A turn makes some hundred instances and replaces
parts of dozens, so `__init__` goes to the slots directly, as does what `replace` compiles when it
first meets a class.

Rule 1: a class behaves as if the standard decorator had made it: equality, hash, repr, errors,
pickling, `fields`, `replace`, `match`, subclasses.
Rule 2: a type checker sees the standard decorator and nothing of this file.
Rule 3: what no class here needs is refused: `InitVar`, `init=False`, a dataclass as a base, and
every option that is not a parameter below.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError, InitVar, fields, is_dataclass
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:

    def dataclass(
        *, frozen: Literal[True], slots: Literal[True], kw_only: bool = False, eq: bool = True
    ) -> Callable[[type], type]:
        """The standard decorator, as far as it is needed here."""
        if not (frozen and slots):
            raise TypeError("this is for frozen classes with slots: use `dataclasses.dataclass`")
        return partial(_made, kw_only=kw_only, eq=eq)

    def replace(record: object, /, **changes: object) -> object:
        """The standard function, for what the decorator has made."""
        made = type(record)
        copy = _COPIES.get(made)
        if copy is None:
            copy = _COPIES[made] = _copy(made)
        return copy(record, **changes)


_COPIES: dict[type, Callable[..., object]] = {}
"""What makes a changed copy of a class's instances, from its first `replace` on."""

Methods = dict[str, Callable[..., Any]]


def _made(cls: type, *, kw_only: bool, eq: bool) -> type:
    if any(is_dataclass(base) for base in cls.__mro__[1:]):
        raise TypeError(f"{cls.__qualname__}: a dataclass as a base is not supported")
    doc = cls.__doc__
    written = {name for name, value in vars(cls).items() if value is not None}
    # Where there is none, the standard decorator takes its time to write one, about an `__init__`
    # that is yet to come.
    cls.__doc__ = doc or "none"
    bare = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
    made: Any = bare(cls)
    made.__doc__ = doc
    # The standard decorator looks here when it makes a subclass of ours.
    made.__dataclass_params__.frozen = True
    made.__dataclass_params__.eq = eq

    members = fields(made)
    made.__init__ = _init(made, members)
    methods = _representation([member.name for member in members if member.repr])
    methods |= _immutability(made, {member.name for member in members})
    if eq:
        methods |= _comparison([member.name for member in members if member.compare])
    for name, method in methods.items():
        if name not in written:
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _init(made: Any, members: Sequence[Field[Any]]) -> Callable[..., None]:
    """Compiled, because it runs often and its parameters have to be real ones."""
    if any(isinstance(member.type, InitVar) for member in made.__dataclass_fields__.values()):
        raise TypeError(f"{made.__qualname__}: `InitVar` is not supported")
    slots = vars(made)
    scope: dict[str, Any] = {"__absent__": MISSING}
    positional, named = ["self"], list[str]()
    body = []
    for member in members:
        name = parameter = value = member.name
        if not member.init:
            raise TypeError(f"{made.__qualname__}.{name}: `init=False` is not supported")
        if member.default is not MISSING:
            scope[f"__default_{name}__"] = member.default
            parameter = f"{name}=__default_{name}__"
        elif member.default_factory is not MISSING:
            scope[f"__make_{name}__"] = member.default_factory
            parameter = f"{name}=__absent__"
            value = f"__make_{name}__() if {name} is __absent__ else {name}"
        (named if member.kw_only else positional).append(parameter)
        # The slot itself: `object.__setattr__` would look it up by its name, each time anew.
        scope[f"__set_{name}__"] = slots[name].__set__
        body.append(f"__set_{name}__(self, {value})")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, "*", *named] if named else positional)
    exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), scope)  # noqa: S102
    init: Callable[..., None] = scope["__init__"]
    init.__module__, init.__qualname__ = made.__module__, f"{made.__qualname__}.__init__"
    init.__annotations__ = {member.name: member.type for member in members} | {"return": None}
    return init


def _copy(made: Any) -> Callable[..., object]:
    """Compiled as `__init__` is, and spares it: what is kept is not handed over by its name."""
    names = [member.name for member in fields(made)]
    slots = vars(made)
    if not all(isinstance(slots.get(name), MemberDescriptorType) for name in names):
        return dataclasses.replace  # a plain subclass may have an `__init__` of its own
    scope: dict[str, Any] = {"__made__": made, "__kept__": object()}
    scope |= {f"__set_{name}__": slots[name].__set__ for name in names}
    body = ["__copy__ = __made__.__new__(__made__)"]
    for name in names:
        value = f"__record__.{name} if {name} is __kept__ else {name}"
        body.append(f"__set_{name}__(__copy__, {value})")
    if hasattr(made, "__post_init__"):
        body.append("__copy__.__post_init__()")
    body.append("return __copy__")
    parameters = ", ".join(["__record__", "/", *(["*"] if names else [])])
    parameters += "".join(f", {name}=__kept__" for name in names)
    exec(f"def replace({parameters}):\n " + "\n ".join(body), scope)  # noqa: S102
    copy: Callable[..., object] = scope["replace"]
    return copy


def _representation(names: Sequence[str]) -> Methods:
    @recursive_repr()
    def show(self: object) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return {"__repr__": show}


def _comparison(names: Sequence[str]) -> Methods:
    values = _values(names)

    def equals(self: object, other: object) -> object:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def hashed(self: object) -> int:
        return hash(values(self))

    return {"__eq__": equals, "__hash__": hashed}


def _values(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    # `attrgetter` takes at least one name, and gives a tuple only for two.
    return lambda self: tuple(getattr(self, name) for name in names)


def _immutability(made: type, names: Collection[str]) -> Methods:
    """Attributes beyond the fields are for plain subclasses, which have room for them."""

    def set_attribute(self: object, name: str, value: object) -> None:
        if type(self) is made or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def delete_attribute(self: object, name: str) -> None:
        if type(self) is made or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    return {
        "__setattr__": set_attribute,
        "__delattr__": delete_attribute,
        "__getstate__": _get_state,
        "__setstate__": _set_state,
    }


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, member.name) for member in fields(self)]


def _set_state(self: Any, state: Sequence[Any]) -> None:
    for member, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, member.name, value)
