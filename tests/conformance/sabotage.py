"""A storage of which one call goes wrong, or all of one name, and the ways in which they can.

A case of the suite is played once to a storage that keeps the rules, to see which calls it makes.
Then it is played again, with one of these calls doing nothing, answering something else, or
keeping an error to itself. A case that notices none of it states no rule.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from inspect import iscoroutinefunction
from typing import Any

from pydantic import BaseModel

from lash_runtime.ports.attachments import AttachmentStoreError
from lash_runtime.ports.store_errors import StoreError

Call = Callable[[], Awaitable[Any]]
Fault = Callable[[Call], Awaitable[Any]]


@dataclass
class Calls:
    """The calls of one case by their names, in their order.

    The one with the number `at`, or all with that name, meet `fault`.
    """

    at: int | str | None = None
    fault: Fault | None = None
    made: list[str] = field(default_factory=list)

    async def make(self, name: str, call: Call) -> Any:
        number = len(self.made)
        self.made.append(name)
        if self.at in (number, name) and self.fault is not None:
            return await self.fault(call)
        return await call()


class Watched:
    """Everything of `intact`, with each call counted. A factory gives watched stores."""

    def __init__(self, intact: Any, calls: Calls, *, gives_stores: bool = False) -> None:
        for name in dir(intact):
            if not name.startswith("_"):
                setattr(self, name, _watched(name, getattr(intact, name), calls, gives_stores))


class WatchedStorage:
    """A storage whose every call of a store, of the factory and of the other facets is counted."""

    def __init__(self, intact: Any, calls: Calls) -> None:
        self._intact = intact
        self.session_stores = Watched(intact.session_stores, calls, gives_stores=True)
        self.attachments = Watched(intact.attachments, calls)
        self.process_env_store = Watched(intact.process_env_store, calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._intact, name)


def _watched(name: str, member: Any, calls: Calls, gives_stores: bool) -> Any:
    if not iscoroutinefunction(member):
        return member

    async def call(*args: Any, **named: Any) -> Any:
        answer = await calls.make(name, lambda: member(*args, **named))
        if gives_stores and hasattr(answer, "commit_runtime_state"):
            return Watched(answer, calls)
        return answer

    return call


async def does_nothing(_: Call) -> None:
    return None


async def never_refuses(call: Call) -> Any:
    try:
        return await call()
    except (StoreError, AttachmentStoreError):
        return None


async def happens_twice(call: Call) -> Any:
    await call()
    return await call()


def answers(number: int) -> Fault:
    """What was asked for is done, and something else is answered: the `number`-th other thing."""

    async def fault(call: Call) -> Any:
        others = list(_others(await call()))
        return others[number]

    return fault


MOST_ANSWERS = 150
FAULTS: tuple[Fault, ...] = (
    never_refuses,
    does_nothing,
    *(answers(number) for number in range(MOST_ANSWERS)),
    happens_twice,
)


def _others(value: Any) -> Iterator[Any]:
    """Values of the same kind that are not `value`."""
    match value:
        case bool():
            yield not value
        case Enum():
            yield from (member for member in type(value) if member is not value)
        case int():
            yield value + 1
        case str():
            yield value + "?"
        case bytes():
            yield value + b"?"
        case frozenset():
            yield frozenset()
            yield value | {"?"}
        case tuple() | list():
            yield type(value)()
            if value:
                yield value[:-1]
                yield value[::-1]
                yield [*value, value[-1]] if isinstance(value, list) else (*value, value[-1])
            for index, item in enumerate(value):
                for other in _others(item):
                    changed = [*value[:index], other, *value[index + 1 :]]
                    yield type(value)(changed)
        case None:
            yield ()
        case BaseModel():
            for name in type(value).model_fields:
                for other in _others(getattr(value, name)):
                    yield value.model_copy(update={name: other})
        case _ if is_dataclass(value) and not isinstance(value, type):
            for member in fields(value):
                for other in _others(getattr(value, member.name)):
                    yield replace(value, **{member.name: other})
            yield None
